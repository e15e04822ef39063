"""How far back a plan includes history, and that nothing is called included that may not be."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.policy.model import LiveBilling
from budget_guard.pricing.book import PriceBook, price_book
from budget_guard.pricing.history import LEVELS, included_history, plan_history
from budget_guard.pricing.model import DataRange
from budget_guard.pricing.ranges import make_range
from budget_guard.pricing.sheet import RECORD_BYTES

GLBX = "GLBX.MDP3"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FLAT = price_book({}, {GLBX: LiveBilling("flat", "standard")})
# What the standard plan includes of mbo (a month) at NOW.
EDGE = datetime(2026, 10, 24, tzinfo=UTC)
INSTANTS = st.timedeltas(timedelta(0), timedelta(days=5000)).map(datetime(2025, 6, 1, tzinfo=UTC).__add__)


def wanted(start: datetime, end: datetime, schema: str = "mbo") -> DataRange:
    return make_range(GLBX, schema, ["NQ.v.0"], "continuous", start, end)


def kinds(book: PriceBook, data_range: DataRange, at: datetime = NOW) -> list[str] | None:
    parts = book.price_range(data_range, at)
    return None if parts is None else [part.price.kind for part in parts]


@pytest.mark.parametrize(
    ("schema", "level", "months"),
    [
        ("ohlcv-1d", "L0", 192),
        ("definition", "L0", 192),
        ("trades", "L1", 12),
        ("bbo-1m", "L1", 12),
        ("mbp-1", "L1", 12),
        ("mbp-10", "L2/L3", 1),
        ("mbo", "L2/L3", 1),
    ],
)
def test_each_schema_has_the_reach_of_its_level(schema: str, level: str, months: int) -> None:
    """As the vendor publishes it for the standard plan."""
    reach = included_history(GLBX, "standard", schema)
    assert reach is not None
    assert (reach.level, reach.months) == (level, months)


def test_no_schema_has_two_levels() -> None:
    """And each is a schema that exists."""
    schemas = [schema for level in LEVELS.values() for schema in level]
    assert len(schemas) == len(set(schemas))
    assert set(schemas) <= set(RECORD_BYTES)


@pytest.mark.parametrize(
    ("dataset", "plan", "schema"),
    [
        (GLBX, "plus", "mbo"),
        (GLBX, "unlimited", "trades"),
        (GLBX, "standard", "imbalance"),
        ("XEUR.EOBI", "standard", "trades"),
        ("OPRA.PILLAR", "standard", "tcbbo"),
    ],
)
def test_a_reach_that_nobody_published_is_none(dataset: str, plan: str, schema: str) -> None:
    """Not all of history, and not the reach of another plan or of a similar schema."""
    assert included_history(dataset, plan, schema) is None
    flat = price_book({}, {dataset: LiveBilling("flat", plan)})
    assert flat.included_from(dataset, schema, NOW) is None


@settings(max_examples=100)
@given(INSTANTS, st.sampled_from(["trades", "mbo", "ohlcv-1d"]))
def test_what_is_included_is_included_in_every_reading(at: datetime, schema: str) -> None:
    """A month is at most a calendar month and at most 30 days, a year at most 365; the edge is a UTC midnight."""
    reach = included_history(GLBX, "standard", schema)
    assert reach is not None
    start = reach.start_utc(at)
    month = at.year * 12 + at.month - 1 - reach.months
    year, month = divmod(month, 12)
    day = min(at.day, calendar.monthrange(year, month + 1)[1])
    assert start >= at.replace(year=year, month=month + 1, day=day)
    assert at - start <= timedelta(days=30 if reach.months == 1 else 365 * reach.months / 12)
    assert start == start.replace(hour=0, minute=0, second=0, microsecond=0)
    assert start <= at - timedelta(days=25)


@settings(max_examples=100)
@given(INSTANTS, st.timedeltas(timedelta(0), timedelta(hours=1)))
def test_a_quote_still_holds_when_its_request_is_made(at: datetime, later: timedelta) -> None:
    """Within the hour, what the vendor's own edge then includes reaches back to ours at least."""
    for reach in plan_history(GLBX, "standard"):
        exact = (at + later) - timedelta(days=30 if reach.months == 1 else 365 * reach.months // 12)
        assert reach.start_utc(at) >= exact


def test_a_range_inside_costs_nothing_for_certain() -> None:
    """Kind plan: a known 0, with the plan and its reach in the source."""
    parts = FLAT.price_range(wanted(EDGE, EDGE + timedelta(days=3)), NOW)
    assert parts is not None
    assert [(part.price.usd_per_gib, part.price.kind) for part in parts] == [(Decimal(0), "plan")]
    assert "standard plan of GLBX.MDP3: L2/L3 history, 1 month back" in parts[0].price.source


def test_a_range_outside_is_priced_by_the_list() -> None:
    """History that the plan does not reach is bought by the byte."""
    parts = FLAT.price_range(wanted(EDGE - timedelta(days=3), EDGE), NOW)
    assert parts is not None
    assert [(part.price.usd_per_gib, part.price.kind) for part in parts] == [(Decimal("1.80"), "sheet")]


def test_a_range_across_the_edge_is_priced_in_two_parts() -> None:
    """The older part at the list's price, the newer at 0; together they are the range."""
    whole = wanted(EDGE - timedelta(days=3), EDGE + timedelta(days=3))
    parts = FLAT.price_range(whole, NOW)
    assert parts is not None
    older, newer = parts
    assert (older.price.kind, newer.price.kind) == ("sheet", "plan")
    assert (older.range.start_utc, older.range.end_utc) == (whole.start_utc, EDGE)
    assert (newer.range.start_utc, newer.range.end_utc) == (EDGE, whole.end_utc)


def test_one_price_for_a_range_across_the_edge_is_an_upper_bound() -> None:
    """The list's price for every byte, and how to have the included part at no cost."""
    price = FLAT.price_whole(wanted(EDGE - timedelta(days=3), EDGE + timedelta(days=3)), NOW)
    assert price is not None
    assert (price.usd_per_gib, price.kind) == (Decimal("1.80"), "sheet")
    assert "2026-10-24 on: ask for that part by itself" in price.source


@settings(max_examples=100)
@given(
    INSTANTS,
    st.timedeltas(timedelta(days=-60), timedelta(days=60)),
    st.timedeltas(timedelta(microseconds=1), timedelta(days=90)),
)
def test_parts_make_up_the_range_and_none_is_cheaper_than_it_is(
    at: datetime, offset: timedelta, length: timedelta
) -> None:
    """They touch, are in order, and only what begins at the edge or later is included."""
    edge = FLAT.included_from(GLBX, "mbo", at)
    assert edge is not None
    whole = wanted(edge + offset, edge + offset + length)
    parts = FLAT.price_range(whole, at)
    assert parts is not None
    assert parts[0].range.start_utc == whole.start_utc
    assert parts[-1].range.end_utc == whole.end_utc
    assert all(one.range.end_utc == two.range.start_utc for one, two in pairwise(parts))
    for part in parts:
        assert (part.price.kind == "plan") == (part.range.start_utc >= edge)


def test_an_unknown_price_outside_leaves_the_range_unknown() -> None:
    """Part of a range that nobody can price is not the price of the rest."""
    book = price_book({}, {"EQUS.MINI": LiveBilling("flat", "standard")})
    at = NOW
    across = make_range(
        "EQUS.MINI", "mbo", ["AAPL"], "raw_symbol", EDGE - timedelta(days=1), EDGE + timedelta(days=1)
    )
    assert book.price_range(across, at) is None
    assert book.price_whole(across, at) is None
    inside = make_range("EQUS.MINI", "mbo", ["AAPL"], "raw_symbol", EDGE, EDGE + timedelta(days=1))
    assert kinds(book, inside) == ["plan"]


def test_a_metered_account_has_no_included_history() -> None:
    """Nor has one with a plan of another dataset."""
    inside = wanted(EDGE, EDGE + timedelta(days=1))
    assert kinds(price_book({}, {GLBX: LiveBilling("metered")}), inside) == ["sheet"]
    assert kinds(price_book({}, {"OPRA.PILLAR": LiveBilling("flat", "standard")}), inside) == ["sheet"]


def test_a_negotiated_price_is_for_what_the_plan_does_not_include() -> None:
    """The plan comes first, as it does for live data."""
    overrides = {(GLBX, "historical", "mbo"): Decimal("1.50")}
    book = price_book(overrides, {GLBX: LiveBilling("flat", "standard")})  # type: ignore[arg-type]
    assert kinds(book, wanted(EDGE - timedelta(days=1), EDGE + timedelta(days=1))) == ["override", "plan"]

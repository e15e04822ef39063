"""What history costs an account with a plan: nothing where the plan reaches, the list's price where it does not."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest

from budget_guard.planning.model import Cost, Plan
from budget_guard.planning.plan import plan
from budget_guard.policy.model import LiveBilling, Match, Policy, SessionClause, Stream
from tests.planning.desk import FULL, GLBX, NOW, FakeVendor, budget, limit, policy, stream

FLAT = {GLBX: LiveBilling("flat", "standard", Decimal("36.50"))}
FEES = 235_500_000_000
GIB_NANO = 1_800_000_000  # what a GiB of mbo history costs


def history(name: str = "old", **changes: object) -> Stream:
    return stream(
        name, **{"mode": "historical", "windows": (FULL,), "gib_per_session": Decimal(1), **changes}
    )


def planned(whole: Policy, month: str, **options: object) -> Plan:
    return plan(whole, month, now=NOW, **options)  # type: ignore[arg-type]


def test_history_that_a_plan_includes_costs_its_fee_and_nothing_more() -> None:
    """November's mbo is within the month that the standard plan includes; the fee is in the total."""
    result = planned(policy(history(), billing=FLAT), "2026-11")
    one = result.streams[0]
    assert one.price is not None
    assert (one.price.usd_per_gib, one.price.kind, one.cost) == (Decimal(0), "plan", Cost(0, 0))
    assert result.total == Cost(FEES, FEES)
    assert any("asked for within 1 month" in note for note in one.notes)


def test_history_beyond_the_plans_reach_is_bought_by_the_byte() -> None:
    """August is more than a month ago."""
    result = planned(policy(history(), billing=FLAT), "2026-08")
    assert result.streams[0].cost == Cost(21 * GIB_NANO, 21 * GIB_NANO)


def test_a_month_across_the_edge_is_priced_for_the_part_outside() -> None:
    """October 2026: mbo is included from the 24th, so the sessions from the 26th on are; seventeen are priced."""
    result = planned(policy(history(), billing=FLAT), "2026-10")
    one = result.streams[0]
    assert one.cost == Cost(17 * GIB_NANO, 17 * GIB_NANO)
    assert one.forecast is not None
    included = {sized.window.session for sized in one.forecast.windows if sized.included}
    assert included == {date(2026, 10, day) for day in range(26, 31)}
    assert any("5 of 22 windows" in note for note in one.notes)


def test_the_limits_count_what_the_total_counts() -> None:
    """A window that a plan includes uses no money of any budget, but its bytes count."""
    spent = budget(
        limit("30"),
        limit("1", "session"),
        limit("40", unit="gib"),
        match=Match(mode=frozenset({"historical"})),
    )
    result = planned(policy(history(), billing=FLAT, budgets=[spent]), "2026-10")
    month, session, gib = result.budgets
    assert month.used is not None and session.used is not None and gib.used is not None
    assert month.used.p50 * 10**9 == 17 * GIB_NANO
    assert session.used.p50 * 10**9 == GIB_NANO
    assert gib.used.p50 == 22


def test_a_window_that_straddles_the_edge_is_priced_whole() -> None:
    """On November 25 the edge is October 27, 00:00 UTC, within that day's session: no size says what lies before it."""
    days = frozenset({date(2026, 10, day) for day in (26, 27, 28)})
    across = history(windows=(SessionClause("full", only=days),))
    result = plan(policy(across, billing=FLAT), "2026-10", now=NOW + timedelta(days=3))
    assert result.streams[0].cost == Cost(2 * GIB_NANO, 2 * GIB_NANO)


@pytest.mark.parametrize(
    ("billing", "schema"),
    [({GLBX: LiveBilling("flat", "plus")}, "mbo"), (FLAT, "imbalance"), ({}, "mbo")],
)
def test_what_nobody_published_is_not_included(billing: dict[str, LiveBilling], schema: str) -> None:
    """A plan of unknown reach, a schema of no level, a metered account: priced, or unknown."""
    result = planned(policy(history(schema=schema), billing=billing), "2026-11")
    assert result.streams[0].cost == (Cost(21 * GIB_NANO, 21 * GIB_NANO) if schema == "mbo" else None)


def test_a_size_that_is_unknown_still_costs_nothing_inside_a_plan() -> None:
    """However much it is; across the edge it is unknown."""
    unsized = history(gib_per_session=None)
    assert planned(policy(unsized, billing=FLAT), "2026-11").streams[0].cost == Cost(0, 0)
    assert planned(policy(unsized, billing=FLAT), "2026-10").streams[0].cost is None


def test_the_fee_is_in_no_budget_of_history() -> None:
    """What includes the history is paid for live data, also when the policy streams none."""
    old = budget(limit("1"), name="old", match=Match(mode=frozenset({"historical"})))
    whole = budget(limit("235.49"), name="whole")
    result = planned(policy(history(), billing=FLAT, budgets=[old, whole]), "2026-11")
    assert [row.p_within for row in result.budgets] == [Decimal("0.9"), Decimal(0)]


def test_a_dataset_without_streams_costs_no_fee() -> None:
    """The plan of a dataset that the policy does not use is not its month's."""
    billing = {**FLAT, "OPRA.PILLAR": LiveBilling("flat", "standard")}
    assert planned(policy(history(), billing=billing), "2026-11").total == Cost(FEES, FEES)


def test_more_symbols_than_one_request_takes_are_sized_in_parts() -> None:
    """4,500 symbols are three requests for each session, summed; the plan says that it is an upper bound."""
    many = stream(symbols=tuple(f"S{number}" for number in range(4500)), stype_in="raw_symbol")
    vendor = FakeVendor(lambda asked: len(asked.symbols))
    result = planned(policy(many), "2026-12", vendor=vendor)
    one = result.streams[0]
    assert one.forecast is not None
    assert {sized.size_bytes.p50 for sized in one.forecast.windows} == {4500}
    assert max(len(asked.symbols) for asked in vendor.sized) == 2000
    assert any("3 parts of its 4500 symbols" in note for note in one.notes)


def test_all_symbols_are_asked_for_only_where_the_policy_says_so() -> None:
    """Written out in the stream it is the whole dataset; otherwise each request names the stream's own symbols."""
    for symbols in (("NQ.v.0",), ("ALL_SYMBOLS",)):
        vendor = FakeVendor()
        planned(policy(stream(symbols=symbols)), "2026-12", vendor=vendor)
        assert {asked.symbols for asked in vendor.sized} == {symbols}

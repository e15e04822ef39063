"""A plan against its budgets."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from budget_guard.markets.model import Window
from budget_guard.money import GIB
from budget_guard.planning.limits import braking, limit_rows, p_within_limit, verdict_of
from budget_guard.planning.model import (
    Cost,
    FixedLine,
    Forecast,
    LimitRow,
    Quantiles,
    SizedWindow,
    StreamPlan,
    Unknown,
)
from budget_guard.policy.model import Limit, Match
from budget_guard.pricing.model import UnitPrice
from tests.planning.desk import budget, limit, policy, stream


def planned(
    name: str = "nq-mbo", gib: tuple[int, int] | None = (1, 2), days: int = 3, price: str = "2"
) -> StreamPlan:
    """A stream with one window of six hours on each of some days, sized in GiB."""
    windows = tuple(
        Window(name, date(2026, 11, 2 + day), opened, opened + timedelta(hours=6))
        for day in range(days)
        for opened in [datetime(2026, 11, 2 + day, 14, tzinfo=UTC)]
    )
    known = gib is not None
    each = Quantiles(Fraction((gib or (0, 0))[0] * GIB), Fraction((gib or (0, 0))[1] * GIB))
    return StreamPlan(
        name=name,
        dataset="GLBX.MDP3",
        schema="mbo",
        mode="live",
        windows=windows,
        forecast=Forecast(tuple(SizedWindow(window, each) for window in windows), "user", "s")
        if known
        else None,
        price=UnitPrice(Decimal(price), "override", "s"),
        cost=Cost(0, 0) if known else None,
        unknown=() if known else (Unknown("size_unknown", "why"),),
    )


def row(one: Limit, *streams: StreamPlan, match: Match | None = None, fee: Decimal | None = None) -> LimitRow:
    """The only row of a policy with this limit."""
    fixed = () if fee is None else (FixedLine(("GLBX.MDP3",), "standard", fee, Decimal(0), "s"),)
    whole = policy(*(stream(one.name) for one in streams), budgets=[budget(one, match=match)])
    return limit_rows(whole, streams, fixed)[0]


@pytest.mark.parametrize(
    ("one", "p50", "p90"),
    [
        (limit("200"), 6, 12),
        (limit("200", "total"), 6, 12),
        (limit("200", "session"), 2, 4),
        (limit("200", "day"), 2, 4),
        (limit("200", "week"), 6, 12),
        (limit("200", "month", "gib"), 3, 6),
        (limit("200", "session", "gib"), 1, 2),
        (limit("200", "month", "hours"), 18, 18),
        (limit("200", "day", "hours"), 6, 6),
        (limit("200", "month", "connections"), 3, 3),
    ],
)
def test_each_limit_is_compared_in_its_unit_and_period(one: Limit, p50: int, p90: int) -> None:
    """The month, or its largest session, day or week; one connection a window is the least there can be."""
    assert row(one, planned()).used == Quantiles(Fraction(p50), Fraction(p90))


def test_streams_that_share_a_budget_add_up() -> None:
    """What matters is what the budget is charged, not what one stream uses."""
    assert row(limit("200"), planned("a"), planned("b")).used == Quantiles(Fraction(12), Fraction(24))


def test_a_budget_counts_what_it_matches() -> None:
    """A stream outside the match uses nothing of the budget."""
    match = Match(stream=frozenset({"a"}))
    assert row(limit("200"), planned("a"), planned("b"), match=match).used == Quantiles(
        Fraction(6), Fraction(12)
    )


def test_fees_count_in_months_of_money_and_nowhere_else() -> None:
    """A plan's fee is part of the month's bill; a session has none, and it is not measured in GiB."""
    streams = planned()
    assert row(limit("200"), streams, fee=Decimal("199")).used == Quantiles(Fraction(205), Fraction(211))
    assert row(limit("200", "session"), streams, fee=Decimal("199")).used == Quantiles(
        Fraction(2), Fraction(4)
    )
    assert row(limit("200", unit="gib"), streams, fee=Decimal("199")).used == Quantiles(
        Fraction(3), Fraction(6)
    )


def test_fees_count_in_budgets_that_match_the_dataset_live() -> None:
    """A budget for history does not pay the live plan."""
    match = Match(mode=frozenset({"historical"}))
    used = row(limit("200"), planned(), match=match, fee=Decimal("199")).used
    assert used == Quantiles(Fraction(0), Fraction(0))


def test_an_unknown_stream_makes_its_budgets_unknown() -> None:
    """Money and bytes are unknown, with the stream's reason; hours and connections are known all the same."""
    missing = planned(gib=None)
    money = row(limit("200"), planned("a"), missing)
    assert (money.used, money.p_within) == (None, None)
    assert money.unknown[0].code == "size_unknown"
    assert row(limit("200", unit="gib"), missing).used is None
    assert row(limit("200", unit="hours"), missing).used == Quantiles(Fraction(18), Fraction(18))


@pytest.mark.parametrize(("amount", "p"), [("12", "0.9"), ("11.99", "0.5"), ("6", "0.5"), ("5.99", "0")])
def test_p_within_is_a_lower_bound(amount: str, p: str) -> None:
    """0.9 from p90 on, 0.5 from p50 on, and nothing is promised below."""
    assert p_within_limit(Quantiles(Fraction(6), Fraction(12)), Decimal(amount)) == Decimal(p)


@pytest.mark.parametrize(
    ("amount", "verdict"), [("12", "fits"), ("11", "tight"), ("5", "over"), ("0", "over"), (None, "fits")]
)
def test_the_verdict_follows_the_month(amount: str | None, verdict: str) -> None:
    """`over` at p50, `fits` at p90, `tight` between; `unlimited` is never exceeded."""
    assert verdict_of(True, [row(limit(amount), planned())]) == verdict


def test_the_worst_limit_decides() -> None:
    """One limit is enough to be over."""
    rows = [row(limit("1000"), planned()), row(limit("2", unit="gib"), planned())]
    assert verdict_of(True, rows) == "over"


def test_an_unknown_figure_makes_the_verdict_unknown() -> None:
    """Even when a known one is already over: nobody knows by how much."""
    assert verdict_of(True, [row(limit("1"), planned()), row(limit("1"), planned(gib=None))]) == "unknown"
    assert verdict_of(False, [row(limit("1000"), planned())]) == "unknown"


def test_a_session_limit_brakes_but_does_not_judge() -> None:
    """What a session may use cuts the stream; it does not make the month's bill larger."""
    short = row(limit("1", "session"), planned())
    assert verdict_of(True, [short]) == "fits"
    assert braking([short]) == [short]
    assert braking([row(limit("100", "session"), planned())]) == []

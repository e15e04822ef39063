"""Flat plans and credits: what a byte costs under a plan, and what of a bill is paid for already."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.clock import ManualClock
from budget_guard.money import GIB
from budget_guard.sandbox.billing.amounts import Price
from budget_guard.sandbox.billing.bill import Bill
from budget_guard.sandbox.billing.plans import paid_by, price_under
from budget_guard.sandbox.config import Credit, FlatPlan

NOW = datetime(2026, 11, 23, 14, 30, tzinfo=UTC)
PLAN = FlatPlan(live=True, history_days={"trades": 365, "mbo": 30})
LIST = Decimal(28)


def test_live_data_of_a_plan_costs_nothing_and_is_counted() -> None:
    """The bill says what it would have cost by the list."""
    bill = Bill(ManualClock(NOW), lambda: None, plans={"GLBX.MDP3": PLAN})
    line = bill.open("live", "db-key-abcde", "GLBX.MDP3")
    line.subscribe("mbo", Decimal("2.16"))
    line.add("mbo", GIB)
    line.add(None, GIB)
    other = bill.open("live", "db-key-abcde", "XNAS.ITCH")
    other.subscribe("mbo", Decimal("1.44"))
    other.add("mbo", GIB)
    whole = bill.as_json()
    assert (whole["bytes"], whole["cost_usd"], whole["list_cost_usd"]) == (3 * GIB, "1.44", "5.76")
    assert line.as_json()["schemas"]["mbo"]["list_usd_per_gib"] == "2.16"
    assert whole["unpriced_bytes"] == 0


@pytest.mark.parametrize(
    ("schema", "days_back", "usd"),
    [
        ("trades", 365, Decimal(0)),
        ("trades", 366, LIST),
        ("mbo", 30, Decimal(0)),
        ("mbo", 31, LIST),
        ("mbp-10", 1, LIST),
    ],
)
def test_history_is_included_as_far_back_as_the_plan_says(schema: str, days_back: int, usd: Decimal) -> None:
    """A request that begins earlier costs the list price whole, and so does a schema that is not in the plan."""
    start = NOW - timedelta(days=days_back)
    assert price_under(PLAN, "historical", schema, LIST, NOW, start) == Price(usd, LIST)


def test_history_whose_start_is_unknown_is_not_included() -> None:
    """Nor is anything without a plan, or live data under a plan for history only."""
    assert price_under(PLAN, "historical", "trades", LIST, NOW).usd == LIST
    assert price_under(None, "live", "trades", LIST, NOW).usd == LIST
    assert price_under(FlatPlan(live=False), "live", "trades", LIST, NOW).usd == LIST


def spend(bill: Bill, mode: str, usd: int) -> None:
    line = bill.open("live" if mode == "live" else "historical", "db-key-abcde", "GLBX.MDP3")
    line.subscribe("mbo", Decimal(usd))
    line.add("mbo", GIB)


def test_credits_reduce_what_is_due_and_not_the_cost() -> None:
    """The one that expires first pays first, for what it covers, in the month of the spending."""
    clock = ManualClock(NOW)
    granted = (
        Credit(Decimal(100)),
        Credit(Decimal(10), date(2026, 12, 31), "historical"),
        Credit(Decimal(5), date(2026, 11, 30)),
    )
    bill = Bill(clock, lambda: None, credits=granted)
    spend(bill, "historical", 12)
    spend(bill, "live", 20)
    clock.advance(14 * 86_400)
    spend(bill, "historical", 50)
    november, december = bill.as_json()["months"]
    assert (november["month"], november["cost_usd"], november["due_usd"]) == ("2026-11", "32", "0")
    assert [(paid["covers"], paid["used_usd"]) for paid in november["credits"]] == [
        ("all", "20"),
        ("historical", "7"),
        ("all", "5"),
    ]
    # 3 dollars of the second credit are left, and 80 of the first.
    assert (december["cost_usd"], december["credit_usd"], december["due_usd"]) == ("50", "50", "0")
    spend(bill, "live", 40)
    december = bill.as_json()["months"][1]
    assert (december["cost_usd"], december["credit_usd"], december["due_usd"]) == ("90", "83", "7")


def test_an_expired_credit_pays_nothing() -> None:
    """Its last day is the one on which it expires."""
    for days, due in ((0, "0"), (1, "4")):
        clock = ManualClock(NOW + timedelta(days=days))
        bill = Bill(clock, lambda: None, credits=[Credit(Decimal(9), NOW.date())])
        spend(bill, "live", 4)
        assert bill.as_json()["months"][0]["due_usd"] == due


@given(
    st.lists(
        st.builds(
            Credit,
            st.decimals(0, 50, places=3),
            st.one_of(st.none(), st.dates(date(2026, 1, 1), date(2026, 4, 30))),
            st.sampled_from(["live", "historical", "all"]),
        ),
        max_size=4,
    ),
    st.dictionaries(
        st.tuples(st.dates(date(2026, 1, 1), date(2026, 4, 30)), st.sampled_from(["live", "historical"])),
        st.decimals(0, 50, places=6),
        max_size=8,
    ),
)
def test_no_credit_pays_more_than_it_is_or_than_is_due(
    granted: list[Credit], costs: dict[tuple[date, str], Decimal]
) -> None:
    """Whatever the days and the credits."""
    paid = paid_by(granted, costs)
    assert all(one.left_usd >= 0 for one in paid)
    for month in {day.strftime("%Y-%m") for day, _ in costs}:
        due = sum(cost for (day, _), cost in costs.items() if day.strftime("%Y-%m") == month)
        assert sum(one.used_usd.get(month, Decimal(0)) for one in paid) <= due

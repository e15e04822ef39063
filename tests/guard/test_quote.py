"""Decisions about historical requests: budgets first, then the rules of the historical section."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.guard.quote import Quote, decide_quote
from budget_guard.ledger.model import Balance, Claim
from budget_guard.money import GIB, cost_nano_usd, nano_from_usd, usd_from_nano
from budget_guard.policy.model import HistoricalRules, Unit
from budget_guard.pricing.model import PriceKind, UnitPrice
from tests.guard.samples import MONTH_END, counted, data_range

RULES = HistoricalRules()
LIST = Decimal("1.80")


def quote(
    size_bytes: int = GIB, cost: str | Decimal = "1.80", price: Decimal = LIST, kind: PriceKind = "vendor"
) -> Quote:
    return Quote(data_range(), size_bytes, UnitPrice(price, kind, "a list"), Decimal(cost))


USD = counted("usd", 10 * 10**9)
FREE = {USD.key: Balance()}


@given(
    st.integers(0, 2**40),
    st.decimals(0, 1000, places=12),
    st.integers(0, 10**12),
    st.integers(0, 10**12),
    st.integers(0, 10**12),
)
def test_a_request_is_allowed_exactly_when_its_price_fits(
    size: int, cost: Decimal, limit: int, settled: int, held: int
) -> None:
    """And what it claims, with everything there is, never passes the limit."""
    asked = quote(size, cost)
    one = counted("usd", limit)
    decision, claims = decide_quote(RULES, asked, (one,), {one.key: Balance(settled, held)})
    fits = limit > 0 and settled + held + asked.held_nano_usd <= limit
    assert decision.allowed is fits
    if fits:
        assert claims == (Claim(one.key, 0, asked.held_nano_usd),)
    else:
        assert claims == ()
        assert decision.code == ("frozen" if settled + held > limit else "would_exceed")


@given(st.integers(1, 2**40), st.decimals("0.000000000001", 1000, places=12))
def test_what_is_quoted_is_the_dearer_of_the_vendors_quote_and_the_list_price(
    size: int, cost: Decimal
) -> None:
    assert quote(size, cost).cost_nano_usd == max(cost_nano_usd(size, LIST), nano_from_usd(cost))


@given(
    st.integers(0, 2**40),
    st.decimals("0.000000000001", 1000, places=12),
    st.sampled_from(["vendor", "sheet"]),
)
def test_what_is_held_pays_for_the_largest_answer_that_is_let_through(
    size: int, cost: Decimal, kind: PriceKind
) -> None:
    """One in a hundred more than the quote, a record at least; a limit of the client's own leaves no more to come."""
    asked = quote(size, cost, kind=kind)
    assert asked.bytes_max == size + max(56, size // 100)
    assert asked.records_max is not None
    assert size < asked.records_max * 56 <= asked.bytes_max
    assert asked.held_nano_usd >= max(
        cost_nano_usd(asked.bytes_max, asked.settle_price_usd), asked.cost_nano_usd
    )
    bounded = replace(asked, bounded=True)
    assert (bounded.bytes_max, bounded.records_max) == (size, None)


def test_every_budget_that_matches_must_have_room_and_each_that_has_none_is_named() -> None:
    day, month = counted("usd", 10**9, "day", "day"), counted("gib", GIB - 1, "month")
    decision, claims = decide_quote(
        RULES, quote(), (USD, day, month), {USD.key: Balance(), day.key: Balance(), month.key: Balance(1, 0)}
    )
    assert [(reason.code, reason.budget) for reason in decision.reasons] == [
        ("would_exceed", "day"),
        ("would_exceed", "month"),
    ]
    assert claims == ()


def test_a_refusal_carries_the_state_of_the_limit() -> None:
    decision, _ = decide_quote(RULES, quote(), (USD,), {USD.key: Balance(8 * 10**9, 5 * 10**8)})
    (reason,) = decision.reasons
    assert (reason.limit, reason.settled, reason.held) == (Decimal(10), Decimal(8), Decimal("0.5"))
    assert (reason.asked, reason.unit, reason.retry_at_utc) == (Decimal("1.818"), "usd", MONTH_END)
    assert (
        reason.message
        == "the request is 1.00 GiB for $1.80; budget account has $1.50 left of $10.00 this month"
    )


def test_a_request_larger_than_the_whole_limit_is_told_no_time_to_try_again() -> None:
    decision, _ = decide_quote(RULES, quote(cost="11"), (USD,), FREE)
    assert decision.reasons[0].retry_at_utc is None


@pytest.mark.parametrize(("cost", "allowed"), [("5", True), ("5.000000001", False)])
def test_a_request_above_max_request_is_refused_even_with_approval(cost: str, allowed: bool) -> None:
    rules = HistoricalRules(max_request_usd=Decimal(5), approve_above_usd=Decimal(2))
    decision, claims = decide_quote(rules, quote(cost=cost), (USD,), FREE, approved=True)
    assert decision.allowed is allowed
    if not allowed:
        assert decision.code == "would_exceed"
        assert decision.reasons[0].limit == 5
        assert claims == ()


@pytest.mark.parametrize(
    ("cost", "approved", "allowed"),
    [("2", False, True), ("2.000000001", False, False), ("2.000000001", True, True)],
)
def test_a_request_above_approve_above_needs_a_yes(cost: str, approved: bool, allowed: bool) -> None:
    rules = HistoricalRules(approve_above_usd=Decimal(2))
    decision, _ = decide_quote(rules, quote(cost=cost), (USD,), FREE, approved=approved)
    assert decision.allowed is allowed
    assert decision.code == (None if allowed else "approval_needed")


def test_a_full_budget_is_named_before_the_approval_that_is_missing_too() -> None:
    rules = HistoricalRules(approve_above_usd=Decimal(1))
    decision, _ = decide_quote(rules, quote(), (USD,), {USD.key: Balance(10**10, 0)})
    assert [reason.code for reason in decision.reasons] == ["would_exceed", "approval_needed"]


def test_zero_dollars_for_data_that_has_a_size_means_included() -> None:
    """It is held and settled at nothing, and passes a full budget; its size counts all the same."""
    gib = counted("gib", 2 * GIB, "size")
    included = quote(cost="0")
    assert included.included
    full = {USD.key: Balance(10**10, 0), gib.key: Balance()}
    rules = HistoricalRules(max_request_usd=Decimal(0), approve_above_usd=Decimal(0))
    decision, claims = decide_quote(rules, included, (USD, gib), full)
    assert decision.allowed
    assert claims == (Claim(USD.key, 0, 0), Claim(gib.key, 0, GIB + GIB // 100))
    assert included.settle_price_usd == 0
    assert "included" in included.settle_price_source


def test_what_the_accounts_own_plan_includes_costs_nothing_whatever_is_quoted() -> None:
    """The vendor quotes list prices to accounts with a plan too. The size counts all the same."""
    gib = counted("gib", 2 * GIB, "size")
    planned = quote(cost="1.80", price=Decimal(0), kind="plan")
    decision, claims = decide_quote(
        RULES, planned, (USD, gib), {USD.key: Balance(10**10, 0), gib.key: Balance()}
    )
    assert decision.allowed
    assert claims == (Claim(USD.key, 0, 0), Claim(gib.key, 0, GIB + GIB // 100))
    assert (planned.settle_price_usd, planned.settle_price_source) == (Decimal(0), "a list")


def test_zero_dollars_for_no_bytes_says_nothing_about_the_price() -> None:
    empty = quote(size_bytes=0, cost="0")
    assert not empty.included
    assert empty.settle_price_usd == LIST


def test_a_frozen_budget_refuses_included_data_too() -> None:
    decision, _ = decide_quote(RULES, quote(cost="0"), (USD,), {USD.key: Balance(10**10, 1)})
    assert decision.code == "frozen"


@pytest.mark.parametrize("unit", ["hours", "connections"])
def test_connections_and_their_hours_are_a_live_matter(unit: Unit) -> None:
    """A request takes none of them and is not stopped by them, however full."""
    live = counted(unit, 1, "live")
    decision, claims = decide_quote(
        RULES, quote(), (USD, live), {USD.key: Balance(), live.key: Balance(9, 9)}
    )
    assert decision.allowed
    assert claims[1] == Claim(live.key, 0, 0)


def test_an_unlimited_budget_is_counted_and_stops_nothing() -> None:
    unlimited = counted("usd", None)
    decision, claims = decide_quote(RULES, quote(), (unlimited,), {unlimited.key: Balance(10**18, 0)})
    assert decision.allowed
    assert claims == (Claim(unlimited.key, 0, quote().held_nano_usd),)


@pytest.mark.parametrize("kind", ["vendor", "override"])
def test_what_flows_is_settled_at_the_price_of_the_account_or_of_the_policy(kind: PriceKind) -> None:
    asked = quote(cost="3.60", kind=kind)
    assert asked.settle_price_usd == LIST
    assert asked.settle_price_source == "a list"


@given(st.integers(1, 2**40), st.decimals("0.000000001", 1000, places=12))
def test_a_bundled_price_below_the_vendors_quote_gives_way_to_it(size: int, cost: Decimal) -> None:
    """An old sheet must not book less than the vendor says: the whole request settles at no less than its quote."""
    asked = quote(size, cost, kind="sheet")
    settled = cost_nano_usd(size, asked.settle_price_usd)
    assert settled >= asked.cost_nano_usd
    assert settled - asked.cost_nano_usd <= 1 + size // GIB
    if cost <= usd_from_nano(cost_nano_usd(size, LIST)):
        assert asked.settle_price_usd == LIST


def test_a_documented_quote_is_no_dearer_than_its_list_price() -> None:
    """The vendor rounds: 99,219,648 bytes at 28 are quoted as 2.587353944778."""
    asked = quote(99_219_648, "2.587353944778", Decimal(28), "sheet")
    assert asked.settle_price_usd == 28


def test_a_zero_limit_refuses_what_is_included() -> None:
    zero = replace(USD, limit=0)
    decision, _ = decide_quote(RULES, quote(cost="0"), (zero,), {zero.key: Balance()})
    assert decision.code == "would_exceed"

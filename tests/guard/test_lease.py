"""How much a connection may use next: never beyond a limit, always covered by what is claimed, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.decisions import Decision
from budget_guard.guard.lease import (
    ENDING_MS,
    FIRST_LEASE_BYTES,
    LEASE_BYTES_MAX,
    LEASE_BYTES_MIN,
    LEASE_MS,
    LEASE_SECONDS,
    Grant,
    Usage,
    Wish,
    count_text,
    next_ahead_bytes,
    settled_count,
    size_lease,
)
from budget_guard.guard.periods import BudgetLimit
from budget_guard.ledger.model import Balance, Balances, Claim
from budget_guard.money import GIB, cost_nano_usd
from budget_guard.policy.model import Unit
from tests.guard.samples import ALLOWANCE, MONTH_END, PRICE, counted

MIB = 2**20
HOUR_MS = 3_600_000
WISH = Wish(LEASE_BYTES_MIN, FIRST_LEASE_BYTES, ALLOWANCE)
UNITS: list[Unit] = ["usd", "gib", "hours", "connections"]
# The sizes that matter: a lease is megabytes, minutes and a connection.
MOST = {"usd": cost_nano_usd(64 * MIB, PRICE), "gib": 64 * MIB, "hours": HOUR_MS, "connections": 5}


@dataclass(frozen=True)
class Case:
    limits: tuple[BudgetLimit, ...]
    balances: Balances
    usage: Usage
    price: Decimal
    wish: Wish
    granted: Grant | None

    def decide(self) -> tuple[Decision, Grant, tuple[Claim, ...]]:
        return size_lease(self.limits, self.balances, self.usage, self.price, self.wish, self.granted)

    def used(self, unit: str) -> int:
        return settled_count(unit, self.usage, self.price)

    def left(self, limit: BudgetLimit) -> int:
        """What a limit has left when everybody's share, this hold's use included, is taken off."""
        assert limit.limit is not None
        others = self.balances[limit.key]
        return limit.limit - others.settled - others.held - self.used(limit.unit)

    def least(self, unit: str) -> int:
        """What a limit must have left for the least that is wished for."""
        more = Usage(
            self.usage.size_bytes + self.wish.allowance_bytes + self.wish.least_bytes,
            self.usage.elapsed_ms + ENDING_MS + 1,
        )
        return 1 if unit == "connections" else settled_count(unit, more, self.price) - self.used(unit)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any limits, balances, use and price, most of them near the edge where the answer changes."""
    price = draw(
        st.sampled_from([Decimal(0), PRICE, Decimal("0.000000001"), Decimal("280"), Decimal("1.2345678901")])
    )
    limits: list[BudgetLimit] = []
    balances: dict[object, Balance] = {}
    for number in range(draw(st.integers(1, 4))):
        unit = draw(st.sampled_from(UNITS))
        amount = draw(st.none() | st.just(0) | st.integers(0, MOST[unit]))
        one = counted(unit, amount, name=f"b{number}")
        limits.append(one)
        balances[one.key] = Balance(
            draw(st.integers(0, MOST[unit])) // 2, draw(st.integers(0, MOST[unit])) // 4
        )
    running = draw(st.booleans())
    usage = Usage(draw(st.integers(0, 16 * MIB)), draw(st.integers(0, HOUR_MS))) if running else Usage()
    granted = (
        Grant(draw(st.none() | st.integers(0, 32 * MIB)), draw(st.none() | st.integers(0, HOUR_MS)))
        if running
        else None
    )
    wish = Wish(draw(st.integers(0, 32 * MIB)), draw(st.integers(0, MIB)), draw(st.integers(0, 2 * MIB)))
    return Case(tuple(limits), balances, usage, price, wish, granted)  # type: ignore[arg-type]


@given(cases())
def test_what_is_claimed_and_what_others_have_never_pass_a_limit(case: Case) -> None:
    decision, _, claims = case.decide()
    assert [claim.key for claim in claims] == [limit.key for limit in case.limits]
    if not decision.allowed:
        return
    for limit, claim in zip(case.limits, claims, strict=True):
        others = case.balances[limit.key]
        if limit.limit is not None:
            assert others.settled + others.held + claim.settled + claim.held <= limit.limit


@given(cases())
def test_claims_cover_all_that_is_granted(case: Case) -> None:
    """A hold that goes to the very end of its grant costs no more than what it has claimed."""
    decision, grant, claims = case.decide()
    if not decision.allowed:
        return
    for limit, claim in zip(case.limits, claims, strict=True):
        assert claim.settled == case.used(limit.unit)
        total = claim.settled + claim.held
        if limit.unit in ("usd", "gib") and grant.size_bytes is not None:
            assert total == settled_count(limit.unit, Usage(grant.size_bytes), case.price)
        if limit.unit == "hours" and grant.elapsed_ms is not None:
            assert total == max(grant.elapsed_ms, case.usage.elapsed_ms)
        if limit.unit == "connections":
            assert total == 1


@given(cases())
def test_a_grant_lets_the_connection_go_on_by_the_least_and_end_safely(case: Case) -> None:
    decision, grant, _ = case.decide()
    if decision.allowed and grant.size_bytes is not None:
        assert grant.size_bytes >= case.usage.size_bytes + case.wish.allowance_bytes
        ahead = grant.size_bytes - case.usage.size_bytes - case.wish.allowance_bytes
        assert ahead >= min(case.wish.ahead_bytes, case.wish.least_bytes)
        assert ahead <= case.wish.ahead_bytes
    if decision.allowed and grant.elapsed_ms is not None:
        assert case.usage.elapsed_ms + ENDING_MS < grant.elapsed_ms <= case.usage.elapsed_ms + LEASE_MS


@given(cases())
def test_it_is_refused_exactly_when_a_limit_lacks_room_for_the_least(case: Case) -> None:
    """And the reasons name those limits, all of them, in order."""
    short = [
        limit
        for limit in case.limits
        if limit.limit is not None and (limit.limit == 0 or case.left(limit) < case.least(limit.unit))
    ]
    decision, _, _ = case.decide()
    assert decision.allowed is not bool(short)
    assert [reason.budget for reason in decision.reasons] == [limit.key.budget for limit in short]
    for limit, reason in zip(short, decision.reasons, strict=True):
        assert reason.code == ("frozen" if case.left(limit) < 0 else "limit_reached")


@given(cases())
def test_a_refusal_keeps_what_was_granted_and_takes_nothing_more(case: Case) -> None:
    decision, grant, claims = case.decide()
    if decision.allowed:
        return
    assert grant == (case.granted or Grant(0, 0))
    before = grant.size_bytes or 0
    for claim in claims:
        used = case.used(claim.key.unit)
        assert claim.settled == used
        if claim.key.unit in ("usd", "gib"):
            size = max(before, case.usage.size_bytes)
            assert claim.held == settled_count(claim.key.unit, Usage(size), case.price) - used


@given(cases(), st.integers(1, MIB))
def test_refusing_does_not_depend_on_how_much_is_hoped_for(case: Case, more: int) -> None:
    """Only the least and the allowance are needed: what is wished beyond that is cut to what there is."""
    wish = Wish(case.wish.ahead_bytes + more, case.wish.least_bytes, case.wish.allowance_bytes)
    again = size_lease(case.limits, case.balances, case.usage, case.price, wish, case.granted)[0]
    assert again.allowed == case.decide()[0].allowed


@given(st.integers(0, 64 * MIB), st.integers(0, 16 * MIB), st.integers(0, MIB))
def test_near_a_limit_a_lease_takes_at_most_half_of_what_is_left(
    limit: int, settled: int, least: int
) -> None:
    """So that another connection gets some; less than the least would be of no use to either."""
    one = counted("gib", limit)
    wish = Wish(LEASE_BYTES_MIN, least, ALLOWANCE)
    balances = {one.key: Balance(settled, 0)}
    decision, grant, _ = size_lease((one,), balances, Usage(), PRICE, wish)
    if decision.allowed:
        assert grant.size_bytes is not None
        left = limit - settled - ALLOWANCE
        assert grant.size_bytes - ALLOWANCE <= max(left // 2, least)


@given(st.integers(2, 8), st.integers(40, 4000))
def test_connections_that_share_a_limit_come_to_equal_leases(holders: int, mib: int) -> None:
    """Each renewal takes an equal part of what the others leave, whoever came first and took more."""
    one = counted("gib", mib * MIB)
    wish = Wish(LEASE_BYTES_MAX, 0, 0)
    held = [0] * holders
    for turn in range(40 * holders):
        who = turn % holders
        others = sum(held) - held[who]
        balances = {one.key: Balance(0, others, sum(1 for own in held if own) - (held[who] > 0))}
        _, grant, _ = size_lease((one,), balances, Usage(), PRICE, wish)
        assert grant.size_bytes is not None
        held[who] = grant.size_bytes
        assert sum(held) <= mib * MIB
    assert max(held) <= min(held) * 1.05 + 1


def test_what_is_idle_asks_for_less_where_others_draw_too() -> None:
    """Alone it keeps what it wished for; beside others it keeps the least."""
    one = counted("usd", 200 * 10**9)
    wish = Wish(LEASE_BYTES_MIN, FIRST_LEASE_BYTES, ALLOWANCE, shared_bytes=FIRST_LEASE_BYTES)
    alone, shared = (
        size_lease((one,), {one.key: Balance(0, 10, holders)}, Usage(), PRICE, wish)[1].size_bytes
        for holders in (0, 1)
    )
    assert (alone, shared) == (ALLOWANCE + LEASE_BYTES_MIN, ALLOWANCE + FIRST_LEASE_BYTES)


def test_with_plenty_left_a_lease_is_what_was_wished_for() -> None:
    one = counted("usd", 200 * 10**9)
    _, grant, claims = size_lease((one,), {one.key: Balance()}, Usage(), PRICE, WISH)
    assert grant == Grant(ALLOWANCE + LEASE_BYTES_MIN, None)
    assert claims == (Claim(one.key, 0, cost_nano_usd(ALLOWANCE + LEASE_BYTES_MIN, PRICE)),)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("price", [PRICE, Decimal(0)])
def test_a_limit_of_0_refuses_everything_it_matches(unit: Unit, price: Decimal) -> None:
    """Also what costs nothing; and it names no time to try again, since no period will have room."""
    zero = counted(unit, 0)
    decision, _, _ = size_lease((zero,), {zero.key: Balance()}, Usage(), price, WISH)
    assert decision.code == "limit_reached"
    assert "refuses everything" in decision.text()
    assert decision.reasons[0].retry_at_utc is None


@pytest.mark.parametrize(("spare_ms", "allowed"), [(0, False), (1, True)])
def test_hours_must_leave_more_than_the_ending_takes(spare_ms: int, allowed: bool) -> None:
    """A grant that is used up as it is given would end the connection at once."""
    hours = counted("hours", ENDING_MS + spare_ms)
    decision, grant, _ = size_lease((hours,), {hours.key: Balance()}, Usage(), PRICE, WISH)
    assert decision.allowed is allowed
    assert grant.elapsed_ms == (ENDING_MS + 1 if allowed else 0)


@pytest.mark.parametrize(("price", "bytes_most"), [(Decimal(0), None), (PRICE, ALLOWANCE + LEASE_BYTES_MIN)])
def test_unlimited_data_that_costs_money_goes_no_further_than_the_ledger_knows_of(
    price: Decimal, bytes_most: int | None
) -> None:
    """Without a ledger it ends, as all does that costs money; what costs nothing is counted, and goes on."""
    limits = tuple(counted(unit, None) for unit in UNITS)
    balances = {limit.key: Balance(10**18, 10**18) for limit in limits}
    decision, grant, claims = size_lease(limits, balances, Usage(), price, WISH)
    assert decision.allowed
    assert grant == Grant(bytes_most, None)
    assert [claim.held for claim in claims] == [
        cost_nano_usd(ALLOWANCE + LEASE_BYTES_MIN, price),
        ALLOWANCE + LEASE_BYTES_MIN,
        LEASE_MS,
        1,
    ]


def test_data_that_costs_nothing_is_not_bound_by_money() -> None:
    money = counted("usd", 1)
    full = {money.key: Balance(1, 0)}
    decision, grant, claims = size_lease((money,), full, Usage(5 * GIB), Decimal(0), WISH, Grant(None, None))
    assert decision.allowed
    assert grant.size_bytes is None
    assert claims == (Claim(money.key, 0, 0),)


@pytest.mark.parametrize("unit", ["gib", "hours", "connections"])
def test_data_that_costs_nothing_is_bound_by_size_hours_and_connections(unit: Unit) -> None:
    money, other = counted("usd", 1), counted(unit, MOST[unit], name="other")
    balances = {money.key: Balance(1, 0), other.key: Balance(MOST[unit], 0)}
    decision, _, _ = size_lease((money, other), balances, Usage(), Decimal(0), WISH)
    assert [(reason.code, reason.budget) for reason in decision.reasons] == [("limit_reached", "other")]


def test_a_frozen_budget_refuses_what_costs_nothing_too() -> None:
    money = counted("usd", 10)
    decision, _, _ = size_lease((money,), {money.key: Balance(6, 5)}, Usage(), Decimal(0), WISH)
    assert decision.code == "frozen"


def test_a_refused_renewal_for_want_of_hours_does_not_limit_the_bytes() -> None:
    """What was unlimited in size before stays so until its hours are used up."""
    hours = counted("hours", HOUR_MS)
    usage = Usage(GIB, HOUR_MS - 20_000)
    granted = Grant(None, HOUR_MS - 10_000)
    balances = {hours.key: Balance(10_000, 0)}
    decision, grant, claims = size_lease((hours,), balances, usage, Decimal(0), WISH, granted)
    assert decision.code == "limit_reached"
    assert grant == granted
    assert claims == (Claim(hours.key, usage.elapsed_ms, 10_000),)


def test_a_reason_carries_the_state_of_the_limit_and_when_to_try_again() -> None:
    one = counted("usd", 15 * 10**9, name="account", period="day")
    balances = {one.key: Balance(14_990_000_000, 9_000_000)}
    usage = Usage(1000)
    decision, _, _ = size_lease((one,), balances, usage, PRICE, WISH, Grant(2000, None))
    (reason,) = decision.reasons
    used = cost_nano_usd(1000, PRICE)
    asked = cost_nano_usd(1000 + ALLOWANCE + FIRST_LEASE_BYTES, PRICE) - used
    assert (reason.code, reason.budget, reason.period, reason.unit) == (
        "limit_reached",
        "account",
        "day",
        "usd",
    )
    assert (reason.limit, reason.held) == (Decimal(15), Decimal("0.009"))
    assert reason.settled == Decimal(14_990_000_000 + used) / 10**9
    assert reason.asked == Decimal(asked) / 10**9
    assert reason.retry_at_utc == MONTH_END  # the period's end, as the limit carries it
    assert reason.message == (
        "budget account has $0.0010 left of $15.00 this day ($0.0090 is held by what is running); "
        "a connection needs $0.0016 to go on and to end safely"
    )


def test_a_limit_too_small_for_any_connection_names_no_time_to_try_again() -> None:
    one = counted("gib", ALLOWANCE)
    decision, _, _ = size_lease((one,), {one.key: Balance()}, Usage(), PRICE, WISH)
    assert decision.code == "limit_reached"
    assert decision.reasons[0].retry_at_utc is None


def test_a_total_has_no_next_period_to_wait_for() -> None:
    one = counted("usd", 10**9, period="total")
    decision, _, _ = size_lease((one,), {one.key: Balance(10**9, 0)}, Usage(), PRICE, WISH)
    assert decision.reasons[0].retry_at_utc is None
    assert "in total" in decision.text()


@given(st.floats(0, 1e9))
def test_a_lease_is_about_half_a_minute_of_data(rate: float) -> None:
    ahead = next_ahead_bytes(rate)
    assert LEASE_BYTES_MIN <= ahead <= LEASE_BYTES_MAX
    assert ahead in (LEASE_BYTES_MIN, LEASE_BYTES_MAX) or abs(ahead - rate * LEASE_SECONDS) <= 1


@pytest.mark.parametrize(
    ("unit", "count", "text"),
    [
        ("usd", 1_500_000_000, "$1.50"),
        ("gib", 2 * GIB, "2.00 GiB"),
        ("hours", 5_400_000, "1.5 hours"),
        ("hours", 1_200_000, "0.33 hours"),
        ("hours", HOUR_MS, "1 hour"),
        ("connections", 1, "1 connection"),
        ("connections", 3, "3 connections"),
    ],
)
def test_counts_are_shown_in_the_units_that_people_write(unit: str, count: int, text: str) -> None:
    assert count_text(unit, count) == text

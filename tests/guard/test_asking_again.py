"""After a renewal that brought nothing more: how soon it is worth asking again, and how often that is in all."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from budget_guard.guard.asking import PARTS, ask_again_s
from budget_guard.guard.connection import LiveHold
from budget_guard.guard.lease import LEASE_BYTES_MIN, Usage, Wish, part_bytes, size_lease
from budget_guard.guard.periods import BudgetLimit
from budget_guard.ledger.model import Balance, BalanceKey
from budget_guard.money import GIB
from tests.guard.samples import ALLOWANCE, LIVE, MONTH_END, MONTH_START, Desk, budget, limit, policy

MIB = 2**20
PRICE = Decimal("2.16")
READ_BYTES = 16 * 1024


def refused(desk: Desk) -> LiveHold:
    """A connection that reads 1 MiB/s, with 3 MiB left and no more to be had."""
    guard = desk.guard(policy(budget("account", limit("month", "gib", str(Decimal(64 * MIB) / GIB)))))
    hold, other = (guard.open_live(LIVE, connection_id=name, allowance_bytes=ALLOWANCE).hold for name in "ab")
    read(desk, hold, MIB)
    other.activate()
    other.count(GIB, 0, time.monotonic_ns())
    other.finish("far past the limit", clean=True)
    assert not hold.renew()
    assert hold.left_bytes == 3 * MIB
    return hold


def read(desk: Desk, hold: LiveHold, size_bytes: int) -> None:
    hold.count(size_bytes, 0, time.monotonic_ns())
    desk.clock.advance(size_bytes / MIB)


@pytest.mark.parametrize(
    ("lasts_s", "least_s", "most_s"),
    [(None, 1, 1), (3600, 1, 1), (4, 0.5, 1), (2, 0.25, 0.75), (0.2, 0.05, 0.075), (0, 0.05, 0.05)],
)
def test_the_less_is_left_the_sooner_it_is_asked_again(
    lasts_s: float | None, least_s: float, most_s: float
) -> None:
    """About a quarter of the rest, between a twentieth of a second and one; not the same for all."""
    assert all(least_s <= ask_again_s(lasts_s) <= most_s for _ in range(50))


def test_a_rest_lasts_as_long_as_the_rate_says(desk: Desk) -> None:
    assert refused(desk).lasts_s == pytest.approx(3)


def test_after_a_refusal_it_is_asked_again_when_an_eighth_of_the_rest_is_used(desk: Desk) -> None:
    """Others may return money long before the rest is used up."""
    hold = refused(desk)
    assert hold.short
    read(desk, hold, 3 * MIB // PARTS)
    assert not hold.renewal_due
    read(desk, hold, 1)
    assert hold.renewal_due


def test_what_brought_nothing_more_counts_as_short_though_it_was_allowed(desk: Desk) -> None:
    """Enough is left to go on, and all of it is in this lease already."""
    guard = desk.guard(policy(budget("account", limit("month", "gib", str(Decimal(4 * MIB) / GIB)))))
    hold = guard.open_live(LIVE, connection_id="a", allowance_bytes=ALLOWANCE).hold
    for _ in range(6):
        read(desk, hold, MIB // 2)
        assert hold.renew()
    assert hold.short


def test_an_idle_connection_is_not_short_of_anything(desk: Desk) -> None:
    hold = desk.guard().open_live(LIVE, connection_id="a", allowance_bytes=ALLOWANCE).hold
    assert hold.renew() and not hold.short
    read(desk, hold, MIB)
    assert hold.renew() and not hold.short


def test_a_connection_at_its_limit_asks_a_few_times_and_no_more(desk: Desk) -> None:
    """Two or three times for each halving of its rest, so that many at a limit do not drown the ledger."""
    hold = refused(desk)
    asked, next_try_s = 0, 0.0
    while not hold.exhausted:
        read(desk, hold, min(READ_BYTES, hold.left_bytes or 0))
        if hold.renewal_due and desk.clock.elapsed_s() >= next_try_s:
            assert not hold.renew()
            asked += 1
            next_try_s = desk.clock.elapsed_s() + ask_again_s(hold.lasts_s)
    assert 4 <= asked <= 30


@pytest.mark.parametrize(
    ("rate", "ahead"), [(0, MIB // 4), (2 * MIB, 2 * MIB), (1000 * MIB, LEASE_BYTES_MIN)]
)
def test_what_is_left_is_shared_out_in_parts_of_a_second(rate: int, ahead: int) -> None:
    """Else all run out at the same moment, and what each keeps for its ending is of no use to the others."""
    key = BalanceKey("desk", "account", "month", MONTH_START, "gib")
    one = BudgetLimit(key, 100 * MIB, MONTH_END)
    wish = Wish(64 * MIB, 64 * 1024, ALLOWANCE, part_bytes=part_bytes(rate))
    left = Balance(100 * MIB - ALLOWANCE - 5 * MIB, 0, holders=18)
    _, grant, _ = size_lease((one,), {one.key: left}, Usage(), PRICE, wish)
    assert grant.size_bytes == ALLOWANCE + ahead

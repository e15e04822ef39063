"""A live hold in trouble: renewals that are refused, get lost, or take a while."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from unittest.mock import patch

import pytest

from budget_guard.errors import LedgerError
from budget_guard.guard.connection import LiveHold
from budget_guard.ledger.meter import open_orphan
from budget_guard.ledger.model import Approval, BalanceKey, Balances, Decide, Hold, Posting
from budget_guard.money import cost_nano_usd
from budget_guard.policy.model import Policy
from tests.guard.samples import ALLOWANCE, LIVE, MONTH_END, MONTH_START, Desk, always, budget, limit, policy


def opened(desk: Desk, guarded: Policy | None = None) -> LiveHold:
    guard = desk.guard(guarded)
    return guard.open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold


def test_what_a_refused_renewal_found_past_a_limit_is_an_overrun_too(desk: Desk) -> None:
    """The refusal books what was used; being booked does not make it granted."""
    hold = opened(desk, policy(budget("account", limit("month", "hours", "0.05"))))
    hold.activate()
    desk.clock.advance(3600)
    assert not hold.renew()
    hold.finish("its program had been stopped", clean=True)
    (found,) = desk.ledger.overruns("desk", "2026-11")
    assert (found.unit, found.past) == ("hours", 3_420_000)


def test_no_failure_while_a_hold_is_made_keeps_its_meter_locked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(account: str, at_utc: datetime | None = None) -> list[Approval]:
        raise RuntimeError("a defect")

    monkeypatch.setattr(desk.ledger, "approvals", break_down)
    with pytest.raises(RuntimeError) as raised:
        opened(desk)
    (path,) = desk.meter_dir.glob("*.meter")
    meter = open_orphan(path)
    assert meter is not None
    meter.close(remove=True)
    del raised


def test_what_comes_while_a_lease_shrinks_is_covered(desk: Desk) -> None:
    """An idle connection gives back; a burst that begins meanwhile finds no room that others may have been given."""
    hold = opened(desk)
    opened(desk).activate()  # another one to share with
    hold.activate()
    desk.clock.advance(4)
    restate = desk.ledger.restate

    def burst() -> None:
        while (left := hold.left_bytes) is not None and left > 0:
            hold.count(min(left, 65536), 0, 1)

    def restate_in_a_burst(
        hold_id: str, version: int, keys: Sequence[BalanceKey], decide: Decide, at_utc: datetime
    ) -> Hold:
        def decide_in_a_burst(balances: Balances) -> Posting:
            posting = decide(balances)
            burst()
            return posting

        burst()
        done = restate(hold_id, version, keys, decide_in_a_burst, at_utc)
        burst()
        return done

    with patch.object(desk.ledger, "restate", restate_in_a_burst):
        hold.renew()
    stored = desk.ledger.hold(hold.terms.id)
    assert stored is not None
    (claim,) = stored.claims
    billed = hold.counted.size_bytes + ALLOWANCE
    assert claim.settled + claim.held >= cost_nano_usd(billed, hold.terms.unit_price_usd)


def test_a_shrunk_lease_stays_shrunk_when_the_answer_is_lost(desk: Desk) -> None:
    """It may have been written, and others may have been given what it gave back."""
    hold = opened(desk)
    opened(desk).activate()
    hold.activate()
    desk.clock.advance(4)
    restate = desk.ledger.restate

    def lose_the_answer(
        hold_id: str, version: int, keys: Sequence[BalanceKey], decide: Decide, at_utc: datetime
    ) -> Hold:
        restate(hold_id, version, keys, decide, at_utc)
        raise LedgerError("no answer")

    with patch.object(desk.ledger, "restate", lose_the_answer), pytest.raises(LedgerError):
        hold.renew()
    stored = desk.ledger.hold(hold.terms.id)
    assert stored is not None
    (claim,) = stored.claims
    left = hold.left_bytes
    assert left is not None
    assert claim.settled + claim.held >= cost_nano_usd(left + ALLOWANCE, hold.terms.unit_price_usd)


def test_a_hold_that_a_connection_goes_on_with_knows_how_fast_it_was(desk: Desk) -> None:
    """What was on its way when the period ended was sent at the rate of before."""
    guard = desk.guard()
    first = opened(desk)
    first.count(8 * ALLOWANCE, 0, 1)
    first.count(0, 0, 10**9)
    second = guard.open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE, continues=first).hold
    assert second.peak_bytes_per_s == first.peak_bytes_per_s == 80 * ALLOWANCE


def test_a_connection_counts_once_in_a_day_that_comes_back_with_the_clock(desk: Desk) -> None:
    """Past midnight, then set back before it: the day before has counted the connection already."""
    desk.windows = always
    guard = desk.guard(policy(budget("daily", limit("day", "connections", 9))))

    def go_on(earlier: LiveHold | None) -> LiveHold:
        admission = guard.open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE, continues=earlier)
        admission.hold.activate()
        if earlier is not None:
            earlier.finish("went on", clean=True)
        return admission.hold

    hold = go_on(None)
    for hours in (10, -10, 10):
        desk.clock.advance(hours * 3600)
        hold = go_on(hold)
    hold.finish("over", clean=True)
    found = desk.ledger.account_balances("desk", MONTH_START, MONTH_END)
    assert [balance.settled for balance in found.values()] == [1, 1]

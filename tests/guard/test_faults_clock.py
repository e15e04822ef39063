"""Clocks that are set, and machines that sleep: no time is negative, and hours are counted as they pass."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from budget_guard import clock as clocks
from budget_guard.clock import ManualClock, SystemClock, uptime_ns
from budget_guard.guard.connection import LiveHold
from budget_guard.ledger.machine import boot_id
from budget_guard.ledger.model import Balance
from budget_guard.ledger.recovery import Recovered, recover_orphans
from tests.guard.samples import (
    ALLOWANCE,
    LIVE,
    MONTH_END,
    MONTH_START,
    NOW,
    Desk,
    always,
    budget,
    limit,
    policy,
)

HOUR = timedelta(hours=1)
HOURS = policy(budget("account", limit("month", "hours", 10), limit("month", "usd", 10)))


class SetClock(ManualClock):
    """A clock whose wall time can be set while its monotonic count runs on."""

    def step(self, by: timedelta) -> None:
        self._now += by


@pytest.fixture
def clock(desk: Desk) -> SetClock:
    made = SetClock(NOW)
    desk.clock = made
    desk.windows = always
    return made


def opened(desk: Desk) -> LiveHold:
    hold = desk.guard(HOURS).open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
    hold.activate()
    return hold


def hours(desk: Desk) -> Balance:
    found = desk.ledger.account_balances("desk", MONTH_START, MONTH_END)
    return next(balance for key, balance in found.items() if key.unit == "hours")


def recover(desk: Desk) -> list[Recovered]:
    return recover_orphans(desk.ledger, desk.meter_dir, host="desk-1", boot_id=boot_id(), clock=desk.clock)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_hours_are_counted_by_what_passes_whatever_the_clock_is_set_to(
    desk: Desk, clock: SetClock, step: timedelta
) -> None:
    hold = opened(desk)
    clock.advance(30)
    clock.step(step)
    assert hold.renew()
    assert hours(desk).settled == 30_000
    clock.advance(30)
    entry = hold.finish("done", clean=True)
    assert hours(desk) == Balance(60_000, 0)
    assert entry.ended_utc >= entry.started_utc


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_dead_owners_hold_is_settled_within_what_it_was_granted_whatever_the_clock_says(
    desk: Desk, clock: SetClock, step: timedelta
) -> None:
    hold = opened(desk)
    clock.advance(30)
    hold.count(1000, 0, int(clock.monotonic_s() * 1e9))
    held = hours(desk).held
    hold.abandon()
    clock.step(step)
    (found,) = recover(desk)
    assert found.outcome == "settled"
    assert 0 <= hours(desk).settled <= held
    assert found.residual_bytes <= ALLOWANCE
    (entry,) = desk.ledger.entries("desk", "2026-11")
    assert entry.ended_utc >= entry.started_utc


def test_a_hold_knows_when_the_clock_says_a_time_before_its_periods(desk: Desk, clock: SetClock) -> None:
    day = policy(budget("account", limit("day", "usd", 10)))
    hold = desk.guard(day).open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
    assert hold.period_start_utc == datetime(2026, 11, 23, tzinfo=UTC)
    clock.step(-timedelta(hours=16))
    assert clock.now() < hold.period_start_utc
    hold.release()


def test_a_gap_never_ends_before_it_starts(desk: Desk, clock: SetClock) -> None:
    guard = desk.guard()
    stream = next(iter(guard.policy.streams.values()))
    guard.record_gap("g1", stream, NOW, NOW - HOUR, mended="", note="the clock was set back")
    (gap,) = desk.ledger.gaps("desk", "2026-11")
    assert gap.start_utc <= gap.end_utc


def test_what_a_machine_sleeps_counts_for_what_may_have_been_sent_meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vendor goes on sending: half a second awake and an hour asleep leave the whole allowance unseen."""
    hold = desk.guard().open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
    hold.activate()
    hold.count(1000, 0, uptime_ns())
    monkeypatch.setattr("budget_guard.guard.connection.uptime_ns", lambda: uptime_ns() + 3600 * 10**9)
    assert hold.finish("reset", clean=False).residual_bytes == ALLOWANCE


def test_the_monotonic_count_goes_on_while_the_machine_sleeps() -> None:
    assert hasattr(time, "CLOCK_BOOTTIME") is (clocks._UPTIME != time.CLOCK_MONOTONIC)
    before = time.clock_gettime(clocks._UPTIME)
    assert before <= SystemClock().monotonic_s() <= time.clock_gettime(clocks._UPTIME)


def test_meters_can_be_used_again_after_their_folder_was_deleted(desk: Desk) -> None:
    """The page lives on without its name: what was counted is settled, and a new hold makes the folder again."""
    hold = desk.guard().open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
    hold.activate()
    for file in desk.meter_dir.iterdir():
        file.unlink()
    desk.meter_dir.rmdir()
    hold.count(5000, 0, uptime_ns())
    assert hold.renew()
    assert hold.finish("done", clean=True).size_bytes == 5000
    another = desk.guard().open_live(LIVE, connection_id="c2", allowance_bytes=ALLOWANCE).hold
    another.release()


def test_a_meter_that_cannot_be_removed_does_not_undo_a_settlement(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = desk.guard().open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
    hold.activate()

    def fail(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "the folder became read-only", str(path))

    with monkeypatch.context() as read_only:
        read_only.setattr(Path, "unlink", fail)
        hold.finish("done", clean=True)
    assert desk.ledger.open_holds() == []
    assert recover(desk) == []
    assert list(desk.meter_dir.iterdir()) == []

"""The vendor's request rate is never passed."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.clock import ManualClock
from budget_guard.vendor.pacing import Pacer


def started(pauses_s: list[float], per_second: int) -> list[float]:
    """When each caller started, if they came with these pauses between them."""
    clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
    pacer = Pacer(clock, per_second=per_second, sleep=clock.advance)
    starts = []
    for pause_s in pauses_s:
        clock.advance(pause_s)
        pacer.wait()
        starts.append(clock.monotonic_s())
    return starts


@settings(max_examples=100)
@given(st.lists(st.floats(0, 0.5), max_size=60), st.integers(1, 15))
def test_no_second_holds_more_starts_than_allowed(pauses_s: list[float], per_second: int) -> None:
    """Any caller and the one `per_second` places later are at least a second apart."""
    starts = started(pauses_s, per_second)
    gaps = [later - earlier for earlier, later in zip(starts, starts[per_second:], strict=False)]
    assert all(gap >= 1.0 - 1e-9 for gap in gaps)


@settings(max_examples=100)
@given(st.lists(st.floats(0, 2), min_size=1, max_size=40))
def test_starts_are_even(pauses_s: list[float]) -> None:
    """No two starts are closer than a fifteenth of a second, however late the callers are."""
    starts = started(pauses_s, 15)
    assert all(later - earlier >= 1 / 15 - 1e-6 for earlier, later in pairwise(starts))


def test_a_first_request_does_not_wait() -> None:
    """Nor does one that comes after a pause."""
    assert started([0.0, 1.0], 15) == [0.0, 1.0]


def test_everyone_waits_when_the_vendor_asks_for_it() -> None:
    """A hold stops callers that were not refused themselves."""
    clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
    pacer = Pacer(clock, sleep=clock.advance)
    pacer.hold(5)
    pacer.wait()
    assert clock.monotonic_s() == 5.0


def test_a_hold_counts_for_those_who_sleep() -> None:
    """A caller that is waiting for its turn when the vendor says stop does not start in the meantime."""
    clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))

    def nap(seconds: float) -> None:
        if clock.monotonic_s() == 0:
            pacer.hold(5)
        clock.advance(seconds)

    pacer = Pacer(clock, sleep=nap)
    pacer.wait()
    pacer.wait()
    assert clock.monotonic_s() >= 5.0

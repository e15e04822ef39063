"""Where a rehearsal's clock may go, look by look."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from budget_guard.rehearsal.pacing import EDGE_S, MEND_S, QUIET_S, STEP_BYTES_HIGH, STEP_S_MAX, Pacer, Sight

OPEN = datetime(2026, 11, 23, 14, 30, tzinfo=UTC)
CLOSE = OPEN + timedelta(hours=6)
PATIENCE_S = 10.0


def a_pacer(speed: float | None = None) -> Pacer:
    return Pacer(CLOSE, patience_s=PATIENCE_S, speed=speed)


def connected(pacer: Pacer, *, real_s: float = 0.0) -> Sight:
    """A program that connected at the opening, a moment ago."""
    sight = Sight(OPEN, real_s, streaming=1)
    pacer.next(sight)
    return replace(sight, real_s=real_s + 2 * QUIET_S)


def seconds(pacer: Pacer, sight: Sight) -> float:
    """How far the clock may go."""
    return (pacer.next(sight) - sight.now).total_seconds()


def test_the_clock_stands_until_the_program_has_connected() -> None:
    pacer = a_pacer()
    assert seconds(pacer, Sight(OPEN, 0.0)) == 0
    assert seconds(pacer, Sight(OPEN, 9.0)) == 0
    assert not pacer.connected
    assert seconds(pacer, Sight(OPEN, 9.1, streaming=1)) > 0
    assert pacer.connected and not pacer.gave_up


def test_the_clock_goes_on_without_a_program_that_does_not_connect() -> None:
    pacer = a_pacer()
    pacer.next(Sight(OPEN, 0.0))
    assert seconds(pacer, Sight(OPEN, PATIENCE_S + 0.1)) > 0
    assert pacer.gave_up


def test_a_download_keeps_the_clock_at_the_pace_of_time() -> None:
    """However long it takes, and without a live connection."""
    pacer = a_pacer()
    sight = Sight(OPEN, 0.0, requests=1)
    pacer.next(sight)
    assert seconds(pacer, replace(sight, real_s=60.0)) == 60.0
    assert seconds(pacer, replace(sight, real_s=61.5)) == 1.5
    assert not pacer.gave_up


def test_other_connections_may_follow_the_first() -> None:
    pacer = a_pacer()
    first = Sight(OPEN, 0.0, streaming=1, expected=2)
    assert seconds(pacer, first) == 0
    assert seconds(pacer, replace(first, real_s=QUIET_S / 2)) == 0
    assert seconds(pacer, replace(first, real_s=2 * QUIET_S)) > 0


def test_the_clock_stops_for_a_moment_where_another_window_opens() -> None:
    """A program that has waited for it gets its chance to connect."""
    opens = OPEN + timedelta(seconds=1)
    pacer = Pacer(CLOSE, patience_s=PATIENCE_S, opens=[OPEN, opens])
    sight = connected(pacer)
    assert pacer.next(sight) == opens
    open_now = replace(sight, now=opens, expected=2)
    assert pacer.next(open_now) == opens
    assert pacer.next(replace(open_now, real_s=open_now.real_s + 2 * QUIET_S)) > opens


def test_nothing_is_waited_for_when_everything_is_connected() -> None:
    assert seconds(a_pacer(), Sight(OPEN, 0.0, streaming=1, expected=1)) > 0


def test_the_clock_stands_while_anybody_is_behind() -> None:
    pacer = a_pacer()
    sight = connected(pacer)
    for behind in (
        replace(sight, behind_s=0.01),
        replace(sight, unread_bytes=1),
        replace(sight, backlog_bytes=1),
        replace(sight, opening=1),
    ):
        assert seconds(pacer, behind) == 0
    assert seconds(pacer, sight) > 0


def test_a_program_that_does_not_read_is_not_waited_for_for_ever() -> None:
    pacer = a_pacer()
    stuck = replace(connected(pacer), backlog_bytes=5, real_s=1.0)
    assert seconds(pacer, stuck) == 0
    assert seconds(pacer, replace(stuck, real_s=9.0)) == 0
    assert seconds(pacer, replace(stuck, real_s=1.0 + PATIENCE_S)) > 0
    assert pacer.gave_up


def test_a_program_that_reads_slowly_sets_the_pace() -> None:
    """Every byte that it takes is a reason to wait for the next."""
    pacer = a_pacer()
    sight = connected(pacer)
    for number in range(50):
        slow = replace(sight, backlog_bytes=1000 - number, real_s=sight.real_s + number * 5)
        assert seconds(pacer, slow) == 0
    assert not pacer.gave_up


def test_steps_grow_while_little_comes_and_shrink_when_much_does() -> None:
    pacer = a_pacer()
    sight = connected(pacer)
    steps = [seconds(pacer, sight) for _ in range(12)]
    assert steps == sorted(steps) and steps[-1] == STEP_S_MAX
    much = replace(sight, passed_bytes=STEP_BYTES_HIGH + 1)
    assert seconds(pacer, much) == STEP_S_MAX / 2


def test_the_clock_stops_at_an_instant_at_which_the_guard_has_to_act() -> None:
    """The last step there is a small one, and it goes on when the guard has acted: the hold that was due is gone."""
    pacer = a_pacer()
    due = OPEN + timedelta(seconds=1)
    sight = replace(connected(pacer), dues=(due,))
    eve = pacer.next(sight)
    assert timedelta(0) < due - eve < timedelta(seconds=0.1)
    behind = replace(sight, now=eve, unread_bytes=1)
    assert pacer.next(behind) == eve
    assert pacer.next(replace(sight, now=eve)) == due
    at_due = replace(sight, now=due)
    assert pacer.next(at_due) == due
    assert pacer.next(replace(at_due, dues=(CLOSE,))) > due


def test_an_instant_that_nobody_acts_at_is_passed_in_the_end() -> None:
    pacer = a_pacer()
    due = OPEN + timedelta(seconds=1)
    sight = replace(connected(pacer), now=due, dues=(due,))
    assert pacer.next(sight) == due
    assert pacer.next(replace(sight, real_s=sight.real_s + EDGE_S + 1)) > due


def test_a_lost_connection_has_the_time_that_it_would_have_outside() -> None:
    """Then the clock goes on at its own pace: whoever ended for good is not waited for."""
    pacer = a_pacer()
    sight = connected(pacer)
    pacer.next(sight)
    lost = replace(sight, streaming=0, real_s=1.0)
    pacer.next(lost)
    assert seconds(pacer, replace(lost, real_s=1.5)) == 0.5
    assert seconds(pacer, replace(lost, real_s=1.5 + PATIENCE_S)) >= 1
    assert not pacer.gave_up


def test_a_connection_that_the_guard_still_mends_has_more_time() -> None:
    pacer = a_pacer()
    sight = connected(pacer)
    pacer.next(sight)
    lost = replace(sight, streaming=0, mending=1, real_s=1.0)
    pacer.next(lost)
    pacer.next(replace(lost, real_s=60.0))
    assert seconds(pacer, replace(lost, real_s=60.5)) == 0.5
    assert seconds(pacer, replace(lost, real_s=2.0 + MEND_S)) >= 1


def test_a_connection_that_came_back_is_followed_again() -> None:
    pacer = a_pacer()
    sight = connected(pacer)
    pacer.next(sight)
    pacer.next(replace(sight, streaming=0, real_s=1.0))
    back = replace(sight, real_s=2.0)
    assert seconds(pacer, back) >= 1


def test_the_clock_never_passes_the_end_nor_goes_back() -> None:
    pacer = a_pacer()
    sight = replace(connected(pacer), now=CLOSE - timedelta(milliseconds=1))
    assert pacer.next(sight) == CLOSE
    assert pacer.next(replace(sight, dues=(OPEN,), now=OPEN + timedelta(hours=1))) >= OPEN


def test_a_speed_is_a_ceiling_over_the_whole_way() -> None:
    pacer = a_pacer(speed=10)
    sight = connected(pacer, real_s=100.0)
    at = replace(sight, real_s=102.0)
    assert pacer.next(at) <= OPEN + timedelta(seconds=20)
    for _ in range(10):
        at = replace(at, now=pacer.next(at))
    assert at.now == OPEN + timedelta(seconds=20)


def test_the_clock_stops_where_a_fault_begins_or_ends() -> None:
    pacer = a_pacer()
    edge = OPEN + timedelta(seconds=0.7)
    sight = replace(connected(pacer), edge=edge)
    eve = pacer.next(sight)
    assert timedelta(0) < edge - eve < timedelta(seconds=0.1)
    assert pacer.next(replace(sight, now=eve, unread_bytes=1)) == eve
    assert pacer.next(replace(sight, now=eve)) == edge
    assert pacer.next(replace(sight, now=edge, edge=None)) > edge


def test_time_runs_as_outside_while_a_connection_is_kept_silent() -> None:
    """So that the guard notices where it would; not for ever."""
    pacer = a_pacer()
    sight = connected(pacer)
    silent = replace(sight, silent=1, real_s=1.0)
    pacer.next(silent)
    assert seconds(pacer, replace(silent, real_s=1.5)) == 0.5
    assert seconds(pacer, replace(silent, real_s=1.5 + MEND_S)) >= 1


def test_a_guard_that_still_mends_when_a_fault_ends_has_its_time_again() -> None:
    """However long the outage was: what comes after it is not lost to the pace of the clock."""
    pacer = a_pacer()
    over = OPEN + timedelta(minutes=5)
    sight = replace(connected(pacer), edge=over)
    pacer.next(sight)
    lost = replace(sight, streaming=0, mending=1, real_s=1.0)
    pacer.next(lost)
    at_s = 2.0 + MEND_S
    while (now := pacer.next(replace(lost, real_s=at_s))) < over:
        lost = replace(lost, now=now)
    ended = replace(lost, now=over, edge=None, real_s=at_s)
    assert seconds(pacer, ended) == 0
    assert seconds(pacer, replace(ended, real_s=at_s + 0.5)) == 0.5

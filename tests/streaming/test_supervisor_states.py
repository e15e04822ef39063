"""What a supervisor does next, as a table: each row is a state, what is seen, and what follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.streaming.supervisor_states import (
    TABLE,
    Event,
    IllegalStep,
    Sight,
    State,
    judge,
    step,
)

RUNS = Sight()
ENDED = Sight(ended=True)
FAILED = Sight(ended=True, code=1)
NOTHING = Sight(ended=True)  # nothing runs, and nothing is in the way

ROWS: list[tuple[str, State, Sight, State | None]] = [
    # Windows.
    ("outside every window it is over", State.WAITING, replace(NOTHING, open=False), State.DONE),
    (
        "with --wait the next one is waited for",
        State.WAITING,
        replace(NOTHING, open=False, wait=True),
        None,
    ),
    (
        "what is not known to come is not waited for",
        State.WAITING,
        replace(NOTHING, open=False, wait=True, hopeless=True),
        State.DONE,
    ),
    ("an open window starts it", State.WAITING, NOTHING, State.STARTING),
    ("nothing in the way, it runs", State.STARTING, NOTHING, State.RUNNING),
    (
        "a window that closed while the guard was opened",
        State.STARTING,
        replace(NOTHING, open=False),
        State.DONE,
    ),
    ("while all is well it runs", State.RUNNING, RUNS, None),
    ("the close of the window ends it", State.RUNNING, replace(RUNS, open=False), State.CLOSING),
    ("ending takes its time", State.CLOSING, replace(RUNS, open=False), None),
    ("ended at the close", State.CLOSING, replace(ENDED, open=False), State.DONE),
    ("and at the next window again", State.CLOSING, replace(ENDED, open=False, wait=True), State.WAITING),
    ("it ended by itself with its window", State.RUNNING, replace(ENDED, open=False), State.DONE),
    (
        "it ended by itself with its window, and waits",
        State.RUNNING,
        replace(FAILED, open=False, wait=True, refused=True),
        State.WAITING,
    ),
    (
        "its stream's window closed and it ended, while another stream's is open",
        State.RUNNING,
        replace(ENDED, parted=True, wait=True),
        State.WAITING,
    ),
    ("the same without --wait", State.RUNNING, replace(ENDED, parted=True), State.DONE),
    # Its own end.
    ("done", State.RUNNING, ENDED, State.DONE),
    ("done is done, whatever could be waited for", State.RUNNING, replace(ENDED, wait=True), State.DONE),
    ("done is not started again", State.RUNNING, replace(ENDED, restart=True), State.DONE),
    ("failed", State.RUNNING, FAILED, State.DONE),
    ("failed, and started again", State.RUNNING, replace(FAILED, restart=True), State.PAUSING),
    (
        "what was refused is not started again",
        State.RUNNING,
        replace(FAILED, restart=True, refused=True),
        State.DONE,
    ),
    ("the pause goes on", State.PAUSING, replace(FAILED, restart=True), None),
    ("the pause is over", State.PAUSING, replace(FAILED, due=True), State.STARTING),
    ("the window closes in the pause", State.PAUSING, replace(FAILED, open=False), State.DONE),
    (
        "the money goes in the pause",
        State.PAUSING,
        replace(FAILED, blocked="money", spare=True),
        State.FALLBACK,
    ),
    # The money is out, the vendor refuses.
    ("the money is out before it is started", State.STARTING, replace(NOTHING, blocked="money"), State.DONE),
    (
        "a fallback from the start",
        State.STARTING,
        replace(NOTHING, blocked="vendor", spare=True),
        State.FALLBACK,
    ),
    ("without a fallback it goes on as it likes", State.RUNNING, replace(RUNS, blocked="money"), None),
    ("a fallback displaces it", State.RUNNING, replace(RUNS, blocked="money", spare=True), State.SWITCHING),
    ("it has to end before", State.SWITCHING, replace(RUNS, blocked="money", spare=True), None),
    ("it has ended", State.SWITCHING, replace(FAILED, blocked="money", spare=True), State.FALLBACK),
    ("the cause went meanwhile", State.SWITCHING, FAILED, State.STARTING),
    (
        "it ended by itself at the limit",
        State.RUNNING,
        replace(FAILED, blocked="money", spare=True, refused=True, restart=True),
        State.FALLBACK,
    ),
    (
        "at the limit without a fallback",
        State.RUNNING,
        replace(FAILED, blocked="money", refused=True),
        State.DONE,
    ),
    (
        "at the limit with --wait: money comes back by itself",
        State.RUNNING,
        replace(FAILED, blocked="money", refused=True, wait=True),
        State.HELD,
    ),
    (
        "a licence does not",
        State.RUNNING,
        replace(FAILED, blocked="vendor", refused=True, wait=True),
        State.DONE,
    ),
    ("held", State.HELD, replace(NOTHING, blocked="money", wait=True), None),
    ("the money is back", State.HELD, replace(NOTHING, wait=True), State.STARTING),
    ("the window closes meanwhile", State.HELD, replace(NOTHING, open=False, wait=True), State.WAITING),
    # Fallbacks.
    ("a fallback runs on while the cause lasts", State.FALLBACK, replace(RUNS, blocked="vendor"), None),
    ("the cause is over", State.FALLBACK, RUNS, State.RETURNING),
    ("the fallback has to end first", State.RETURNING, RUNS, None),
    ("then the program runs again", State.RETURNING, FAILED, State.STARTING),
    (
        "the cause came back meanwhile",
        State.RETURNING,
        replace(FAILED, blocked="vendor", spare=True),
        State.FALLBACK,
    ),
    ("the window closes", State.FALLBACK, replace(RUNS, blocked="money", open=False), State.CLOSING),
    (
        "a fallback that failed makes room for the next",
        State.FALLBACK,
        replace(FAILED, blocked="money", spare=True),
        State.FALLBACK,
    ),
    ("the last one failed", State.FALLBACK, replace(FAILED, blocked="money"), State.DONE),
    (
        "the last one failed, with --wait",
        State.FALLBACK,
        replace(FAILED, blocked="money", wait=True),
        State.HELD,
    ),
    (
        "one that ran for long is started again",
        State.FALLBACK,
        replace(FAILED, blocked="money", proven=True),
        State.FALLBACK,
    ),
    (
        "one that is done needs no other",
        State.FALLBACK,
        replace(ENDED, blocked="money", spare=True),
        State.DONE,
    ),
    ("done, with --wait", State.FALLBACK, replace(ENDED, blocked="money", spare=True, wait=True), State.HELD),
    ("it ended as the cause did", State.FALLBACK, ENDED, State.STARTING),
]


@pytest.mark.parametrize(("state", "sight", "after"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_what_follows_is_what_the_table_says(state: State, sight: Sight, after: State | None) -> None:
    event = judge(state, sight)
    assert (None if event is None else step(state, event)) is after


def test_the_next_fallback_and_the_same_again_are_told_apart() -> None:
    failed = replace(FAILED, blocked="money", spare=True)
    assert judge(State.FALLBACK, failed) is Event.NEXT
    assert judge(State.FALLBACK, replace(failed, proven=True)) is Event.AGAIN


def sights() -> Iterator[Sight]:
    flags = (
        "open",
        "wait",
        "hopeless",
        "stop",
        "spare",
        "restart",
        "due",
        "ended",
        "refused",
        "parted",
        "proven",
    )
    for values in product((False, True), repeat=len(flags)):
        for blocked, code in product((None, "money", "vendor", "unreachable"), (0, 1)):
            yield Sight(**dict(zip(flags, values, strict=True)), blocked=blocked, code=code)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", State)
def test_whatever_is_seen_has_a_place_in_the_table(state: State) -> None:
    """And a child that runs is never forgotten: only states that end it, or in which it runs on, come next."""
    with_child = {
        State.RUNNING,
        State.SWITCHING,
        State.FALLBACK,
        State.RETURNING,
        State.CLOSING,
        State.STOPPING,
    }
    for sight in sights():
        event = judge(state, sight)
        if event is not None:
            after = step(state, event)
            if state in with_child and not sight.ended:
                assert after in with_child - {State.RUNNING, State.FALLBACK}, sight


@pytest.mark.parametrize("state", set(State) - {State.DONE})
def test_a_request_to_end_leads_to_the_end(state: State) -> None:
    for sight in sights():
        here, seen = state, replace(sight, stop=True)
        for _ in range(3):
            event = judge(here, seen)
            if event is None:
                assert not seen.ended, (state, sight)
                seen = replace(seen, ended=True)
            else:
                here = step(here, event)
            if here is State.DONE:
                break
        assert here is State.DONE, (state, sight)


def test_what_was_refused_is_never_a_reason_to_start_again_at_once() -> None:
    for sight in sights():
        if sight.ended and sight.refused and sight.open and not sight.parted:
            event = judge(State.RUNNING, sight)
            assert event in (Event.OVER, Event.HOLD, Event.REPLACE), sight


@given(st.sampled_from(State), st.sampled_from(Event))
def test_a_step_that_the_table_does_not_know_is_a_mistake(state: State, event: Event) -> None:
    if event in TABLE[state]:
        assert step(state, event) is TABLE[state][event]
    else:
        with pytest.raises(
            IllegalStep, match=f"a supervisor that is {state.value} cannot take {event.value}"
        ):
            step(state, event)


def test_every_state_can_be_reached_and_leads_to_the_end() -> None:
    reached = {State.WAITING}
    while more := {after for state in reached for after in TABLE[state].values()} - reached:
        reached |= more
    assert reached == set(State)
    assert [
        state for state in State if state is not State.DONE and State.DONE not in TABLE[state].values()
    ] == []

"""What a supervisor may do next, as a table {state: {event: new state}}, and which event a look at its child calls for.

Pure: the look is a value, and what is done in a state is `supervisor`'s affair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

# Why no open stream of a program can run: the money is out, the vendor refuses, the vendor is out of reach.
Kind = Literal["money", "vendor", "unreachable"]


class State(Enum):
    WAITING = "waiting"  # outside every window
    STARTING = "starting"  # the gateway is opened, the money is looked at
    RUNNING = "running"  # the program runs
    PAUSING = "pausing"  # it crashed, and is started again in a moment
    SWITCHING = "switching"  # it has to end, so that a fallback can take its place
    FALLBACK = "fallback"  # a fallback runs instead
    RETURNING = "returning"  # the fallback has to end: the program can run again
    HELD = "held"  # the money is out, and nothing runs instead
    CLOSING = "closing"  # the window has closed: what runs has to end
    STOPPING = "stopping"  # somebody asked for the end
    DONE = "done"


class Event(Enum):
    OPEN = "open"  # the program may run
    READY = "ready"
    CRASH = "crash"  # it failed, and is started again
    DISPLACE = "displace"  # it runs, and a fallback is to run instead
    REPLACE = "replace"  # nothing runs, and a fallback is to
    NEXT = "next"  # the fallback failed; the next one is tried
    AGAIN = "again"  # the fallback failed after it had run for long: the same is started again
    RETURN = "return"  # the cause is over while a fallback runs
    HOLD = "hold"  # nothing runs until the cause is over
    CLOSE = "close"  # the window has closed while something runs
    PARK = "park"  # nothing runs until the next window
    STOP = "stop"
    OVER = "over"


TABLE: dict[State, dict[Event, State]] = {
    State.WAITING: {Event.OPEN: State.STARTING, Event.OVER: State.DONE},
    State.STARTING: {
        Event.READY: State.RUNNING,
        Event.REPLACE: State.FALLBACK,
        Event.HOLD: State.HELD,
        Event.PARK: State.WAITING,
        Event.OVER: State.DONE,
    },
    State.RUNNING: {
        Event.CRASH: State.PAUSING,
        Event.DISPLACE: State.SWITCHING,
        Event.REPLACE: State.FALLBACK,
        Event.HOLD: State.HELD,
        Event.CLOSE: State.CLOSING,
        Event.PARK: State.WAITING,
        Event.STOP: State.STOPPING,
        Event.OVER: State.DONE,
    },
    State.PAUSING: {
        Event.OPEN: State.STARTING,
        Event.REPLACE: State.FALLBACK,
        Event.HOLD: State.HELD,
        Event.PARK: State.WAITING,
        Event.OVER: State.DONE,
    },
    State.SWITCHING: {
        Event.REPLACE: State.FALLBACK,
        Event.HOLD: State.HELD,
        Event.OPEN: State.STARTING,
        Event.PARK: State.WAITING,
        Event.STOP: State.STOPPING,
        Event.OVER: State.DONE,
    },
    State.FALLBACK: {
        Event.NEXT: State.FALLBACK,
        Event.AGAIN: State.FALLBACK,
        Event.RETURN: State.RETURNING,
        Event.OPEN: State.STARTING,
        Event.HOLD: State.HELD,
        Event.CLOSE: State.CLOSING,
        Event.PARK: State.WAITING,
        Event.STOP: State.STOPPING,
        Event.OVER: State.DONE,
    },
    State.RETURNING: {
        Event.OPEN: State.STARTING,
        Event.REPLACE: State.FALLBACK,
        Event.HOLD: State.HELD,
        Event.PARK: State.WAITING,
        Event.STOP: State.STOPPING,
        Event.OVER: State.DONE,
    },
    State.HELD: {Event.OPEN: State.STARTING, Event.PARK: State.WAITING, Event.OVER: State.DONE},
    State.CLOSING: {Event.PARK: State.WAITING, Event.STOP: State.STOPPING, Event.OVER: State.DONE},
    State.STOPPING: {Event.OVER: State.DONE},
    State.DONE: {},
}


class IllegalStep(RuntimeError):
    """A programmer's mistake: an event that the state does not know."""


def step(state: State, event: Event) -> State:
    """The state after an event. Raises IllegalStep."""
    try:
        return TABLE[state][event]
    except KeyError:
        raise IllegalStep(f"a supervisor that is {state.value} cannot take {event.value}") from None


@dataclass(frozen=True, slots=True)
class Sight:
    """How things are at a look. What it says of `code` and after is of the child that ran last."""

    open: bool = True  # a window is open, or none is needed
    wait: bool = False  # the user wants to wait for the next window
    hopeless: bool = False  # no window is known to come
    stop: bool = False  # somebody asked for the end
    blocked: Kind | None = None  # why no open stream can run
    spare: bool = False  # a fallback is left that has not been tried for this cause
    restart: bool = False  # one more start after a crash is allowed
    due: bool = False  # the pause after a crash is over
    ended: bool = False  # no child runs
    code: int = 0  # its exit code
    refused: bool = False  # guard or vendor refused or cut something since it was started
    parted: bool = False  # the guard ended a stream of it at the close of that stream's window
    proven: bool = False  # it ran for long


def judge(state: State, sight: Sight) -> Event | None:
    """The event that a look calls for; None while things may go on as they are."""
    return _JUDGES[state](sight)


def _obstacle(sight: Sight) -> Event | None:
    """What keeps the program from being started when nothing runs; None when nothing does."""
    if sight.stop:
        return Event.OVER
    if not sight.open:
        return Event.PARK if sight.wait else Event.OVER
    if sight.blocked is None:
        return None
    return Event.REPLACE if sight.spare else _without_fallback(sight)


def _without_fallback(sight: Sight) -> Event:
    """Money comes back by itself, with its next period. Licences, keys and payments are for people to see to."""
    return Event.HOLD if sight.wait and sight.blocked == "money" else Event.OVER


def _waiting(sight: Sight) -> Event | None:
    if sight.stop:
        return Event.OVER
    if sight.open:
        return Event.OPEN
    return None if sight.wait and not sight.hopeless else Event.OVER


def _starting(sight: Sight) -> Event | None:
    return _obstacle(sight) or Event.READY


def _running(sight: Sight) -> Event | None:
    if not sight.ended:
        displaced = Event.DISPLACE if sight.blocked is not None and sight.spare else None
        return _must_end(sight) or displaced
    if sight.parted and sight.wait and not sight.stop:
        return Event.PARK
    obstacle = _obstacle(sight)
    if obstacle is not None:
        return obstacle
    return Event.CRASH if sight.code != 0 and sight.restart and not sight.refused else Event.OVER


def _pausing(sight: Sight) -> Event | None:
    return _obstacle(sight) or (Event.OPEN if sight.due else None)


def _changing(sight: Sight) -> Event | None:
    """One child has to end before the other can start."""
    if not sight.ended:
        return Event.STOP if sight.stop else None
    return _obstacle(sight) or Event.OPEN


def _fallback(sight: Sight) -> Event | None:
    if not sight.ended:
        return _must_end(sight) or (Event.RETURN if sight.blocked is None else None)
    obstacle = _obstacle(sight)
    if obstacle is None:
        return Event.OPEN
    if sight.stop or not sight.open:
        return obstacle
    if sight.code == 0:
        return _without_fallback(sight)
    if sight.proven:
        return Event.AGAIN
    return Event.NEXT if sight.spare else _without_fallback(sight)


def _held(sight: Sight) -> Event | None:
    if sight.stop or not sight.open:
        return _obstacle(sight)
    return Event.OPEN if sight.blocked is None else None


def _closing(sight: Sight) -> Event | None:
    if not sight.ended:
        return Event.STOP if sight.stop else None
    return Event.PARK if sight.wait and not sight.stop else Event.OVER


def _stopping(sight: Sight) -> Event | None:
    return Event.OVER if sight.ended else None


def _must_end(sight: Sight) -> Event | None:
    if sight.stop:
        return Event.STOP
    return None if sight.open else Event.CLOSE


_JUDGES: dict[State, Callable[[Sight], Event | None]] = {
    State.WAITING: _waiting,
    State.STARTING: _starting,
    State.RUNNING: _running,
    State.PAUSING: _pausing,
    State.SWITCHING: _changing,
    State.FALLBACK: _fallback,
    State.RETURNING: _changing,
    State.HELD: _held,
    State.CLOSING: _closing,
    State.STOPPING: _stopping,
    State.DONE: lambda _sight: None,
}

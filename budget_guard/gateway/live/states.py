"""What a relayed connection may do next, as a table: {state: {event: new state}}."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    GREETED = "greeted"  # the challenge was sent
    LOGGED_ON = "logged on"  # the token was right; subscriptions may come
    OPENING = "opening"  # the session was started; the guard and the vendor are being asked
    STREAMING = "streaming"  # records flow
    MENDING = "mending"  # the vendor's side was lost; the client's stays
    ENDING = "ending"  # half-closed upstream: counting what still comes
    CLOSED = "closed"


class Event(Enum):
    LOGON = "logon"
    START = "start"
    OPENED = "opened"
    LOST = "lost"
    FINISH = "finish"
    REFUSED = "refused"
    ENDED = "ended"


TABLE: dict[State, dict[Event, State]] = {
    State.GREETED: {Event.LOGON: State.LOGGED_ON, Event.REFUSED: State.CLOSED, Event.ENDED: State.CLOSED},
    State.LOGGED_ON: {Event.START: State.OPENING, Event.REFUSED: State.CLOSED, Event.ENDED: State.CLOSED},
    State.OPENING: {Event.OPENED: State.STREAMING, Event.REFUSED: State.CLOSED, Event.ENDED: State.CLOSED},
    State.STREAMING: {Event.LOST: State.MENDING, Event.FINISH: State.ENDING},
    State.ENDING: {Event.ENDED: State.CLOSED, Event.LOST: State.MENDING},
    State.MENDING: {Event.OPENED: State.STREAMING, Event.REFUSED: State.CLOSED, Event.ENDED: State.CLOSED},
    State.CLOSED: {},
}


class IllegalStep(RuntimeError):
    """A programmer's mistake: an event that the state does not know."""


def step(state: State, event: Event) -> State:
    """The state after an event. Raises IllegalStep."""
    try:
        return TABLE[state][event]
    except KeyError:
        raise IllegalStep(f"a connection that is {state.value} cannot take {event.value}") from None

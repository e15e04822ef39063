"""What may happen to a hold in which state: a table, and one function that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from budget_guard.errors import Fenced, LedgerError
from budget_guard.ledger.model import HoldState

Event = Literal["activate", "restate", "settle", "release"]

# A pair that is missing is not allowed. settled and released are final: their rows only repeat what was done.
TRANSITIONS: Mapping[HoldState, Mapping[Event, HoldState]] = {
    "held": {"activate": "active", "restate": "held", "settle": "settled", "release": "released"},
    "active": {"activate": "active", "restate": "active", "settle": "settled"},
    "settled": {"settle": "settled"},
    "released": {"release": "released"},
}


def next_state(hold_id: str, state: HoldState, event: Event) -> HoldState:
    """The state after an event. The same state means that there is nothing to do, except for a restatement.

    Raises Fenced when the hold is closed, LedgerError when it is open and the event is not for this state.
    """
    after = TRANSITIONS[state].get(event)
    if after is not None:
        return after
    if state in ("settled", "released"):
        raise Fenced(
            f"hold {hold_id} is {state}: it cannot {event} any more, and its owner must stop spending"
        )
    raise LedgerError(
        f"hold {hold_id} is {state}, so something may have been sent: it must be settled, not {event}d"
    )

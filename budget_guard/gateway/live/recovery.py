"""What a stream's `recovery` allows after a loss, and where a replay has to start to bring everything. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from budget_guard.gateway.live.delivered import Position, published_until_ns
from budget_guard.gateway.wire.shapes import SHAPES, Shape
from budget_guard.guard.guard import Admission
from budget_guard.money import bytes_within, nano_from_usd

# A replay's start is compared with the exchange's own time, and what counts is when a record was captured: it starts
# earlier than the last record by twice the longest that one took from the one to the other, and this.
SLACK_NS = 200 * 10**6
# Some records are stamped hours before they come: replaying all that for their sake would cost more than they do.
MARGIN_MAX_NS = 5 * 10**9
# A type that has not been heard for longer than this had nothing to say while another one was heard: assumed.
BETWEEN_TYPES_NS = 5 * 10**9
# The vendor keeps 24 hours for replays.
REACH_NS = (24 * 3600 - 60) * 10**9


def may_replay(admission: Admission, silent: timedelta) -> bool:
    """Whether a silence of this length may be replayed, and a first byte of it be paid for."""
    longest = admission.recovery.replay
    return bool(longest) and silent <= longest and replay_bytes_max(admission) != 0


def replay_bytes_max(admission: Admission) -> int | None:
    """How many bytes a replay may cost: what `recovery.spend` buys at the connection's price; None for no bound."""
    spend = admission.recovery.spend_usd
    if spend is None:
        return None
    return bytes_within(nano_from_usd(spend), admission.hold.terms.unit_price_usd)


def had_until_ns(schema: str, positions: Mapping[int, Position], began_ns: int) -> int:
    """Until when a client has everything of a schema, by its records' timestamps."""
    shape = SHAPES.get(schema, Shape(-1))
    own = positions.get(shape.rtype)
    last_ns = began_ns if own is None else own.last_ns
    heard_ns = published_until_ns(positions)
    if heard_ns is None:
        return last_ns
    return max(last_ns, heard_ns - BETWEEN_TYPES_NS - shape.span_ns)


def replay_start_ns(schema: str, positions: Mapping[int, Position], began_ns: int, now_ns: int) -> int:
    """Where the replay of a schema has to start, so that nothing is left out that the client does not have."""
    start_ns = had_until_ns(schema, positions, began_ns) - _margin_ns(schema, positions)
    return min(max(start_ns, now_ns - REACH_NS), now_ns)


def comes_too_late(schema: str, positions: Mapping[int, Position]) -> bool:
    """Whether records of a schema were captured so long after their time that a replay may leave some out."""
    position = positions.get(SHAPES.get(schema, Shape(-1)).rtype)
    return position is not None and 2 * position.late_ns + SLACK_NS > MARGIN_MAX_NS


def _margin_ns(schema: str, positions: Mapping[int, Position]) -> int:
    position = positions.get(SHAPES.get(schema, Shape(-1)).rtype)
    late_ns = 0 if position is None else position.late_ns
    return min(2 * late_ns + SLACK_NS, MARGIN_MAX_NS)

"""After a reconnection: the records of the replays that the client does not have yet, and when the replays are over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from budget_guard.gateway.live.delivered import DISORDER_NS, Position, identity
from budget_guard.gateway.live.recovery import replay_start_ns
from budget_guard.gateway.wire.framer import (
    CONTROL_RTYPES,
    RTYPE_SYMBOL_MAPPING,
    RTYPE_SYSTEM,
    split_records,
    ts_index,
)
from budget_guard.gateway.wire.records import SYSTEM_REPLAY_COMPLETED, message_text, system_code
from budget_guard.gateway.wire.shapes import SHAPES, Shape

# Live data this much later than the session's start shows that its replays are over, whatever was announced.
REPLAY_OVERDUE_NS = 60 * 10**9


@dataclass(frozen=True, slots=True)
class Replayed:
    """One subscription that is replayed."""

    schema: str
    start_ns: int


class OwnReplays:
    """The replays that a client asked for with its first session: it gets them as they come, and they may break off."""

    def __init__(self, asked: Iterable[Replayed]) -> None:
        self._asked = tuple(asked)
        self._left = Counter(one.schema for one in self._asked)

    def began_ns(self, session_ns: int) -> int:
        """From when on the client is to have something, of a session that says when it started; 0 is all there is."""
        return min([session_ns, *(one.start_ns for one in self._asked if one.start_ns)])

    def look(self, records: bytes, version: int) -> None:
        """See which of them are completed by a piece of whole records."""
        if self._left:
            complete(self._left, records, version)

    def unfinished_start_ns(self, schema: str, had: Mapping[int, Position]) -> int | None:
        """Where that of a schema has to be taken up, given what the client has; None where it is completed."""
        rtype = SHAPES.get(schema, Shape(-1)).rtype
        alike = [one for one in self._asked if SHAPES.get(one.schema, Shape(-1)).rtype == rtype]
        if schema not in self._left:
            return None
        start_ns = min(one.start_ns for one in alike)
        return start_ns if len(alike) > 1 else taken_up_ns(schema, start_ns, had)


def taken_up_ns(schema: str, start_ns: int, had: Mapping[int, Position]) -> int:
    """Where a replay that broke off goes on, of a schema whose records came in order: others may be far ahead."""
    rtype = SHAPES.get(schema, Shape(-1)).rtype
    if rtype not in had:
        return start_ns
    own = {rtype: had[rtype]}
    return max(start_ns, replay_start_ns(schema, own, start_ns, had[rtype].last_ns))


def complete(left: Counter[str], records: bytes, version: int) -> None:
    """Take from what is left the replays that are said to be completed: of the schema that is named, else any."""
    for record in split_records(records):
        if system_code(record, version=version) == SYSTEM_REPLAY_COMPLETED:
            words = message_text(record).replace(",", " ").split()
            schema = next((schema for schema in left if schema in words), next(iter(left), None))
            if schema is not None:
                left[schema] -= 1
                left += Counter()  # without those that are completed


@dataclass(slots=True)
class CatchUp:
    """What a resumed session sends, until all its replays are completed.

    Several subscriptions are replayed one after the other or mixed, so a later timestamp proves nothing about the next
    record. Symbol mappings pass (a client may need them again); acknowledgements, errors and replay notices were for
    the relay. With `ts_out`, records differ in their last eight bytes each time they are sent. A type that no position
    is known of is new from `began_ns` on. `until_ns`: live data after that shows that the replays are over.
    """

    replays: Sequence[Replayed]
    positions: dict[int, Position]
    began_ns: int
    until_ns: int
    bytes_max: int | None = None
    ts_out: bool = False
    size_bytes: int = 0
    _left: Counter[str] = field(default_factory=Counter)
    _sorted: frozenset[int] = frozenset()  # types that only one subscription is for: they come in order

    def __post_init__(self) -> None:
        self._left = Counter(one.schema for one in self.replays)
        by_rtype = Counter(SHAPES[one.schema].rtype for one in self.replays if one.schema in SHAPES)
        unknown = any(one.schema not in SHAPES for one in self.replays)
        self._sorted = frozenset(rtype for rtype, times in by_rtype.items() if times == 1 and not unknown)

    # --- how far it is ------------------------------------------------------------------------------------

    @property
    def waiting(self) -> frozenset[str]:
        """The schemas of which a replay is not completed."""
        return frozenset(self._left)

    @property
    def too_dear(self) -> bool:
        return self.bytes_max is not None and self.size_bytes > self.bytes_max

    def start_ns(self, schema: str) -> int | None:
        """Where the replay of a schema began; None when it has none."""
        return min((one.start_ns for one in self.replays if one.schema == schema), default=None)

    def missing(self, schema: str) -> int:
        """How many records that the client has of a schema the replay should have repeated and did not."""
        shape, start_ns = SHAPES.get(schema), self.start_ns(schema)
        position = None if shape is None else self.positions.get(shape.rtype)
        return 0 if position is None or start_ns is None else position.missing(start_ns)

    def unfinished(self) -> dict[int, Position]:
        """What is known, should it break off now, of the types of which one replay may be far ahead of another.

        Of all other types the tail knows as much.
        """
        rtypes = {SHAPES[schema].rtype for schema in self._left if schema in SHAPES} - self._sorted
        return {rtype: position.once_more() for rtype, position in self.positions.items() if rtype in rtypes}

    def unfinished_start_ns(self, schema: str, had: Mapping[int, Position]) -> int | None:
        """Where the replay of a schema has to start again, given what the client has; None where it is completed.

        How far another schema has come says nothing: one replay may come after the other.
        """
        start_ns = self.start_ns(schema) if schema in self._left else None
        if start_ns is None or SHAPES.get(schema, Shape(-1)).rtype not in self._sorted:
            return start_ns
        return taken_up_ns(schema, start_ns, had)

    # --- what comes ---------------------------------------------------------------------------------------

    def take(
        self, records: bytes, rtypes: Collection[int], last_ts_ns: int | None, *, version: int | None
    ) -> bytes:
        """The part of a piece of whole records that the client does not have."""
        self.size_bytes += len(records)
        new = records if self._is_all_new(records, rtypes) else self._filtered(records)
        if last_ts_ns is not None and last_ts_ns > self.until_ns:
            self._left.clear()
        elif RTYPE_SYSTEM in rtypes and version is not None:
            complete(self._left, records, version)
        return new

    def _is_all_new(self, records: bytes, rtypes: Collection[int]) -> bool:
        """Whether a look at the first record is enough: one type, in order, and past everything that came before."""
        if len(rtypes) != 1 or not records or (rtype := records[1]) not in self._sorted:
            return False
        position = self.positions.get(rtype)
        last_ns = self.began_ns if position is None else position.last_ns
        return ts_index(records, 0) > last_ns + DISORDER_NS

    def _filtered(self, records: bytes) -> bytes:
        kept: list[bytes] = []
        new_from: int | None = None
        at = 0
        for record in split_records(records):
            if self._is_new(record):
                new_from = at if new_from is None else new_from
            elif new_from is not None:
                kept.append(records[new_from:at])
                new_from = None
            at += len(record)
        if new_from is not None:
            kept.append(records[new_from:])
        return b"".join(kept)

    def _is_new(self, record: bytes) -> bool:
        rtype = record[1]
        if rtype in CONTROL_RTYPES:
            return rtype == RTYPE_SYMBOL_MAPPING
        position = self.positions.get(rtype)
        if position is None:
            position = self.positions[rtype] = Position(self.began_ns - 1, self.began_ns)
        ts_ns = ts_index(record, 0)
        same = identity(record, ts_out=self.ts_out)
        new = position.is_new(record, ts_ns, same)
        if new and rtype not in self._sorted:
            position.add(record, ts_ns, same)
        return new

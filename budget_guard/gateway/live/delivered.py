"""What a client has been given: enough of the end of each record type to know its records again in a replay.

What is relied on: records of one instrument of one publisher come in the order of their index timestamps within a
record type, live and replayed. Nothing is assumed of the order between types, and little of that between instruments.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from budget_guard.gateway.wire.framer import CONTROL_RTYPES, UNDEF_TIMESTAMP, split_records, ts_index
from budget_guard.gateway.wire.shapes import published_ns, replay_stamp

# So much is kept of the end of each record type: whole reads, at least one.
TAIL_BYTES = 1 << 20
# Records of different instruments come out of order by this much at most: assumed.
DISORDER_NS = 250 * 10**6


@dataclass(slots=True)
class Key:
    """One instrument of one publisher: its last record's timestamp, and the records there with how often they came."""

    last_ns: int
    had: Counter[bytes] = field(default_factory=Counter)
    left: Counter[bytes] = field(default_factory=Counter)  # that a replay has not repeated yet

    def add(self, identity: bytes, ts_ns: int) -> None:
        """The client has been given a record."""
        if ts_ns > self.last_ns:
            self.last_ns = ts_ns
            self.had.clear()
            self.left.clear()
        if ts_ns == self.last_ns:
            self.had[identity] += 1

    def takes_back(self, identity: bytes) -> bool:
        """Whether a record at the last timestamp is one that the client has; each counts once."""
        if self.left[identity] <= 0:
            return False
        self.left[identity] -= 1
        return True


@dataclass(slots=True)
class Position:
    """Until where a client has the records of one type.

    It has everything before `floor_ns`; from there to `last_ns`, `keys` knows. `stamps` are what a replay's start is
    compared with, of each record that the client has from `floor_ns` on; `late_ns`: how long after its `ts_event` a
    record was captured, at most.
    """

    last_ns: int
    floor_ns: int
    late_ns: int = 0
    keys: dict[bytes, Key] = field(default_factory=dict)
    stamps: list[int] = field(default_factory=list)
    repeated: int = 0

    def is_new(self, record: bytes, ts_ns: int, identity: bytes) -> bool:
        """Whether the client does not have a replayed record."""
        if ts_ns < self.floor_ns:
            return False
        key = self.keys.get(record[2:8])
        if key is None:
            new = True
        elif ts_ns == key.last_ns:
            new = not key.takes_back(identity)
        else:
            new = ts_ns > key.last_ns
        self.repeated += not new
        return new

    def add(self, record: bytes, ts_ns: int, identity: bytes) -> None:
        """The client has been given a record."""
        if ts_ns == UNDEF_TIMESTAMP:
            return
        self.last_ns = max(self.last_ns, ts_ns)
        key = self.keys.get(record[2:8])
        if key is None:
            key = self.keys[record[2:8]] = Key(ts_ns)
        key.add(identity, ts_ns)

    def missing(self, start_ns: int) -> int:
        """How many of the records that a replay from an instant on should have repeated it has not."""
        return max(0, sum(stamp >= start_ns for stamp in self.stamps) - self.repeated)

    def once_more(self) -> Position:
        """The same for another replay."""
        for key in self.keys.values():
            key.left = key.had.copy()
        return Position(self.last_ns, self.floor_ns, self.late_ns, self.keys, self.stamps)


def identity(record: bytes, *, ts_out: bool) -> bytes:
    """What is the same each time that a record is sent."""
    return record[:-8] if ts_out else record


class Tail:
    """The last records that a client was given, of each type."""

    def __init__(self) -> None:
        self._pieces: dict[int, deque[bytes]] = {}
        self._sizes: dict[int, int] = {}
        self._cut: set[int] = set()  # types of which something has been forgotten
        self._late_ns: dict[int, int] = {}
        self._first_ts_ns: int | None = None
        self.last_ts_ns: int | None = None

    def remember(self, records: bytes, rtypes: Collection[int], last_ts_ns: int | None) -> None:
        """Keep a piece of whole records of these types, and forget the oldest that are no longer needed."""
        if last_ts_ns is None:
            return
        if self.last_ts_ns is None or last_ts_ns > self.last_ts_ns:
            self.last_ts_ns = last_ts_ns
        self._look_at_first(records)
        for rtype in rtypes:
            if rtype not in CONTROL_RTYPES:
                self._keep(rtype, records)

    def positions(self, began_ns: int, *, ts_out: bool) -> dict[int, Position]:
        """Until where the client has each type that it was given; the session began at `began_ns`."""
        began_ns = min(began_ns, self._first_ts_ns or began_ns)
        return {rtype: self._position(rtype, began_ns, ts_out=ts_out) for rtype in self._pieces}

    def _keep(self, rtype: int, records: bytes) -> None:
        pieces = self._pieces.setdefault(rtype, deque())
        pieces.append(records)
        size = self._sizes.get(rtype, 0) + len(records)
        while len(pieces) > 1 and size - len(pieces[0]) >= TAIL_BYTES:
            size -= len(pieces.popleft())
            self._cut.add(rtype)
        self._sizes[rtype] = size

    def _look_at_first(self, records: bytes) -> None:
        """One record of each read is a sample of how late records come, and costs next to nothing."""
        if records[1] in CONTROL_RTYPES or (ts_ns := ts_index(records, 0)) == UNDEF_TIMESTAMP:
            return
        if self._first_ts_ns is None:
            self._first_ts_ns = ts_ns
        self._measure(records[1], ts_ns - replay_stamp(records[:16], ts_ns))

    def _measure(self, rtype: int, late_ns: int) -> None:
        if late_ns > self._late_ns.get(rtype, 0):
            self._late_ns[rtype] = late_ns

    def _position(self, rtype: int, began_ns: int, *, ts_out: bool) -> Position:
        """From the newest piece back to one that begins before any disorder."""
        found: list[list[tuple[bytes, int]]] = []
        last_ns, floor_ns = began_ns - 1, began_ns
        for piece in reversed(self._pieces[rtype]):
            stamped = _of_type(piece, rtype)
            if not stamped:
                continue
            found.append(stamped)
            oldest_ns = min(ts_ns for _, ts_ns in stamped)
            last_ns = max(last_ns, max(ts_ns for _, ts_ns in stamped))
            if oldest_ns < last_ns - DISORDER_NS:
                floor_ns = _floor_ns(began_ns, oldest_ns, last_ns)
                break
        else:
            if rtype in self._cut and found:
                floor_ns = _floor_ns(began_ns, min(ts_ns for _, ts_ns in found[-1]), last_ns)
        position = Position(last_ns, floor_ns)
        for stamped in reversed(found):
            for record, ts_ns in stamped:
                self._add(position, record, ts_ns, ts_out=ts_out)
        position.late_ns = self._late_ns.get(rtype, 0)
        return position.once_more()

    def _add(self, position: Position, record: bytes, ts_ns: int, *, ts_out: bool) -> None:
        position.add(record, ts_ns, identity(record, ts_out=ts_out))
        stamp_ns = replay_stamp(record, ts_ns)
        self._measure(record[1], ts_ns - stamp_ns)
        if ts_ns >= position.floor_ns:
            position.stamps.append(stamp_ns)


def _floor_ns(began_ns: int, oldest_ns: int, last_ns: int) -> int:
    """Above the oldest timestamp that is remembered: of its records some may be forgotten, and all have come."""
    return max(began_ns, min(oldest_ns + 1, last_ns))


def _of_type(piece: bytes, rtype: int) -> list[tuple[bytes, int]]:
    """The records of one type with their timestamps, where they have one."""
    found = ((record, ts_index(record, 0)) for record in split_records(piece) if record[1] == rtype)
    return [(record, ts_ns) for record, ts_ns in found if ts_ns != UNDEF_TIMESTAMP]


def published_until_ns(positions: Mapping[int, Position]) -> int | None:
    """The latest instant at which something that the client has was published."""
    return max((published_ns(rtype, one.last_ns) for rtype, one in positions.items()), default=None)

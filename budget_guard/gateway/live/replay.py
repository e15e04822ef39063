"""After a reconnection: which of the replayed records the client already has."""

from __future__ import annotations

from collections import Counter, deque

from budget_guard.gateway.wire.framer import CONTROL_RTYPES, RTYPE_SYMBOL_MAPPING, split_records, ts_index

# Records of one timestamp come in bursts; a burst of more than this many bytes has not been seen.
TAIL_BYTES = 1 << 20


class Tail:
    """The last records that a client was given, enough to know those that share the last timestamp."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self.last_ts_ns: int | None = None

    def remember(self, records: bytes, last_ts_ns: int | None) -> None:
        """Keep a piece of whole records, and forget the oldest pieces that are no longer needed."""
        if last_ts_ns is not None and (self.last_ts_ns is None or last_ts_ns > self.last_ts_ns):
            self.last_ts_ns = last_ts_ns
        self._pieces.append(records)
        self._size += len(records)
        while len(self._pieces) > 1 and self._size - len(self._pieces[0]) >= TAIL_BYTES:
            self._size -= len(self._pieces.popleft())

    def at_last_ts(self) -> Counter[bytes]:
        """The market data records at the last timestamp, with how often each came."""
        return Counter(
            record
            for piece in self._pieces
            for record in split_records(piece)
            if record[1] not in CONTROL_RTYPES and ts_index(record, 0) == self.last_ts_ns
        )


class Deduplicator:
    """Drops what a replay repeats: everything before the last timestamp, and at it whatever was delivered.

    Several subscriptions are replayed one after the other or mixed, so a later timestamp proves nothing about the
    next record: it is for the owner to say when the replays are over. Symbol mappings pass (a client may need them
    again); acknowledgements, errors and replay notices were for the relay. With `ts_out`, records differ in their
    last eight bytes each time they are sent.
    """

    def __init__(self, last_ts_ns: int, delivered: Counter[bytes], *, ts_out: bool) -> None:
        self._last_ts_ns = last_ts_ns
        self._ts_out = ts_out
        self._delivered = Counter[bytes]()
        for record, times in delivered.items():
            self._delivered[self._identity(record)] += times

    def filter(self, records: bytes) -> bytes:
        """The part of whole records that the client does not have."""
        kept: list[bytes] = []
        new_from: int | None = None
        position = 0
        for record in split_records(records):
            if self._is_new(record):
                new_from = position if new_from is None else new_from
            elif new_from is not None:
                kept.append(records[new_from:position])
                new_from = None
            position += len(record)
        if new_from is not None:
            kept.append(records[new_from:])
        return b"".join(kept)

    def _is_new(self, record: bytes) -> bool:
        if record[1] in CONTROL_RTYPES:
            return record[1] == RTYPE_SYMBOL_MAPPING
        ts_ns = ts_index(record, 0)
        if ts_ns != self._last_ts_ns:
            return ts_ns > self._last_ts_ns
        identity = self._identity(record)
        if self._delivered[identity] > 0:
            self._delivered[identity] -= 1
            return False
        return True

    def _identity(self, record: bytes) -> bytes:
        return record[:-8] if self._ts_out else record

"""DBN framing without a socket and without decoding: where records end, what kinds they are, when the last one was.

A record's first byte is its length in units of four bytes, its second its type. Source: the DBN specification.
Both together are called its kind here: one type may have several lengths.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

METADATA_PREFIX = 8  # "DBN", a version byte, and the length of the rest as a little-endian u32
# The vendor's largest headers list every symbol of a dataset; those stay far below this.
METADATA_MAX_BYTES = 256 * 2**20
HEADER_BYTES = 16

RTYPE_ERROR = 0x15
RTYPE_SYMBOL_MAPPING = 0x16
RTYPE_SYSTEM = 0x17
CONTROL_RTYPES = frozenset({RTYPE_ERROR, RTYPE_SYMBOL_MAPPING, RTYPE_SYSTEM})

_TS_EVENT = 8
UNDEF_TIMESTAMP = 2**64 - 1
# Offset of the timestamp that orders a schema (`ts_index`): ts_recv where a record has one, else ts_event.
_TS_INDEX_OFFSET = {
    0xA0: 40,  # mbo
    0x00: 32,  # trades
    0x01: 32,  # mbp-1, tbbo
    0x0A: 32,  # mbp-10
    0xB1: 32,  # cmbp-1
    0xC0: 32,  # cbbo-1s
    0xC1: 32,  # cbbo-1m
    0xC2: 32,  # tcbbo
    0xC3: 32,  # bbo-1s
    0xC4: 32,  # bbo-1m
    0x12: 16,  # status
    0x13: 16,  # definition
    0x14: 16,  # imbalance
    0x18: 16,  # statistics
}

# Runs are measured in steps of so many records, longer and longer ones; after some runs that were short, the records
# alternate.
_RUN_FIRST, _RUN_MAX = 16, 1 << 16
_RUN_SHORT, _SHORT_RUNS = 8, 4
# A read of up to so many records may be looked at twice.
_ALIKE_MAX = 256
# More kinds of records than a session can have: more than these are no DBN, and need not be walked fast.
_KINDS_MAX = 64


class FramingError(ValueError):
    """Bytes that are not DBN: a wrong prefix, or a record that claims to be shorter than its own header."""


@dataclass(slots=True)
class Framed:
    """What became of the bytes fed: whole records, in order, as one piece.

    `metadata` is the stream's header in the feed that completed it. `billable_bytes` counts what was fed after
    the header, whole records or not. `control_bytes` is the part of `records` that is not market data, `last_ts_ns`
    the timestamp of the last market data record, if it has one. `count_by_kind` has the records of each kind: the two
    bytes that they begin with. `begun` is the part of a record that has come without its end.
    """

    metadata: bytes | None = None
    records: bytes = b""
    billable_bytes: int = 0
    control_bytes: int = 0
    count_by_kind: dict[bytes, int] = field(default_factory=dict)
    last_ts_ns: int | None = None
    begun: bytes = b""

    @property
    def rtypes(self) -> set[int]:
        """The types of the records."""
        return {kind[1] for kind in self.count_by_kind}


class Framer:
    """Splits one DBN stream. Feed it whole, byte by byte or with bytes left over: the records are the same."""

    def __init__(self) -> None:
        self._carry = b""
        self._in_metadata = True
        self._walk = _Walk()

    def feed(self, data: bytes) -> Framed:
        """Take the next bytes. Raises FramingError."""
        if not self._carry and (alike := self._walk.alike(data)) is not None:
            return alike
        framed = Framed()
        if self._in_metadata:
            data = self._feed_metadata(data, framed)
        framed.billable_bytes = len(data)
        if not self._in_metadata and (data or self._carry):
            buffer = self._carry + data if self._carry else data
            end = self._walk.through(buffer, framed)
            framed.records, self._carry = (
                (buffer, b"") if end == len(buffer) else (buffer[:end], buffer[end:])
            )
            framed.begun = self._carry
        return framed

    def fitting(self, size: int) -> int:
        """The most of `size` bytes that would end with a record if those like the last go on: nothing is cut then."""
        kind = self._walk.last_kind
        length = kind[0] * 4 if kind else 0
        return size - (len(self._carry) + size) % length if 0 < length <= size else size

    @property
    def between_records(self) -> bool:
        """Whether the stream could end here: its header is whole, and so is the last record."""
        return not self._in_metadata and not self._carry

    def _feed_metadata(self, data: bytes, framed: Framed) -> bytes:
        """Collect the header; what follows it, once it is whole."""
        buffer = self._carry + data
        if not b"DBN".startswith(buffer[:3]) and buffer[:3] != b"DBN":
            raise FramingError(f"not DBN: the stream starts with {buffer[:4]!r}")
        length = _metadata_length(buffer)
        if length is None or len(buffer) < length:
            self._carry = buffer
            return b""
        self._in_metadata = False
        self._carry = b""
        framed.metadata = buffer[:length]
        return buffer[length:]


def _metadata_length(buffer: bytes) -> int | None:
    if len(buffer) < METADATA_PREFIX:
        return None
    length = METADATA_PREFIX + int.from_bytes(buffer[4:METADATA_PREFIX], "little")
    if length > METADATA_MAX_BYTES:
        raise FramingError(f"a metadata header of {length} bytes")
    return length


class _Walk:
    """Finds where records end, and learns what kinds of them a stream has.

    Runs of one kind are measured by slices. Where kinds alternate, records are walked by a pattern of the kinds that
    were seen: one look for each, in C. What the pattern does not know is looked at here, and known from then on.
    """

    def __init__(self) -> None:
        self._kinds: set[bytes] = set()
        self._pattern: re.Pattern[bytes] | None = None
        self._run_max = _RUN_FIRST  # how far to look for the end of a run: as the last ones say
        self.last_kind = b""  # of the record that was looked at last

    def alike(self, data: bytes) -> Framed | None:
        """A small read of nothing but whole market data records like the last one; None for anything else.

        So come most reads of a stream that is kept up with, and there time counts.
        """
        kind = self.last_kind
        if not kind or kind[1] in CONTROL_RTYPES:
            return None
        length = kind[0] * 4
        count, rest = divmod(len(data), length)
        if rest or not 0 < count <= _ALIKE_MAX:
            return None
        if data[::length] != kind[:1] * count or data[1::length] != kind[1:] * count:
            return None
        stamp = ts_index(data, len(data) - length)
        return Framed(
            records=data,
            billable_bytes=len(data),
            count_by_kind={kind: count},
            last_ts_ns=None if stamp == UNDEF_TIMESTAMP else stamp,
        )

    def through(self, buffer: bytes, framed: Framed) -> int:
        """Fill in `framed`, and return where the last whole record of a buffer ends. Raises FramingError."""
        position, size = 0, len(buffer)
        last_data = -1
        run_max, short_runs = self._run_max, 0
        while position < size:
            kind = buffer[position : position + 2]
            length = kind[0] * 4
            if length < HEADER_BYTES:
                raise FramingError(f"a record of {length} bytes at byte {position}")
            if position + length > size:
                break
            run = _run_length(buffer, position, length, run_max)
            # A run that filled its bound, or the buffer, may go on: look further next time.
            if run == run_max:
                run_max = min(run_max * 16, _RUN_MAX)
            elif position + (run + 1) * length <= size:
                run_max = _RUN_FIRST
            short_runs = short_runs + 1 if run < _RUN_SHORT else 0
            self.last_kind = kind
            if kind not in self._kinds:
                self._learn(kind)
            last_data = _add(framed, kind, run, position, last_data)
            position += run * length
            if short_runs >= _SHORT_RUNS and self._pattern is not None:
                position, last_data = self._alternating(buffer, position, framed, last_data)
                short_runs = 0
        self._run_max = run_max
        if last_data >= 0 and (stamp := ts_index(buffer, last_data)) != UNDEF_TIMESTAMP:
            framed.last_ts_ns = stamp
        return position

    def _learn(self, kind: bytes) -> None:
        if len(self._kinds) >= _KINDS_MAX:
            return
        self._kinds.add(kind)
        kinds = b"|".join(re.escape(one) + b".{%d}" % (one[0] * 4 - 2) for one in sorted(self._kinds))
        # What is no whole record of these kinds, the buffer's last one for the most part, is taken in one piece.
        self._pattern = re.compile(b"(?s)(?=(..?))(?:" + kinds + b"|.+)")

    def _alternating(self, buffer: bytes, begin: int, framed: Framed, last_data: int) -> tuple[int, int]:
        """Walk as far as the kinds are known: where that ends, and where the last market data record begins."""
        assert self._pattern is not None
        kinds: list[bytes] = self._pattern.findall(buffer, begin)
        counts = Counter(kinds)
        end = begin + sum(kind[0] * 4 * times for kind, times in counts.items())
        if kinds and (kinds[-1] not in self._kinds or end > len(buffer)):
            rest = kinds.pop()
            counts -= Counter([rest])
            end -= rest[0] * 4
        for kind, times in counts.items():
            _add(framed, kind, times, 0, 0)
        if kinds:
            self.last_kind = kinds[-1]
        place = end
        for kind in reversed(kinds):
            place -= kind[0] * 4
            if kind[1] not in CONTROL_RTYPES:
                return end, place
        return end, last_data


def _add(framed: Framed, kind: bytes, times: int, position: int, last_data: int) -> int:
    """Count records of one kind that begin at `position`; where the last market data record begins now."""
    length = kind[0] * 4
    framed.count_by_kind[kind] = framed.count_by_kind.get(kind, 0) + times
    if kind[1] in CONTROL_RTYPES:
        framed.control_bytes += times * length
        return last_data
    return position + (times - 1) * length


def _run_length(buffer: bytes, position: int, length: int, at_most: int) -> int:
    """How many whole records from `position` on share its length and type; at least one, at most so many."""
    follower = position + length
    if buffer[follower : follower + 2] != buffer[position : position + 2]:
        return 1
    count = min(at_most, (len(buffer) - position) // length)
    end = position + count * length
    lengths, rtypes = buffer[position:end:length], buffer[position + 1 : end : length]
    # For the most part all are the same: comparing is far faster than stripping.
    if lengths == lengths[:1] * count and rtypes == rtypes[:1] * count:
        return count
    return min(_leading(lengths), _leading(rtypes))


def _leading(values: bytes) -> int:
    """How many of the first bytes are the same."""
    return len(values) - len(values.lstrip(values[:1]))


def ts_index(buffer: bytes, position: int) -> int:
    """The timestamp, ns since the epoch, that orders the record at `position` within its schema."""
    offset = position + _TS_INDEX_OFFSET.get(buffer[position + 1], _TS_EVENT)
    return int.from_bytes(buffer[offset : offset + 8], "little")


def split_records(buffer: bytes) -> list[bytes]:
    """Whole records of a buffer, one by one: for the few that need looking at. Raises FramingError."""
    records = []
    position = 0
    while position < len(buffer):
        length = buffer[position] * 4
        if length < HEADER_BYTES or position + length > len(buffer):
            raise FramingError(f"a record of {length} bytes at byte {position} of {len(buffer)}")
        records.append(buffer[position : position + length])
        position += length
    return records

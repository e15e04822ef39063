"""Buffers ready for the socket, and whose bytes are in them. No I/O here."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import databento_dbn as dbn
import numpy as np
import numpy.typing as npt
import zstandard

from budget_guard.sandbox.billing.rules import Kind
from budget_guard.sandbox.market.model import Part
from budget_guard.sandbox.market.records import SPECS, Int64s, as_wire

Control = dbn.SystemMsg | dbn.ErrorMsg | dbn.SymbolMappingMsg

_CONTROL_KINDS: Mapping[type[Control], Kind] = {
    dbn.SystemMsg: "system",
    dbn.ErrorMsg: "error",
    dbn.SymbolMappingMsg: "mapping",
}

# The fastest of zstd's ordinary levels.
_COMPRESSION_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes up to `end` that are records of one schema (None: control), each `record_size` long.

    `kind` says what they are when they are not simply what the market published: a bill may leave them out.
    """

    end: int
    schema: str | None
    record_size: int
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A buffer for the socket, and whose bytes are in it; without runs nothing of it is billed.

    The runs count record bytes, uncompressed. Of a `whole` buffer (a compressed one, or the DBN header) no place in
    `data` is a place in the records: it is billed as one, with the first byte that is sent, and sent to its end.
    """

    data: memoryview
    runs: tuple[Run, ...]
    whole: bool = False

    @property
    def size(self) -> int:
        """The uncompressed bytes of the records in it."""
        return self.runs[-1].end if self.runs else 0

    def stamped(self, ts_out: int) -> Outgoing:
        """The same records, uncompressed, each with another time of sending, for which it has room."""
        data = np.array(self.data)
        stamp = np.frombuffer(ts_out.to_bytes(8, "little"), dtype=np.uint8)
        for begin, run in zip([0, *(run.end for run in self.runs)], self.runs, strict=False):
            data[begin : run.end].reshape(-1, run.record_size)[:, -8:] = stamp
        return replace(self, data=data.data)


def unbilled(data: bytes) -> Outgoing:
    return Outgoing(memoryview(data), (), whole=True)


class Squeeze:
    """One zstd frame over all the buffers of a session: flushed at each of them, never finished."""

    def __init__(self) -> None:
        self._compress = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL).compressobj()

    def __call__(self, outgoing: Outgoing) -> Outgoing:
        """The same records, compressed, readable at once by whoever has the buffers before."""
        data = self._compress.compress(outgoing.data)
        data += self._compress.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        return replace(outgoing, data=memoryview(data), whole=True)


def control(*records: Control) -> Outgoing:
    """Control records in one buffer."""
    pieces = [bytes(record) for record in records]
    ends = itertools.accumulate(map(len, pieces))
    runs = tuple(
        Run(end, None, len(piece), _CONTROL_KINDS[type(record)])
        for end, piece, record in zip(ends, pieces, records, strict=True)
    )
    return Outgoing(memoryview(b"".join(pieces)), runs)


@dataclass(frozen=True, slots=True)
class Marks:
    """One system record at several instants: `stamps` in nanoseconds, in order."""

    record: dbn.SystemMsg
    stamps: Int64s

    def wire(self) -> npt.NDArray[np.uint8]:
        """The records as a matrix of bytes, one a row, each with its instant as `ts_event`."""
        template = np.frombuffer(bytes(self.record), dtype=np.uint8)
        rows = np.tile(template, (len(self.stamps), 1))
        rows[:, 8:16] = self.stamps.astype("<u8").view(np.uint8).reshape(-1, 8)
        return rows


def lay_out(
    parts: Sequence[Part],
    ts_out: int | None,
    marks: Sequence[Marks] = (),
    kinds: Sequence[Kind | None] | None = None,
) -> Outgoing:
    """Records of several streams in the order in which they are published, whatever their sizes.

    A bar is published when its interval is over, everything else at its index timestamp; a mark follows what was
    published at its instant. `kinds` says of each part what it is; see `Run`.
    """
    system: Kind = "system"
    what: list[Kind | None] = [*(kinds or [None] * len(parts)), *[system] * len(marks)]
    wires = [as_wire(part.rows, ts_out) for part in parts] + [mark.wire() for mark in marks]
    schemas = [part.schema for part in parts] + [None] * len(marks)
    order = _order(parts, marks) if len(wires) > 1 else None
    if len({wire.shape[1] for wire in wires}) == len(set(schemas)) == len(set(what)) == 1:
        wire = wires[0] if order is None else np.concatenate(wires)[order]
        return Outgoing(wire.reshape(-1).data, (Run(wire.size, schemas[0], wire.shape[1], what[0]),))
    assert order is not None
    owner = np.repeat(np.arange(len(wires)), [len(wire) for wire in wires])[order]
    ends = np.cumsum(np.array([wire.shape[1] for wire in wires])[owner])
    buffer = np.empty(int(ends[-1]), dtype=np.uint8)
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    first = 0
    for wire in wires:
        # Where each of its rows ends, row by row: equal timestamps may have put them in another order.
        starts = ends[rank[first : first + len(wire)]] - wire.shape[1]
        buffer[starts[:, None] + np.arange(wire.shape[1])] = wire
        first += len(wire)
    # Contracts change with nearly every record; what a run tells of them changes seldom.
    told = [(schema, wire.shape[1], kind) for schema, wire, kind in zip(schemas, wires, what, strict=True)]
    alike = np.array([told.index(one) for one in told])[owner]
    last = np.flatnonzero(np.append(np.diff(alike) != 0, True))
    runs = tuple(
        Run(int(ends[at]), schemas[owner[at]], wires[owner[at]].shape[1], what[owner[at]]) for at in last
    )
    return Outgoing(buffer.data, runs)


def published(part: Part) -> Int64s:
    """When each record of a part is published, in nanoseconds."""
    spec = SPECS[part.schema]
    stamps: Int64s = part.rows[spec.index_field].astype(np.int64) + spec.lag_ns
    return stamps


def _order(parts: Sequence[Part], marks: Sequence[Marks]) -> npt.NDArray[np.intp]:
    """The order of publication, as positions in the parts and the marks laid end to end."""
    stamps = np.concatenate([published(part) for part in parts] + [mark.stamps for mark in marks])
    places = [part.order for part in parts if part.order is not None]
    if not parts or len(places) < len(parts):
        return np.argsort(stamps, kind="stable")
    after = [np.full(len(mark.stamps), np.iinfo(np.int64).max) for mark in marks]
    return np.lexsort((np.concatenate([*places, *after]), stamps))

"""Buffers ready for the socket, and whose bytes are in them. No I/O here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import databento_dbn as dbn
import numpy as np
import zstandard

from budget_guard.sandbox.market.model import Part
from budget_guard.sandbox.market.records import SPECS, as_wire, merged

# The fastest of zstd's ordinary levels.
_COMPRESSION_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes up to `end` that are records of one schema (None: control), each `record_size` long."""

    end: int
    schema: str | None
    record_size: int


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


def control(record: dbn.SystemMsg | dbn.ErrorMsg | dbn.SymbolMappingMsg) -> Outgoing:
    data = bytes(record)
    return Outgoing(memoryview(data), (Run(len(data), None, len(data)),))


def lay_out(parts: Sequence[Part], ts_out: int | None) -> Outgoing:
    """Records of several streams in the order of their index timestamps, whatever their sizes."""
    specs = [SPECS[part.schema] for part in parts]
    schemas = {spec.schema for spec in specs}
    order = (
        merged(specs, [part.rows for part in parts], [part.order for part in parts])
        if len(parts) > 1
        else None
    )
    if len(schemas) == 1:
        rows = parts[0].rows if order is None else np.concatenate([part.rows for part in parts])[order]
        wire = as_wire(rows, ts_out)
        return Outgoing(wire.reshape(-1).data, (Run(wire.size, specs[0].schema, wire.shape[1]),))
    assert order is not None
    wires = [as_wire(part.rows, ts_out) for part in parts]
    owner = np.repeat(np.arange(len(wires)), [len(wire) for wire in wires])[order]
    ends = np.cumsum(np.array([wire.shape[1] for wire in wires])[owner])
    buffer = np.empty(int(ends[-1]), dtype=np.uint8)
    for number, wire in enumerate(wires):
        # A stable sort keeps each part's own order, so its rows fill its places from first to last.
        starts = ends[owner == number] - wire.shape[1]
        buffer[starts[:, None] + np.arange(wire.shape[1])] = wire
    last = np.flatnonzero(np.append(np.diff(owner) != 0, True))
    runs = tuple(Run(int(ends[at]), specs[owner[at]].schema, wires[owner[at]].shape[1]) for at in last)
    return Outgoing(buffer.data, runs)

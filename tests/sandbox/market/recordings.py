"""DBN files made by hand, of any version: for what no client writes on demand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, cast

import databento_dbn as dbn
import numpy as np
import zstandard
from databento_dbn import v1, v2, v3

from budget_guard.sandbox.market.model import Part, Selection
from budget_guard.sandbox.market.recorded import Recording
from budget_guard.sandbox.market.records import SPECS, Rows, merged

DATASET = "GLBX.MDP3"
DAY_NS = 86_400 * 10**9
MONDAY = date(2026, 3, 9)
MONDAY_NS = 1_773_014_400 * 10**9
EVERYTHING = ("ALL_SYMBOLS",)
_CLASSES = {
    "mbo": "MBOMsg",
    "trades": "TradeMsg",
    "mbp-1": "MBP1Msg",
    "tbbo": "MBP1Msg",
    "ohlcv-1m": "OHLCVMsg",
    "definition": "InstrumentDefMsg",
    "statistics": "StatMsg",
}


@dataclass(frozen=True)
class Interval:
    """One interval of a header's mapping, as the encoder reads it."""

    start_date: date
    end_date: date
    symbol: str


@dataclass(frozen=True)
class HeaderMapping:
    """One mapping of a header, as the encoder reads it."""

    raw_symbol: str
    intervals: list[Interval]


def mapped(symbol: str, *intervals: tuple[int, int, int]) -> HeaderMapping:
    """A symbol that stands for instruments: (first day, day after the last, id), days counted from the Monday."""
    days = [date.fromordinal(MONDAY.toordinal() + n) for n in range(32)]
    return HeaderMapping(
        symbol, [Interval(days[first], days[last], str(one)) for first, last, one in intervals]
    )


def rows_of(
    schema: str, stamps: Sequence[int], ids: int | Sequence[int] = 7, version: int = 3, **fields: Any
) -> Rows:
    """Records of a schema with some index timestamps; their numbers say in which order they were made."""
    record: Any = getattr({1: v1, 2: v2, 3: v3}[version], _CLASSES[schema])
    rows = np.zeros(len(stamps), dtype=np.dtype(record._dtypes))
    spec = SPECS[schema]
    rows["length"], rows["rtype"], rows["publisher_id"] = rows.dtype.itemsize // 4, spec.rtype, 1
    rows["instrument_id"] = ids
    rows["ts_event"] = stamps
    rows[spec.index_field] = stamps
    if "sequence" in (rows.dtype.names or ()):
        rows["sequence"] = np.arange(len(rows))
    for name, value in fields.items():
        rows[name] = value
    return rows


def header(
    schema: str | None = "mbo",
    *,
    stype_in: str | None = "raw_symbol",
    symbols: Iterable[str] = (),
    mappings: Iterable[HeaderMapping] = (),
    **fields: Any,
) -> bytes:
    """A DBN header."""
    metadata = dbn.Metadata(
        dataset=fields.pop("dataset", DATASET),
        start=fields.pop("start", MONDAY_NS),
        stype_in=None if stype_in is None else dbn.SType.from_str(stype_in),
        stype_out=dbn.SType.from_str("instrument_id"),
        schema=None if schema is None else dbn.Schema.from_str(schema),
        symbols=list(symbols),
        mappings=cast(Any, list(mappings)),
        **fields,
    )
    return metadata.encode()


def write(path: Path, *parts: bytes | Rows) -> Path:
    """A file of some bytes and rows; zstd, in two frames, where its name says so."""
    data = b"".join(part if isinstance(part, bytes) else part.tobytes() for part in parts)
    if path.suffix == ".zst":
        half = len(data) // 2
        data = zstandard.compress(data[:half]) + zstandard.compress(data[half:])
    path.write_bytes(data)
    return path


def served(
    recording: Recording,
    schema: str,
    symbols: tuple[str, ...] = EVERYTHING,
    stype_in: str = "raw_symbol",
    between: tuple[int, int] = (0, 2**62),
) -> Rows:
    """What a selection has, in the order in which either door sends it; `count` is seen to say as much."""
    selection = Selection(DATASET, schema, symbols, stype_in)
    parts = recording.parts(selection, *between)
    assert recording.count(selection, *between) == sum(len(part.rows) for part in parts)
    return in_order(parts) if parts else np.zeros(0, dtype=SPECS[schema].dtype)


def in_order(parts: Sequence[Part]) -> Rows:
    """The rows of all parts, merged."""
    specs = [SPECS[part.schema] for part in parts]
    order = merged(specs, [part.rows for part in parts], [part.order for part in parts])
    rows: Rows = np.concatenate([part.rows for part in parts])[order]
    return rows


def resolved(recording: Recording, symbol: str, stype_in: str, day: int = 0) -> dict[str, int]:
    """The instruments that a symbol stands for on a day, counted from the Monday: names and numbers."""
    found = recording.resolve(DATASET, symbol, stype_in, date.fromordinal(MONDAY.toordinal() + day))
    return {one.raw_symbol: one.instrument_id for one in found}

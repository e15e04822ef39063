"""The one place where a `DataRange` is made: what is priced is what is requested."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from budget_guard.clock import EPOCH
from budget_guard.pricing.model import DataRange

ALL_SYMBOLS = "ALL_SYMBOLS"
# The vendor's limit for one request.
MAX_SYMBOLS = 2_000

_DATASET = re.compile(r"[A-Z0-9]+\.[A-Z0-9]+")
_NAME = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
# Schemas that the vendor keeps by the UTC day; the others it measures in steps of ten minutes.
_DAILY = frozenset({"definition", "status"})
_STEP = timedelta(minutes=10)
_DAY = timedelta(days=1)


def make_range(
    dataset: str,
    schema: str,
    symbols: Iterable[str],
    stype_in: str,
    start_utc: datetime,
    end_utc: datetime,
) -> DataRange:
    """A checked range. Symbols keep the caller's order, each once; instants become UTC.

    Raises ValueError that says what was wrong and what would be right. Symbols left out mean the whole dataset to
    the vendor; here that has to be written, as `ALL_SYMBOLS`.
    """
    if not _DATASET.fullmatch(dataset):
        raise ValueError(f"{dataset!r} is not a dataset; write it as GLBX.MDP3")
    if not _NAME.fullmatch(schema):
        raise ValueError(f"{schema!r} is not a schema; write it as mbp-1")
    if not _NAME.fullmatch(stype_in):
        raise ValueError(f"{stype_in!r} is not a symbology type; write it as raw_symbol")
    if start_utc.tzinfo is None or end_utc.tzinfo is None:
        raise ValueError("a range needs instants with a time zone")
    start_utc, end_utc = start_utc.astimezone(UTC), end_utc.astimezone(UTC)
    if start_utc >= end_utc:
        raise ValueError(f"the range ends at {end_utc}, which is not after its start {start_utc}")
    return DataRange(dataset, schema, _checked_symbols(symbols), stype_in, start_utc, end_utc)


def _unique(symbols: Iterable[str]) -> tuple[str, ...]:
    if isinstance(symbols, str):
        symbols = symbols.split(",")
    return tuple(dict.fromkeys(symbol.strip() for symbol in symbols))


def _checked_symbols(symbols: Iterable[str]) -> tuple[str, ...]:
    unique = _unique(symbols)
    if not unique:
        raise ValueError(f"no symbols; write {ALL_SYMBOLS} for a whole dataset")
    if "" in unique or any("," in symbol for symbol in unique):
        raise ValueError(f"an empty symbol, or a comma inside one: {', '.join(map(repr, unique[:5]))}")
    if ALL_SYMBOLS in unique and len(unique) > 1:
        raise ValueError(f"{ALL_SYMBOLS} stands for every symbol and goes alone")
    if len(unique) > MAX_SYMBOLS:
        raise ValueError(f"{len(unique)} symbols in one request; the vendor takes at most {MAX_SYMBOLS}")
    return unique


def make_chunks(
    dataset: str,
    schema: str,
    symbols: Iterable[str],
    stype_in: str,
    start_utc: datetime,
    end_utc: datetime,
) -> tuple[DataRange, ...]:
    """The same as `make_range`, for any number of symbols: several ranges of at most `MAX_SYMBOLS` each.

    What they come to is summed. An instrument that symbols of two chunks stand for is counted in both: then the sum is
    an upper bound.
    """
    unique = _unique(symbols)
    chunks = [unique[first : first + MAX_SYMBOLS] for first in range(0, len(unique), MAX_SYMBOLS)] or [()]
    if ALL_SYMBOLS in unique:
        chunks = [unique]
    return tuple(make_range(dataset, schema, chunk, stype_in, start_utc, end_utc) for chunk in chunks)


def halves(data_range: DataRange) -> tuple[DataRange, DataRange]:
    """Two ranges with half of the symbols each. Raises ValueError when there is only one."""
    middle = len(data_range.symbols) // 2
    if middle == 0:
        raise ValueError(f"one symbol cannot be divided: {data_range.symbols}")
    return (
        replace(data_range, symbols=data_range.symbols[:middle]),
        replace(data_range, symbols=data_range.symbols[middle:]),
    )


def canonical(data_range: DataRange) -> DataRange:
    """The same data with symbols in sorted order: equal for equal data, to look things up by."""
    return replace(data_range, symbols=tuple(sorted(data_range.symbols)))


def aligned(data_range: DataRange) -> DataRange:
    """The range widened to the steps in which the vendor measures sizes exactly, never narrowed.

    Ten minutes, UTC midnights for definition and status; the vendor says its figures overstate between them.
    """
    step = _DAY if data_range.schema in _DAILY else _STEP
    before = (data_range.start_utc - EPOCH) % step
    after = -(data_range.end_utc - EPOCH) % step
    return replace(data_range, start_utc=data_range.start_utc - before, end_utc=data_range.end_utc + after)

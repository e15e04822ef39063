"""Historical data: what a range holds, what it weighs, and the range itself as DBN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, cast

import databento_dbn as dbn
import numpy as np

from budget_guard.sandbox.historical.encodings import Encoder, Form, slices
from budget_guard.sandbox.historical.request import ApiError, Query
from budget_guard.sandbox.market.model import ALL_SYMBOLS, MarketData, Selection
from budget_guard.sandbox.market.records import SPECS, Rows, merged
from budget_guard.sandbox.market.sessions import MINUTE_NS, date_of_ns

# A frame is made while the event loop waits: at about this many records it waits a few milliseconds.
_FRAME_RECORDS = 8192
_WINDOW_MAX_NS = 1440 * MINUTE_NS


@dataclass(frozen=True, slots=True)
class Interval:
    """Days `[start_date, end_date)` on which an input symbol stands for `symbol`."""

    start_date: date
    end_date: date
    symbol: str


@dataclass(frozen=True, slots=True)
class SymbolMapping:
    """An input symbol and what it stands for, when. Named as the DBN encoder expects it."""

    raw_symbol: str
    intervals: list[Interval]


@dataclass(frozen=True, slots=True)
class Download:
    """A range that is ready to be sent: its DBN header, its market and how many records at most."""

    market: MarketData
    query: Query
    selection: Selection
    header: bytes
    partial: bool

    def frames(self, form: Form, stop_after: int | None = None) -> Iterator[tuple[int, bytes]]:
        """(DBN record bytes inside, bytes to write): the header, then records; cut after `stop_after` record bytes."""
        encoder = Encoder(form, self.header)
        left = stop_after
        yield 0, encoder.begin()
        for rows in self.batches():
            for data in slices(form, rows.tobytes()):
                part = data if left is None else data[:left]
                yield len(part), encoder.add(part)
                if left is not None:
                    left -= len(part)
                    if left == 0:
                        return
        yield 0, encoder.end()

    def batches(self) -> Iterator[Rows]:
        """The records in order, in batches, up to the limit."""
        left = self.query.limit
        window_ns = MINUTE_NS
        start_ns = self.query.start_ns
        while start_ns < self.query.end_ns and left != 0:
            end_ns = min(self.query.end_ns, start_ns + window_ns)
            count = self.market.count(self.selection, start_ns, end_ns)
            if count > 2 * _FRAME_RECORDS and window_ns > 1:
                window_ns = max(1, min(window_ns, end_ns - start_ns) // 2)
                continue
            if count < _FRAME_RECORDS // 2:
                window_ns = min(_WINDOW_MAX_NS, window_ns * 2)
            if count:
                rows = self._rows(start_ns, end_ns)
                if left is not None:
                    rows = rows[:left]
                    left -= len(rows)
                yield rows
            start_ns = end_ns

    def _rows(self, start_ns: int, end_ns: int) -> Rows:
        parts = self.market.parts(self.selection, start_ns, end_ns)
        if len(parts) == 1:
            return parts[0].rows
        every = [part.rows for part in parts]
        order = merged([SPECS[self.query.schema]] * len(parts), every, [part.order for part in parts])
        rows: Rows = np.concatenate(every)[order]
        return rows


class History:
    """All of a sandbox's history."""

    def __init__(self, market: MarketData) -> None:
        self._market = market

    def count(self, query: Query) -> int:
        """How many records a range has, `limit` respected. Raises ApiError when no symbol stands for anything."""
        self._check_symbols(query)
        count = self._market.count(self._selection(query), query.start_ns, query.end_ns)
        return count if query.limit is None else min(count, query.limit)

    def size(self, query: Query) -> int:
        """Billable bytes: records times their size."""
        return self.count(query) * SPECS[query.schema].size

    def open(self, query: Query, stype_out: str = "instrument_id") -> Download:
        """A range, ready to be sent. Raises ApiError when it is empty."""
        if self.count(query) == 0:
            raise ApiError(
                422, "data_no_data_found_for_request", "No data found for the request: the market was closed"
            )
        return self.download(query, stype_out)

    def download(self, query: Query, stype_out: str = "instrument_id") -> Download:
        """A range as it is, though it be empty."""
        mappings, partial, missing = self._map(
            query.dataset, query.symbols, query.stype_in, stype_out, *bounds(query)
        )
        header = dbn.Metadata(
            dataset=query.dataset,
            start=query.start_ns,
            stype_in=dbn.SType.from_str(query.stype_in),
            stype_out=dbn.SType.from_str(stype_out),
            schema=dbn.Schema.from_str(query.schema),
            symbols=list(query.symbols),
            partial=partial,
            not_found=missing,
            mappings=cast(Any, mappings),  # the encoder only reads them
            end=query.end_ns,
            limit=query.limit,
        )
        return Download(
            self._market, query, self._selection(query), header.encode(), bool(partial or missing)
        )

    def resolve(
        self, dataset: str, symbols: tuple[str, ...], stype_in: str, stype_out: str, first: date, last: date
    ) -> dict[str, Any]:
        """The answer of `symbology.resolve`."""
        mappings, partial, missing = self._map(dataset, symbols, stype_in, stype_out, first, last)
        result: dict[str, list[dict[str, str]]] = {
            symbol: [] for symbol in symbols if not _stands_for_many(symbol, stype_in)
        }
        for mapping in mappings:
            result.setdefault(mapping.raw_symbol, []).extend(
                {"d0": item.start_date.isoformat(), "d1": item.end_date.isoformat(), "s": item.symbol}
                for item in mapping.intervals
            )
        return {
            "result": result,
            "symbols": list(symbols),
            "stype_in": stype_in,
            "stype_out": stype_out,
            "start_date": first.isoformat(),
            "end_date": last.isoformat(),
            "partial": partial,
            "not_found": missing,
            "message": "Not found" if missing else "Partially resolved" if partial else "OK",
            "status": 2 if missing else 1 if partial else 0,
        }

    def _selection(self, query: Query) -> Selection:
        return Selection(query.dataset, query.schema, query.symbols, query.stype_in)

    def _check_symbols(self, query: Query) -> None:
        """Raises ApiError unless at least one symbol stands for something on one of the days."""
        resolved = (
            self._market.resolve(query.dataset, symbol, query.stype_in, day)
            for symbol in query.symbols
            for day in _days(*bounds(query))
        )
        if not any(resolved):
            shown = ", ".join(query.symbols[:5])
            raise ApiError(
                422, "symbology_invalid_request", f"None of the symbols could be resolved: {shown}"
            )

    def _map(
        self, dataset: str, symbols: tuple[str, ...], stype_in: str, stype_out: str, first: date, last: date
    ) -> tuple[list[SymbolMapping], list[str], list[str]]:
        """Mappings, the symbols that stand for something on some days only, and those that never do.

        ALL_SYMBOLS and parents are spelt out: each of their symbols maps by its own name, as the vendor's answers do.
        """
        mappings: list[SymbolMapping] = []
        partial: list[str] = []
        missing: list[str] = []
        days = _days(first, last)
        for symbol in symbols:
            outputs: dict[str, dict[str, list[Interval]]] = {}
            empty_days = 0
            for day in days:
                instruments = self._market.resolve(dataset, symbol, stype_in, day)
                empty_days += not instruments
                for instrument in instruments:
                    raw = instrument.raw_symbol
                    output = raw if stype_out == "raw_symbol" else str(instrument.instrument_id)
                    name = raw if _stands_for_many(symbol, stype_in) else symbol
                    _extend(outputs.setdefault(name, {}).setdefault(output, []), day, output)
            for name, by_output in outputs.items():
                intervals = [interval for found in by_output.values() for interval in found]
                mappings.append(SymbolMapping(name, sorted(intervals, key=lambda item: item.start_date)))
            if empty_days == len(days):
                missing.append(symbol)
            elif empty_days:
                partial.append(symbol)
        return mappings, partial, missing


def bounds(query: Query) -> tuple[date, date]:
    """The UTC days that a query touches, the last one excluded."""
    return date_of_ns(query.start_ns), date_of_ns(query.end_ns - 1) + timedelta(days=1)


def _stands_for_many(symbol: str, stype_in: str) -> bool:
    return symbol == ALL_SYMBOLS or stype_in == "parent"


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=offset) for offset in range(max(1, (last - first).days))]


def _extend(intervals: list[Interval], day: date, symbol: str) -> None:
    """Add a day, as part of the last interval if it follows on."""
    if intervals and intervals[-1].end_date == day:
        intervals[-1] = Interval(intervals[-1].start_date, day + timedelta(days=1), symbol)
    else:
        intervals.append(Interval(day, day + timedelta(days=1), symbol))

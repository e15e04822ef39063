"""What symbols stand for in recorded files: the mappings of their headers, of live sessions and of definitions.

A mapping holds over a half-open span of nanoseconds. A symbol that no file maps stands for nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from itertools import pairwise

import databento_dbn as dbn
import numpy as np

from budget_guard.sandbox.market.model import ALL_SYMBOLS, Instrument
from budget_guard.sandbox.market.recorded_table import Ids

DAY_NS = 86_400 * 10**9
FOREVER_NS = 2**63 - 1

_EPOCH = date(1970, 1, 1)
_SHOWN = 8
_PARENT = re.compile(r".+\.(FUT|OPT|SPOT)")
_CONTINUOUS = re.compile(r".+\.[cvn]\.\d+")


@dataclass(frozen=True, slots=True)
class Span:
    """An instrument that something stands for in `[from_ns, to_ns)`."""

    instrument_id: int
    from_ns: int = 0
    to_ns: int = FOREVER_NS

    def holds(self, from_ns: int, to_ns: int) -> bool:
        return self.from_ns < to_ns and self.to_ns > from_ns


class Symbols:
    """The symbols of one dataset. Mappings are added first; `close` then says which instruments have records."""

    def __init__(self) -> None:
        # Spans in the order in which they were added; a dict finds repeated ones at once.
        self._spans: dict[tuple[str, str], dict[Span, None]] = defaultdict(dict)
        self._names: dict[int, list[tuple[Span, str]]] = defaultdict(list)
        self._ids: list[int] = []
        self._days = (0, 0)
        self._cuts: list[int] = []
        self.ids_of = lru_cache(maxsize=512)(self._find_ids)

    def add_header(self, metadata: dbn.Metadata) -> None:
        """The mappings of a file's header: day by day, from what was asked for to instruments."""
        stype_in = str(metadata.stype_in) if metadata.stype_in is not None else ""
        asked = [str(symbol) for symbol in metadata.symbols]
        for symbol, intervals in metadata.mappings.items():
            for interval in intervals:
                found = _pair(stype_in, symbol, str(interval["symbol"]))
                if found is None:
                    continue
                name, number = found
                span = Span(number, _midnight_ns(interval["start_date"]), _midnight_ns(interval["end_date"]))
                own = stype_in not in ("raw_symbol", "instrument_id") and (
                    symbol in asked or stype_in != "parent"
                )
                if own:
                    self._spans[stype_in, symbol][span] = None
                else:
                    self._name(span, name)
                    if stype_in == "parent" and (parent := _parent_of(symbol, asked)) is not None:
                        self._spans[stype_in, parent][span] = None

    def add_message(self, message: dbn.SymbolMappingMsg) -> None:
        """A mapping of a live session. A continuous symbol's holds until it is mapped to something else."""
        symbol, raw = message.stype_in_symbol, message.stype_out_symbol
        stype_in = _stype_of(message, symbol)
        if raw and not raw.isdigit():
            self._name(Span(message.instrument_id), raw)
        if stype_in in ("raw_symbol", "instrument_id"):
            return
        spans = self._spans[stype_in, symbol]
        from_ns = 0
        if spans and stype_in == "continuous":
            last = next(reversed(spans))
            if last.instrument_id == message.instrument_id:
                return
            from_ns = _start_ns(message)
            del spans[last]
            spans[replace(last, to_ns=from_ns)] = None
        spans[Span(message.instrument_id, from_ns)] = None

    def add_definition(self, instrument_id: int, raw_symbol: str) -> None:
        """An instrument's name by its definition, unless a mapping has named it."""
        if instrument_id not in self._names:
            self._name(Span(instrument_id), raw_symbol)

    def close(self, ids: Iterable[int], first_ns: int, last_ns: int) -> None:
        """No more mappings: the instruments that have records, and the instants between which they have them."""
        self._ids = sorted(ids)
        for one in set(self._ids) - self._names.keys():
            self._name(Span(one), str(one))
        self._days = first_ns // DAY_NS, last_ns // DAY_NS
        edges = {
            edge for spans in self._spans.values() for span in spans for edge in (span.from_ns, span.to_ns)
        }
        self._cuts = sorted(edges - {0, FOREVER_NS})

    def segments(self, start_ns: int, end_ns: int) -> list[tuple[int, int, int]]:
        """An interval cut where any symbol begins to stand for something else: (number, start, end) of each piece."""
        if end_ns <= start_ns:
            return []
        first = self.segment_at(start_ns)
        inside = self._cuts[first : bisect_left(self._cuts, end_ns)]
        pieces = pairwise([start_ns, *inside, end_ns])
        return [(first + at, low, high) for at, (low, high) in enumerate(pieces)]

    def segment_at(self, instant_ns: int) -> int:
        """The number of the segment in which an instant lies."""
        return bisect_right(self._cuts, instant_ns)

    def resolve(self, symbol: str, stype_in: str, day: date) -> tuple[Instrument, ...]:
        """The instruments that a symbol stands for on a UTC day on which the files have records."""
        number = (day - _EPOCH).days
        if not self._days[0] <= number <= self._days[1]:
            return ()
        from_ns = number * DAY_NS
        if symbol == ALL_SYMBOLS:
            found = [one for one in self._ids if self._is_named(one, from_ns)]
        elif stype_in == "instrument_id":
            found = [int(symbol)] if symbol.isdecimal() and int(symbol) in self._names else []
        else:
            spans = self._spans.get((stype_in, symbol), {})
            found = sorted({span.instrument_id for span in spans if span.holds(from_ns, from_ns + DAY_NS)})
        return tuple(Instrument(self._name_of(one, from_ns), one) for one in found)

    def describe(self) -> str:
        """What can be asked for, in a line."""
        by_kind: dict[str, list[str]] = defaultdict(list)
        for stype, symbol in self._spans:
            if not symbol.isdecimal():
                by_kind[stype].append(symbol)
        listed = [f"{stype} {_few(sorted(symbols))}" for stype, symbols in sorted(by_kind.items())]
        return "; ".join([*listed, f"instrument_id {_few([str(one) for one in self._ids])}", ALL_SYMBOLS])

    def _find_ids(self, symbols: tuple[str, ...], stype_in: str, segment: int) -> Ids | None:
        """The instruments of some symbols in a segment, sorted; None is every one."""
        at_ns = self._cuts[segment - 1] if segment else 0
        if ALL_SYMBOLS in symbols:
            return None
        if stype_in == "instrument_id":
            found = {int(symbol) for symbol in symbols if symbol.isdecimal() and int(symbol) < 2**32}
        else:
            found = {
                span.instrument_id
                for symbol in symbols
                for span in self._spans.get((stype_in, symbol), {})
                if span.holds(at_ns, at_ns + 1)
            }
        return np.array(sorted(found), dtype=np.uint32)

    def _is_named(self, instrument_id: int, from_ns: int) -> bool:
        return any(span.holds(from_ns, from_ns + DAY_NS) for span, _ in self._names[instrument_id])

    def _name(self, span: Span, raw: str) -> None:
        spans = self._spans["raw_symbol", raw]
        if span not in spans:
            spans[span] = None
            self._names[span.instrument_id].append((span, raw))

    def _name_of(self, instrument_id: int, from_ns: int) -> str:
        """Its raw symbol on a day; its number where no file has its name."""
        names = self._names[instrument_id]
        return next((raw for span, raw in names if span.holds(from_ns, from_ns + DAY_NS)), names[0][1])


def _pair(stype_in: str, symbol: str, output: str) -> tuple[str, int] | None:
    """A header's mapping as (name, instrument id); None where it has no number."""
    name, number = (output, symbol) if stype_in == "instrument_id" else (symbol, output)
    return (name, int(number)) if number.isdecimal() and int(number) < 2**32 else None


def _midnight_ns(day: date) -> int:
    return (day - _EPOCH).days * DAY_NS


def _parent_of(raw: str, parents: Sequence[str]) -> str | None:
    """Whose child a raw symbol is: the only parent's, or that of the longest root that it begins with."""
    if len(parents) == 1:
        return parents[0]
    kind = "OPT" if " " in raw else "FUT"
    roots = [
        parent
        for parent in parents
        if raw.startswith(parent.rpartition(".")[0]) and parent.rpartition(".")[2] in (kind, "SPOT")
    ]
    return max(roots, key=len, default=None)


def _stype_of(message: dbn.SymbolMappingMsg, symbol: str) -> str:
    """The kind of an input symbol; by its form where the message is too old to say."""
    known: object = message.stype_in  # 255 in one that was upgraded
    if isinstance(known, dbn.SType):
        return str(known)
    if _PARENT.fullmatch(symbol):
        return "parent"
    if _CONTINUOUS.fullmatch(symbol):
        return "continuous"
    return "instrument_id" if symbol.isdecimal() else "raw_symbol"


def _start_ns(message: dbn.SymbolMappingMsg) -> int:
    """From when on a mapping holds: its interval's start, or when it was sent where it has none."""
    start_ns = int(message.start_ts)
    return start_ns if 0 < start_ns < FOREVER_NS else int(message.ts_event)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN:,} more"

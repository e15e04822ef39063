"""A market made of recorded files: what they hold is what there is, live and historical."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import databento_dbn as dbn
import numpy as np

from budget_guard.clock import instant_from_ns, instant_text
from budget_guard.sandbox.market.model import Instrument, NoSnapshot, Part, Selection
from budget_guard.sandbox.market.recorded_book import Book
from budget_guard.sandbox.market.recorded_file import (
    Control,
    RecordedFile,
    RecordingError,
    open_file,
    release,
)
from budget_guard.sandbox.market.recorded_symbols import Symbols
from budget_guard.sandbox.market.recorded_table import Ids, Laid, Table, lay_out_file
from budget_guard.sandbox.market.records import SPECS, Spec

_ACK = re.compile(r"for (\S+) data succeeded")
_CHUNK_ROWS = 2**18


@dataclass(frozen=True, slots=True)
class Range:
    """The half-open range of a dataset or schema in nanoseconds: what a file was asked for, and all it holds."""

    start_ns: int
    end_ns: int

    def joined(self, other: Range) -> Range:
        return Range(min(self.start_ns, other.start_ns), max(self.end_ns, other.end_ns))


class Recording:
    """Some recorded files as one market. Reading them takes time and temporary files; raises RecordingError.

    `ranges` are what is on offer, by dataset and schema; `first_ns` and `last_ns` the index timestamps of the first
    and the last record; `notes` what whoever uses the files should know about them.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.ranges: dict[str, dict[str, Range]] = defaultdict(dict)
        self.notes: list[str] = []
        self._tables: dict[tuple[str, str], list[Table]] = defaultdict(list)
        self._symbols: dict[str, Symbols] = defaultdict(Symbols)
        self._books: dict[tuple[str, int], Book] = {}
        for number, path in enumerate(paths):
            self._add_file(path, number)
        tables = [table for some in self._tables.values() for table in some]
        if not tables:
            raise RecordingError("nothing to serve: " + "; ".join(self.notes or ["no file was given"]))
        self.first_ns = min(table.first_ns for table in tables)
        self.last_ns = max(table.last_ns for table in tables)
        self.records = sum(len(table) for table in tables)
        self._close_symbols()
        for some in self._tables.values():
            _refuse_repeated(some)

    def resolve(self, dataset: str, symbol: str, stype_in: str, day: date) -> tuple[Instrument, ...]:
        """The instruments that a symbol stands for on a UTC day; empty when the files have none."""
        return self._symbols[dataset].resolve(symbol, stype_in, day) if dataset in self.ranges else ()

    def describe(self, dataset: str) -> str:
        """The symbols that the files have."""
        return self._symbols[dataset].describe() if dataset in self.ranges else ""

    def count(self, selection: Selection, start_ns: int, end_ns: int) -> int:
        """How many records a selection has in `[start_ns, end_ns)`."""
        tables = self._tables.get((selection.dataset, selection.schema), [])
        return sum(
            table.count(self._ids(selection, segment), table.row_at(low_ns), table.row_at(high_ns))
            for segment, low_ns, high_ns in self._symbols[selection.dataset].segments(start_ns, end_ns)
            for table in tables
        )

    def parts(self, selection: Selection, start_ns: int, end_ns: int) -> list[Part]:
        """The records of a selection in `[start_ns, end_ns)`, each instrument's apart, ordered as the files are."""
        tables = self._tables.get((selection.dataset, selection.schema), [])
        return [
            Part(selection.schema, (selection.dataset, selection.schema, one, segment), rows, order)
            for segment, low_ns, high_ns in self._symbols[selection.dataset].segments(start_ns, end_ns)
            for table in tables
            for one, rows, order in table.pick(
                self._ids(selection, segment), table.row_at(low_ns), table.row_at(high_ns)
            )
        ]

    def snapshot(self, selection: Selection, at_ns: int) -> list[Part]:
        """The order books of an mbo selection at an instant, built from the files. Raises NoSnapshot."""
        ids = self._ids(selection, self._symbols[selection.dataset].segment_at(at_ns))
        parts = []
        for table in self._tables.get((selection.dataset, selection.schema), []):
            for one in table.ids.tolist() if ids is None else np.intersect1d(ids, table.ids).tolist():
                rows = self._book(selection.dataset, table, one).at(at_ns)
                if len(rows):
                    parts.append(Part(selection.schema, (selection.dataset, selection.schema, one, 0), rows))
        if not parts:
            until = instant_text(instant_from_ns(at_ns))
            raise NoSnapshot(f"the recording has no {selection.schema} of it before {until}")
        return parts

    def blocks(self, selection: Selection, at_ns: int, records: int) -> list[Part]:
        """Nothing: recorded data keeps the pace at which it was recorded."""
        return []

    def close(self) -> None:
        """Let go of the files; temporary ones vanish."""
        self._tables.clear()
        self._books.clear()

    def _ids(self, selection: Selection, segment: int) -> Ids | None:
        return self._symbols[selection.dataset].ids_of(selection.symbols, selection.stype_in, segment)

    def _book(self, dataset: str, table: Table, instrument_id: int) -> Book:
        key = (f"{dataset}/{table.name}", instrument_id)
        if key not in self._books:
            self._books[key] = Book(table, instrument_id)
        return self._books[key]

    def _add_file(self, path: Path, number: int) -> None:
        acknowledged: set[str] = set()

        def hear(dataset: str, record: Control) -> None:
            if isinstance(record, dbn.SymbolMappingMsg):
                self._symbols[dataset].add_message(record)
            elif isinstance(record, dbn.SystemMsg) and (match := _ACK.search(record.msg)):
                acknowledged.add(match[1])

        file = open_file(path, hear)
        dataset = file.metadata.dataset
        self._symbols[dataset].add_header(file.metadata)
        specs = {spec.rtype: spec for spec in SPECS.values()}
        unknown = [f"0x{rtype:02X}" for rtype in file.data_rtypes() if rtype not in specs]
        if unknown:
            self.notes.append(f"{path}: records of type {', '.join(unknown)} are not served")
        laid_out = lay_out_file(file, specs)
        self.notes += file.notes
        for rtype, laid in laid_out.items():
            spec = self._spec_of(file, acknowledged, rtype, laid)
            table = Table(file.name, spec, laid, number)
            release(file.data)
            self._add_table(file, dataset, table)
            if table.late:
                self.notes.append(
                    f"{path}: {table.late:,} {spec.schema} records came after later ones and were put in order"
                )

    def _add_table(self, file: RecordedFile, dataset: str, table: Table) -> None:
        schema = table.spec.schema
        self._tables[dataset, schema].append(table)
        found = _range_of(file, table)
        before = self.ranges[dataset].get(schema)
        self.ranges[dataset][schema] = found if before is None else found.joined(before)
        if schema == "definition":
            for one, raw in _definitions(table):
                self._symbols[dataset].add_definition(one, raw)

    def _spec_of(self, file: RecordedFile, acknowledged: set[str], rtype: int, laid: Laid) -> Spec:
        """The schema of a file's records of one type: what its header says, else what can be told from the rest."""
        candidates = [spec for spec in SPECS.values() if spec.rtype == rtype]
        said = [spec for spec in candidates if spec.schema == str(file.metadata.schema)]
        if said or len(candidates) == 1:
            return (said or candidates)[0]
        told = [spec for spec in candidates if spec.schema in acknowledged]
        if len(told) == 1:
            return told[0]
        # All records of tbbo are trades; those of mbp-1 are seldom nothing else.
        wanted = "tbbo" if not told and _only_trades(laid) else "mbp-1"
        chosen = next((spec for spec in candidates if spec.schema == wanted), candidates[0])
        names = " or ".join(spec.schema for spec in candidates)
        self.notes.append(
            f"{file.name}: its records of type 0x{rtype:02X} may be {names}; served as {chosen.schema}"
        )
        return chosen

    def _close_symbols(self) -> None:
        for dataset in self.ranges:
            tables = [
                table for (owner, _), some in self._tables.items() if owner == dataset for table in some
            ]
            self._symbols[dataset].close(
                {one for table in tables for one in table.ids.tolist()},
                min(table.first_ns for table in tables),
                max(table.last_ns for table in tables),
            )


def _range_of(file: RecordedFile, table: Table) -> Range:
    """What the file was asked for, where its header says so; at least what it holds."""
    held = Range(table.first_ns, table.last_ns + max(1, table.spec.lag_ns))
    asked = file.metadata
    if asked.schema is None or asked.limit or not asked.end or asked.end <= asked.start:
        return held
    return held.joined(Range(asked.start, asked.end))


def _only_trades(laid: Laid) -> bool:
    actions = laid.rows["action"]
    return all(
        bool((actions[low : low + _CHUNK_ROWS] == b"T").all()) for low in range(0, len(actions), _CHUNK_ROWS)
    )


def _definitions(table: Table) -> Iterator[tuple[int, str]]:
    """Every instrument that a table of definitions names, with its first name."""
    for low in range(0, len(table), _CHUNK_ROWS):
        rows = table.rows[low : low + _CHUNK_ROWS]
        ids, first = np.unique(rows["instrument_id"], return_index=True)
        for one, at in zip(ids.tolist(), first.tolist(), strict=True):
            yield one, bytes(rows["raw_symbol"][at]).decode("ascii", "replace")


def _refuse_repeated(tables: Sequence[Table]) -> None:
    """Two files with the same instrument over the same time would serve, and bill, its records twice."""
    for at, one in enumerate(tables):
        for other in tables[at + 1 :]:
            if one.first_ns > other.last_ns or other.first_ns > one.last_ns:
                continue
            for shared in np.intersect1d(one.ids, other.ids).tolist():
                mine, theirs = one.span_of(shared), other.span_of(shared)
                if mine[0] <= theirs[1] and theirs[0] <= mine[1]:
                    raise RecordingError(
                        f"{one.name} and {other.name} both have {one.spec.schema} of instrument {shared} at the same "
                        f"time: it would be served twice; give one of them"
                    )

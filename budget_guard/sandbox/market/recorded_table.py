"""The records of one type of one recorded file as a table: in order of time, with an index by instrument.

The rows lie on the file's own map where they can, else in a temporary file. The index is a temporary file too: of a
table only the list of its instruments is held in memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from budget_guard.sandbox.market.recorded_file import RecordedFile, RecordingError, Spool, release
from budget_guard.sandbox.market.records import Int64s, Rows, Spec

Ids = npt.NDArray[np.uint32]

_CHUNK_ROWS = 2**18
# Where a file has an undefined time, and where instants end that fit into a signed number.
_NO_TIME = 2**63 - 1
# Below this many rows an instrument a scan of all rows is cheaper than a search for each.
_SCAN_ROWS = 16


@dataclass(frozen=True, slots=True)
class Laid:
    """Rows before they are a table: in the file's order, with each row's byte offset in the file.

    Without `offsets` the rows lie in the file one after another from `first` on.
    """

    rows: Rows
    offsets: Int64s | None
    first: int

    def offsets_of(self, low: int, high: int) -> Int64s:
        if self.offsets is None:
            return self.first + self.rows.dtype.itemsize * np.arange(low, high)
        return self.offsets[low:high]


class Table:
    """Rows of one schema in the order of their index timestamps; where those are equal, in the file's order.

    `file_number` places the rows among those of other files with the same timestamp.
    """

    def __init__(self, name: str, spec: Spec, laid: Laid, file_number: int) -> None:
        self.name = name
        self.spec = spec
        self.late = _count_late(name, spec, laid)
        self._laid = _in_order(spec, laid) if self.late else laid
        self._rows = self._laid.rows
        self._stamps = self._rows[spec.index_field]
        self._file_number = file_number
        self.ids, self._bounds, self._places = _index(self._rows)
        release(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> Rows:
        return self._rows

    @property
    def first_ns(self) -> int:
        return int(self._stamps[0])

    @property
    def last_ns(self) -> int:
        return int(self._stamps[-1])

    def row_at(self, instant_ns: int) -> int:
        """How many rows come before an instant."""
        return bisect_left(self._stamps, instant_ns, key=int)

    def count(self, ids: Ids | None, low: int, high: int) -> int:
        """How many of the rows `[low, high)` belong to some instruments (sorted); None is all of them."""
        if ids is None or high <= low:
            return max(0, high - low)
        mine = self._present(ids)
        if len(mine) == len(self.ids):
            return high - low
        if high - low < _SCAN_ROWS * len(mine):
            return int(np.isin(self._rows["instrument_id"][low:high], mine).sum())
        return sum(end - start for start, end in (self._within(int(one), low, high) for one in mine))

    def pick(self, ids: Ids | None, low: int, high: int) -> Iterator[tuple[int, Rows, Int64s]]:
        """(instrument id, its rows of `[low, high)`, their order), for each of some instruments that has any."""
        if high <= low:
            return
        if len(self.ids) == 1:
            if ids is None or len(self._present(ids)):
                yield int(self.ids[0]), np.asarray(self._rows[low:high]), self._order(np.arange(low, high))
            return
        mine = self.ids if ids is None else self._present(ids)
        for one, places in (
            self._scan(mine, low, high)
            if high - low < _SCAN_ROWS * len(mine)
            else self._search(mine, low, high)
        ):
            yield one, self._rows[places], self._order(places)

    def span_of(self, instrument_id: int) -> tuple[int, int]:
        """The index timestamps of an instrument's first and last row."""
        if self._places is None:
            return self.first_ns, self.last_ns
        places = self._places_of(instrument_id)
        return int(self._stamps[places[0]]), int(self._stamps[places[-1]])

    def count_before(self, instrument_id: int, instant_ns: int) -> int:
        """How many rows an instrument has before an instant."""
        return self._within(instrument_id, 0, self.row_at(instant_ns))[1]

    def rows_of(self, instrument_id: int, low: int, high: int) -> Rows:
        """An instrument's rows from its `low`-th up to its `high`-th."""
        if self._places is None:
            return self._rows[low:high]
        return self._rows[self._places_of(instrument_id)[low:high]]

    def _present(self, ids: Ids) -> Ids:
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        present: Ids = ids[self.ids[at] == ids]
        return present

    def _places_of(self, instrument_id: int) -> Int64s:
        assert self._places is not None
        at = int(np.searchsorted(self.ids, instrument_id))
        return self._places[self._bounds[at] : self._bounds[at + 1]]

    def _within(self, instrument_id: int, low: int, high: int) -> tuple[int, int]:
        """Where the rows `[low, high)` begin and end among an instrument's."""
        if self._places is None:
            return low, high
        places = self._places_of(instrument_id)
        return int(np.searchsorted(places, low)), int(np.searchsorted(places, high))

    def _scan(self, ids: Ids, low: int, high: int) -> Iterator[tuple[int, Int64s]]:
        owners = self._rows["instrument_id"][low:high]
        wanted = np.arange(len(owners)) if len(ids) == len(self.ids) else np.flatnonzero(np.isin(owners, ids))
        if not len(wanted):
            return
        grouped = wanted[np.argsort(owners[wanted], kind="stable")]
        changes = np.flatnonzero(np.diff(owners[grouped])) + 1
        for places in np.split(grouped, changes):
            yield int(owners[places[0]]), low + places

    def _search(self, ids: Ids, low: int, high: int) -> Iterator[tuple[int, Int64s]]:
        for one in ids.tolist():
            start, end = self._within(one, low, high)
            if end > start:
                yield one, np.asarray(self._places_of(one)[start:end], dtype=np.int64)

    def _order(self, places: Int64s) -> Int64s:
        """A number for each row by which rows of equal time are ordered: its file, then its place there."""
        laid = self._laid
        offsets = (
            laid.first + laid.rows.dtype.itemsize * places if laid.offsets is None else laid.offsets[places]
        )
        return (self._file_number << 48) + offsets


def lay_out_file(file: RecordedFile, specs: dict[int, Spec]) -> dict[int, Laid]:
    """The rows of a file by record type, for the types in `specs`.

    A file that is nothing but rows of one type is used as it lies. Anything else is copied once, type by type.
    """
    wanted = [rtype for rtype in file.data_rtypes() if rtype in specs]
    if len(file.counts) == 1 and len(wanted) == 1:
        (rtype,) = wanted
        if not file.ts_out and not file.needs_upgrade(rtype):
            return {rtype: Laid(file.data[file.first :].view(specs[rtype].dtype), None, file.first)}
    copies = {rtype: (Spool(), Spool()) for rtype in wanted}
    file.notes.append(f"{file.name}: copied into temporary files, each record type apart")
    for run in file.runs():
        for rtype, (rows, offsets) in copies.items():
            chosen = run.offsets[run.rtypes == rtype]
            if len(chosen):
                rows.write(file.bodies(chosen, rtype))
                offsets.write(chosen.astype(np.int64).tobytes())
    release(file.data)
    return {
        rtype: Laid(rows.mapped().view(specs[rtype].dtype), offsets.mapped().view(np.int64), 0)
        for rtype, (rows, offsets) in copies.items()
    }


def _chunks(count: int) -> Iterator[tuple[int, int]]:
    return ((low, min(low + _CHUNK_ROWS, count)) for low in range(0, count, _CHUNK_ROWS))


def _count_late(name: str, spec: Spec, laid: Laid) -> int:
    """How many rows stand after one with a later index timestamp. Raises RecordingError for a row without one."""
    late, latest = 0, 0
    stamps = laid.rows[spec.index_field]
    for low, high in _chunks(len(stamps)):
        some = stamps[low:high]
        undefined = np.flatnonzero(some > _NO_TIME)
        if len(undefined):
            at = int(laid.offsets_of(low, high)[undefined[0]])
            raise RecordingError(f"{name}: the record at byte {at:,} has no {spec.index_field}")
        highest = np.maximum(np.maximum.accumulate(some), latest)
        late += int((some < highest).sum())
        latest = int(highest[-1])
    return late


def _in_order(spec: Spec, laid: Laid) -> Laid:
    """The rows sorted, rows of equal time in the order they had; a copy.

    No more is held than lies between a row and the place where it belongs: what is earlier than everything that is
    still to come can be written.
    """
    stamps = laid.rows[spec.index_field]
    chunks = list(_chunks(len(stamps)))
    to_come = [_NO_TIME]
    for low, high in reversed(chunks):
        to_come.append(min(to_come[-1], int(stamps[low:high].min())))
    to_come.reverse()
    rows_out, offsets_out = Spool(), Spool()
    held, held_offsets = laid.rows[:0], np.zeros(0, dtype=np.int64)
    for (low, high), earliest in zip(chunks, to_come[1:], strict=True):
        held = np.concatenate([held, laid.rows[low:high]])
        held_offsets = np.concatenate([held_offsets, laid.offsets_of(low, high)])
        order = np.argsort(held[spec.index_field], kind="stable")
        held, held_offsets = held[order], held_offsets[order]
        # A row as late as the earliest to come was before it in the file. (A plain int would make floats of both.)
        ready = int(np.searchsorted(held[spec.index_field], np.uint64(earliest), side="right"))
        rows_out.write(held[:ready].tobytes())
        offsets_out.write(held_offsets[:ready].tobytes())
        held, held_offsets = held[ready:], held_offsets[ready:]
    return Laid(rows_out.mapped().view(laid.rows.dtype), offsets_out.mapped().view(np.int64), 0)


def _index(rows: Rows) -> tuple[Ids, Int64s, Int64s | None]:
    """The instruments (sorted), where each one's places begin, and the places: row numbers, ascending for each.

    A counting sort by chunks into a temporary file. A table with one instrument needs no places.
    """
    owners = rows["instrument_id"]
    counts: dict[int, int] = {}
    for low, high in _chunks(len(rows)):
        present, times = np.unique(owners[low:high], return_counts=True)
        for one, count in zip(present.tolist(), times.tolist(), strict=True):
            counts[one] = counts.get(one, 0) + count
    ids: Ids = np.array(sorted(counts), dtype=np.uint32)
    bounds = np.concatenate([[0], np.cumsum([counts[one] for one in ids.tolist()], dtype=np.int64)])
    if len(ids) == 1:
        return ids, bounds, None
    places = Spool()
    out = places.writable(8 * len(rows)).view(np.int64)
    cursor = bounds[:-1].copy()
    for low, high in _chunks(len(rows)):
        codes = np.searchsorted(ids, owners[low:high])
        order = np.argsort(codes, kind="stable")
        grouped = codes[order]
        begins = np.concatenate([[0], np.flatnonzero(np.diff(grouped)) + 1])
        sizes = np.diff(np.append(begins, len(grouped)))
        rank = np.arange(len(grouped)) - np.repeat(begins, sizes)
        out[cursor[grouped] + rank] = low + order
        cursor[grouped[begins]] += sizes
    return ids, bounds, places.mapped().view(np.int64)

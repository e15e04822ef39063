"""The files of a batch job: its data, cut up as asked, and the JSON files that the vendor puts beside it.

Names, order, indentation and contents follow packages that people bought in 2024 to 2026 and published: the sizes of a
manifest of theirs come out to the byte. Where they disagree, the later ones are followed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.historical.encodings import Encoder, Form, slices
from budget_guard.sandbox.historical.jobs import Job, Sizes, customizations, null_if_none
from budget_guard.sandbox.historical.ranges import History, bounds
from budget_guard.sandbox.historical.request import Query
from budget_guard.sandbox.market.records import Rows

# More than any slice comes to when it is written: JSON is six times as long as the records that it is made of.
_SLICE_MAX = 2 * 2**20


class Abandoned(Exception):
    """Nobody wants the files any more: the sandbox ends."""


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file that is ready: its path, its size and its hash, as `sha256:...`."""

    path: Path
    size_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        return self.path.name

    def listing(self, job: Job) -> dict[str, Any]:
        """It as `batch.list_files` and the manifest tell of it."""
        https = job.url(self.name)
        return {
            "filename": self.name,
            "size": self.size_bytes,
            "hash": self.sha256,
            "urls": {"https": https, "ftp": job.ftp_url(self.name)},
        }


@dataclass(frozen=True, slots=True)
class Package:
    """Everything of a job, in the vendor's order."""

    files: tuple[PackedFile, ...]
    sizes: Sizes

    def find(self, name: str) -> PackedFile | None:
        return next((file for file in self.files if file.name == name), None)


def pack(
    history: History, job: Job, conditions: list[Any], folder: Path, abandoned: Callable[[], bool]
) -> Package:
    """Write all files of a job into a folder. The same job is the same bytes. Raises Abandoned, OSError.

    `conditions` is what `metadata.get_dataset_condition` says of the job's days.

    It takes as long as it takes: it is meant for a thread of its own, and asks `abandoned` from time to time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    support = [
        _put(folder / "condition.json", conditions),
        _put(folder / "metadata.json", metadata(job)),
    ]
    if not (job.purchase.form.is_text and job.purchase.form.map_symbols):
        # Where every line names its symbol the later packages have no symbology.
        support.append(_put(folder / "symbology.json", symbology(history, job)))
    data = list(_data_files(history, job, folder, abandoned))
    manifest = {"job_id": job.job_id, "files": [file.listing(job) for file in (*support, *data)]}
    files = (*support, *data, _put(folder / "manifest.json", manifest))
    sizes = Sizes(sum(file.size_bytes for file in data), sum(file.size_bytes for file in files))
    return Package(files, sizes)


def metadata(job: Job) -> dict[str, Any]:
    """What was asked, as `metadata.json` has it."""
    query, form = job.purchase.query, job.purchase.form
    return {
        "version": 1,
        "job_id": job.job_id,
        "query": {
            "dataset": query.dataset,
            "schema": query.schema,
            "symbols": list(query.symbols),
            "stype_in": query.stype_in,
            "stype_out": job.purchase.stype_out,
            "start": query.start_ns,
            "end": query.end_ns,
            "limit": query.limit,
            "encoding": form.encoding,
            "compression": null_if_none(form.compression),
        },
        "customizations": customizations(job),
    }


def symbology(history: History, job: Job) -> dict[str, Any]:
    """What the symbols stood for, as `symbology.json` has it: the answer of `symbology.resolve`."""
    query = job.purchase.query
    return history.resolve(
        query.dataset, query.symbols, query.stype_in, job.purchase.stype_out, *bounds(query)
    )


def pieces(query: Query, duration: str) -> list[Query]:
    """A range cut at the starts of UTC days, weeks (Sundays), months or years; `none` leaves it whole."""
    cuts: list[int] = []
    if duration != "none":
        day, last = bounds(query)
        while (day := _next(day, duration)) < last:
            cuts.append(ns_from_instant(datetime.combine(day, time(), UTC)))
    edges = [query.start_ns, *cuts, query.end_ns]
    return [replace(query, start_ns=start, end_ns=end) for start, end in pairwise(edges)]


def _next(day: date, duration: str) -> date:
    """The first day after this one on which a new file starts."""
    if duration == "day":
        return day + timedelta(days=1)
    if duration == "week":
        return day + timedelta(days=7 - (day.weekday() + 1) % 7)
    if duration == "month":
        return (day.replace(day=1) + timedelta(days=31)).replace(day=1)
    return date(day.year + 1, 1, 1)


def file_name(query: Query, form: Form, tag: str = "", part: int | None = None) -> str:
    """As `glbx-mdp3-20240101-20240131.trades.dbn.zst`; `tag` is the symbol of a split, `part` the number of a file."""
    first, last = bounds(query)
    days = (
        f"{first:%Y%m%d}"
        if last - first == timedelta(days=1)
        else f"{first:%Y%m%d}-{last - timedelta(1):%Y%m%d}"
    )
    words = [f"{query.dataset.lower().replace('.', '-')}-{days}", query.schema]
    words += [tag.replace("/", "_")] if tag else []
    words += [] if part is None else [f"{part:04d}"]
    return ".".join([*words, form.suffix])


def _data_files(
    history: History, job: Job, folder: Path, abandoned: Callable[[], bool]
) -> Iterator[PackedFile]:
    """The data, piece by piece; a piece of time or a symbol without records has no file."""
    query, form, split = job.purchase.query, job.purchase.form, job.split
    left = query.limit
    for piece in pieces(query, split.duration):
        if left == 0:
            return
        download = history.download(replace(piece, limit=left), job.purchase.stype_out)
        names = history.names(piece) if split.symbols else {}
        writers: dict[str, _Writer] = {}
        with ExitStack() as opened:
            for rows in download.batches():
                for tag, part in _by_name(rows, names) if split.symbols else [("", rows)]:
                    if tag not in writers:
                        writers[tag] = _Writer(folder, piece, form, tag, download.header, split.size_bytes)
                        opened.callback(writers[tag].release)
                    for data in slices(form, part):
                        if abandoned():
                            raise Abandoned
                        writers[tag].add(data)
                left = None if left is None else left - len(rows)
            for tag in sorted(writers):
                yield from writers[tag].close()


def _by_name(rows: Rows, names: dict[int, str]) -> Iterator[tuple[str, Rows]]:
    """The rows of each symbol, in their order."""
    ids = rows["instrument_id"]
    for name in sorted({names[int(number)] for number in np.unique(ids)}):
        mine = [number for number, found in names.items() if found == name]
        yield name, rows[np.isin(ids, mine)]


class _Writer:
    """One file, or several numbered ones of at most so many bytes."""

    def __init__(
        self, folder: Path, query: Query, form: Form, tag: str, header: bytes, max_bytes: int | None
    ) -> None:
        self._folder = folder
        self._query = query
        self._form = form
        self._tag = tag
        self._header = header
        self._max_bytes = max_bytes
        self._done: list[PackedFile] = []
        self._begin()

    def add(self, records: bytes) -> None:
        """Whole records, a slice of them."""
        if self._max_bytes is not None and self._size > max(self._least, self._max_bytes - _SLICE_MAX):
            self._end()
            self._begin()
        self._write(self._encoder.add(records))

    def close(self) -> list[PackedFile]:
        self._end()
        return self._done

    def release(self) -> None:
        """Let go of the file, finished or not."""
        self._file.close()

    def _begin(self) -> None:
        part = None if self._max_bytes is None else len(self._done)
        self._path = self._folder / file_name(self._query, self._form, self._tag, part)
        self._file: BinaryIO = self._path.open("wb")
        self._hash = hashlib.sha256()
        self._size = 0
        self._encoder = Encoder(self._form, self._header)
        self._write(self._encoder.begin())
        self._least = self._size

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def _end(self) -> None:
        self._write(self._encoder.end())
        self._file.close()
        self._done.append(PackedFile(self._path, self._size, f"sha256:{self._hash.hexdigest()}"))


def _put(path: Path, value: Any) -> PackedFile:
    """A JSON file, indented by four as the vendor's are."""
    data = json.dumps(value, indent=4).encode()
    path.write_bytes(data)
    return PackedFile(path, len(data), f"sha256:{hashlib.sha256(data).hexdigest()}")

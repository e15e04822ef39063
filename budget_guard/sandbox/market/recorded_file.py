"""Recorded files: DBN of any version, as the historical API, batch jobs and live clients write it, read and checked.

A file is read through a memory map and never held in memory. Nothing of it is used before all of it was walked.
"""

from __future__ import annotations

import io
import mmap
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import databento_dbn as dbn
import numpy as np
import numpy.typing as npt
import zstandard
from databento_dbn import v1, v2, v3

from budget_guard.sandbox.market.records import Int64s

Bytes = npt.NDArray[np.uint8]

# The header of every record: length in units of 4 bytes, type, publisher, instrument, ts_event.
_HEADER_BYTES = 16
_TS_OUT_BYTES = 8
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_READ_BYTES = 2**16
_WALK_BYTES = 4 * 2**20
_RUN_MIN = 256

# Record types by number, from the DBN specification; several schemas share some of them.
_CLASSES = {
    0x00: "TradeMsg",
    0x01: "MBP1Msg",
    0x0A: "MBP10Msg",
    0x12: "StatusMsg",
    0x13: "InstrumentDefMsg",
    0x14: "ImbalanceMsg",
    0x15: "ErrorMsg",
    0x16: "SymbolMappingMsg",
    0x17: "SystemMsg",
    0x18: "StatMsg",
    **dict.fromkeys((0x11, 0x20, 0x21, 0x22, 0x23, 0x24), "OHLCVMsg"),
    0xA0: "MBOMsg",
    0xB1: "CMBP1Msg",
    **dict.fromkeys((0xC0, 0xC1), "CBBOMsg"),
    0xC2: "CMBP1Msg",
    **dict.fromkeys((0xC3, 0xC4), "BBOMsg"),
}
_VERSIONS: dict[int, ModuleType] = {1: v1, 2: v2, 3: v3}
_AS_IS = dbn.VersionUpgradePolicy.from_int(1)
_TO_V3 = dbn.VersionUpgradePolicy.from_int(3)
CONTROL_RTYPES = (0x15, 0x16, 0x17)

Control = dbn.ErrorMsg | dbn.SymbolMappingMsg | dbn.SystemMsg


class RecordingError(ValueError):
    """A file that cannot be served; the text names it, and the byte at which it goes wrong."""


@dataclass(frozen=True, slots=True)
class Run:
    """Records that follow one another in a file, of whatever types: their byte offsets and their types."""

    offsets: Int64s
    rtypes: Bytes


@dataclass(slots=True)
class RecordedFile:
    """A file that has been walked to its end.

    `data` are its bytes, uncompressed; `first` is the offset of the first record; `counts` says how many records there
    are of each type.
    """

    name: str
    data: Bytes
    first: int
    metadata: dbn.Metadata
    ts_out: bool
    compressed: bool = False
    notes: list[str] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)

    @property
    def version(self) -> int:
        return self.metadata.version

    def data_rtypes(self) -> list[int]:
        """The types of its records, those apart that say something about the session and not about a market."""
        return sorted(rtype for rtype in self.counts if rtype not in CONTROL_RTYPES)

    def body_bytes(self, rtype: int) -> int:
        """The size of a record in this file without a time of sending."""
        return _sizes(self.version)[rtype]

    def needs_upgrade(self, rtype: int) -> bool:
        return self.body_bytes(rtype) != _sizes(3)[rtype]

    def runs(self) -> Iterator[Run]:
        """All records in the file's order, in pieces of a few megabytes. Raises RecordingError."""
        expected = np.zeros(256, dtype=np.int64)
        for rtype, size in _sizes(self.version).items():
            expected[rtype] = size + _TS_OUT_BYTES * self.ts_out
        for offsets in self._walk():
            rtypes = self.data[offsets + 1]
            sizes = 4 * self.data[offsets].astype(np.int64)
            wrong = np.flatnonzero(sizes != expected[rtypes])
            if len(wrong):
                at = wrong[0]
                raise self._corrupt(int(offsets[at]), int(sizes[at]), int(rtypes[at]), expected)
            yield Run(offsets, rtypes)

    def bodies(self, offsets: Int64s, rtype: int) -> bytes:
        """Records of one type as version 3 has them, without a time of sending."""
        size = self.body_bytes(rtype)
        rows = self._gathered(offsets, size)
        rows[:, 0] = size // 4
        return upgraded(rows.tobytes(), self.version) if self.needs_upgrade(rtype) else rows.tobytes()

    def _gathered(self, offsets: Int64s, size: int) -> Bytes:
        """A copy of `size` bytes from each offset on, one a row."""
        first, last = int(offsets[0]), int(offsets[-1])
        stride = int(offsets[1]) - first if len(offsets) > 1 else size
        if last - first == stride * (len(offsets) - 1) and (np.diff(offsets) == stride).all():
            padded = self.data[first : last + stride]
            if len(padded) == stride * len(offsets):
                return padded.reshape(len(offsets), stride)[:, :size].copy()
        rows: Bytes = self.data[offsets[:, None] + np.arange(size)]
        return rows

    def read_controls(self, offsets: Int64s, rtype: int) -> list[Control]:
        """The mappings, system messages or errors at some offsets."""
        decoder = dbn.DBNDecoder(has_metadata=False, upgrade_policy=_AS_IS)
        decoder.write(self.bodies(offsets, rtype))
        records: list[Any] = decoder.decode()
        return records

    def _walk(self) -> Iterator[Int64s]:
        """The offsets of all records: long runs of one size at a stroke, others one by one."""
        at, end = self.first, len(self.data)
        while at < end:
            size = 4 * int(self.data[at])
            count = self._run_length(at, size, _RUN_MIN) if size >= _HEADER_BYTES else 0
            if count == _RUN_MIN:
                count = self._run_length(at, size, _WALK_BYTES // size)
                offsets = at + size * np.arange(count)
            else:
                offsets = self._step(at)
            yield offsets
            at = int(offsets[-1]) + 4 * int(self.data[offsets[-1]])

    def _run_length(self, at: int, size: int, most: int) -> int:
        """How many records from here on have one size, up to `most`."""
        count = min(most, (len(self.data) - at) // size)
        other = np.flatnonzero(self.data[at : at + count * size : size] != size // 4)
        return int(other[0]) if len(other) else count

    def _step(self, start: int) -> Int64s:
        block = self.data[start : start + _WALK_BYTES].tobytes()
        whole_bytes = len(self.data) - start
        offsets, at = [], 0
        while at < len(block):
            size = 4 * block[at]
            if size < _HEADER_BYTES:
                raise RecordingError(
                    f"{self.name}: corrupt at byte {start + at:,}{self._where()}: a record cannot be {size} bytes long"
                )
            if at + size > whole_bytes:
                raise RecordingError(
                    f"{self.name}: truncated: the record at byte {start + at:,}{self._where()} is {size} bytes long, "
                    f"and {whole_bytes - at} are left"
                )
            offsets.append(at)
            at += size
        return start + np.array(offsets, dtype=np.int64)

    def _where(self) -> str:
        return " (decompressed)" if self.compressed else ""

    def _corrupt(self, at: int, size: int, rtype: int, expected: Int64s) -> RecordingError:
        wanted = int(expected[rtype])
        why = (
            f"a record of type 0x{rtype:02X} is {size} bytes long, not {wanted}"
            if wanted
            else f"no record has the type 0x{rtype:02X}"
        )
        return RecordingError(f"{self.name}: corrupt at byte {at:,}{self._where()}: {why}")


@contextmanager
def _room() -> Iterator[None]:
    """A temporary file that does not fit is the machine's fault, not the recording's."""
    try:
        yield
    except OSError as error:
        folder = tempfile.gettempdir()
        raise RecordingError(
            f"a temporary file in {folder} cannot be written: {error.strerror or error}; TMPDIR names another folder"
        ) from None


class Spool:
    """A temporary file without a name: written once, then mapped. It is gone with the last map of it."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="budget-guard-replay-")  # noqa: SIM115 - mapped later
        self.size = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes | memoryview) -> None:
        with _room():
            self._file.write(data)
        self.size += len(data)

    def writable(self, size: int) -> Bytes:
        """That many bytes, to be written in any order before `mapped`."""
        with _room():
            # A hole that cannot be filled would kill the process when it is written to.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, size)
            else:
                self._file.truncate(size)
        return np.frombuffer(mmap.mmap(self._file.fileno(), size), dtype=np.uint8)

    def mapped(self) -> Bytes:
        """What was written, as a read-only map."""
        with _room():
            self._file.flush()
        with self._file:
            return _mapped(self._file)


def open_file(path: Path, control: Callable[[str, Control], None]) -> RecordedFile:
    """A file, walked to its end; `control` is called with its dataset and each of its mappings, system
    messages and errors, each kind in order.

    A compressed file is decompressed into a temporary one first. Raises RecordingError.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            if not magic:
                raise RecordingError(f"{name}: empty: it has no DBN header")
            data = _decompressed(file, name) if magic == _ZSTD_MAGIC else _mapped(file)
    except OSError as error:
        raise RecordingError(f"{name}: cannot be read: {error.strerror or error}") from None
    found = _parse_header(name, data)
    if magic == _ZSTD_MAGIC:
        found.compressed = True
        found.notes.append(f"{name}: decompressed into a temporary file of {len(data):,} bytes")
    for run in found.runs():
        found.counts.update(dict(zip(*_counted(run.rtypes), strict=True)))
        for record in _controls(found, run):
            control(found.metadata.dataset, record)
    if not found.data_rtypes():
        raise RecordingError(f"{name}: it has no market data: nothing but a header and {_spoken(found)}")
    return found


def release(data: npt.NDArray[Any]) -> None:
    """Give the memory of a map back: its pages are read again when they are needed."""
    base: Any = data
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def upgraded(bodies: bytes, version: int) -> bytes:
    """Records of an earlier version as version 3 has them, by the vendor's own library."""
    out = io.BytesIO()
    transcoder = dbn.Transcoder(
        out,
        dbn.Encoding.from_str("dbn"),
        dbn.Compression.from_str("none"),
        has_metadata=False,
        input_version=version,
        upgrade_policy=_TO_V3,
    )
    transcoder.write(bodies)
    transcoder.flush()
    return out.getvalue()


def _sizes(version: int) -> dict[int, int]:
    """Bytes of every record type in a version of DBN, as the vendor's library has them."""
    return {rtype: getattr(_VERSIONS[version], name).size_hint for rtype, name in _CLASSES.items()}


def _counted(rtypes: Bytes) -> tuple[list[int], list[int]]:
    counts = np.bincount(rtypes)
    present = np.flatnonzero(counts)
    return present.tolist(), counts[present].tolist()


def _controls(found: RecordedFile, run: Run) -> Iterator[Control]:
    """The control records of a run, each type's in the file's order."""
    for rtype in CONTROL_RTYPES:
        offsets = run.offsets[run.rtypes == rtype]
        if len(offsets):
            yield from found.read_controls(offsets, rtype)


def _spoken(found: RecordedFile) -> str:
    records = sum(found.counts.values())
    return f"{records:,} messages of the live session" if records else "no record"


def _parse_header(name: str, data: Bytes) -> RecordedFile:
    start = data[:8].tobytes()
    if start[:3] != b"DBN":
        raise RecordingError(f"{name}: not DBN: it begins with {start[:4]!r}, not with a DBN header")
    if len(start) < 8 or start[3] not in _VERSIONS:
        raise RecordingError(
            f"{name}: DBN version {start[3:4].hex() or '?'} at byte 3; 1, 2 and 3 can be read"
        )
    first = 8 + int.from_bytes(start[4:8], "little")
    if first > len(data):
        raise RecordingError(
            f"{name}: truncated at byte {len(data):,}, within the DBN header of {first:,} bytes"
        )
    try:
        metadata = dbn.Metadata.decode(data[:first].tobytes(), _AS_IS)
    except dbn.DBNError as error:
        raise RecordingError(f"{name}: corrupt in the DBN header, bytes 0 to {first:,}: {error}") from None
    if not metadata.dataset:
        raise RecordingError(f"{name}: its DBN header names no dataset")
    return RecordedFile(name, data, first, metadata, bool(metadata.ts_out))


def _mapped(file: IO[bytes]) -> Bytes:
    return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


def _decompressed(file: IO[bytes], name: str) -> Bytes:
    """A compressed file's contents, in a temporary file; all its frames."""
    with Spool() as spool:
        read = _decompress_into(spool, file, name)
        if not spool.size:
            raise RecordingError(f"{name}: empty: it has no DBN header ({read:,} bytes of zstd)")
        return spool.mapped()


def _decompress_into(spool: Spool, file: IO[bytes], name: str) -> int:
    """Write a file's contents; returns how many compressed bytes it had."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    read = 0
    while block := file.read(_READ_BYTES):
        read += len(block)
        while block:
            if frame.eof:
                frame = zstandard.ZstdDecompressor().decompressobj()
            try:
                spool.write(frame.decompress(block))
            except zstandard.ZstdError as error:
                raise RecordingError(
                    f"{name}: corrupt before byte {read:,} (compressed), {spool.size:,} decompressed: {error}"
                ) from None
            block = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise RecordingError(
            f"{name}: truncated at byte {read:,} (compressed): its zstd frame does not end; "
            f"{spool.size:,} bytes were decompressed"
        )
    return read

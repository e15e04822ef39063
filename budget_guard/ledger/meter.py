"""The meter: a memory-mapped page that counts a hold's bytes as they are read, and outlives a killed process.

The page belongs to the file, so what was stored is there after `kill -9`; it is not flushed to the disk, so a
crash of the whole machine may lose it, and the boot id in the page tells. Each counter is one aligned 64-bit
store, which other processes see whole. The bytes are counted before the time of the read: a kill in between
leaves a count that is right and a time that is too old, which can only make the residual larger. That a read took
all that it might is noted before it is counted, for the same reason. How a hold
ended is marked after everything else, in the same sector: whoever sees the mark sees the rest.

Behind the page lies what the hold is for, as text, for a ledger that has lost it with its last commits.

The owner holds a kernel lock (flock) on the file for as long as it lives; whoever gets the lock knows that the
owner is dead. A lock belongs to the open file and is inherited by a fork: children forget their parent's meters
as they start, and a program that is executed does not inherit them. On network file systems such a lock may
mean nothing: keep meters on a local disk.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import struct
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from weakref import WeakSet

from budget_guard.clock import instant_from_ns, ns_from_instant
from budget_guard.errors import LedgerError
from budget_guard.ledger.machine import boot_id as this_boot_id

PAGE_BYTES = 4096
SUFFIX = ".meter"
_NEW_SUFFIX = ".new"
_MAGIC = struct.unpack("=Q", b"bgmeter\n")[0]
_VERSION = 1

# The page is 512 unsigned 64-bit words; these are their places.
_AT_MAGIC, _AT_VERSION = 0, 1
_SIZE: Final = 2
_CONTROL: Final = 3
_LAST_READ: Final = 4
_LAST_TS: Final = 5
_PEAK: Final = 6
_FLAGS: Final = 7
_SPAN_START: Final = 8
_SPAN_BYTES: Final = 9
_ENDING_AT: Final = 10
_RESIDUAL: Final = 11
_ENDED_US: Final = 12
_ELAPSED_MS: Final = 13
_KEPT_AT: Final = 14
_LEFT_OUT: Final = 15
_COUNTERS_END = 16
# Two texts follow, each padded with NUL: the boot id and the hold's id.
_TEXTS = struct.Struct("=64s256s")
# And then more counters.
_FILLED: Final = _COUNTERS_END + _TEXTS.size // 8
_MEASURED: Final = _FILLED + 1

_ENDED, _ASKED, _FINAL, _KEPT = 1, 2, 4, 8
# What is written behind the page: longer than any list of symbols that the vendor takes.
_TEXT_BYTES_MAX = 1 << 20

# The peak is taken over tenths of a second: a whole second would hide the bursts that fill buffers.
_SPAN_NS: Final = 100_000_000
_SPANS_PER_S = 10

_HOLD_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

_open_meters: WeakSet[Meter] = WeakSet()


@dataclass(frozen=True, slots=True)
class FinalWord:
    """How a hold ended, by its owner's own word. `elapsed_ms` is how long it had been open."""

    residual_bytes: int
    ended_utc: datetime
    elapsed_ms: int


class Meter:
    """An open meter, locked. Made by `Meter.create` or `open_orphan`. One thread adds, any thread reads."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Take over a locked descriptor of a complete page."""
        self.path = path
        self._descriptor = descriptor
        self._page = mmap.mmap(descriptor, PAGE_BYTES)
        self._bytes = memoryview(self._page)
        self._words = self._bytes.cast("Q")
        self._closed = False
        _open_meters.add(self)

    @classmethod
    def create(cls, directory: Path, hold_id: str, *, boot_id: str | None = None) -> Meter:
        """A new meter, whose file appears under its name only when it is complete and locked.

        Raises LedgerError when the folder cannot be written or the hold has a meter already, ValueError for a
        hold id that is no file name.
        """
        name = meter_name(hold_id)
        page = _fresh_page(hold_id, this_boot_id() if boot_id is None else boot_id)
        with _file_errors(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return cls(directory / name, _publish(directory, name, page))

    def add(
        self, size_bytes: int, control_bytes: int, now_ns: int, beside_bytes: int = 0, *, filled: bool = False
    ) -> None:
        """Count one read of `size_bytes`, `control_bytes` of them not market data, at a monotonic instant in ns.

        `beside_bytes` came with it and are counted elsewhere: they say how fast the connection is. `filled` says that
        the read took all that it might, so that any amount may be waiting behind it.
        """
        words = self._words
        if filled:
            words[_FILLED] = 1
        words[_SIZE] += size_bytes
        if control_bytes:
            words[_CONTROL] += control_bytes
        size_bytes += beside_bytes
        if now_ns - words[_SPAN_START] < _SPAN_NS:
            size_bytes += words[_SPAN_BYTES]
        else:
            if words[_LAST_READ]:
                words[_MEASURED] = 1
            words[_SPAN_START] = now_ns
        words[_SPAN_BYTES] = size_bytes
        peak = size_bytes * _SPANS_PER_S
        if peak > words[_PEAK]:
            words[_PEAK] = peak
        words[_LAST_READ] = now_ns
        if not filled:
            words[_FILLED] = 0

    def leave_out(self, size_bytes: int) -> None:
        """Note bytes that were read and are not counted: they are not billed, by the policy's own word."""
        self._words[_LEFT_OUT] += size_bytes

    @property
    def left_out_bytes(self) -> int:
        """Bytes read beside those that are counted."""
        return self._words[_LEFT_OUT]

    def mark_ending(self) -> None:
        """Note that the connection is being half-closed: what is read from here on was on its way."""
        self._words[_ENDING_AT] = self._words[_SIZE] + 1

    @property
    def ending_bytes(self) -> int:
        """Bytes counted since `mark_ending`; 0 before it."""
        began = self._words[_ENDING_AT]
        return self._words[_SIZE] - (began - 1) if began else 0

    def mark_ended(self) -> None:
        """Note that the vendor ended the connection itself and every byte was counted: no residual is left."""
        self._words[_FLAGS] |= _ENDED

    @property
    def ended(self) -> bool:
        return bool(self._words[_FLAGS] & _ENDED)

    def mark_asked(self) -> None:
        """Note that something billable is about to be asked for: from here on the hold may have been spent."""
        self._words[_FLAGS] |= _ASKED

    @property
    def asked(self) -> bool:
        return bool(self._words[_FLAGS] & _ASKED)

    def mark_final(self, word: FinalWord) -> None:
        """Note how the hold ended: nothing is counted any more, and this is what is to be booked."""
        words = self._words
        words[_RESIDUAL] = word.residual_bytes
        words[_ENDED_US] = ns_from_instant(word.ended_utc) // 1000
        words[_ELAPSED_MS] = word.elapsed_ms
        words[_FLAGS] |= _FINAL

    @property
    def final_word(self) -> FinalWord | None:
        """How the hold ended; None while that is open, or when its owner died before it could say."""
        words = self._words
        if not words[_FLAGS] & _FINAL:
            return None
        return FinalWord(words[_RESIDUAL], instant_from_ns(words[_ENDED_US] * 1000), words[_ELAPSED_MS])

    def describe(self, text: str) -> None:
        """Write what the hold is for behind the page. Raises LedgerError when there is no room for it."""
        data = text.encode()
        with _file_errors(self.path):
            os.ftruncate(self._descriptor, PAGE_BYTES)
            _write_whole(self._descriptor, data, PAGE_BYTES)

    @property
    def description(self) -> str:
        """What `describe` wrote; empty when nothing did. Raises LedgerError when it cannot be read."""
        with _file_errors(self.path):
            return os.pread(self._descriptor, _TEXT_BYTES_MAX, PAGE_BYTES).decode(errors="replace")

    @property
    def kept_at_ns(self) -> int | None:
        """Since when (`uptime_ns`) its owner has kept it although it is booked; None where it is not."""
        return self._words[_KEPT_AT] if self._words[_FLAGS] & _KEPT else None

    @property
    def size_bytes(self) -> int:
        """All bytes counted, control bytes included."""
        return self._words[_SIZE]

    @property
    def control_bytes(self) -> int:
        return self._words[_CONTROL]

    @property
    def last_read_monotonic_ns(self) -> int:
        """The monotonic instant of the last read, comparable between processes of one boot; 0 before the first."""
        return self._words[_LAST_READ]

    @property
    def peak_bytes_per_s(self) -> int | None:
        """The connection's fastest tenth of a second so far, as bytes per second; None where it says too little.

        So it is before the first tenth is over, when a read only says how large reads are, and after a read that took
        all that it might: what waits behind that may have come at any rate, while nothing was read.
        """
        words = self._words
        return words[_PEAK] if words[_MEASURED] and not words[_FILLED] else None

    def go_on_from(self, earlier: Meter) -> None:
        """Take over what was measured of the same connection: what is on its way was sent at that rate."""
        words, before = self._words, earlier._words
        words[_PEAK] = max(words[_PEAK], before[_PEAK])
        words[_MEASURED] |= before[_MEASURED]
        words[_FILLED] |= before[_FILLED]

    @property
    def last_ts_ns(self) -> int:
        """The last index timestamp seen in the data, in ns since the UNIX epoch; 0 when there was none."""
        return self._words[_LAST_TS]

    @last_ts_ns.setter
    def last_ts_ns(self, value: int) -> None:
        self._words[_LAST_TS] = value

    @property
    def boot_id(self) -> str:
        """The run of the machine in which the meter was made."""
        return self._texts()[0]

    @property
    def hold_id(self) -> str:
        return self._texts()[1]

    def _texts(self) -> tuple[str, str]:
        first, second = _TEXTS.unpack_from(self._bytes, _COUNTERS_END * 8)
        return first.rstrip(b"\0").decode(), second.rstrip(b"\0").decode()

    def keep(self, now_ns: int) -> None:
        """Close it and leave the file: it is booked, but a database server may still lose that."""
        if self._closed:
            return
        self._words[_KEPT_AT] = now_ns
        self._words[_FLAGS] |= _KEPT
        self.close(remove=False)

    def close(self, remove: bool) -> None:
        """Unmap and unlock; with `remove` the file goes first, so that nobody sees it unlocked. Repeats do nothing.

        A file that cannot be removed stays: it proves nothing that its ledger does not know, and is swept later.
        """
        if self._closed:
            return
        self._closed = True
        with suppress(OSError):
            if remove:
                self.path.unlink(missing_ok=True)
            else:
                self._page.flush()
        self._words.release()
        self._bytes.release()
        self._page.close()
        os.close(self._descriptor)


def meter_name(hold_id: str) -> str:
    """The name of a hold's meter file. Raises ValueError for an id that is no file name."""
    if not _HOLD_ID.fullmatch(hold_id):
        raise ValueError(
            f"not usable as a hold's id: {hold_id!r} (letters, digits, '.', '_' and '-', at most 200)"
        )
    return hold_id + SUFFIX


def open_orphan(path: Path) -> Meter | None:
    """The meter of a dead owner, now locked by the caller; None while its owner lives, or when it is gone.

    Raises LedgerError when the file cannot be read or is not a meter of this version.
    """
    with _file_errors(path):
        descriptor = _lock_existing(path)
        if descriptor is None:
            return None
        try:
            _check_page(path, os.pread(descriptor, PAGE_BYTES, 0))
            return Meter(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise


def read_size(path: Path) -> int | None:
    """What a meter shows now, in bytes, whoever owns it; None when there is no such meter, or no readable one."""
    try:
        with path.open("rb") as file:
            page = file.read(PAGE_BYTES)
        _check_page(path, page)
    except (OSError, LedgerError):
        return None
    size: int = struct.unpack_from("=Q", page, _SIZE * 8)[0]
    return size


@contextmanager
def meter_folder(directory: Path) -> Iterator[None]:
    """Turn what keeps a folder of meters from being used into LedgerError."""
    with _file_errors(directory):
        yield


def sweep_unfinished(directory: Path) -> None:
    """Remove what creators left that died before their meter had its name."""
    with _file_errors(directory):
        for path in directory.glob(f"*{_NEW_SUFFIX}"):
            descriptor = _lock_existing(path)
            if descriptor is not None:
                path.unlink(missing_ok=True)
                os.close(descriptor)


def _lock_existing(path: Path) -> int | None:
    """A locked descriptor of the file at this path; None when it is locked by somebody, or gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Somebody may have removed it between opening and locking: then this lock is on a file without a name.
        if path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _fresh_page(hold_id: str, boot_id: str) -> bytes:
    page = bytearray(PAGE_BYTES)
    struct.pack_into("=QQ", page, 0, _MAGIC, _VERSION)
    _TEXTS.pack_into(page, _COUNTERS_END * 8, boot_id.encode(), hold_id.encode())
    return bytes(page)


def _publish(directory: Path, name: str, page: bytes) -> int:
    """Write a page under a passing name, lock it, then give it its own: nobody ever sees it unlocked."""
    target = directory / name
    while True:
        passing = directory / f".{uuid.uuid4().hex}{_NEW_SUFFIX}"
        descriptor = os.open(passing, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Written, not only sized: a store into a page that the disk has no room for would kill the process.
            _write_whole(descriptor, page, 0)
            # A link, unlike a rename, never replaces a meter that is already there.
            os.link(passing, target)
            return descriptor
        except (BlockingIOError, FileNotFoundError):
            # A recovery swept the passing name in the instant before it was locked.
            os.close(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        finally:
            passing.unlink(missing_ok=True)


def _write_whole(descriptor: int, data: bytes, offset: int) -> None:
    """All of it: a disk that fills up, or a limit on the size of files, may take a part."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _check_page(path: Path, page: bytes) -> None:
    if len(page) == PAGE_BYTES:
        magic, version = struct.unpack_from("=QQ", page, 0)
        if (magic, version) == (_MAGIC, _VERSION):
            return
        if magic == _MAGIC:
            raise LedgerError(
                f"the meter {path} was written by another version of budget-guard: use that one"
            )
    raise LedgerError(f"{path} is not a meter, or a damaged one")


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise LedgerError(
            f"the meter {error.filename2 or path} exists already: holds have ids of their own"
        ) from error
    except OSError as error:
        raise LedgerError(
            f"the meter {path} cannot be used ({error.strerror or error}): "
            "meters need a local folder that this user may write, with room on its disk"
        ) from error


def _forget_in_child() -> None:
    """In a forked child: close, without unlocking, what the parent owns, so that its locks die with it."""
    for meter in list(_open_meters):
        meter.close(remove=False)


os.register_at_fork(after_in_child=_forget_in_child)

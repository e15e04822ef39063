"""The files that gaps are filled into: their names say what is in them, and how far it has come.

`NAME.partial` is being written; `NAME.unchecked` is whole, and the vendor's count of its records is still to be asked,
or did not agree; `NAME` is whole and agrees.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from budget_guard.disk import flush_folder
from budget_guard.errors import BudgetGuardError
from budget_guard.ledger.model import Gap

PARTIAL = ".partial"
UNCHECKED = ".unchecked"

_ODD = re.compile(r"[^A-Za-z0-9._-]+")
_READ_BYTES = 1 << 20


class FileTrouble(BudgetGuardError):
    """A file that cannot be written, or that is not what its name says."""


def file_name(gap: Gap) -> str:
    """`nq-mbo-20261123T150000Z-3f2a9c11.dbn.zst`: stream, schema, where it starts, and the gap's id."""
    parts = (gap.stream, gap.schema, f"{gap.start_utc:%Y%m%dT%H%M%SZ}", gap.id[:12])
    return "-".join(_ODD.sub("_", part) for part in parts) + ".dbn.zst"


def kept_file(folder: Path, gap: Gap) -> Path | None:
    """What was bought of a gap and lies there whole, checked or not; None where nothing does."""
    path = folder / file_name(gap)
    return next((one for one in (path, unchecked(path)) if one.exists()), None)


def unchecked(path: Path) -> Path:
    return path.with_name(path.name + UNCHECKED)


def partial(path: Path) -> Path:
    return path.with_name(path.name + PARTIAL)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Nobody else of this machine fills gaps until this ends. Raises FileTrouble when somebody does."""
    with _trouble(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "gaps.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileTrouble(
                "gaps are being filled by another program on this machine: wait for it"
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def new_partial(path: Path) -> Iterator[BinaryIO]:
    """A file under a passing name, on the disk when this ends well and gone when it does not. Raises FileTrouble."""
    passing = partial(path)
    with _trouble(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with passing.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            passing.unlink(missing_ok=True)
            raise


def rename(old: Path, new: Path) -> None:
    """Give a file its next name, for good. Raises FileTrouble."""
    with _trouble(new):
        old.rename(new)
        flush_folder(new.parent)


def count_records(path: Path) -> int:
    """The records of a compressed DBN file. Raises FileTrouble when it is none, or ends within a record."""
    import zstandard

    count, rest = 0, b""
    with _trouble(path), path.open("rb") as raw:
        try:
            with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as data:
                _skip_metadata(data, path)
                while chunk := data.read(_READ_BYTES):
                    found, rest = _whole_records(rest + chunk, path)
                    count += found
        except zstandard.ZstdError as error:
            raise FileTrouble(f"{path} is damaged: {error}") from None
    if rest:
        raise FileTrouble(f"{path} ends within a record")
    return count


def _skip_metadata(data: BinaryIO, path: Path) -> None:
    head = _exactly(data, 8)
    if head[:3] != b"DBN":
        raise FileTrouble(f"{path} is no DBN file")
    length = int.from_bytes(head[4:8], "little")
    if len(_exactly(data, length)) < length:
        raise FileTrouble(f"{path} ends within its header")


def _exactly(data: BinaryIO, size: int) -> bytes:
    found = b""
    while len(found) < size and (more := data.read(size - len(found))):
        found += more
    return found


def _whole_records(data: bytes, path: Path) -> tuple[int, bytes]:
    """How many records are whole, and what is left; the first byte of each is its length in words of four bytes."""
    count = at = 0
    end = len(data)
    while at < end:
        size = data[at] * 4
        if size == 0:
            raise FileTrouble(f"{path} has a record without a length")
        if at + size > end:
            break
        at += size
        count += 1
    return count, data[at:]


@contextmanager
def _trouble(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileTrouble(f"{error.filename or path}: {error.strerror or error}") from error

"""Answers that are kept in files, and given again for the same request.

An answer is two files: its bytes, and a note of what they are, with their checksum. The bytes are written first, under
a passing name, flushed to the disk and given their name; the note comes last and the same way. Without a note there is
no answer: what broke off was never one. What does not agree with its checksum is removed, and bought again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

from budget_guard.clock import instant_text, parse_instant
from budget_guard.disk import flush_folder

log = logging.getLogger(__name__)

_NOTE = ".json"
_BODY = ".body"
_PART = ".part"
_LOCK = ".lock"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Note:
    """What is kept: the request in canonical form, the vendor's status and headers, the bytes' size and checksum."""

    form: str
    status: int
    headers: Mapping[str, str]
    body: str  # the file's name
    size_bytes: int
    sha256: str
    stored: str


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that is whole."""

    note: Note
    path: Path

    @property
    def stored_utc(self) -> datetime:
        return parse_instant(self.note.stored)


def shelf_key(upstream: str, account: str, form: str, symbols: tuple[str, ...]) -> str:
    """One name for one answer. The order of the symbols is part of it: the answer's own header keeps that order."""
    return hashlib.sha256(json.dumps([upstream, account, form, list(symbols)]).encode()).hexdigest()[:40]


class Shelf:
    """A folder of answers; threads and processes may share it. `keep` None keeps them for ever."""

    def __init__(self, folder: Path, keep: timedelta | None) -> None:
        self._folder = folder
        self._keep = keep

    def find(self, key: str, now: datetime) -> Kept | None:
        """A whole answer, its bytes checked, unless it is too old."""
        kept = self._read(self._folder / f"{key}{_NOTE}")
        if kept is None or not self._is_young(kept, now):
            return None
        try:
            whole = _digest(kept.path) == (kept.note.size_bytes, kept.note.sha256)
        except OSError:
            whole = False
        if not whole:
            log.error("%s is damaged: it is removed, and bought again", kept.path)
            self._remove(self._folder / f"{key}{_NOTE}", kept)
            return None
        return kept

    def listed(self, now: datetime) -> list[Kept]:
        """Everything that would be given again, oldest first; the bytes are not checked."""
        found = [self._read(path) for path in sorted(self._folder.glob(f"*{_NOTE}"))]
        young = [kept for kept in found if kept is not None and self._is_young(kept, now)]
        return sorted(young, key=lambda kept: kept.note.stored)

    def writer(self, key: str) -> Writer:
        """A new answer. Raises OSError when the folder cannot be written."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Writer(self._folder, key)

    def sweep(self, now: datetime) -> None:
        """Remove what is too old, and what dead writers left. What cannot be removed stays."""
        for path in self._folder.glob(f"*{_NOTE}"):
            kept = self._read(path)
            if kept is None or not self._is_young(kept, now):
                self._remove(path, kept)
        named = {kept.note.body for kept in self.listed(now)}
        for path in self._folder.glob(f"*{_PART}"):
            _remove_dead(path)
        for path in self._folder.glob(f"*{_BODY}"):
            # A writer that is between its two files has been so for a moment only.
            with suppress(OSError):
                if path.name not in named and _age_s(path) > 3600:
                    path.unlink()

    @contextmanager
    def turn(self, key: str) -> Iterator[bool]:
        """Whether it is this caller's turn to fetch an answer; another process may be at it. Never waits."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._folder / f"{key}{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield True
            return
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    def _is_young(self, kept: Kept, now: datetime) -> bool:
        return self._keep is None or now - kept.stored_utc < self._keep

    def _read(self, path: Path) -> Kept | None:
        try:
            note = Note(**json.loads(path.read_text(encoding="utf-8")))
            parse_instant(note.stored)
        except (OSError, ValueError, TypeError):
            return None
        if Path(note.body).name != note.body:
            return None
        return Kept(note, self._folder / note.body)

    def _remove(self, note: Path, kept: Kept | None) -> None:
        with suppress(OSError):
            note.unlink()
        if kept is not None:
            with suppress(OSError):
                kept.path.unlink()


class Writer:
    """Writes one answer under a passing name until it is whole."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self._key = key
        self._path = folder / f"{uuid.uuid4().hex}{_PART}"
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file: IO[bytes] | None = os.fdopen(descriptor, "wb")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._digest = hashlib.sha256()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Raises OSError, as when the disk is full."""
        assert self._file is not None
        self._file.write(data)
        self._digest.update(data)
        self._size += len(data)

    def finish(self, form: str, status: int, headers: Mapping[str, str], now: datetime) -> None:
        """The answer is whole: from here on it is given again. Raises OSError."""
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        checksum = self._digest.hexdigest()
        body = self._folder / f"{self._key}-{checksum[:16]}{_BODY}"
        self._path.replace(body)
        self._file.close()
        self._file = None
        note = Note(form, status, dict(headers), body.name, self._size, checksum, instant_text(now))
        passing = self._folder / f"{uuid.uuid4().hex}{_PART}"
        with passing.open("x", encoding="utf-8") as file:
            json.dump(asdict(note), file)
            file.flush()
            os.fsync(file.fileno())
        passing.replace(self._folder / f"{self._key}{_NOTE}")
        flush_folder(self._folder)

    def drop(self) -> None:
        """It is not whole, or is kept already."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            with suppress(OSError):
                self._path.unlink()
            self._file = None


def _digest(path: Path) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            digest.update(chunk)
    return size, digest.hexdigest()


def _remove_dead(path: Path) -> None:
    """Remove a passing file that nobody writes any more."""
    with suppress(OSError), path.open("rb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def _age_s(path: Path) -> float:
    """Seconds since a file was last written, by the clock that wrote that down: the file system's."""
    probe = path.with_name(f"{uuid.uuid4().hex}{_PART}")
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)

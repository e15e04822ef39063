"""What the vendor has already answered, on disk: a size that cannot change is never asked for twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from budget_guard.clock import instant_from_ns, ns_from_instant

# Raised when the table changes; a file of another version is replaced, since everything in it can be asked again.
_VERSION = 2
_CREATE = (
    "CREATE TABLE IF NOT EXISTS answers "
    "(key TEXT PRIMARY KEY, value TEXT NOT NULL, stored_ns INTEGER NOT NULL, seal TEXT NOT NULL)"
)
_BUSY_TIMEOUT_S = 5.0
# What SQLite says of a file that is damaged, or none of its own; any other error is about one statement.
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


@dataclass(frozen=True, slots=True)
class Cached:
    """An answer as JSON values, and when it was stored."""

    value: Any
    stored_utc: datetime


def cache_key(*parts: object) -> str:
    """One name for JSON-able parts; it does not reveal them."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _seal(key: str, value: str, stored_ns: int) -> str:
    """Ties a row together: SQLite does not notice a digit that has changed on the disk."""
    return hashlib.sha256(f"{key} {stored_ns} {value}".encode()).hexdigest()


class MetadataCache:
    """Answers by key in one SQLite file; threads and processes may share it.

    `path` None keeps them in memory. A damaged file is replaced, a damaged answer is none, and a folder that cannot be
    written is done without: losing the cache costs requests, never correctness. After `close` nothing is found and
    nothing kept.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._closed = False
        self._connection = self._open()

    def get(self, key: str, now: datetime, max_age: timedelta | None = None) -> Cached | None:
        """The answer, unless it is older than `max_age` (None: never too old) or stored in the future."""
        with self._lock:
            row = self._run("SELECT value, stored_ns, seal FROM answers WHERE key = ?", (key,))
        if row is None:
            return None
        value, stored_ns, seal = row
        if seal != _seal(key, value, stored_ns):
            return None
        cached = Cached(json.loads(value), instant_from_ns(stored_ns))
        age = now - cached.stored_utc
        if max_age is not None and not timedelta(0) <= age < max_age:
            return None
        return cached

    def put(self, key: str, value: Any, now: datetime) -> None:
        """Store an answer over any older one."""
        text, stored_ns = json.dumps(value), ns_from_instant(now)
        with self._lock:
            self._run(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)",
                (key, text, stored_ns, _seal(key, text, stored_ns)),
            )

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._connection.close()

    def _run(self, statement: str, values: tuple[object, ...]) -> Any:
        """The statement's first row. A locked file is a miss; a damaged one is replaced."""
        if self._closed:
            return None
        try:
            with self._connection:
                return self._connection.execute(statement, values).fetchone()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF in _DAMAGED:
                self._connection.close()
                self._discard()
                self._connection = self._open()
            return None

    def _open(self) -> sqlite3.Connection:
        if self._path is not None:
            for _ in range(2):
                try:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    return _connect(str(self._path))
                except sqlite3.OperationalError:
                    break
                except sqlite3.DatabaseError:
                    self._discard()
                except OSError:
                    break
        return _connect(":memory:")

    def _discard(self) -> None:
        if self._path is not None:
            for name in (self._path, self._path.with_name(self._path.name + "-journal")):
                with contextlib.suppress(OSError):
                    name.unlink()


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"version {version}")
        with connection:
            connection.execute(_CREATE)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection

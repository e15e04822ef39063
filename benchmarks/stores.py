"""The databases that ledgers are measured on, and the smallest durable transaction that each can do."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STORES = ("sqlite", "postgresql")

# Something that is done again and again, and what is left to do after that.
Doing = tuple[Callable[[], None], Callable[[], None]]


def new_ledger(store: str, folder: Path) -> str:
    """The URL of a ledger that nobody has used."""
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder}/ledger.sqlite" if store == "sqlite" else _fresh_database()


def new_bare(store: str, folder: Path) -> str:
    """A database with one row that everybody updates: a path, or a URL."""
    folder.mkdir(parents=True, exist_ok=True)
    made = "CREATE TABLE shared (id INTEGER PRIMARY KEY, amount BIGINT)"
    if store == "sqlite":
        path = str(folder / "bare.sqlite")
        with _sqlite(path) as file:
            file.execute(made)
            file.execute("INSERT INTO shared VALUES (1, 0)")
        return path
    import psycopg

    url = _fresh_database()
    with psycopg.connect(url) as server:
        server.execute(made)
        server.execute("INSERT INTO shared VALUES (1, 0)")
    return url


def bare(store: str, place: str) -> Doing:
    """Read one shared row, change it and commit durably, by the driver alone."""
    return _bare_sqlite(place) if store == "sqlite" else _bare_postgresql(place)


def _bare_sqlite(path: str) -> Doing:
    file = sqlite3.connect(path, isolation_level=None, timeout=60)
    file.execute("PRAGMA journal_mode=WAL")
    file.execute("PRAGMA synchronous=FULL")

    def once() -> None:
        file.execute("BEGIN IMMEDIATE")
        (amount,) = file.execute("SELECT amount FROM shared WHERE id = 1").fetchone()
        file.execute("UPDATE shared SET amount = ? WHERE id = 1", (amount + 1,))
        file.execute("COMMIT")

    return once, file.close


def _bare_postgresql(url: str) -> Doing:
    import psycopg

    server = psycopg.connect(url)

    def once() -> None:
        found = server.execute("SELECT amount FROM shared WHERE id = 1 FOR UPDATE").fetchone()
        assert found is not None
        server.execute("UPDATE shared SET amount = %s WHERE id = 1", (found[0] + 1,))
        server.commit()

    return once, server.close


@contextmanager
def _sqlite(path: str) -> Iterator[sqlite3.Connection]:
    file = sqlite3.connect(path)
    try:
        with file:
            yield file
    finally:
        file.close()


def _fresh_database() -> str:
    # The server is an extra that only development needs.
    from tests.postgres import fresh_database

    return fresh_database()


def fsync_us(folder: Path, times: int = 200) -> float:
    """What it takes this machine to bring 4 KiB at the end of a file to its disk: the median, in microseconds."""
    path = folder / "fsync"
    took = []
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        for number in range(times):
            os.pwrite(descriptor, b"x" * 4096, number * 4096)
            start = time.perf_counter()
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(took) * 1e6


def machine() -> str:
    """What the figures were measured on, in a line."""
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    load = ", ".join(f"{figure:.1f}" for figure in os.getloadavg())
    return f"{os.cpu_count()} cores, {system}, load {load}, SQLite {sqlite3.sqlite_version}"

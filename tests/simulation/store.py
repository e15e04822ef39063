"""The real ledger over SQLite, with faults at the edges of its transactions."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from sqlalchemy import Connection

from budget_guard.errors import LedgerError
from budget_guard.ledger import sqlite
from budget_guard.ledger.backends import Backend, backend_of
from budget_guard.ledger.store import SqlLedger, open_ledger
from tests.simulation.schedule import Fault

R = TypeVar("R")
Work = Callable[[Connection], Any]


# Faults that befall writes only; the others befall reads too.
_OF_WRITES = ("delay", "duplicate", "lose_answer", "traffic")


class Killed(BaseException):
    """The process that made a call is gone. Nothing of the code under test catches it for good."""


def _nothing() -> None:
    return None


@dataclass(slots=True)
class Seat:
    """Who writes: the faults that wait for it, and what its writes set off."""

    name: str
    on_commit: Callable[[Seat], None]
    traffic: Callable[[], None] = _nothing  # bytes that come while a write is under way
    is_cut: Callable[[], bool] = lambda: False
    fault: Fault | None = None
    fired: Counter[str] = field(default_factory=Counter)
    delayed: list[tuple[Seat, Work]] = field(default_factory=list)

    def due(self, *, write: bool) -> str | None:
        """The fault that befalls the transaction that begins now."""
        if self.fault is None or (self.fault.kind in _OF_WRITES and not write):
            return None
        if self.fault.at > 0:
            self.fault = Fault(self.fault.kind, self.fault.at - 1)
            return None
        kind, self.fault = self.fault.kind, None
        return kind


class SimLedger(SqlLedger):
    """One process's ledger. Everything that it does is the real one's; between transactions, faults happen."""

    def __init__(self, backend: Backend, identity: str, seat: Seat) -> None:
        super().__init__(backend, identity)
        self.seat = seat

    def _run(self, work: Callable[[Connection], R], *, write: bool) -> R:
        seat = self.seat
        if seat.is_cut():
            seat.fired["unreachable"] += 1
            raise LedgerError("the ledger cannot be reached")
        fault = seat.due(write=write)
        if fault is not None:
            seat.fired[fault] += 1
        if fault == "kill_before":
            raise Killed
        if fault == "reject":
            raise LedgerError("the ledger refused the connection")
        if fault == "delay":
            seat.delayed.append((seat, work))
            raise LedgerError("the ledger did not answer in time")
        if fault == "traffic":
            seat.traffic()
        result = super()._run(work, write=write)
        if write:
            seat.on_commit(seat)
        if fault == "duplicate":
            # What a retry does after a connection broke: the same work again, and that answer counts.
            result = super()._run(work, write=True)
            seat.on_commit(seat)
        if fault == "traffic":
            seat.traffic()
        if fault == "kill_after":
            raise Killed
        if fault == "lose_answer":
            raise LedgerError("the ledger's answer was lost")
        return result

    def run_late(self, work: Work) -> None:
        """A write arrives that its sender has given up."""
        super()._run(work, write=True)


def _prepare_fast(dbapi_connection: Any, _record: object) -> None:
    cursor = dbapi_connection.cursor()
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


@contextmanager
def unsynced() -> Iterator[None]:
    """Ledgers opened here are not flushed to the disk at every commit: nothing pulls the plug on a simulation."""
    with patch.object(sqlite, "_prepare", _prepare_fast):
        yield


@contextmanager
def fresh_backend(folder: Path, keep: Path) -> Iterator[tuple[Backend, str, Path]]:
    """A new ledger in a folder: its backend, its id and its file. `keep` holds a copy to make the next one of."""
    path = folder / "ledger.sqlite"
    template = keep / "template.sqlite"
    with unsynced():
        if not template.exists():
            open_ledger(f"sqlite:///{template}").close()
        shutil.copyfile(template, path)
        backend = backend_of(f"sqlite:///{path}")
    with sqlite3.connect(path) as reader:
        identity = str(reader.execute("SELECT value FROM meta WHERE name = 'id'").fetchone()[0])
    reader.close()
    try:
        yield backend, identity, path
    finally:
        backend.engine.dispose()

"""Opening a ledger, and what it says when the file, the disk or another process stands in the way."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from budget_guard.errors import LedgerError
from budget_guard.ledger import schema, sqlite
from budget_guard.ledger.backends import gate, meter_directory
from budget_guard.ledger.model import Balance
from budget_guard.ledger.store import SqlLedger, open_ledger
from tests.ledger.processes import end, kill, read_line, start
from tests.ledger.samples import USD, claiming, entry, terms, usd


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def make(path: Path) -> None:
    open_ledger(url_of(path)).close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqlLedger]:
    opened = open_ledger(url_of(path))
    assert isinstance(opened, SqlLedger)
    yield opened
    opened.close()


def test_the_folder_and_the_files_are_the_users_alone(ledger: SqlLedger, path: Path) -> None:
    ledger.open_hold(terms(), [USD], claiming({USD: (0, 1)}))
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {
        "ledger.sqlite": 0o600,
        "ledger.sqlite-shm": 0o600,
        "ledger.sqlite-wal": 0o600,
    }


def test_a_ledger_stays_where_it_was_opened(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative URL names a file once: a later change of folder does not start a second ledger."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.chdir(first)
    ledger = open_ledger("sqlite:///ledger.sqlite")
    monkeypatch.chdir(second)
    ledger.open_hold(terms(), [USD], claiming({USD: (0, 1)}))
    ledger.close()
    assert (first / "ledger.sqlite").exists()
    assert list(second.iterdir()) == []


def test_commits_are_on_the_disk_and_writers_wait(ledger: SqlLedger) -> None:
    found = ledger._read(
        lambda tx: {
            name: tx.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    )
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ledger.sqlite", "write it as sqlite:"),
        ("", "write it as sqlite:"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///x.sqlite?timeout=0", "leave out timeout"),
        ("sqlite+aiosqlite:///x.sqlite", "sqlite:////path/to/ledger.sqlite"),
        ("mysql://localhost/x", "cannot be kept in mysql"),
        ("postgresql+asyncpg://me:secret@db/x", "postgresql://user@host/database"),
        ("postgresql://me:secret@db", "names no database"),
    ],
)
def test_a_url_that_is_no_ledgers_says_what_would_be(url: str, says: str) -> None:
    with pytest.raises(LedgerError, match=says) as caught:
        open_ledger(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("date,amount\n" * 100)
    with pytest.raises(LedgerError, match="is not a ledger"):
        open_ledger(url_of(path))
    assert path.read_text() == "date,amount\n" * 100


def test_somebody_elses_database_is_refused_and_gets_no_tables(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE meta (name TEXT, value TEXT)")
    other.close()
    with pytest.raises(LedgerError, match="not a ledger of budget-guard"):
        open_ledger(url_of(path))
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("meta",)]
    other.close()


def test_a_newer_ledger_is_refused(path: Path) -> None:
    make(path)
    with sqlite3.connect(path) as newer:
        newer.execute("UPDATE meta SET value = '99' WHERE name = 'version'")
    newer.close()
    with pytest.raises(
        LedgerError, match=r"newer budget-guard \(ledger version 99, this one knows 3\): upgrade"
    ):
        open_ledger(url_of(path))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"file/ledger\.sqlite"):
        open_ledger(url_of(tmp_path / "file" / "ledger.sqlite"))


def test_a_ledger_that_may_not_be_written_says_so(ledger: SqlLedger) -> None:
    event.listen(ledger._backend.engine, "begin", lambda tx: tx.exec_driver_sql("PRAGMA query_only=ON"))
    with pytest.raises(LedgerError, match="cannot be written: make the file and its folder writable"):
        ledger.open_hold(terms(), [USD], claiming({USD: (0, 1)}))


def test_a_full_disk_is_named_and_loses_nothing(ledger: SqlLedger) -> None:
    def fill(tx: Connection) -> None:
        tx.exec_driver_sql("PRAGMA max_page_count=1")

    ledger.open_hold(terms(), [USD], claiming({USD: (0, 7)}))
    event.listen(ledger._backend.engine, "begin", fill)
    big = terms("h2", request="x" * 100_000)
    with pytest.raises(LedgerError, match="the disk is full"):
        ledger.open_hold(big, [USD], claiming({USD: (0, 1)}))
    assert usd(ledger) == Balance(0, 7)


def test_a_writer_that_hangs_is_reported_after_the_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0)
    ledger = open_ledger(url_of(path))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="locked by another process"):
        ledger.open_hold(terms(), [USD], claiming({USD: (0, 1)}))
    assert usd(ledger) == Balance(0, 0)  # readers do not wait
    other.close()
    ledger.open_hold(terms(), [USD], claiming({USD: (0, 1)}))
    ledger.close()


def test_a_decision_that_writes_to_its_own_ledger_is_stopped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0)
    ledger = open_ledger(url_of(path))
    with pytest.raises(LedgerError, match="another write of this process"):
        ledger.open_hold(terms(), [USD], lambda balances: ledger.release("h1"))  # type: ignore[arg-type,return-value]
    ledger.close()


@pytest.mark.parametrize(
    "name",
    [
        "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_FULL", "SQLITE_IOERR",
        "SQLITE_IOERR_FSYNC", "SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_READONLY_DIRECTORY",
    ],
)  # fmt: skip
def test_every_known_failure_says_what_to_do(name: str) -> None:
    error = sqlite3.OperationalError("low-level words")
    error.sqlite_errorcode = getattr(sqlite3, name)
    error.sqlite_errorname = name
    with (
        pytest.raises(LedgerError, match=r"the ledger /x .*: .* \(low-level words\)"),
        gate(sqlite.explain, "/x"),
    ):
        raise OperationalError("SELECT 1", None, error)


def test_an_unknown_failure_still_becomes_a_ledger_error() -> None:
    with pytest.raises(LedgerError, match="the ledger /x failed: odd"), gate(sqlite.explain, "/x"):
        raise sqlite3.InterfaceError("odd")


def test_entries_cannot_be_changed_even_by_hand(ledger: SqlLedger, path: Path) -> None:
    ledger.open_hold(terms(), [USD], claiming({USD: (0, 1)}))
    ledger.settle("h1", {USD: 1}, [entry()])
    by_hand = sqlite3.connect(path)
    for statement in ("UPDATE entries SET cost_nano_usd = 0", "DELETE FROM entries"):
        with pytest.raises(sqlite3.IntegrityError, match="entries are never changed"):
            by_hand.execute(statement)
    by_hand.close()


def test_the_tables_hold_integers_and_exact_text_only(ledger: SqlLedger, path: Path) -> None:
    ledger.open_hold(terms(), [USD], claiming({USD: (0, 1)}))
    ledger.settle("h1", {USD: 1}, [entry()])
    by_hand = sqlite3.connect(path)
    for table in schema.metadata.sorted_tables:
        for row in by_hand.execute(f"SELECT * FROM {table.name}"):
            assert not any(isinstance(value, float) for value in row)
    by_hand.close()


def test_several_first_openers_make_one_ledger(path: Path) -> None:
    script = """
import sys
from budget_guard.ledger.store import open_ledger
print("ready", flush=True)
sys.stdin.read()
open_ledger(sys.argv[1]).close()
"""
    openers = [start(script, url_of(path)) for _ in range(4)]
    for opener in openers:
        assert read_line(opener) == "ready"
    assert [end(opener) for opener in openers] == [0, 0, 0, 0]
    make(path)


def test_a_killed_migration_leaves_the_ledger_as_it_was(path: Path) -> None:
    """A step and its record commit together: after a kill in between, neither is there, and a retry is clean."""
    make(path)
    script = """
import sys
from pathlib import Path
from budget_guard.ledger import schema, sqlite
engine = sqlite.open_engine(Path(sys.argv[1]))

def step(tx, protect):
    tx.exec_driver_sql("CREATE TABLE extra (x INTEGER)")
    tx.exec_driver_sql("INSERT INTO extra VALUES (1)")
    print("half-way", flush=True)
    sys.stdin.read()

with engine.connect() as connection:
    tx = connection.execution_options(ledger_begin=sqlite.BEGIN_WRITE)
    with tx.begin():
        schema.migrate(tx, 3, sqlite.protect, {4: step}, target=4)
"""
    migrating = start(script, path)
    assert read_line(migrating) == "half-way"
    kill(migrating)
    after = sqlite3.connect(path)
    assert after.execute("SELECT value FROM meta WHERE name = 'version'").fetchall() == [("3",)]
    assert after.execute("SELECT name FROM sqlite_master WHERE name = 'extra'").fetchall() == []
    after.close()
    assert end(start(script, path)) == 0
    after = sqlite3.connect(path)
    assert after.execute("SELECT value FROM meta WHERE name = 'version'").fetchall() == [("4",)]
    assert after.execute("SELECT x FROM extra").fetchall() == [(1,)]
    after.close()


def test_each_ledger_has_its_own_meters(tmp_path: Path) -> None:
    one = meter_directory(url_of(tmp_path / "a.sqlite"), tmp_path)
    two = meter_directory(url_of(tmp_path / "b.sqlite"), tmp_path)
    far = meter_directory("postgresql://db/x", tmp_path)
    assert one == tmp_path / "a.sqlite-meters"
    assert len({one, two, far, meter_directory("postgresql://db/y", tmp_path)}) == 4

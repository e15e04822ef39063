"""Older ledgers become today's, all at once or not at all, whenever the program is killed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from budget_guard.errors import LedgerError
from budget_guard.ledger import schema
from budget_guard.ledger.model import Approval, Balance
from budget_guard.ledger.store import open_ledger
from tests.ledger.processes import start
from tests.ledger.samples import USD, entry, gap, refusal, terms
from tests.postgres import fresh_database

STATES = Path(__file__).parent / "states"
OLD = sorted(int(path.stem) for path in STATES.glob("*.sql"))

# Opens a ledger in child after child, killing the n-th child at its n-th statement, until one comes through.
KILLED_AT_EVERY_STATEMENT = """
import os, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from budget_guard.ledger.store import open_ledger

def die_at(number):
    count = 0
    def before(connection, cursor, statement, parameters, context, executemany):
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
    event.listen(Engine, "before_cursor_execute", before)

number = 0
while True:
    number += 1
    child = os.fork()
    if child == 0:
        die_at(number)
        open_ledger(sys.argv[1]).close()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        break
    assert os.WIFSIGNALED(status), status
print(number - 1)
"""


def old_ledger(folder: Path, version: int) -> str:
    """The URL of a ledger as an older version left it."""
    path = folder / "ledger.sqlite"
    made = sqlite3.connect(path)
    made.executescript((STATES / f"{version}.sql").read_text(encoding="utf-8"))
    made.close()
    return f"sqlite:///{path}"


def shape_of(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every table's columns, and the names of indexes and triggers."""
    raw = sqlite3.connect(make_url(url).database or "")
    names = [
        name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    ]
    found: dict[str, list[tuple[object, ...]]] = {
        name: sorted(row[1:4] for row in raw.execute(f"PRAGMA table_info({name})")) for name in names
    }
    found["more"] = sorted(
        raw.execute("SELECT type, name FROM sqlite_master WHERE type IN ('index', 'trigger')")
    )
    raw.close()
    return found


def by_hand(url: str, statement: str) -> None:
    """Run a statement as somebody with a database client would."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        with psycopg.connect(url) as sql:
            sql.execute(statement.encode())
        return
    raw = sqlite3.connect(parsed.database or "")
    try:
        raw.execute(statement)
    finally:
        raw.close()


def kills(url: str) -> int:
    """How many openers were killed, one statement later each time, before one came through."""
    process = start(KILLED_AT_EVERY_STATEMENT, url)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return int(said)


def test_every_earlier_version_has_its_state_here() -> None:
    """A new version brings a ledger of the one before it."""
    assert list(range(1, schema.VERSION)) == OLD


@pytest.mark.parametrize("version", OLD)
def test_an_older_ledger_becomes_one_of_today_and_keeps_everything(tmp_path: Path, version: int) -> None:
    """Its tables are those of a new one, and its rows are what they were."""
    url = old_ledger(tmp_path, version)
    ledger = open_ledger(url)
    assert ledger.balances([USD])[USD] == Balance(350, 170)
    assert {hold.terms.id: hold.state for hold in ledger.open_holds()} == {
        "running": "active",
        "asked": "held",
    }
    assert ledger.hold("running") is not None
    (kept,) = ledger.entries("desk", "2026-11")
    assert kept == entry("done", "done:1")
    assert ledger.gaps("desk", "2026-11") == [gap()]
    assert ledger.refusals("desk", "2026-11") == [refusal()]
    ledger.close()
    new = f"sqlite:///{tmp_path / 'new.sqlite'}"
    open_ledger(new).close()
    assert shape_of(url) == shape_of(new)


def test_an_older_ledgers_open_holds_are_counted_as_holders(tmp_path: Path) -> None:
    """Two of the four holds are open; settling one of them leaves one."""
    ledger = open_ledger(old_ledger(tmp_path, 1))
    assert ledger.balances([USD])[USD].holders == 2
    ledger.settle("running", {USD: 200}, [])
    assert ledger.balances([USD])[USD].holders == 1
    ledger.close()


def test_an_older_ledger_gets_an_id_that_stays(tmp_path: Path) -> None:
    """It is made once."""
    url = old_ledger(tmp_path, 1)
    first, second = open_ledger(url), open_ledger(url)
    assert len(first.identity) == 32
    assert first.identity == second.identity
    first.close()
    second.close()


@pytest.mark.parametrize(
    "make", [lambda folder: f"sqlite:///{folder}/new.sqlite", lambda folder: fresh_database()]
)
def test_approvals_and_overruns_cannot_be_changed_even_by_hand(
    tmp_path: Path, make: Callable[[Path], str]
) -> None:
    """They are entries."""
    url = make(tmp_path)
    ledger = open_ledger(url)
    opened = terms().opened_utc
    approval = Approval(
        "a1", "desk", "account", "usd", 5, opened, opened.replace(year=2027), "results day", "Ada"
    )
    ledger.record_approval(approval)
    ledger.record_approval(approval)
    assert ledger.approvals("desk") == [approval]
    ledger.close()
    for statement in ("UPDATE approvals SET amount = 0", "DELETE FROM approvals"):
        with pytest.raises((sqlite3.IntegrityError, psycopg.Error), match="approvals are never changed"):
            by_hand(url, statement)


@pytest.mark.parametrize("version", OLD)
def test_a_migration_that_is_killed_at_any_statement_is_as_if_it_had_not_begun(
    tmp_path: Path, version: int
) -> None:
    """The next opener finds the old ledger whole, and the last one the new."""
    url = old_ledger(tmp_path, version)
    assert kills(url) > 5
    ledger = open_ledger(url)
    assert ledger.balances([USD])[USD] == Balance(350, 170)
    assert ledger.balances([USD])[USD].holders == 2
    ledger.close()


def test_a_ledger_in_postgresql_that_is_killed_while_it_is_made_is_made_by_the_next() -> None:
    """At any statement."""
    url = fresh_database()
    assert kills(url) > 5
    ledger = open_ledger(url)
    assert ledger.open_holds() == []
    ledger.close()


def test_several_first_openers_of_a_database_make_one_ledger() -> None:
    """Only one of them makes the tables; all of them open the same ledger."""
    url = fresh_database()
    script = "import sys; from budget_guard.ledger.store import open_ledger; print(open_ledger(sys.argv[1]).identity)"
    openers = [start(script, url) for _ in range(4)]
    said = [opener.communicate()[0] for opener in openers]
    assert len(set(said)) == 1
    assert [opener.returncode for opener in openers] == [0, 0, 0, 0]


def test_a_newer_ledger_in_postgresql_is_refused() -> None:
    """It says which version it is and what to do."""
    url = fresh_database()
    open_ledger(url).close()
    with psycopg.connect(url) as sql:
        sql.execute("UPDATE meta SET value = '99' WHERE name = 'version'")
    with pytest.raises(LedgerError, match=r"ledger version 99, this one knows \d+\): upgrade"):
        open_ledger(url)

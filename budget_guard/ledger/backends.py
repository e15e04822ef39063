"""What a ledger needs of a database, and which database a URL names."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from budget_guard.errors import LedgerAway, LedgerError
from budget_guard.ledger.schema import Protect


@dataclass(frozen=True, slots=True)
class Backend:
    """A database as the ledger needs it. `place` is its name in messages: a path, never a password.

    `reading` and `writing` are the execution options of the two kinds of transaction, and `begin` what begins one that
    writes, where the driver does not do that by itself; `check` runs before each and
    raises LedgerError when the place is no longer the one that was opened; `alone` waits, inside a transaction,
    until no other program is making or migrating tables; `again` says whether an error is one
    after which the whole transaction may be tried once more: the connection broke, or another one came between;
    `unhurried` lifts the limits of time for the rest of a transaction that reads or copies everything; `shut` lets
    nobody else write until the transaction ends; `freeze` lets nobody write ever again, and tells them so; `load`
    writes many rows of a table of stored types, and `count_on` makes the numbers of new rows go on after them.
    """

    engine: Engine = field(repr=False)  # it shows the URL's options, where a password may stand
    place: str
    reading: Mapping[str, Any]
    writing: Mapping[str, Any]
    begin: str | None
    busy_timeout_s: float
    explain: Callable[[BaseException, str], str]
    protect: Protect
    check: Callable[[], None]
    alone: Callable[[Connection], None]
    again: Callable[[BaseException], bool]
    unhurried: Callable[[Connection], None]
    shut: Callable[[Connection, Sequence[str]], None]
    freeze: Callable[[Connection, Sequence[str], str], None]
    load: Callable[[Connection, Table, Sequence[tuple[Any, ...]]], None]
    count_on: Callable[[Connection, Sequence[str]], None]


def backend_of(url: str) -> Backend:
    """The database that a ledger's URL names. Raises LedgerError, saying what would be right."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "postgresql":
        # Imported here: the driver is an extra, and a ledger in a file never pays for it.
        from budget_guard.ledger import postgres

        return postgres.open_backend(parsed)
    from budget_guard.ledger import sqlite

    return sqlite.open_backend(parsed)


def parse_url(url: str) -> URL:
    """A ledger's URL. Raises LedgerError for one that cannot be a ledger's."""
    try:
        parsed = make_url(url)
        name = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise LedgerError(
            "the ledger's URL is not one: write it as sqlite:////home/me/ledger.sqlite or "
            "postgresql://user@host/database (BUDGET_GUARD_LEDGER)"
        ) from None
    if name not in ("sqlite", "postgresql"):
        raise LedgerError(
            f"a ledger cannot be kept in {name}: use sqlite:////path/to/ledger.sqlite or postgresql://user@host/database"
        )
    if name == "postgresql" and url.count("@") > 1:
        # The rest of a password would be taken for the host, and shown.
        raise LedgerError(
            "the ledger's URL has more than one @: in a user's name or password write @ as %40, "
            "or leave the password to a ~/.pgpass file (BUDGET_GUARD_LEDGER)"
        )
    return parsed


def may_lose_commits(url: str) -> bool:
    """Whether a ledger may come back without its last commits: a server may, in a failover; a local file may not."""
    return parse_url(url).get_backend_name() != "sqlite"


def meter_directory(url: str, data_dir: Path) -> Path:
    """Where the meter files of a ledger lie: beside its file, or in the data folder for a ledger that is none.

    Each ledger has its own: recovery removes meters that its ledger knows no hold for.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        from budget_guard.ledger.sqlite import database_path

        path = database_path(parsed)
        return path.with_name(path.name + "-meters")
    # Not the user, the password or the options: the same ledger keeps the same meters.
    host = parsed.host or parsed.query.get("host")
    place = f"{host}:{parsed.port or 5432}/{parsed.database}"
    return data_dir / "meters" / hashlib.sha256(place.encode()).hexdigest()[:16]


def need_file(url: str) -> None:
    """Raises LedgerError for a file that is not there: opening it would make an empty ledger."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        from budget_guard.ledger.sqlite import database_path

        path = database_path(parsed)
        if not path.exists():
            raise LedgerError(f"there is no ledger at {path}")


@contextmanager
def gate(explain: Callable[[BaseException, str], str], place: str) -> Iterator[None]:
    """The one place where errors of the database and its file become LedgerError."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise LedgerAway(explain(error, place)) from error
    except OverflowError as error:
        raise LedgerError(f"the ledger {place} holds integers of 64 bits: {error}") from error


@contextmanager
def transaction(backend: Backend, *, write: bool) -> Iterator[Connection]:
    """One transaction, committed at the end of the block and rolled back by any error in it."""
    backend.check()
    options = backend.writing if write else backend.reading
    with backend.engine.connect() as connection:
        tx = connection.execution_options(**options)
        with tx.begin():
            yield tx

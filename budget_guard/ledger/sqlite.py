"""Everything about the ledger that is true of SQLite only: the file, the transactions, the error codes."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, insert
from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_fixed

from budget_guard.errors import LedgerError
from budget_guard.ledger.backends import Backend, gate

# How long a writer waits for another process before it gives up.
BUSY_TIMEOUT_S = 10

# A commit writes whole pages, of which a renewal changes a few numbers: small ones bring 8 to 15% more renewals.
_PAGE_BYTES = 1024

BEGIN_OPTION = "ledger_begin"
BEGIN_READ = "BEGIN"
# A plain BEGIN that reads and then writes fails at once when another writer came between; this one waits.
BEGIN_WRITE = "BEGIN IMMEDIATE"

# Primary result codes (the low byte of the extended ones), https://www.sqlite.org/rescode.html
_ADVICE = {
    sqlite3.SQLITE_BUSY: "is locked by another process that has been writing for "
    f"{BUSY_TIMEOUT_S} s: try again, and look for a program that hangs or a copy or backup that is running",
    sqlite3.SQLITE_LOCKED: "is locked inside this process: try again",
    sqlite3.SQLITE_READONLY: "cannot be written: make the file and its folder writable for this user",
    sqlite3.SQLITE_PERM: "may not be opened: make the file and its folder accessible to this user",
    sqlite3.SQLITE_AUTH: "may not be opened: make the file and its folder accessible to this user",
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full: free some space; nothing was lost",
    sqlite3.SQLITE_IOERR: "cannot be read or written, the disk or file system reports an error: check it; "
    "a ledger does not belong on a network folder",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: check that its folder exists and is writable for this user",
    sqlite3.SQLITE_NOTADB: "is not a ledger: point BUDGET_GUARD_LEDGER at another file",
    sqlite3.SQLITE_CORRUPT: "is damaged: keep a copy, then restore a backup or run `sqlite3 FILE .recover`",
    sqlite3.SQLITE_CONSTRAINT: "refused a write that would break its rules",
    sqlite3.SQLITE_TOOBIG: "refused a value that is too large",
}

# What the system says where SQLite would say the same.
_SAME_AS = {
    errno.EACCES: sqlite3.SQLITE_READONLY,
    errno.EPERM: sqlite3.SQLITE_READONLY,
    errno.EROFS: sqlite3.SQLITE_READONLY,
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EDQUOT: sqlite3.SQLITE_FULL,
}


def open_backend(url: URL) -> Backend:
    """The file behind a `sqlite:///` URL, made on demand. Raises LedgerError, saying what to do."""
    if url.drivername not in ("sqlite", "sqlite+pysqlite") or url.host or url.username:
        raise LedgerError(f"{url.drivername}: write the ledger's URL as sqlite:////path/to/ledger.sqlite")
    path = database_path(url)
    with gate(explain, str(path)):
        engine = open_engine(path)
        found = path.stat()
    return Backend(
        engine=engine,
        place=str(path),
        reading={BEGIN_OPTION: BEGIN_READ},
        writing={BEGIN_OPTION: BEGIN_WRITE},
        begin=BEGIN_WRITE,
        busy_timeout_s=BUSY_TIMEOUT_S,
        explain=explain,
        protect=protect,
        check=partial(_check_same_file, path, (found.st_dev, found.st_ino)),
        alone=_nothing,
        again=_never,
        unhurried=_nothing,
        shut=_nothing,
        freeze=freeze,
        load=_load,
        count_on=_nothing,
    )


def _check_same_file(path: Path, opened: tuple[int, int]) -> None:
    """SQLite would go on writing into a file that was deleted or replaced, and nobody would ever read it."""
    try:
        found = path.stat()
    except OSError as error:
        raise LedgerError(
            f"the ledger {path} is gone ({error.strerror}): it was deleted or moved while it was in use; "
            "put it back, or end what runs and start again"
        ) from error
    if (found.st_dev, found.st_ino) != opened:
        raise LedgerError(
            f"the ledger {path} is another file than the one that was opened: it was replaced while it was in use; "
            "put the first one back, or end what runs and start again"
        )


def _nothing(tx: Connection, tables: Sequence[str] = ()) -> None:
    """A writing transaction is alone as it is, none has a limit of time, and new rows come after the last one."""


def _never(error: BaseException) -> bool:
    """A file has no connection that could break, and its one writer is never come between."""
    return False


def database_path(url: URL) -> Path:
    """The file that a `sqlite:///` URL names, absolute: a later change of folder must not move the ledger.

    Raises LedgerError for a ledger in memory and for options.
    """
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise LedgerError(
            "a ledger in memory would forget what was spent: give a file, as sqlite:////home/me/ledger.sqlite"
        )
    if url.query:
        raise LedgerError(f"a ledger's URL takes no options: leave out {', '.join(sorted(url.query))}")
    return Path(url.database).expanduser().absolute()


def open_engine(path: Path) -> Engine:
    """An engine over the file, made on demand for this user alone. Raises OSError and SQLAlchemy's errors.

    Raises LedgerError for what is left of a ledger that was cut off or moved: it is not to be taken for a new one.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        _check_nothing_left(path)
        _create(path)
    elif path.stat().st_size == 0:
        raise LedgerError(
            f"the ledger {path} is empty, which a ledger never is: it was cut off, or something else made the file. "
            "Restore it from a copy; only if there never was a ledger here, remove the file, and a new one is made"
        )
    engine = _engine(path)
    try:
        _write_ahead(engine, path)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None},
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _check_nothing_left(path: Path) -> None:
    """What a ledger has not yet written into its own file lies in its log, and would be lost with it."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists():
        raise LedgerError(
            f"the ledger {path} is gone, and its log {log.name} is still there: it was moved or deleted without it. "
            "Put it back beside its log; only if that ledger is to be given up, remove the log, and a new one is made"
        )


def _create(path: Path) -> None:
    """A file without tables that only its owner reads; the files that SQLite puts beside it take the same mode.

    It is made under another name, so that nobody ever finds it empty. Another process that makes it too may be first.
    """
    made = path.with_name(f".{path.name}.{uuid4().hex}")
    os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        engine = _engine(made)
        try:
            _write_ahead(engine, path)
        finally:
            engine.dispose()
        _name(made, path)
    finally:
        for suffix in ("", "-journal", "-shm", "-wal"):
            made.with_name(made.name + suffix).unlink(missing_ok=True)


def _name(made: Path, path: Path) -> None:
    """Give the new file its name, unless there is one by now."""
    try:
        os.link(made, path)
    except FileExistsError:
        return
    except OSError:
        # A file system without links: between the two steps another process may come.
        if not path.exists():
            made.rename(path)


def _prepare(dbapi_connection: Any, _record: object) -> None:
    cursor = dbapi_connection.cursor()
    # FULL: a commit is on the disk before the vendor is asked for anything.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    # A write may have begun without SQLAlchemy.
    if not driver.in_transaction:
        driver.execute(connection.get_execution_options().get(BEGIN_OPTION, BEGIN_READ))


def _write_ahead(engine: Engine, path: Path) -> None:
    """Turn write-ahead logging on, which the file then remembers.

    SQLite does not wait for a lock while it changes the mode, so several first openers may need a few tries.
    """
    tries = Retrying(
        stop=stop_after_attempt(BUSY_TIMEOUT_S * 50),
        wait=wait_fixed(0.02),
        retry=retry_if_exception(lambda error: _code(error) == sqlite3.SQLITE_BUSY),
        reraise=True,
    )
    mode = tries(_set_write_ahead, engine)
    if mode != "wal":
        raise LedgerError(
            f"the ledger {path} lies on a file system that SQLite cannot share safely: use a local disk"
        )


def _set_write_ahead(engine: Engine) -> str:
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        # Of a new file; one that has its pages keeps them.
        cursor.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        cursor.execute("PRAGMA journal_mode=WAL")
        return str(cursor.fetchall()[0][0]).lower()
    finally:
        raw.close()


def protect(tx: Connection, tables: Sequence[str]) -> None:
    """Let nobody change or delete a row of these tables, not even by hand."""
    for table in tables:
        for verb in ("UPDATE", "DELETE"):
            tx.exec_driver_sql(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} are never changed'); END"
            )


def freeze(tx: Connection, tables: Sequence[str], why: str) -> None:
    """Refuse every further write to these tables, saying why."""
    said = why.replace("'", "''")
    for table in tables:
        for verb in ("INSERT", "UPDATE", "DELETE"):
            tx.exec_driver_sql(
                f"CREATE TRIGGER {table}_frozen_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{said}'); END"
            )


def _load(tx: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    names = table.c.keys()
    tx.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])


def explain(error: BaseException, place: str) -> str:
    """What went wrong and what to do about it, in one sentence."""
    code = _code(error)
    advice = _ADVICE.get(code) if code is not None else None
    detail = _detail(error)
    if advice is None:
        return f"the ledger {place} failed: {detail}"
    return f"the ledger {place} {advice} ({detail})"


def _detail(error: BaseException) -> object:
    """What SQLite or the system said; not its file name, since a file that is being made has one that nobody knows."""
    if isinstance(error, OSError):
        return error.strerror
    return error.orig if isinstance(error, DBAPIError) else error


def _code(error: BaseException) -> int | None:
    """SQLite's primary result code behind an exception, if there is one."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(origin, OSError):
        return _SAME_AS.get(origin.errno or 0)
    code = getattr(origin, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF

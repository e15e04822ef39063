"""Everything about the ledger that is true of PostgreSQL only: the session, the locks, the error codes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import URL, Connection, Table, create_engine, event
from sqlalchemy.exc import DBAPIError

from budget_guard.errors import LedgerError
from budget_guard.ledger.backends import Backend

# How long a writer waits for another one's lock, and for the network, before it gives up.
BUSY_TIMEOUT_S = 10
CONNECT_TIMEOUT_S = 5

# A number of this program's own: whoever holds it is making or migrating the tables of this database.
_MIGRATION_LOCK = 0x62756467_67756172

_RIGHTS = (
    "may not be used like this by this role: open it once as its owner, who makes and migrates the tables, "
    "and grant this role the rights that docs/operations.md lists"
)
# https://www.postgresql.org/docs/current/errcodes-appendix.html, by class or code.
_ADVICE = {
    "08": "cannot be reached: check that the server runs and that host, port and TLS settings in the URL are right",
    "57P": "is shutting down or has just been restarted: try again",
    "53100": "cannot grow, the server's disk is full: free some space there; nothing was lost",
    "53": "has run out of a resource: look at the server's log (disk, memory, max_connections)",
    "28": "refused the log-on: check the user and the password in BUDGET_GUARD_LEDGER and the server's pg_hba.conf",
    "3D": "does not exist: create the database first (createdb), then try again",
    "42501": _RIGHTS,
    "3F": _RIGHTS,  # a role that may not look into any schema
    "25006": "is read-only, a standby perhaps: point BUDGET_GUARD_LEDGER at the primary",
    "55P03": f"is locked by another session for {BUSY_TIMEOUT_S} s: find one that hangs in pg_stat_activity",
    "57014": f"did not answer within {BUSY_TIMEOUT_S} s: look at the server's load and locks (pg_stat_activity)",
    "40": "was changed at the same time by another program: try again",
    "23": "refused a write that would break its rules",
    "22003": "holds integers of 64 bits: an amount is too large",
    "53300": "has no connection left for this role: look at max_connections and the role's own limit",
    "tls": "cannot be reached as safely as the URL asks: check sslmode, sslrootcert and the server's certificate",
}

# A log-on that fails has no code, only words: these are the server's and the client library's own.
_LOGON = (
    (r"FATAL: +(the database system|terminating connection|.*not currently accepting)", "57P03"),
    (r'database "[^"]*" does not exist', "3D000"),
    (r"permission denied for database", "42501"),
    (r"too many (clients|connections)|remaining connection slots", "53300"),
    (
        r"authentication failed|no password supplied|no pg_hba.conf entry|role .* (does not exist|is not permitted)",
        "28000",
    ),
    (r"SSL|certificate|TLS", "tls"),
)


def open_backend(url: URL) -> Backend:
    """The database behind a `postgresql://` URL; nothing is connected yet. Raises LedgerError for a URL of no use."""
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise LedgerError(f"{url.drivername}: write the ledger's URL as postgresql://user@host/database")
    if not url.database:
        raise LedgerError("the ledger's URL names no database: write it as postgresql://user@host/database")
    place = shown(url)
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args=_connect_args(url),
            pool_size=5,
            max_overflow=10,
            pool_timeout=BUSY_TIMEOUT_S,
        )
    except ImportError:
        raise LedgerError(
            f"{place}: PostgreSQL needs a driver: pip install 'budget-guard[postgres]'"
        ) from None
    # Imported here: the driver is an extra, whose absence has been said by now.
    from budget_guard.ledger.bounded import MARGIN_S, bound_waits

    bound_waits(engine, BUSY_TIMEOUT_S + MARGIN_S)
    event.listen(engine, "connect", _prepare)
    return Backend(
        engine=engine,
        place=place,
        reading={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
        writing={"isolation_level": "READ COMMITTED", "postgresql_readonly": False},
        begin=None,
        busy_timeout_s=BUSY_TIMEOUT_S,
        explain=explain,
        protect=protect,
        check=_nothing,
        alone=_alone,
        again=again,
        unhurried=_unhurried,
        shut=_shut,
        freeze=freeze,
        load=_load,
        count_on=_count_on,
    )


def host_of(url: URL) -> str:
    """The server that a URL names: a host, or the folder of a socket."""
    return str(url.host or url.query.get("host") or "local")


def shown(url: URL) -> str:
    """A ledger's URL for messages: no password, no options."""
    where = host_of(url)
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{where}{port}/{url.database}"


def _connect_args(url: URL) -> dict[str, Any]:
    """Bounds for every wait on the network; what the URL says itself wins."""
    bounds: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": BUSY_TIMEOUT_S * 1000,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "application_name": "budget-guard",
    }
    return {name: value for name, value in bounds.items() if name not in url.query}


def _prepare(dbapi_connection: Any, _record: object) -> None:
    dbapi_connection.autocommit = True
    try:
        with dbapi_connection.cursor() as cursor:
            cursor.execute(
                f"SET lock_timeout = '{BUSY_TIMEOUT_S}s'; SET statement_timeout = '{BUSY_TIMEOUT_S}s'; "
                "SET idle_in_transaction_session_timeout = '30s'; SET timezone = 'UTC'"
            )
            # A commit is on the server's disk before the vendor is asked for anything. More is kept, less is not.
            cursor.execute("SHOW synchronous_commit")
            if cursor.fetchone()[0] in ("off", "local"):
                cursor.execute("SET synchronous_commit = 'on'")
    finally:
        dbapi_connection.autocommit = False


def _alone(tx: Connection) -> None:
    tx.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")


def _unhurried(tx: Connection) -> None:
    from budget_guard.ledger.bounded import wait_for_ever

    wait_for_ever(tx)
    tx.exec_driver_sql("SET LOCAL statement_timeout = 0")
    tx.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def protect(tx: Connection, tables: Sequence[str]) -> None:
    """Let nobody change or delete a row of these tables, not even by hand."""
    tx.exec_driver_sql(
        "CREATE OR REPLACE FUNCTION budget_guard_never() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '%% are never changed', TG_TABLE_NAME; END $$"
    )
    for table in tables:
        tx.exec_driver_sql(
            f"CREATE TRIGGER {table}_never_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION budget_guard_never()"
        )


def _shut(tx: Connection, tables: Sequence[str]) -> None:
    tx.exec_driver_sql(f"LOCK TABLE {', '.join(tables)} IN EXCLUSIVE MODE")


def freeze(tx: Connection, tables: Sequence[str], why: str) -> None:
    """Refuse every further write to these tables, saying why."""
    said = why.replace("'", "''").replace("%", "%%")
    tx.exec_driver_sql(
        "CREATE OR REPLACE FUNCTION budget_guard_frozen() RETURNS trigger LANGUAGE plpgsql AS "
        f"$budget_guard$ BEGIN RAISE EXCEPTION USING MESSAGE = '{said}'; END $budget_guard$"
    )
    for table in tables:
        tx.exec_driver_sql(
            f"CREATE TRIGGER {table}_frozen BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION budget_guard_frozen()"
        )


def _load(tx: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """By COPY: inserting the same rows took nine times as long."""
    import psycopg

    driver: Any = tx.connection.dbapi_connection
    columns = ", ".join(f'"{column.name}"' for column in table.c)
    statement = f"COPY {table.name} ({columns}) FROM STDIN"
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        raise DBAPIError(statement, None, error) from error


def _count_on(tx: Connection, tables: Sequence[str]) -> None:
    for table in tables:
        tx.exec_driver_sql(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'seq'), max(seq)) FROM {table} HAVING max(seq) > 0"
        )


def again(error: BaseException) -> bool:
    """Whether to try a transaction once more: its connection broke, the server is going down, or another came between.

    Every write carries the caller's ids, so one that had been committed after all is not done twice.
    """
    if not isinstance(error, DBAPIError):
        return False
    state = _state(error)
    return error.connection_invalidated or state[:3] == "57P" or state in ("40001", "40P01", "23505")


def explain(error: BaseException, place: str) -> str:
    """What went wrong and what to do about it, in one sentence."""
    state = _state(error)
    advice = next((_ADVICE[key] for key in (state, state[:3], state[:2]) if key in _ADVICE), None)
    detail = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()
    said = detail[0] if detail else type(error).__name__
    if advice is None:
        return f"the ledger {place} failed: {said}"
    return f"the ledger {place} {advice} ({said})"


def _state(error: BaseException) -> str:
    """PostgreSQL's five-character error code; one of `_LOGON` or 08000 where a connection failed before it had one."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(origin, "sqlstate", None)
    if state:
        return str(state)
    if type(origin).__name__ not in ("OperationalError", "ConnectionTimeout"):
        return ""
    return next((code for words, code in _LOGON if re.search(words, str(origin))), "08000")


def _nothing() -> None:
    """A server is known by what it holds: see `SqlLedger`, which compares the ledger's id."""

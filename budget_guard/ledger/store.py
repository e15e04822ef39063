"""The ledger over SQLAlchemy Core. What differs between databases lies in `ledger.sqlite`, behind `Backend`."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine, Insert, Row, Table, insert, inspect, make_url, select, update
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from budget_guard.clock import month_bounds
from budget_guard.errors import LedgerError
from budget_guard.ledger import schema, sqlite
from budget_guard.ledger.model import (
    Balance,
    BalanceKey,
    Claim,
    Decide,
    Entry,
    Gap,
    Hold,
    HoldTerms,
    Ledger,
    Refusal,
)
from budget_guard.ledger.states import Event, next_state

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class Backend:
    """A database as the ledger needs it. `place` is its name in messages: a path, never a password."""

    engine: Engine
    place: str
    begin_read: str
    begin_write: str
    busy_timeout_s: float
    explain: Callable[[BaseException, str], str]
    protect: Callable[[Connection], None]


def open_ledger(url: str) -> Ledger:
    """The ledger at a SQLAlchemy URL, made on demand (`sqlite:////home/me/ledger.sqlite`).

    Raises LedgerError, saying what to do, when it cannot be opened or is not a ledger of this version.
    """
    backend = _sqlite_backend(url)
    try:
        with gate(backend.explain, backend.place):
            _prepare(backend)
    except BaseException:
        backend.engine.dispose()
        raise
    return SqlLedger(backend)


def meter_directory(url: str, data_dir: Path) -> Path:
    """Where the meter files of a ledger lie: beside its file, or in the data folder for a ledger that is none.

    Each ledger has its own: recovery removes meters that its ledger knows no hold for.
    """
    parsed = _parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = sqlite.database_path(parsed)
        return path.with_name(path.name + "-meters")
    return data_dir / "meters" / hashlib.sha256(url.encode()).hexdigest()[:16]


@contextmanager
def gate(explain: Callable[[BaseException, str], str], place: str) -> Iterator[None]:
    """The one place where errors of the database and its file become LedgerError."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise LedgerError(explain(error, place)) from error
    except OverflowError as error:
        raise LedgerError(f"the ledger {place} holds integers of 64 bits: {error}") from error


def _parse_url(url: str) -> Any:
    try:
        parsed = make_url(url)
        name = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise LedgerError(
            "the ledger's URL is not one: write it as sqlite:////home/me/ledger.sqlite (BUDGET_GUARD_LEDGER)"
        ) from None
    if name not in ("sqlite", "postgresql"):
        raise LedgerError(f"a ledger cannot be kept in {name}: use sqlite:////path/to/ledger.sqlite")
    return parsed


def _sqlite_backend(url: str) -> Backend:
    parsed = _parse_url(url)
    if parsed.get_backend_name() == "postgresql":
        shown = parsed.render_as_string(hide_password=True)
        raise LedgerError(
            f"{shown}: PostgreSQL is not supported by this version yet; use sqlite:////path/to/file"
        )
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite") or parsed.host or parsed.username:
        raise LedgerError(f"{parsed.drivername}: write the ledger's URL as sqlite:////path/to/ledger.sqlite")
    path = sqlite.database_path(parsed)
    with gate(sqlite.explain, str(path)):
        engine = sqlite.open_engine(path)
    return Backend(
        engine,
        str(path),
        sqlite.BEGIN_READ,
        sqlite.BEGIN_WRITE,
        sqlite.BUSY_TIMEOUT_S,
        sqlite.explain,
        sqlite.protect_entries,
    )


@contextmanager
def _transaction(backend: Backend, begin: str) -> Iterator[Connection]:
    with backend.engine.connect() as connection:
        tx = connection.execution_options(**{sqlite.BEGIN_OPTION: begin})
        with tx.begin():
            yield tx


def _version(backend: Backend, tx: Connection) -> int | None:
    return schema.read_version(tx, set(inspect(tx).get_table_names()), backend.place)


def _prepare(backend: Backend) -> None:
    """Make or migrate the tables; a ledger that is up to date is only read."""
    with _transaction(backend, backend.begin_read) as tx:
        if _version(backend, tx) == schema.VERSION:
            return
    with _transaction(backend, backend.begin_write) as tx:
        version = _version(backend, tx)
        if version is None:
            schema.create(tx)
            backend.protect(tx)
        else:
            schema.migrate(tx, version)


class SqlLedger:
    """`Ledger` in a SQL database. Safe to use from several threads; one instance per process, made after a fork."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._writer = Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"<SqlLedger {self._backend.place}>"

    # -- holds

    def open_hold(self, terms: HoldTerms, keys: Sequence[BalanceKey], decide: Decide) -> Hold | None:
        with self._write() as tx:
            known = _find_hold(tx, terms.id)
            if known is not None:
                return _hold_value(tx, known)
            posting = decide(_read_balances(tx, keys))
            if posting.claims is None:
                return None
            made = insert(schema.holds).values(**_values(terms), state="held", version=0)
            seq = _insert(tx, made)
            _post(tx, terms.id, seq, {}, _by_key(posting.claims))
            return Hold(terms, "held", 0, _claims(tx, seq))

    def activate(self, hold_id: str) -> None:
        with self._write() as tx:
            self._move(tx, _need_hold(tx, hold_id), "activate")

    def restate(self, hold_id: str, version: int, keys: Sequence[BalanceKey], decide: Decide) -> Hold:
        with self._write() as tx:
            row = _need_hold(tx, hold_id)
            next_state(hold_id, row.state, "restate")
            hold = _hold_value(tx, row)
            if version <= row.version:
                return hold
            own = _by_key(hold.claims)
            posting = decide(_without_held(_read_balances(tx, keys), own))
            if posting.claims is None:
                return hold
            kept = {key: replace(claim, held=0) for key, claim in own.items()}
            _post(tx, hold_id, row.seq, own, kept | _by_key(posting.claims))
            tx.execute(update(schema.holds).where(schema.holds.c.seq == row.seq).values(version=version))
            return Hold(hold.terms, hold.state, version, _claims(tx, row.seq))

    def settle(self, hold_id: str, settled: Mapping[BalanceKey, int], entries: Sequence[Entry]) -> None:
        _check_entries(hold_id, entries)
        with self._write() as tx:
            row = _need_hold(tx, hold_id)
            if not self._move(tx, row, "settle"):
                return
            own = _by_key(_claims(tx, row.seq))
            kept = {key: replace(claim, held=0) for key, claim in own.items()}
            final = {key: Claim(key, total, 0) for key, total in settled.items()}
            _post(tx, hold_id, row.seq, own, kept | final)
            if entries:
                tx.execute(insert(schema.entries), [_values(entry) for entry in entries])

    def release(self, hold_id: str) -> None:
        with self._write() as tx:
            row = _need_hold(tx, hold_id)
            own = _by_key(_claims(tx, row.seq))
            if not self._move(tx, row, "release"):
                return
            if any(claim.settled for claim in own.values()):
                raise LedgerError(f"hold {hold_id} has settled something: it must be settled, not released")
            _post(tx, hold_id, row.seq, own, {key: Claim(key, 0, 0) for key in own})

    def _move(self, tx: Connection, row: Row[Any], event: Event) -> bool:
        """Put a hold into its next state; False when it was there already."""
        after = next_state(row.id, row.state, event)
        if after == row.state:
            return False
        tx.execute(update(schema.holds).where(schema.holds.c.seq == row.seq).values(state=after))
        return True

    def balances(self, keys: Iterable[BalanceKey]) -> dict[BalanceKey, Balance]:
        with self._read() as tx:
            return _read_balances(tx, keys)

    def account_balances(
        self, account: str, start_utc: datetime, end_utc: datetime
    ) -> dict[BalanceKey, Balance]:
        table = schema.balances
        started = table.c.period_start_utc
        query = (
            select(table)
            .where(table.c.account == account, started >= start_utc, started < end_utc)
            .order_by(started, table.c.seq)
        )
        with self._read() as tx:
            return {_value(BalanceKey, row): Balance(row.settled, row.held) for row in tx.execute(query)}

    def open_holds(self, account: str | None = None) -> list[Hold]:
        table = schema.holds
        query = (
            select(table)
            .where(table.c.state.in_(("held", "active")))
            .order_by(table.c.opened_utc, table.c.seq)
        )
        if account is not None:
            query = query.where(table.c.account == account)
        with self._read() as tx:
            return [_hold_value(tx, row) for row in tx.execute(query).all()]

    def hold(self, hold_id: str) -> Hold | None:
        with self._read() as tx:
            row = _find_hold(tx, hold_id)
            return None if row is None else _hold_value(tx, row)

    # -- rows that stand for themselves

    def entries(self, account: str, month: str) -> list[Entry]:
        table = schema.entries
        query = (
            select(table)
            .where(table.c.account == account, table.c.month == month)
            .order_by(table.c.ended_utc, table.c.seq)
        )
        with self._read() as tx:
            return [_value(Entry, row) for row in tx.execute(query)]

    def record_refusal(self, refusal: Refusal) -> None:
        with self._write() as tx:
            if not _exists(tx, schema.refusals, refusal.id):
                tx.execute(insert(schema.refusals).values(**_values(refusal)))

    def refusals(self, account: str, month: str) -> list[Refusal]:
        table = schema.refusals
        start, end = month_bounds(month)
        query = (
            select(table)
            .where(table.c.account == account, table.c.at_utc >= start, table.c.at_utc < end)
            .order_by(table.c.at_utc, table.c.seq)
        )
        with self._read() as tx:
            return [_value(Refusal, row) for row in tx.execute(query)]

    def record_gap(self, gap: Gap) -> None:
        table = schema.gaps
        with self._write() as tx:
            if _exists(tx, table, gap.id):
                tx.execute(update(table).where(table.c.id == gap.id).values(mended=gap.mended, note=gap.note))
            else:
                tx.execute(insert(table).values(**_values(gap)))

    def gaps(self, account: str, month: str) -> list[Gap]:
        table = schema.gaps
        start, end = month_bounds(month)
        query = (
            select(table)
            .where(table.c.account == account, table.c.start_utc >= start, table.c.start_utc < end)
            .order_by(table.c.start_utc, table.c.seq)
        )
        with self._read() as tx:
            return [_value(Gap, row) for row in tx.execute(query)]

    # -- the ledger itself

    def mark_rehearsal(self) -> None:
        with self._write() as tx:
            if _is_rehearsal(tx):
                return
            if tx.execute(select(schema.holds.c.id).limit(1)).first() is not None:
                raise LedgerError(
                    f"the ledger {self._backend.place} holds real spending, so a rehearsal may not use it: "
                    "set BUDGET_GUARD_LEDGER to a new file, or unset BUDGET_GUARD_NOW"
                )
            tx.execute(insert(schema.meta).values(name="rehearsal", value="yes"))

    def is_rehearsal(self) -> bool:
        with self._read() as tx:
            return _is_rehearsal(tx)

    def close(self) -> None:
        self._closed = True
        self._backend.engine.dispose()

    # -- transactions

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        self._check_open()
        backend = self._backend
        with gate(backend.explain, backend.place), _transaction(backend, backend.begin_read) as tx:
            yield tx

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        self._check_open()
        backend = self._backend
        # Threads of one process queue here, fairly; only other processes are waited for inside the database.
        if not self._writer.acquire(timeout=2 * backend.busy_timeout_s):
            raise LedgerError(
                f"the ledger {backend.place} is busy with another write of this process: try again"
            )
        try:
            with gate(backend.explain, backend.place), _transaction(backend, backend.begin_write) as tx:
                yield tx
        finally:
            self._writer.release()

    def _check_open(self) -> None:
        if self._closed:
            raise LedgerError(f"the ledger {self._backend.place} has been closed")


def _values(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _value(kind: type[T], row: Row[Any]) -> T:
    return kind(**{field.name: row._mapping[field.name] for field in fields(kind)})


def _insert(tx: Connection, statement: Insert) -> int:
    """Insert one row; its number."""
    made = tx.execute(statement).inserted_primary_key
    assert made is not None
    return int(made[0])


def _exists(tx: Connection, table: Table, row_id: str) -> bool:
    return tx.execute(select(table.c.seq).where(table.c.id == row_id)).first() is not None


def _is_rehearsal(tx: Connection) -> bool:
    return tx.execute(select(schema.meta).where(schema.meta.c.name == "rehearsal")).first() is not None


def _find_hold(tx: Connection, hold_id: str) -> Row[Any] | None:
    return tx.execute(select(schema.holds).where(schema.holds.c.id == hold_id)).first()


def _need_hold(tx: Connection, hold_id: str) -> Row[Any]:
    row = _find_hold(tx, hold_id)
    if row is None:
        raise LedgerError(f"the ledger knows no hold {hold_id}")
    return row


def _hold_value(tx: Connection, row: Row[Any]) -> Hold:
    return Hold(_value(HoldTerms, row), row.state, row.version, _claims(tx, row.seq))


def _claims(tx: Connection, hold_seq: int) -> tuple[Claim, ...]:
    claims, balances = schema.claims, schema.balances
    query = (
        select(balances, claims.c.settled.label("own_settled"), claims.c.held.label("own_held"))
        .join(claims, claims.c.balance_seq == balances.c.seq)
        .where(claims.c.hold_seq == hold_seq)
        .order_by(balances.c.seq)
    )
    return tuple(Claim(_value(BalanceKey, row), row.own_settled, row.own_held) for row in tx.execute(query))


def _balance_row(tx: Connection, key: BalanceKey) -> Row[Any] | None:
    table = schema.balances
    query = select(table).where(*(table.c[name] == value for name, value in _values(key).items()))
    return tx.execute(query).first()


def _read_balances(tx: Connection, keys: Iterable[BalanceKey]) -> dict[BalanceKey, Balance]:
    rows = {key: _balance_row(tx, key) for key in keys}
    return {key: Balance() if row is None else Balance(row.settled, row.held) for key, row in rows.items()}


def _without_held(
    balances: Mapping[BalanceKey, Balance], own: Mapping[BalanceKey, Claim]
) -> dict[BalanceKey, Balance]:
    return {
        key: replace(balance, held=balance.held - own[key].held) if key in own else balance
        for key, balance in balances.items()
    }


def _by_key(claims: Iterable[Claim]) -> dict[BalanceKey, Claim]:
    found: dict[BalanceKey, Claim] = {}
    for claim in claims:
        if claim.key in found:
            raise ValueError(f"two claims on the same balance: {claim.key}")
        found[claim.key] = claim
    return found


def _check_entries(hold_id: str, entries: Sequence[Entry]) -> None:
    for entry in entries:
        if entry.hold_id != hold_id:
            raise ValueError(f"entry {entry.id} belongs to hold {entry.hold_id}, not to {hold_id}")


def _post(
    tx: Connection,
    hold_id: str,
    hold_seq: int,
    before: Mapping[BalanceKey, Claim],
    after: Mapping[BalanceKey, Claim],
) -> None:
    """Write a hold's claims and move the balances by as much."""
    for key, claim in after.items():
        old = before.get(key, Claim(key, 0, 0))
        if claim.settled < old.settled or claim.held < 0:
            raise LedgerError(
                f"hold {hold_id}: what is settled never shrinks and a hold is never negative "
                f"({key.budget} {key.period} {key.unit}: settled {old.settled} -> {claim.settled}, held {claim.held})"
            )
        if key not in before or claim != old:
            _post_claim(tx, hold_seq, old, claim, new=key not in before)


def _post_claim(tx: Connection, hold_seq: int, old: Claim, claim: Claim, *, new: bool) -> None:
    balances, claims = schema.balances, schema.claims
    row = _balance_row(tx, claim.key)
    if row is None:
        made = insert(balances).values(**_values(claim.key), settled=claim.settled, held=claim.held)
        balance_seq = _insert(tx, made)
    else:
        balance_seq = row.seq
        moved = {
            "settled": row.settled + claim.settled - old.settled,
            "held": row.held + claim.held - old.held,
        }
        tx.execute(update(balances).where(balances.c.seq == balance_seq).values(**moved))
    amounts = {"settled": claim.settled, "held": claim.held}
    if new:
        tx.execute(insert(claims).values(hold_seq=hold_seq, balance_seq=balance_seq, **amounts))
    else:
        own = (claims.c.hold_seq == hold_seq, claims.c.balance_seq == balance_seq)
        tx.execute(update(claims).where(*own).values(**amounts))

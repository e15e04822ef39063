"""The ledger over SQLAlchemy Core. What differs between databases lies behind `Backend`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from threading import Lock
from typing import TypeVar

from sqlalchemy import Connection, bindparam, insert, inspect, select, update
from sqlalchemy.exc import SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from budget_guard.errors import LedgerError
from budget_guard.ledger import schema
from budget_guard.ledger.backends import Backend, backend_of, gate, transaction
from budget_guard.ledger.model import (
    Balance,
    BalanceKey,
    Claim,
    Decide,
    Entry,
    Hold,
    HoldTerms,
    Overruns,
)
from budget_guard.ledger.plain import begin, commit
from budget_guard.ledger.register import Register
from budget_guard.ledger.rows import (
    Locked,
    LockedHold,
    by_key,
    find_hold,
    hold_of,
    holding_nothing,
    insert_row,
    lock_balances,
    lock_hold,
    post,
    read_balances,
    read_hold,
    restated,
    value_of,
    values_of,
)
from budget_guard.ledger.states import Event, next_state

R = TypeVar("R")

# A transaction whose connection breaks is tried on a fresh one, this many times in all.
_TRIES = 3
# Where a connection to the database remembers that it leads to the ledger that was opened.
_SEEN = "budget_guard_ledger"


def open_ledger(url: str) -> SqlLedger:
    """The ledger at a SQLAlchemy URL, made on demand (`sqlite:////home/me/ledger.sqlite`).

    Raises LedgerError, saying what to do, when it cannot be opened or is not a ledger of this version.
    """
    backend = backend_of(url)
    try:
        with gate(backend.explain, backend.place):
            return SqlLedger(backend, _prepare(backend))
    except BaseException:
        backend.engine.dispose()
        raise


def _version(backend: Backend, tx: Connection) -> int | None:
    return schema.read_version(tx, set(inspect(tx).get_table_names()), backend.place)


def _prepare(backend: Backend) -> str:
    """Make or migrate the tables; a ledger that is up to date is only read. The ledger's id."""
    with transaction(backend, write=False) as tx:
        if _version(backend, tx) == schema.VERSION:
            return _identity(tx)
    with transaction(backend, write=True) as tx:
        backend.alone(tx)
        version = _version(backend, tx)
        if version is None:
            schema.create(tx, backend.protect)
        else:
            schema.migrate(tx, version, backend.protect)
        return _identity(tx)


def _identity(tx: Connection) -> str:
    found = tx.execute(select(schema.meta.c.value).where(schema.meta.c.name == "id")).scalar()
    return str(found or "")


# Built once: building a statement costs more than running it.
_INSERT_HOLD = insert(schema.holds)
_INSERT_ENTRY = insert(schema.entries)
_ONE_HOLD = update(schema.holds).where(schema.holds.c.seq == bindparam("of_hold"))
_ACTIVATE = _ONE_HOLD.values(state=bindparam("to_state"), activated_utc=bindparam("at_utc"))
_CLOSE = _ONE_HOLD.values(state=bindparam("to_state"), closed_utc=bindparam("at_utc"))


class _NothingToWrite(Exception):
    """Rolls a transaction back: it was decided to write nothing."""


class SqlLedger(Register):
    """`Ledger` in a SQL database. Safe to use from several threads; one instance per process, made after a fork."""

    def __init__(self, backend: Backend, identity: str) -> None:
        self._backend = backend
        self._identity = identity
        self._writer = Lock()
        # The connection that writes, while nothing has gone wrong on it.
        self._standing: Connection | None = None
        # What the holds are for that were restated here: it never changes.
        self._terms: dict[str, HoldTerms] = {}
        self._closed = False
        self._retries = Retrying(
            stop=stop_after_attempt(_TRIES - 1), retry=retry_if_exception(backend.again), reraise=True
        )

    def __repr__(self) -> str:
        return f"<SqlLedger {self._backend.place}>"

    @property
    def identity(self) -> str:
        return self._identity

    # -- holds

    def open_hold(self, terms: HoldTerms, keys: Sequence[BalanceKey], decide: Decide) -> Hold | None:
        def work(tx: Connection) -> Hold:
            known = find_hold(tx, terms.id)
            if known is not None:
                return hold_of(tx, known)
            rows = lock_balances(tx, keys)
            posting = decide({key: rows[key].balance for key in keys})
            if posting.claims is None:
                raise _NothingToWrite
            seq = insert_row(tx, _INSERT_HOLD, {**values_of(terms), "state": "held", "version": 0})
            claims = _among(rows, by_key(posting.claims))
            post(tx, terms.id, seq, rows, {}, claims)
            return Hold(terms, "held", 0, _in_order(claims, rows))

        try:
            return self._write(work)
        except _NothingToWrite:
            return None

    def activate(self, hold_id: str, at_utc: datetime | None = None) -> None:
        def work(tx: Connection) -> None:
            self._move(tx, hold_id, lock_hold(tx, hold_id, alone=True), "activate", at_utc)

        self._write(work)

    def restate(
        self,
        hold_id: str,
        version: int,
        keys: Sequence[BalanceKey],
        decide: Decide,
        at_utc: datetime | None = None,
    ) -> Hold:
        def work(tx: Connection) -> Hold:
            found = lock_hold(tx, hold_id, keys)
            next_state(hold_id, found.state, "restate")
            terms = self._terms_of(tx, hold_id)
            if version <= found.version:
                return found.hold(terms)
            own, rows = found.claims, found.rows
            new = [key for key in keys if key not in rows]
            if new:
                rows |= lock_balances(tx, new)
            posting = decide({key: _without(own.get(key), rows[key].balance) for key in keys})
            if posting.claims is None:
                return found.hold(terms)
            claims = _restating(own, _among(rows, by_key(posting.claims)))
            newer = restated(found.seq, version, at_utc)
            post(tx, hold_id, found.seq, rows, own, claims, newer=newer)
            return Hold(terms, found.state, version, _in_order(claims, rows))

        return self._write(work)

    def settle(
        self,
        hold_id: str,
        settled: Mapping[BalanceKey, int],
        entries: Sequence[Entry],
        overruns: Overruns | None = None,
        at_utc: datetime | None = None,
    ) -> None:
        _check_entries(hold_id, entries)

        def work(tx: Connection) -> None:
            found = lock_hold(tx, hold_id)
            if not self._move(tx, hold_id, found, "settle", at_utc):
                return
            own = found.claims
            final = {key: Claim(key, total, 0) for key, total in settled.items()}
            rows = found.rows | lock_balances(tx, [key for key in final if key not in found.rows])
            moved = post(tx, hold_id, found.seq, rows, own, holding_nothing(own) | final, closing=True)
            if entries:
                tx.execute(_INSERT_ENTRY, [values_of(entry) for entry in entries])
            past = overruns(moved) if overruns is not None else ()
            if past:
                tx.execute(insert(schema.overruns), [values_of(overrun) for overrun in past])

        self._write(work)

    def release(self, hold_id: str, at_utc: datetime | None = None) -> None:
        def work(tx: Connection) -> None:
            found = lock_hold(tx, hold_id)
            own = found.claims
            if not self._move(tx, hold_id, found, "release", at_utc):
                return
            if any(claim.settled for claim in own.values()):
                raise LedgerError(f"hold {hold_id} has settled something: it must be settled, not released")
            post(tx, hold_id, found.seq, found.rows, own, holding_nothing(own), closing=True)

        self._write(work)

    def _move(
        self, tx: Connection, hold_id: str, found: LockedHold, event: Event, at_utc: datetime | None
    ) -> bool:
        """Put a hold into its next state; False when it was there already."""
        after = next_state(hold_id, found.state, event)
        if after == found.state:
            return False
        change = _ACTIVATE if event == "activate" else _CLOSE
        tx.execute(change, {"of_hold": found.seq, "to_state": after, "at_utc": at_utc})
        if event != "activate":
            self._terms.pop(hold_id, None)
        return True

    def _terms_of(self, tx: Connection, hold_id: str) -> HoldTerms:
        terms = self._terms.get(hold_id)
        if terms is None:
            hold = read_hold(tx, hold_id)
            assert hold is not None
            terms = self._terms[hold_id] = hold.terms
        return terms

    def balances(self, keys: Iterable[BalanceKey]) -> dict[BalanceKey, Balance]:
        return self._read(lambda tx: read_balances(tx, keys))

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
        return self._read(
            lambda tx: {
                value_of(BalanceKey, row): Balance(row.settled, row.held, row.holders)
                for row in tx.execute(query)
            }
        )

    def open_holds(self, account: str | None = None) -> list[Hold]:
        table = schema.holds
        query = (
            select(table)
            .where(table.c.state.in_(("held", "active")))
            .order_by(table.c.opened_utc, table.c.seq)
        )
        if account is not None:
            query = query.where(table.c.account == account)
        return self._read(lambda tx: [hold_of(tx, row) for row in tx.execute(query).all()])

    def hold(self, hold_id: str) -> Hold | None:
        return self._read(lambda tx: read_hold(tx, hold_id))

    # -- the ledger itself

    def mark_rehearsal(self) -> None:
        def work(tx: Connection) -> None:
            if _is_rehearsal(tx):
                return
            if tx.execute(select(schema.holds.c.id).limit(1)).first() is not None:
                raise LedgerError(
                    f"the ledger {self._backend.place} holds real spending, so a rehearsal may not use it: "
                    "set BUDGET_GUARD_LEDGER to a new file, or unset BUDGET_GUARD_NOW"
                )
            tx.execute(insert(schema.meta).values(name="rehearsal", value="yes"))

        self._write(work)

    def is_rehearsal(self) -> bool:
        return self._read(_is_rehearsal)

    def close(self) -> None:
        self._closed = True
        self._leave()
        self._backend.engine.dispose()

    # -- transactions

    @property
    def place(self) -> str:
        """Where it is, for people: a path, or a URL without its password."""
        return self._backend.place

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One consistent view of all rows for as long as the block lasts; others go on writing meanwhile."""
        self._check_open()
        with gate(self._backend.explain, self.place), transaction(self._backend, write=False) as tx:
            self._check_identity(tx)
            self._backend.unhurried(tx)
            yield tx

    def _read(self, work: Callable[[Connection], R]) -> R:
        self._check_open()
        return self._run(work, write=False)

    def _write(self, work: Callable[[Connection], R]) -> R:
        self._check_open()
        backend = self._backend
        # Threads of one process queue here, fairly; only other processes are waited for inside the database.
        if not self._writer.acquire(timeout=2 * backend.busy_timeout_s):
            raise LedgerError(
                f"the ledger {backend.place} is busy with another write of this process: try again"
            )
        try:
            return self._run(work, write=True)
        finally:
            self._writer.release()
            if self._closed:
                self._leave()

    def _run(self, work: Callable[[Connection], R], *, write: bool) -> R:
        backend = self._backend
        once = self._write_once if write else self._read_once
        with gate(backend.explain, backend.place):
            try:
                return once(work)
            except SQLAlchemyError as error:
                if not backend.again(error):
                    raise
            return self._retries(lambda: once(work))

    def _read_once(self, work: Callable[[Connection], R]) -> R:
        with transaction(self._backend, write=False) as tx:
            self._check_identity(tx)
            return work(tx)

    def _write_once(self, work: Callable[[Connection], R]) -> R:
        """On the connection that writes: making one ready takes as long as many a write."""
        self._backend.check()
        tx = self._standing
        if tx is None:
            tx = self._backend.engine.connect().execution_options(**self._backend.writing)
            self._standing = tx
        try:
            begin(tx, self._backend.begin)
            self._check_identity(tx)
            result = work(tx)
            commit(tx)
        except BaseException:
            self._standing = None
            tx.close()
            raise
        return result

    def _leave(self) -> None:
        """Give the standing connection back, unless a write is under way: that does it at its end."""
        if self._writer.acquire(blocking=False):
            try:
                if self._standing is not None:
                    self._standing.close()
                    self._standing = None
            finally:
                self._writer.release()

    def _check_identity(self, tx: Connection) -> None:
        """A connection that was made anew may lead to another database under the same name."""
        if tx.info.get(_SEEN) == self._identity:
            return
        found = _identity(tx)
        if found != self._identity:
            raise LedgerError(
                f"the ledger {self._backend.place} is another one than was opened (id {found or 'none'}, "
                f"not {self._identity}): it was replaced while it was in use; put the first one back, "
                "or end what runs and start again"
            )
        tx.info[_SEEN] = found

    def _check_open(self) -> None:
        if self._closed:
            raise LedgerError(f"the ledger {self._backend.place} has been closed")


def _restating(own: Mapping[BalanceKey, Claim], claims: dict[BalanceKey, Claim]) -> dict[BalanceKey, Claim]:
    """The claims that a hold has now; one that is not spoken of keeps what it has settled, and holds nothing."""
    kept = {key: replace(claim, held=0) for key, claim in own.items() if key not in claims}
    return {**claims, **kept} if kept else claims


def _among(locked: Locked, claims: dict[BalanceKey, Claim]) -> dict[BalanceKey, Claim]:
    """The claims, which are on locked balances only. Raises ValueError."""
    others = [key for key in claims if key not in locked]
    if others:
        raise ValueError(f"claims on balances that were not asked for: {sorted(others)}")
    return claims


def _in_order(claims: Mapping[BalanceKey, Claim], rows: Locked) -> tuple[Claim, ...]:
    return tuple(sorted(claims.values(), key=lambda claim: rows[claim.key].seq))


def _without(own: Claim | None, balance: Balance) -> Balance:
    """A balance as the others make it: without what this hold holds ahead, and without it as a holder."""
    if own is None:
        return balance
    return Balance(balance.settled, balance.held - own.held, balance.holders - 1)


def _is_rehearsal(tx: Connection) -> bool:
    return tx.execute(select(schema.meta).where(schema.meta.c.name == "rehearsal")).first() is not None


def _check_entries(hold_id: str, entries: Sequence[Entry]) -> None:
    for entry in entries:
        if entry.hold_id != hold_id:
            raise ValueError(f"entry {entry.id} belongs to hold {entry.hold_id}, not to {hold_id}")

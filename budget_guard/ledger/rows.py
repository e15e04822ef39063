"""Rows and values of the ledger: reading, locking and moving them inside a transaction that the caller holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    Insert,
    Row,
    Select,
    Table,
    Text,
    bindparam,
    insert,
    select,
    text,
    tuple_,
    update,
)

from budget_guard.clock import EPOCH
from budget_guard.errors import LedgerError, UnknownHold
from budget_guard.ledger import schema
from budget_guard.ledger.model import Approval, Balance, BalanceKey, Claim, Hold, HoldState, HoldTerms
from budget_guard.ledger.plain import Plain, Step, Values, run

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

# The statements that every connection runs again and again are built once: building costs more than running them.
_KEY_COLUMNS = tuple(schema.balances.c[field.name] for field in fields(BalanceKey))
_AMOUNTS = (
    schema.balances.c.seq,
    schema.balances.c.settled,
    schema.balances.c.held,
    schema.balances.c.holders,
)
_BALANCES = (
    select(*_KEY_COLUMNS, *_AMOUNTS)
    .where(tuple_(*_KEY_COLUMNS).in_(bindparam("wanted", expanding=True)))
    .order_by(schema.balances.c.seq)
)
_LOCKED_BALANCES = _BALANCES.with_for_update()
_CLAIMS = (
    select(
        *_KEY_COLUMNS,
        *_AMOUNTS,
        schema.claims.c.settled.label("own_settled"),
        schema.claims.c.held.label("own_held"),
    )
    .join(schema.claims, schema.claims.c.balance_seq == schema.balances.c.seq)
    .order_by(schema.claims.c.balance_seq)  # the order of the index
)
_CLAIMS_OF = _CLAIMS.where(schema.claims.c.hold_seq == bindparam("of_hold"))
_HOLD = select(schema.holds).where(schema.holds.c.id == bindparam("hold_id"))
_HOLD_FIELDS = tuple(field.name for field in fields(HoldTerms))
_LOCK_HOLD = Plain(
    select(schema.holds.c.seq, schema.holds.c.state, schema.holds.c.version)
    .where(schema.holds.c.id == bindparam("hold_id"))
    .with_for_update()
)
_CLAIMS_BY_ID = _CLAIMS.where(
    schema.claims.c.hold_seq
    == select(schema.holds.c.seq).where(schema.holds.c.id == bindparam("hold_id")).scalar_subquery()
)
# A statement of its own: its view of the claims begins when the hold has been locked.
_LOCK_CLAIMS = Plain(_CLAIMS_BY_ID.with_for_update(of=schema.balances))
_READ_CLAIMS = Plain(_CLAIMS_BY_ID)
_READ_HOLD = Plain(
    select(
        schema.holds.c.state, schema.holds.c.version, *(schema.holds.c[name] for name in _HOLD_FIELDS)
    ).where(schema.holds.c.id == bindparam("hold_id"))
)
_APPROVALS_IN_FORCE = Plain(
    select(*(schema.approvals.c[field.name] for field in fields(Approval)))
    .where(
        schema.approvals.c.account == bindparam("of_account"),
        schema.approvals.c.from_utc <= bindparam("at_utc"),
        schema.approvals.c.until_utc > bindparam("at_utc"),
    )
    .order_by(schema.approvals.c.seq)
)
_INSERT_CLAIM = Plain(
    insert(schema.claims).values(
        hold_seq=bindparam("of_hold"),
        balance_seq=bindparam("of_balance"),
        settled=bindparam("to_settled"),
        held=bindparam("to_held"),
    )
)
_LISTS = ("b_seq", "b_settled", "b_held", "b_holders", "c_seq", "c_settled", "c_held")
_MOVE_BALANCE = Plain(
    update(schema.balances)
    .where(schema.balances.c.seq == bindparam("at_seq"))
    .values(settled=bindparam("to_settled"), held=bindparam("to_held"), holders=bindparam("to_holders"))
)
_MOVE_CLAIM = Plain(
    update(schema.claims)
    .where(
        schema.claims.c.hold_seq == bindparam("of_hold"),
        schema.claims.c.balance_seq == bindparam("of_balance"),
    )
    .values(settled=bindparam("to_settled"), held=bindparam("to_held"))
)
_SET_VERSION = Plain(
    update(schema.holds)
    .where(schema.holds.c.seq == bindparam("of_hold"))
    .values(version=bindparam("to_version"), restated_utc=bindparam("at_utc"))
)
# The last three in one, where a server has to be waited for: the others wait meanwhile.
_RESTATE = Plain(
    text(
        "WITH b AS (SELECT * FROM unnest(CAST(:b_seq AS bigint[]), CAST(:b_settled AS bigint[]), "
        "CAST(:b_held AS bigint[]), CAST(:b_holders AS integer[])) AS b (seq, settled, held, holders)), "
        "c AS (SELECT * FROM unnest(CAST(:c_seq AS bigint[]), CAST(:c_settled AS bigint[]), "
        "CAST(:c_held AS bigint[])) AS c (seq, settled, held)), "
        "move_balances AS (UPDATE balances SET settled = b.settled, held = b.held, holders = b.holders "
        "FROM b WHERE balances.seq = b.seq), "
        "move_claims AS (UPDATE claims SET settled = c.settled, held = c.held "
        "FROM c WHERE claims.hold_seq = :of_hold AND claims.balance_seq = c.seq) "
        "UPDATE holds SET version = :to_version, restated_utc = :at_utc WHERE seq = :of_hold"
    ).bindparams(
        bindparam("of_hold", type_=BigInteger),
        bindparam("to_version", type_=BigInteger),
        bindparam("at_utc", type_=schema.Instant),
        *(bindparam(name, type_=Text) for name in _LISTS),
    )
)


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """A balance and the number of its row."""

    seq: int
    balance: Balance


# Balances by key, whose rows are locked by the transaction that read them.
Locked = dict[BalanceKey, BalanceRow]


@dataclass(frozen=True, slots=True)
class LockedHold:
    """A hold as it stands, with the number of its row, its claims, and the balances that they are on: all locked."""

    seq: int
    state: HoldState
    version: int
    claims: dict[BalanceKey, Claim]
    rows: Locked

    def hold(self, terms: HoldTerms) -> Hold:
        return Hold(terms, self.state, self.version, tuple(self.claims.values()))


def values_of(value: Any) -> dict[str, Any]:
    """A value's fields by column name."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def value_of(kind: type[T], row: Row[Any]) -> T:
    """The value that a row's columns make."""
    return kind(**{field.name: row._mapping[field.name] for field in fields(kind)})


def values_in(kind: type[T], query: Select[Any]) -> Callable[[Connection], list[T]]:
    """What reads the values that the rows of a query make."""
    return lambda tx: [value_of(kind, row) for row in tx.execute(query)]


def insert_row(tx: Connection, statement: Insert, values: Mapping[str, Any]) -> int:
    """Insert one row; its number."""
    made = tx.execute(statement, values).inserted_primary_key
    assert made is not None
    return int(made[0])


def exists(tx: Connection, table: Table, row_id: str) -> bool:
    """Whether a row with this id has been written."""
    return tx.execute(select(table.c.seq).where(table.c.id == row_id)).first() is not None


def find_hold(tx: Connection, hold_id: str) -> Row[Any] | None:
    """A hold's row, which nothing is locked by."""
    return tx.execute(_HOLD, {"hold_id": hold_id}).first()


def lock_hold(
    tx: Connection, hold_id: str, keys: Iterable[BalanceKey] = (), *, alone: bool = False
) -> LockedHold:
    """A hold, its claims and their balances, locked in this order; `alone`, only the hold. Raises UnknownHold.

    A balance that is among `keys` goes by that very key, which is looked up faster than an equal one.
    """
    wanted = [{"hold_id": hold_id}]
    found, *claimed = run(
        tx, [(_LOCK_HOLD, wanted)] if alone else [(_LOCK_HOLD, wanted), (_LOCK_CLAIMS, wanted)]
    )
    if not found:
        raise UnknownHold(f"the ledger knows no hold {hold_id}")
    seq, state, version = found[0]
    known = {key: key for key in keys}
    claims: dict[BalanceKey, Claim] = {}
    rows: Locked = {}
    for row in chain(*claimed):
        stored = _key(*row[:5])
        key = known.get(stored, stored)
        balance_seq, settled, held, holders, own_settled, own_held = row[5:]
        claims[key] = Claim(key, own_settled, own_held)
        rows[key] = BalanceRow(balance_seq, Balance(settled, held, holders))
    return LockedHold(seq, state, version, claims, rows)


# A key never changes: it is made from its stored columns once, not at every renewal.
@lru_cache(maxsize=1024)
def _key(account: str, budget: str, period: str, start_us: int, unit: str) -> BalanceKey:
    return BalanceKey(account, budget, period, EPOCH + start_us * schema.MICROSECOND, unit)


def read_hold(tx: Connection, hold_id: str) -> Hold | None:
    """A hold with its claims as it stands, locked by nobody."""
    wanted = [{"hold_id": hold_id}]
    found, claimed = run(tx, [(_READ_HOLD, wanted), (_READ_CLAIMS, wanted)])
    if not found:
        return None
    state, version, *terms = _READ_HOLD.turned(found[0], tx.dialect)
    claims = (Claim(_key(*row[:5]), *row[-2:]) for row in claimed)
    return Hold(HoldTerms(*terms), state, version, tuple(claims))


def approvals_in_force(tx: Connection, account: str, at_utc: datetime) -> list[Approval]:
    """What people have approved for an account at an instant, in the order in which they did."""
    [found] = run(tx, [(_APPROVALS_IN_FORCE, [{"of_account": account, "at_utc": at_utc}])])
    return [Approval(*_APPROVALS_IN_FORCE.turned(row, tx.dialect)) for row in found]


def hold_of(tx: Connection, row: Row[Any]) -> Hold:
    """A hold's row with its claims, as a value."""
    heard_utc = row.restated_utc or row.activated_utc or row.opened_utc
    return Hold(terms_of(row), row.state, row.version, claims_of(tx, row.seq), heard_utc)


def terms_of(row: Row[Any]) -> HoldTerms:
    """What a hold's row says it is for."""
    return HoldTerms(**{name: getattr(row, name) for name in _HOLD_FIELDS})


def claims_of(tx: Connection, hold_seq: int) -> tuple[Claim, ...]:
    """A hold's claims, in the order in which their balances were made."""
    found = tx.execute(_CLAIMS_OF, {"of_hold": hold_seq})
    return tuple(Claim(_key_of(row), row.own_settled, row.own_held) for row in found)


def read_balances(tx: Connection, keys: Iterable[BalanceKey]) -> dict[BalanceKey, Balance]:
    """The balances as they stand; one never touched is zero."""
    wanted = tuple(dict.fromkeys(keys))
    found = _find_balances(tx, wanted, _BALANCES)
    return {key: found[key].balance if key in found else Balance() for key in wanted}


def lock_balances(tx: Connection, keys: Iterable[BalanceKey]) -> Locked:
    """The rows of the balances, made where missing and locked in one order, so that no two writers wait in a circle."""
    wanted = tuple(sorted(set(keys)))
    found = _find_balances(tx, wanted, _LOCKED_BALANCES)
    missing = [key for key in wanted if key not in found]
    if not missing:
        return found
    # A writer that makes the same row at the same time is waited for here.
    made = _insert_or_nothing(tx).values(settled=0, held=0, holders=0)
    for key in missing:
        tx.execute(made, values_of(key))
    return _find_balances(tx, wanted, _LOCKED_BALANCES)


def post(
    tx: Connection,
    hold_id: str,
    hold_seq: int,
    rows: Locked,
    before: Mapping[BalanceKey, Claim],
    after: Mapping[BalanceKey, Claim],
    *,
    closing: bool = False,
    newer: Values | None = None,
) -> dict[BalanceKey, Balance]:
    """Write a hold's claims and move the locked balances by as much; the balances as they are then.

    `closing` takes the hold off every balance's holders; a claim that is new adds it. `newer` is what `restated` says
    of a hold that is restated.
    """
    moved: dict[BalanceKey, Balance] = {}
    balances: list[Values] = []
    fresh: list[Values] = []
    changed: list[Values] = []
    for key, claim in after.items():
        row, old = rows[key], before.get(key)
        now = moved[key] = _moved(hold_id, row.balance, old, claim, closing=closing)
        if _differs(now, row.balance):
            balances.append(_to(now, row))
        if old is None:
            fresh.append(_claimed(hold_seq, row, claim))
        elif (claim.settled, claim.held) != (old.settled, old.held):
            changed.append(_claimed(hold_seq, row, claim))
    moves: list[Step] = [(_MOVE_BALANCE, balances), (_MOVE_CLAIM, changed)]
    if newer is not None:
        at_once = tx.dialect.name == "postgresql"
        moves = [_all_in_one(balances, changed, newer)] if at_once else [*moves, (_SET_VERSION, [newer])]
    run(tx, [(_INSERT_CLAIM, fresh), *moves])
    return moved


def restated(hold_seq: int, version: int, at_utc: datetime | None) -> dict[str, Any]:
    """What a restatement writes of the hold itself."""
    return {"of_hold": hold_seq, "to_version": version, "at_utc": at_utc}


def _all_in_one(balances: Sequence[Values], claims: Sequence[Values], newer: Values) -> Step:
    columns = {
        "b_seq": (balances, "at_seq"),
        "b_settled": (balances, "to_settled"),
        "b_held": (balances, "to_held"),
        "b_holders": (balances, "to_holders"),
        "c_seq": (claims, "of_balance"),
        "c_settled": (claims, "to_settled"),
        "c_held": (claims, "to_held"),
    }
    lists = {
        name: "{" + ",".join(str(row[column]) for row in rows) + "}"
        for name, (rows, column) in columns.items()
    }
    return _RESTATE, [{**lists, **newer}]


def _moved(hold_id: str, balance: Balance, before: Claim | None, after: Claim, *, closing: bool) -> Balance:
    """A balance once a claim on it is another."""
    settled, held = (0, 0) if before is None else (before.settled, before.held)
    _check_move(hold_id, settled, after)
    return Balance(
        balance.settled + after.settled - settled,
        balance.held + after.held - held,
        balance.holders + (before is None) - closing,
    )


def by_key(claims: Iterable[Claim]) -> dict[BalanceKey, Claim]:
    """Claims by their balance. Raises ValueError for two on the same one."""
    found: dict[BalanceKey, Claim] = {}
    for claim in claims:
        if claim.key in found:
            raise ValueError(f"two claims on the same balance: {claim.key}")
        found[claim.key] = claim
    return found


def holding_nothing(claims: Mapping[BalanceKey, Claim]) -> dict[BalanceKey, Claim]:
    """The claims with what they have settled, and nothing ahead."""
    return {key: replace(claim, held=0) for key, claim in claims.items()}


def _check_move(hold_id: str, settled: int, new: Claim) -> None:
    if new.settled < settled or new.held < 0:
        key = new.key
        raise LedgerError(
            f"hold {hold_id}: what is settled never shrinks and a hold is never negative "
            f"({key.budget} {key.period} {key.unit}: settled {settled} -> {new.settled}, held {new.held})"
        )


def _differs(moved: Balance, balance: Balance) -> bool:
    return moved != balance or moved.holders != balance.holders


def _to(balance: Balance, row: BalanceRow) -> dict[str, int]:
    return {
        "at_seq": row.seq,
        "to_settled": balance.settled,
        "to_held": balance.held,
        "to_holders": balance.holders,
    }


def _claimed(hold_seq: int, row: BalanceRow, claim: Claim) -> dict[str, int]:
    return {"of_hold": hold_seq, "of_balance": row.seq, "to_settled": claim.settled, "to_held": claim.held}


def _find_balances(tx: Connection, keys: tuple[BalanceKey, ...], query: Select[Any]) -> Locked:
    if not keys:
        return {}
    wanted = [(key.account, key.budget, key.period, key.period_start_utc, key.unit) for key in keys]
    return {_key_of(row): _balance_row(row) for row in tx.execute(query, {"wanted": wanted})}


def _key_of(row: Any) -> BalanceKey:
    return BalanceKey(row.account, row.budget, row.period, row.period_start_utc, row.unit)


def _balance_row(row: Any) -> BalanceRow:
    return BalanceRow(row.seq, Balance(row.settled, row.held, row.holders))


def _insert_or_nothing(tx: Connection) -> Any:
    if tx.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(schema.balances).on_conflict_do_nothing()
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(schema.balances).on_conflict_do_nothing()

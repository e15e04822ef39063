"""Rows and values of the ledger: reading, locking and moving them inside a transaction that the caller holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Insert, Row, Select, Table, bindparam, insert, select, tuple_, update

from budget_guard.errors import LedgerError, UnknownHold
from budget_guard.ledger import schema
from budget_guard.ledger.model import Balance, BalanceKey, Claim, Hold, HoldTerms

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
    .where(schema.claims.c.hold_seq == bindparam("of_hold"))
    .order_by(schema.balances.c.seq)
)
_LOCKED_CLAIMS = _CLAIMS.with_for_update(of=schema.balances)
_HOLD = select(schema.holds).where(schema.holds.c.id == bindparam("hold_id"))
_LOCKED_HOLD = _HOLD.with_for_update()
_INSERT_CLAIM = insert(schema.claims)
_HOLD_FIELDS = tuple(field.name for field in fields(HoldTerms))
_MOVE_BALANCE = (
    update(schema.balances)
    .where(schema.balances.c.seq == bindparam("at_seq"))
    .values(settled=bindparam("to_settled"), held=bindparam("to_held"), holders=bindparam("to_holders"))
)
_MOVE_CLAIM = (
    update(schema.claims)
    .where(
        schema.claims.c.hold_seq == bindparam("of_hold"),
        schema.claims.c.balance_seq == bindparam("of_balance"),
    )
    .values(settled=bindparam("to_settled"), held=bindparam("to_held"))
)


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """A balance and the number of its row."""

    seq: int
    balance: Balance


# Balances by key, whose rows are locked by the transaction that read them.
Locked = dict[BalanceKey, BalanceRow]


def values_of(value: Any) -> dict[str, Any]:
    """A value's fields by column name."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def value_of(kind: type[T], row: Row[Any]) -> T:
    """The value that a row's columns make."""
    return kind(**{field.name: row._mapping[field.name] for field in fields(kind)})


def insert_row(tx: Connection, statement: Insert, values: Mapping[str, Any]) -> int:
    """Insert one row; its number."""
    made = tx.execute(statement, values).inserted_primary_key
    assert made is not None
    return int(made[0])


def exists(tx: Connection, table: Table, row_id: str) -> bool:
    """Whether a row with this id has been written."""
    return tx.execute(select(table.c.seq).where(table.c.id == row_id)).first() is not None


def find_hold(tx: Connection, hold_id: str, *, lock: bool = False) -> Row[Any] | None:
    """A hold's row, locked until the end of the transaction if asked for."""
    return tx.execute(_LOCKED_HOLD if lock else _HOLD, {"hold_id": hold_id}).first()


def need_hold(tx: Connection, hold_id: str) -> Row[Any]:
    """A hold's row, locked. Raises UnknownHold."""
    row = find_hold(tx, hold_id, lock=True)
    if row is None:
        raise UnknownHold(f"the ledger knows no hold {hold_id}")
    return row


def hold_of(tx: Connection, row: Row[Any]) -> Hold:
    """A hold's row with its claims, as a value."""
    return Hold(terms_of(row), row.state, row.version, claims_of(tx, row.seq))


def terms_of(row: Row[Any]) -> HoldTerms:
    """What a hold's row says it is for."""
    return HoldTerms(**{name: getattr(row, name) for name in _HOLD_FIELDS})


def claims_of(tx: Connection, hold_seq: int) -> tuple[Claim, ...]:
    """A hold's claims, in the order in which their balances were made."""
    found = tx.execute(_CLAIMS, {"of_hold": hold_seq})
    return tuple(Claim(_key_of(row), row.own_settled, row.own_held) for row in found)


def lock_claims(tx: Connection, hold_seq: int) -> tuple[dict[BalanceKey, Claim], Locked]:
    """A hold's claims, and the rows of their balances, locked until the end of the transaction."""
    claims: dict[BalanceKey, Claim] = {}
    locked: Locked = {}
    for row in tx.execute(_LOCKED_CLAIMS, {"of_hold": hold_seq}):
        key = _key_of(row)
        claims[key] = Claim(key, row.own_settled, row.own_held)
        locked[key] = _balance_row(row)
    return claims, locked


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
) -> dict[BalanceKey, Balance]:
    """Write a hold's claims and move the locked balances by as much; the balances as they are then.

    `closing` takes the hold off every balance's holders; a claim that is new adds it.
    """
    moved: dict[BalanceKey, Balance] = {}
    for key, claim in after.items():
        old = before.get(key, Claim(key, 0, 0))
        _check_move(hold_id, old, claim)
        now = rows[key].balance
        holders = now.holders + (key not in before) - closing
        moved[key] = Balance(
            now.settled + claim.settled - old.settled, now.held + claim.held - old.held, holders
        )
    changed = [key for key in after if _differs(moved[key], rows[key].balance)]
    if changed:
        tx.execute(_MOVE_BALANCE, [_to(moved[key], at_seq=rows[key].seq) for key in changed])
    fresh = [claim for key, claim in after.items() if key not in before]
    if fresh:
        tx.execute(
            _INSERT_CLAIM,
            [
                {
                    "hold_seq": hold_seq,
                    "balance_seq": rows[claim.key].seq,
                    "settled": claim.settled,
                    "held": claim.held,
                }
                for claim in fresh
            ],
        )
    restated = [claim for key, claim in after.items() if key in before and claim != before[key]]
    if restated:
        tx.execute(
            _MOVE_CLAIM,
            [
                {
                    "of_hold": hold_seq,
                    "of_balance": rows[claim.key].seq,
                    "to_settled": claim.settled,
                    "to_held": claim.held,
                }
                for claim in restated
            ],
        )
    return moved


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


def _check_move(hold_id: str, old: Claim, new: Claim) -> None:
    if new.settled < old.settled or new.held < 0:
        key = new.key
        raise LedgerError(
            f"hold {hold_id}: what is settled never shrinks and a hold is never negative "
            f"({key.budget} {key.period} {key.unit}: settled {old.settled} -> {new.settled}, held {new.held})"
        )


def _differs(one: Balance, other: Balance) -> bool:
    return one != other or one.holders != other.holders


def _to(balance: Balance, *, at_seq: int) -> dict[str, int]:
    return {
        "at_seq": at_seq,
        "to_settled": balance.settled,
        "to_held": balance.held,
        "to_holders": balance.holders,
    }


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

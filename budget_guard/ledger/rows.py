"""Rows and values of the ledger: reading, locking and moving them inside a transaction that the caller holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import Connection, Insert, Row, Table, bindparam, insert, select, tuple_, update

from budget_guard.errors import LedgerError, UnknownHold
from budget_guard.ledger import schema
from budget_guard.ledger.model import Balance, BalanceKey, Claim, Hold, HoldTerms

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

_KEY_COLUMNS = tuple(schema.balances.c[field.name] for field in fields(BalanceKey))
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


def values_of(value: Any) -> dict[str, Any]:
    """A value's fields by column name."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def value_of(kind: type[T], row: Row[Any]) -> T:
    """The value that a row's columns make."""
    return kind(**{field.name: row._mapping[field.name] for field in fields(kind)})


def insert_row(tx: Connection, statement: Insert) -> int:
    """Insert one row; its number."""
    made = tx.execute(statement).inserted_primary_key
    assert made is not None
    return int(made[0])


def exists(tx: Connection, table: Table, row_id: str) -> bool:
    """Whether a row with this id has been written."""
    return tx.execute(select(table.c.seq).where(table.c.id == row_id)).first() is not None


def find_hold(tx: Connection, hold_id: str, *, lock: bool = False) -> Row[Any] | None:
    """A hold's row, locked until the end of the transaction if asked for."""
    query = select(schema.holds).where(schema.holds.c.id == hold_id)
    return tx.execute(query.with_for_update() if lock else query).first()


def need_hold(tx: Connection, hold_id: str) -> Row[Any]:
    """A hold's row, locked. Raises UnknownHold."""
    row = find_hold(tx, hold_id, lock=True)
    if row is None:
        raise UnknownHold(f"the ledger knows no hold {hold_id}")
    return row


def hold_of(tx: Connection, row: Row[Any]) -> Hold:
    """A hold's row with its claims, as a value."""
    return Hold(value_of(HoldTerms, row), row.state, row.version, claims_of(tx, row.seq))


def claims_of(tx: Connection, hold_seq: int) -> tuple[Claim, ...]:
    """A hold's claims, in the order in which their balances were made."""
    claims, balances = schema.claims, schema.balances
    query = (
        select(*_KEY_COLUMNS, claims.c.settled.label("own_settled"), claims.c.held.label("own_held"))
        .join(claims, claims.c.balance_seq == balances.c.seq)
        .where(claims.c.hold_seq == hold_seq)
        .order_by(balances.c.seq)
    )
    rows = cast("list[Row[Any]]", tx.execute(query).all())
    return tuple(Claim(value_of(BalanceKey, row), row.own_settled, row.own_held) for row in rows)


def read_balances(tx: Connection, keys: Iterable[BalanceKey]) -> dict[BalanceKey, Balance]:
    """The balances as they stand; one never touched is zero."""
    wanted = tuple(dict.fromkeys(keys))
    found = {key: balance_of(row) for key, row in _balance_rows(tx, wanted, lock=False).items()}
    return {key: found.get(key, Balance()) for key in wanted}


def lock_balances(tx: Connection, keys: Iterable[BalanceKey]) -> dict[BalanceKey, Row[Any]]:
    """The rows of the balances, made where missing and locked in one order, so that no two writers wait in a circle."""
    wanted = tuple(sorted(set(keys)))
    missing = [key for key in wanted if key not in _balance_rows(tx, wanted, lock=False)]
    if missing:
        # A writer that makes the same row at the same time is waited for here, before any row is locked below.
        made = _insert_or_nothing(tx).values(settled=0, held=0, holders=0)
        for key in missing:
            tx.execute(made, values_of(key))
    return _balance_rows(tx, wanted, lock=True)


def balance_of(row: Row[Any]) -> Balance:
    """A balance's row as a value."""
    return Balance(row.settled, row.held, row.holders)


def post(
    tx: Connection,
    hold_id: str,
    hold_seq: int,
    rows: Mapping[BalanceKey, Row[Any]],
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
        now = balance_of(rows[key])
        holders = now.holders + (key not in before) - closing
        moved[key] = Balance(
            now.settled + claim.settled - old.settled, now.held + claim.held - old.held, holders
        )
    changed = [key for key in after if moved[key] != balance_of(rows[key])]
    if changed:
        tx.execute(_MOVE_BALANCE, [_to(moved[key], at_seq=rows[key].seq) for key in changed])
    fresh = [claim for key, claim in after.items() if key not in before]
    if fresh:
        tx.execute(
            insert(schema.claims),
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


def _to(balance: Balance, *, at_seq: int) -> dict[str, int]:
    return {
        "at_seq": at_seq,
        "to_settled": balance.settled,
        "to_held": balance.held,
        "to_holders": balance.holders,
    }


def _balance_rows(tx: Connection, keys: tuple[BalanceKey, ...], *, lock: bool) -> dict[BalanceKey, Row[Any]]:
    table = schema.balances
    if not keys:
        return {}
    wanted = [tuple(values_of(key).values()) for key in keys]
    query = select(table).where(tuple_(*_KEY_COLUMNS).in_(wanted)).order_by(table.c.seq)
    found = tx.execute(query.with_for_update() if lock else query)
    return {value_of(BalanceKey, row): row for row in found}


def _insert_or_nothing(tx: Connection) -> Any:
    if tx.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(schema.balances).on_conflict_do_nothing()
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(schema.balances).on_conflict_do_nothing()

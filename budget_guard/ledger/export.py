"""A ledger's rows as plain values for other programs: exact, in one order that never changes.

The order is that in which rows were written, months one after the other. Rows are read as they are asked for, in
one snapshot, so that a ledger of any size can be exported while it is in use.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Row, Select, Table, and_, or_, select

from budget_guard.clock import instant_or_null, instant_text, month_bounds
from budget_guard.ledger import schema
from budget_guard.ledger.amounts import amount_text
from budget_guard.ledger.model import Approval, Entry, Overrun
from budget_guard.ledger.rows import value_of
from budget_guard.ledger.store import SqlLedger
from budget_guard.money import decimal_text, gib_from_bytes, nano_exact_text

BATCH = 1000

JsonRow = dict[str, Any]


def export_rows(
    ledger: SqlLedger, account: str, month: str | None = None, *, everything: bool = False
) -> Iterator[JsonRow]:
    """An account's entries, approvals and overruns, of a billing month or of all; each says its `kind`.

    With `everything` also refusals, gaps, and holds that are settled or released. An approval is of every month in
    which it was in force, an overrun of the month in which its period began (without an end: in which it happened).
    Raises LedgerError, and ValueError for a month that is none.
    """
    kinds: list[tuple[Select[Any], Callable[[Row[Any]], JsonRow]]] = [
        (_entries(account, month), lambda row: entry_json(value_of(Entry, row))),
        (_approvals(account, month), lambda row: approval_json(value_of(Approval, row))),
        (_overruns(account, month), lambda row: overrun_json(value_of(Overrun, row))),
    ]
    if everything:
        kinds += [
            (_dated(schema.refusals, "at_utc", account, month), _refusal_json),
            (_dated(schema.gaps, "start_utc", account, month), _gap_json),
            (_closed_holds(account, month), _hold_json),
        ]
    with ledger.snapshot() as tx:
        for query, as_json in kinds:
            for row in tx.execute(query, execution_options={"yield_per": BATCH}):
                yield as_json(row)


def entry_json(entry: Entry) -> JsonRow:
    """An entry; `settled_usd` is what it counts: the cost of its bytes and what is assumed."""
    return {
        "kind": "entry",
        "id": entry.id,
        "hold": entry.hold_id,
        "account": entry.account,
        "stream": entry.stream,
        "dataset": entry.dataset,
        "schema": entry.schema,
        "mode": entry.mode,
        "month": entry.month,
        "started_utc": instant_text(entry.started_utc),
        "ended_utc": instant_text(entry.ended_utc),
        "size_bytes": entry.size_bytes,
        "control_bytes": entry.control_bytes,
        "gib": decimal_text(gib_from_bytes(entry.size_bytes)),
        "unit_price_usd": decimal_text(entry.unit_price_usd),
        "price_source": entry.price_source,
        "cost_usd": nano_exact_text(entry.cost_nano_usd),
        "residual_bytes": entry.residual_bytes,
        "residual_usd": nano_exact_text(entry.residual_nano_usd),
        "settled_usd": nano_exact_text(entry.cost_nano_usd + entry.residual_nano_usd),
        "ending": entry.ending,
        "note": entry.note,
    }


def approval_json(approval: Approval) -> JsonRow:
    """An approval; `count` is its amount as the ledger counts it: nano-USD, bytes, milliseconds, connections."""
    return {
        "kind": "approval",
        "id": approval.id,
        "account": approval.account,
        "budget": approval.budget,
        "unit": approval.unit,
        "amount": amount_text(approval.unit, approval.amount),
        "count": approval.amount,
        "from_utc": instant_text(approval.from_utc),
        "until_utc": instant_text(approval.until_utc),
        "reason": approval.reason,
        "by": approval.name,
    }


def overrun_json(overrun: Overrun) -> JsonRow:
    """An overrun: by how much a hold took a balance past the limit that held then."""
    return {
        "kind": "overrun",
        "id": overrun.id,
        "hold": overrun.hold_id,
        "account": overrun.account,
        "budget": overrun.budget,
        "period": overrun.period,
        "period_start_utc": instant_text(overrun.period_start_utc),
        "unit": overrun.unit,
        "limit": amount_text(overrun.unit, overrun.limit_amount),
        "past": amount_text(overrun.unit, overrun.past),
        "at_utc": instant_text(overrun.at_utc),
        "note": overrun.note,
    }


def _refusal_json(row: Row[Any]) -> JsonRow:
    return {
        "kind": "refusal",
        "id": row.id,
        "at_utc": instant_text(row.at_utc),
        "account": row.account,
        "stream": row.stream,
        "dataset": row.dataset,
        "schema": row.schema,
        "mode": row.mode,
        "code": row.code,
        "asked_usd": None if row.asked_nano_usd is None else nano_exact_text(row.asked_nano_usd),
        "decision": parsed(row.decision),
    }


def _gap_json(row: Row[Any]) -> JsonRow:
    return {
        "kind": "gap",
        "id": row.id,
        "account": row.account,
        "stream": row.stream,
        "dataset": row.dataset,
        "schema": row.schema,
        "start_utc": instant_text(row.start_utc),
        "end_utc": instant_text(row.end_utc),
        "mended": row.mended,
        "note": row.note,
    }


def _hold_json(row: Row[Any]) -> JsonRow:
    return {
        "kind": "hold",
        "id": row.id,
        "connection": row.connection_id,
        "account": row.account,
        "stream": row.stream,
        "dataset": row.dataset,
        "schema": row.schema,
        "mode": row.mode,
        "month": row.month,
        "state": row.state,
        "unit_price_usd": decimal_text(row.unit_price_usd),
        "price_source": row.price_source,
        "residual_bytes_max": row.residual_bytes_max,
        "host": row.host,
        "opened_utc": instant_text(row.opened_utc),
        "activated_utc": instant_or_null(row.activated_utc),
        "closed_utc": instant_or_null(row.closed_utc),
        "request": parsed(row.request),
    }


def parsed(text: str) -> Any:
    """What a column of JSON says; the text itself where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _entries(account: str, month: str | None) -> Select[Any]:
    return _by_month(schema.entries, account, month)


def _closed_holds(account: str, month: str | None) -> Select[Any]:
    closed = schema.holds.c.state.in_(("settled", "released"))
    return _by_month(schema.holds, account, month).where(closed)


def _by_month(table: Table, account: str, month: str | None) -> Select[Any]:
    query = select(table).where(table.c.account == account).order_by(table.c.month, table.c.seq)
    if month is not None:
        month_bounds(month)
        query = query.where(table.c.month == month)
    return query


def _dated(table: Table, column: str, account: str, month: str | None) -> Select[Any]:
    at = table.c[column]
    query = select(table).where(table.c.account == account).order_by(table.c.seq)
    if month is not None:
        start, end = month_bounds(month)
        query = query.where(at >= start, at < end)
    return query


def _approvals(account: str, month: str | None) -> Select[Any]:
    table = schema.approvals
    query = select(table).where(table.c.account == account).order_by(table.c.seq)
    if month is not None:
        start, end = month_bounds(month)
        query = query.where(table.c.from_utc < end, table.c.until_utc > start)
    return query


def _overruns(account: str, month: str | None) -> Select[Any]:
    table = schema.overruns
    query = select(table).where(table.c.account == account).order_by(table.c.seq)
    if month is not None:
        start, end = month_bounds(month)
        began, at, ever = table.c.period_start_utc, table.c.at_utc, table.c.period == "total"
        query = query.where(or_(and_(ever, at >= start, at < end), and_(~ever, began >= start, began < end)))
    return query

"""Everything that the ledger knows about one hold, gathered in one snapshot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from budget_guard.clock import instant_or_null, instant_text
from budget_guard.errors import UnknownHold
from budget_guard.ledger import schema
from budget_guard.ledger.amounts import amount_text
from budget_guard.ledger.evidence import Evidence
from budget_guard.ledger.export import (
    approval_json,
    entry_json,
    overrun_json,
    parsed,
)
from budget_guard.ledger.model import Approval, Balance, Claim, Entry, HoldTerms, Overrun
from budget_guard.ledger.rows import claims_of, read_balances, terms_of, value_of
from budget_guard.ledger.store import SqlLedger
from budget_guard.money import decimal_text

# How many candidates a message names when a beginning fits several.
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Share:
    """A hold's claim, and the whole balance that it is a part of."""

    claim: Claim
    balance: Balance

    def as_json(self) -> dict[str, Any]:
        key = self.claim.key
        return {
            "account": key.account,
            "budget": key.budget,
            "period": key.period,
            "period_start_utc": instant_text(key.period_start_utc),
            "unit": key.unit,
            "settled": amount_text(key.unit, self.claim.settled),
            "held": amount_text(key.unit, self.claim.held),
            "balance_settled": amount_text(key.unit, self.balance.settled),
            "balance_held": amount_text(key.unit, self.balance.held),
        }


@dataclass(frozen=True, slots=True)
class Story:
    """One hold from its opening to its end; times are None where nobody noted them.

    `evidence` is what its meter shows, for a hold that is open; `approvals` are those that were in force for one of
    its budgets while it was open.
    """

    terms: HoldTerms
    state: str
    version: int
    activated_utc: datetime | None
    restated_utc: datetime | None
    closed_utc: datetime | None
    shares: tuple[Share, ...]
    entries: tuple[Entry, ...]
    overruns: tuple[Overrun, ...]
    approvals: tuple[Approval, ...]
    evidence: Evidence | None = None

    @property
    def is_open(self) -> bool:
        return self.state in ("held", "active")

    def as_json(self) -> dict[str, Any]:
        terms = self.terms
        seen = self.evidence
        return {
            "hold": terms.id,
            "connection": terms.connection_id,
            "account": terms.account,
            "stream": terms.stream,
            "dataset": terms.dataset,
            "schema": terms.schema,
            "mode": terms.mode,
            "month": terms.month,
            "request": parsed(terms.request),
            "unit_price_usd": decimal_text(terms.unit_price_usd),
            "price_source": terms.price_source,
            "residual_bytes_max": terms.residual_bytes_max,
            "host": terms.host,
            "state": self.state,
            "version": self.version,
            "opened_utc": instant_text(terms.opened_utc),
            "activated_utc": instant_or_null(self.activated_utc),
            "restated_utc": instant_or_null(self.restated_utc),
            "closed_utc": instant_or_null(self.closed_utc),
            "owner": None if seen is None else seen.owner,
            "metered_bytes": None if seen is None else seen.size_bytes,
            "claims": [share.as_json() for share in self.shares],
            "entries": [entry_json(entry) for entry in self.entries],
            "overruns": [overrun_json(overrun) for overrun in self.overruns],
            "approvals": [approval_json(approval) for approval in self.approvals],
        }


def tell(
    ledger: SqlLedger, name: str, *, now: datetime, look: Callable[[HoldTerms], Evidence]
) -> tuple[Story, ...]:
    """The holds that a name means, oldest first: a hold's id, its connection's, its entry's, or how one begins.

    `look` is asked about holds that are open. Raises UnknownHold when nothing or too much has that name.
    """
    with ledger.snapshot() as tx:
        return tuple(_story(tx, row, now, look) for row in _find(tx, name))


def open_stories(
    ledger: SqlLedger, *, now: datetime, look: Callable[[HoldTerms], Evidence]
) -> tuple[Story, ...]:
    """The same of every hold that is open."""
    with ledger.snapshot() as tx:
        return tuple(
            _story(tx, row, now, look) for row in _holds(tx, schema.holds.c.state.in_(("held", "active")))
        )


def _holds(tx: Connection, condition: ColumnElement[bool], most: int | None = None) -> list[Row[Any]]:
    query = select(schema.holds).where(condition).order_by(schema.holds.c.seq).limit(most)
    return list(tx.execute(query))


def _find(tx: Connection, name: str) -> list[Row[Any]]:
    holds, entries = schema.holds.c, schema.entries.c
    booked = select(entries.hold_id).where(entries.id == name).scalar_subquery()
    for exactly in (holds.id == name, holds.connection_id == name, holds.id == booked):
        if found := _holds(tx, exactly):
            return found
    # An entry's id begins with its hold's.
    start = name.split(":", maxsplit=1)[0]
    for column in (holds.id, holds.connection_id):
        found = _beginning(tx, column, start)
        if len({getattr(row, column.key) for row in found}) == 1:
            return _holds(tx, column == getattr(found[0], column.key))
        if found:
            raise UnknownHold(_several(name, found))
    raise UnknownHold(f"the ledger knows no hold, connection or entry {name!r}")


def _beginning(tx: Connection, column: Any, start: str) -> list[Row[Any]]:
    found = _holds(tx, column.startswith(start, autoescape=True), _SHOWN + 1) if start else []
    # SQLite's LIKE does not look at the case of letters.
    return [row for row in found if getattr(row, column.key).startswith(start)]


def _several(name: str, found: list[Row[Any]]) -> str:
    shown = ", ".join(
        f"{row.id} ({row.stream or row.dataset}, {instant_text(row.opened_utc)})" for row in found[:_SHOWN]
    )
    more = " and more" if len(found) > _SHOWN else ""
    return f"{name!r} is the beginning of several: {shown}{more}. Write one out"


def _story(tx: Connection, row: Row[Any], now: datetime, look: Callable[[HoldTerms], Evidence]) -> Story:
    terms = terms_of(row)
    claims = claims_of(tx, row.seq)
    balances = read_balances(tx, (claim.key for claim in claims))
    table = schema.entries
    entries = tx.execute(select(table).where(table.c.hold_id == terms.id).order_by(table.c.seq))
    table = schema.overruns
    overruns = tx.execute(select(table).where(table.c.hold_id == terms.id).order_by(table.c.seq))
    return Story(
        terms=terms,
        state=row.state,
        version=row.version,
        activated_utc=row.activated_utc,
        restated_utc=row.restated_utc,
        closed_utc=row.closed_utc,
        shares=tuple(Share(claim, balances[claim.key]) for claim in claims),
        entries=tuple(value_of(Entry, entry) for entry in entries),
        overruns=tuple(value_of(Overrun, overrun) for overrun in overruns),
        approvals=_approvals(tx, terms, claims, row.closed_utc or now),
        evidence=look(terms) if row.state in ("held", "active") else None,
    )


def _approvals(
    tx: Connection, terms: HoldTerms, claims: tuple[Claim, ...], until: datetime
) -> tuple[Approval, ...]:
    table = schema.approvals.c
    query = (
        select(schema.approvals)
        .where(table.account == terms.account, table.from_utc <= until, table.until_utc > terms.opened_utc)
        .order_by(table.seq)
    )
    places = {(claim.key.budget, claim.key.unit) for claim in claims}
    found = (value_of(Approval, row) for row in tx.execute(query))
    return tuple(approval for approval in found if (approval.budget, approval.unit) in places)

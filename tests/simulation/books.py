"""What the auditor reads: the ledger's tables as they lie in the file, through nothing of the ledger's own."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

# budget, period, start in microseconds since the epoch, unit
Key = tuple[str, str, int, str]
Amounts = tuple[int, int]  # settled, held

_HOLDS = (
    "SELECT seq, id, stream, mode, connection_id, unit_price_usd, residual_bytes_max, host, opened_utc, state, "
    "version FROM holds"
)
_CLAIMS = (
    "SELECT c.hold_seq, b.budget, b.period, b.period_start_utc, b.unit, c.settled, c.held "
    "FROM claims c JOIN balances b ON b.seq = c.balance_seq"
)
_BALANCES = "SELECT budget, period, period_start_utc, unit, settled, held, holders FROM balances"


@dataclass(slots=True)
class HoldRow:
    id: str
    stream: str
    mode: str
    connection: str
    price: Decimal
    residual_max: int
    host: str
    opened_us: int
    state: str
    version: int
    claims: dict[Key, Amounts] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        return self.state in ("held", "active")


@dataclass(slots=True)
class Books:
    """One look at the ledger."""

    holds: dict[str, HoldRow]
    balances: dict[Key, tuple[int, int, int]]


def look(reader: sqlite3.Connection) -> Books:
    """Holds with their claims, and the balances."""
    by_seq: dict[int, HoldRow] = {}
    for seq, name, stream, mode, connection, price, *rest in reader.execute(_HOLDS):
        by_seq[seq] = HoldRow(name, stream, mode, connection, Decimal(price), *rest)
    for seq, budget, period, start, unit, settled, held in reader.execute(_CLAIMS):
        by_seq[seq].claims[(budget, period, start, unit)] = (settled, held)
    balances = {
        (budget, period, start, unit): (settled, held, holders)
        for budget, period, start, unit, settled, held, holders in reader.execute(_BALANCES)
    }
    return Books({hold.id: hold for hold in by_seq.values()}, balances)


def rows_of(reader: sqlite3.Connection, table: str) -> dict[str, dict[str, Any]]:
    """A table's rows by their id."""
    found = reader.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in found.description]
    rows = (dict(zip(names, row, strict=True)) for row in found)
    return {row["id"]: row for row in rows}

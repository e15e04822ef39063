"""The ledger's tables, and the numbered steps that bring an older ledger up to them.

Amounts are 64-bit integers, instants integer microseconds since the UNIX epoch in UTC, prices exact decimals as
text. Column names are the field names of the values in `ledger.model`, so that a row is a value.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    insert,
    select,
    update,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from budget_guard.clock import EPOCH
from budget_guard.errors import LedgerError

FORMAT = "budget-guard ledger"
VERSION = 3
# Rows of `meta`: where a ledger has moved to; the id of the ledger that an unfinished copy is made of.
MOVED, ARRIVING = "moved", "arriving"

MICROSECOND = timedelta(microseconds=1)

# Keeps the rows of tables from being changed or deleted, also by hand; what a database offers for that differs.
Protect = Callable[[Connection, Sequence[str]], None]
Step = Callable[[Connection, Protect], None]


class Instant(TypeDecorator[datetime]):
    """A UTC instant as integer microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else EPOCH + value * MICROSECOND


class ExactDecimal(TypeDecorator[Decimal]):
    """A decimal as text: no database rounds it."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


metadata = MetaData()


def _row_id() -> Column[int]:
    """The order in which rows were written. SQLite counts up by itself only for a plain INTEGER key."""
    return Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null)


def _amount(name: str) -> Column[int]:
    return Column(name, BigInteger, CheckConstraint(f"{name} >= 0"), nullable=False)


def _instant(name: str, *, null: bool = False) -> Column[datetime]:
    kind: TypeEngine[datetime] = Instant()
    return Column(name, kind, nullable=null)


meta = Table("meta", metadata, Column("name", String, primary_key=True), _text("value"))

balances = Table(
    "balances",
    metadata,
    _row_id(),
    _text("account"),
    _text("budget"),
    _text("period"),
    _instant("period_start_utc"),
    _text("unit"),
    _amount("settled"),
    _amount("held"),
    Column("holders", Integer, CheckConstraint("holders >= 0"), nullable=False, server_default="0"),
    UniqueConstraint("account", "budget", "period", "period_start_utc", "unit"),
)

holds = Table(
    "holds",
    metadata,
    _row_id(),
    Column("id", Text, nullable=False, unique=True),
    _text("account"),
    _text("stream", null=True),
    _text("dataset"),
    _text("schema"),
    _text("mode"),
    _text("connection_id"),
    _text("month"),
    Column("unit_price_usd", ExactDecimal(), nullable=False),
    _text("price_source"),
    _amount("residual_bytes_max"),
    _text("host"),
    _text("meter", null=True),
    _instant("opened_utc"),
    _text("request"),
    Column(
        "state",
        Text,
        CheckConstraint("state IN ('held', 'active', 'settled', 'released')"),
        nullable=False,
    ),
    Column("version", BigInteger, nullable=False),
    # When it became active, was last restated, and was settled or released; unknown in holds of version 1.
    _instant("activated_utc", null=True),
    _instant("restated_utc", null=True),
    _instant("closed_utc", null=True),
)
Index("holds_by_state", holds.c.state)

claims = Table(
    "claims",
    metadata,
    Column("hold_seq", ForeignKey("holds.seq"), primary_key=True),
    Column("balance_seq", ForeignKey("balances.seq"), primary_key=True),
    _amount("settled"),
    _amount("held"),
)

entries = Table(
    "entries",
    metadata,
    _row_id(),
    Column("id", Text, nullable=False, unique=True),
    Column("hold_id", ForeignKey("holds.id"), nullable=False),
    _text("account"),
    _text("stream", null=True),
    _text("dataset"),
    _text("schema"),
    _text("mode"),
    _text("month"),
    _instant("started_utc"),
    _instant("ended_utc"),
    _amount("size_bytes"),
    _amount("control_bytes"),
    Column("unit_price_usd", ExactDecimal(), nullable=False),
    _text("price_source"),
    _amount("cost_nano_usd"),
    _amount("residual_bytes"),
    _amount("residual_nano_usd"),
    _text("ending"),
    _text("note"),
)
Index("entries_by_month", entries.c.account, entries.c.month)
entries_by_hold = Index("entries_by_hold", entries.c.hold_id)

refusals = Table(
    "refusals",
    metadata,
    _row_id(),
    Column("id", Text, nullable=False, unique=True),
    _instant("at_utc"),
    _text("account"),
    _text("stream", null=True),
    _text("dataset"),
    _text("schema"),
    _text("mode"),
    _text("code"),
    _text("decision"),
    Column("asked_nano_usd", BigInteger),
)
Index("refusals_by_time", refusals.c.account, refusals.c.at_utc)

gaps = Table(
    "gaps",
    metadata,
    _row_id(),
    Column("id", Text, nullable=False, unique=True),
    _text("account"),
    _text("stream"),
    _text("dataset"),
    _text("schema"),
    _instant("start_utc"),
    _instant("end_utc"),
    _text("mended"),
    _text("note"),
)
Index("gaps_by_time", gaps.c.account, gaps.c.start_utc)

# Immutable, like entries: what a person added to a budget for a while, and what went past a limit.
approvals = Table(
    "approvals",
    metadata,
    _row_id(),
    Column("id", Text, nullable=False, unique=True),
    _text("account"),
    _text("budget"),
    _text("unit"),
    _amount("amount"),
    _instant("from_utc"),
    _instant("until_utc"),
    _text("reason"),
    _text("name"),
)
Index("approvals_by_account", approvals.c.account, approvals.c.until_utc)

overruns = Table(
    "overruns",
    metadata,
    _row_id(),
    Column("id", Text, nullable=False, unique=True),
    Column("hold_id", Text, nullable=False),
    _text("account"),
    _text("budget"),
    _text("period"),
    _instant("period_start_utc"),
    _text("unit"),
    _amount("limit_amount"),
    _amount("past"),
    _instant("at_utc"),
    _text("note"),
)
Index("overruns_by_time", overruns.c.account, overruns.c.at_utc)

# What the vendor refuses for good, told to every program; and what was bought of the past.
breakers = Table(
    "breakers",
    metadata,
    _row_id(),
    Column("id", Text, nullable=False, unique=True),
    _text("account"),
    _text("dataset"),
    _text("mode"),
    _text("key_id"),
    _text("code"),
    _text("message"),
    _instant("opened_utc"),
    _instant("until_utc"),
)
Index("breakers_by_account", breakers.c.account, breakers.c.until_utc)

purchases = Table(
    "purchases",
    metadata,
    _row_id(),
    Column("id", Text, nullable=False, unique=True),
    _text("account"),
    _text("stream"),
    _text("dataset"),
    _text("schema"),
    _text("stype_in"),
    _text("symbols"),
    _instant("start_utc"),
    _instant("end_utc"),
    _text("form"),
    _text("kind"),
    _text("job_id"),
    _text("state"),
    _amount("size_bytes"),
    _amount("cost_nano_usd"),
    _instant("asked_utc"),
)
Index("purchases_by_dataset", purchases.c.account, purchases.c.dataset)

# Rows of these tables are written once and never change.
IMMUTABLE = ("entries", "approvals", "overruns")


def _step_2(tx: Connection, protect: Protect) -> None:
    """Holders of each balance, times of a hold, approvals, overruns, and an id by which a ledger is known again."""
    tx.exec_driver_sql(
        "ALTER TABLE balances ADD COLUMN holders INTEGER NOT NULL DEFAULT 0 CHECK (holders >= 0)"
    )
    tx.exec_driver_sql(
        "UPDATE balances SET holders = (SELECT count(*) FROM claims JOIN holds ON holds.seq = claims.hold_seq "
        "WHERE claims.balance_seq = balances.seq AND holds.state IN ('held', 'active'))"
    )
    for column in ("activated_utc", "restated_utc", "closed_utc"):
        tx.exec_driver_sql(f"ALTER TABLE holds ADD COLUMN {column} BIGINT")
    entries_by_hold.create(tx)
    for table in (approvals, overruns):
        table.create(tx)
    protect(tx, ("approvals", "overruns"))
    tx.execute(insert(meta).values(name="id", value=uuid.uuid4().hex))


def _step_3(tx: Connection, protect: Protect) -> None:
    """What the vendor refuses for good, and what was bought of the past."""
    for table in (breakers, purchases):
        table.create(tx)


def protected_tables(tx: Connection) -> set[str]:
    """The immutable tables whose rows the database itself keeps from being changed."""
    if tx.dialect.name == "postgresql":
        query = (
            "SELECT relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid "
            "WHERE tgname = relname || '_never_change' AND tgenabled IN ('O', 'A')"
        )
    else:
        query = (
            "SELECT tbl_name FROM sqlite_master WHERE type = 'trigger' "
            "AND name IN (tbl_name || '_no_update', tbl_name || '_no_delete') GROUP BY tbl_name HAVING count(*) = 2"
        )
    return {str(row[0]) for row in tx.exec_driver_sql(query)}


# Step N turns a ledger of version N - 1 into one of version N, inside the transaction that records N.
STEPS: Mapping[int, Step] = {2: _step_2, 3: _step_3}


def create(tx: Connection, protect: Protect) -> None:
    """Make all tables in an empty database and record the version and the ledger's id."""
    metadata.create_all(tx)
    protect(tx, IMMUTABLE)
    rows = {"format": FORMAT, "version": str(VERSION), "id": uuid.uuid4().hex}
    tx.execute(insert(meta), [{"name": name, "value": value} for name, value in rows.items()])


def moved_text(target: str) -> str:
    """What a ledger that has moved says to whoever still uses it."""
    return f"has moved to {target} and takes nothing more: set BUDGET_GUARD_LEDGER to that"


def read_version(tx: Connection, tables: set[str], place: str) -> int | None:
    """The version of the ledger in this database; None when it is empty.

    Raises LedgerError for a database of something else, for a ledger of a newer version, and for one that has moved
    or has not yet arrived.
    """
    if not tables:
        return None
    found: dict[str, str] = {}
    if "meta" in tables and {"holds", "entries"} <= tables:
        found = {row.name: row.value for row in tx.execute(select(meta))}
    if found.get("format") != FORMAT or not found.get("version", "").isdigit():
        raise LedgerError(
            f"{place} is a database, but not a ledger of budget-guard: point BUDGET_GUARD_LEDGER at another file"
        )
    if MOVED in found:
        raise LedgerError(f"{place} {moved_text(found[MOVED])}")
    if ARRIVING in found:
        raise LedgerError(f"{place} is a copy that was not finished: run `budget-guard ledger copy` again")
    version = int(found["version"])
    if version > VERSION:
        raise LedgerError(
            f"{place} was written by a newer budget-guard (ledger version {version}, this one knows {VERSION}): "
            "upgrade budget-guard, or use another ledger"
        )
    return version


def migrate(
    tx: Connection,
    version: int,
    protect: Protect,
    steps: Mapping[int, Step] = STEPS,
    target: int = VERSION,
) -> None:
    """Bring a ledger of an older version up to `target`, one step at a time, each recorded as it is taken."""
    for number in range(version + 1, target + 1):
        steps[number](tx, protect)
        tx.execute(update(meta).where(meta.c.name == "version").values(value=str(number)))

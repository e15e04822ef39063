"""Moving a ledger to another database, whole: the copy is the ledger from then on, under the same id.

Two databases cannot commit together, so the copy is made in three steps, each of which leaves at most one ledger
that can be used: the copy is written and marked as arriving (nobody may use it), the old ledger is marked as moved
(nobody may use it any more), the copy's mark is taken off. Whatever ends the program in between, running it again
goes on from there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, delete, func, insert, inspect, select
from sqlalchemy.types import TypeDecorator, TypeEngine

from budget_guard.clock import Clock
from budget_guard.errors import LedgerError
from budget_guard.ledger import schema
from budget_guard.ledger.audit import Audit, audit_rows
from budget_guard.ledger.backends import Backend, backend_of, gate, need_file, parse_url, transaction
from budget_guard.ledger.opening import open_for_use
from budget_guard.ledger.recovery import Recovered
from budget_guard.ledger.sqlite import database_path

BATCH = 2000

_ROWS = [table for table in schema.metadata.sorted_tables if table is not schema.meta]
_NAMES = [table.name for table in _ROWS]
_NUMBERED = [table.name for table in _ROWS if "seq" in table.c]


@dataclass(frozen=True, slots=True)
class Copied:
    """A ledger that has moved: where from, where to, and the audit of what arrived."""

    source: str
    target: str
    audit: Audit
    recovered: tuple[Recovered, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {"from": self.source, "to": self.target, "id": self.audit.identity, "rows": self.audit.rows}


def copy_ledger(source_url: str, target_url: str, data_dir: Path, *, clock: Clock) -> Copied:
    """Move a ledger with every row it has; the old one then refuses further use and names the new place.

    What dead programs of this machine left is settled first. Raises LedgerError, with nothing changed, when holds are
    still open, when the target holds anything, and when the copy does not agree with itself.
    """
    need_file(source_url)
    with _unless_empty(target_url), _backend(source_url) as source, _backend(target_url) as target:
        if _same_place(source.place, target.place):
            raise LedgerError(
                f"{source.place} is both the old place and the new one: name another to copy to"
            )
        recovered: tuple[Recovered, ...] = ()
        if _has_left(source, target):
            found = _look_over(target)
        else:
            recovered = _settle_orphans(source_url, data_dir, clock)
            found = _move(source, target)
        _arrive(target)
    return Copied(source.place, target.place, found, recovered)


@contextmanager
def _unless_empty(url: str) -> Iterator[None]:
    """After a copy that is refused, take away the file that was made for it: it would pass for a new ledger."""
    parsed = parse_url(url)
    place = database_path(parsed) if parsed.get_backend_name() == "sqlite" else None
    is_new = place is not None and not place.exists()
    try:
        yield
    except LedgerError:
        if place is not None and is_new and place.exists() and not _has_tables(place):
            place.unlink()
        raise


def _has_tables(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as database:
        return bool(database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def _same_place(one: str, other: str) -> bool:
    paths = Path(one), Path(other)
    return one == other or (all(path.exists() for path in paths) and paths[0].samefile(paths[1]))


@contextmanager
def _backend(url: str) -> Iterator[Backend]:
    backend = backend_of(url)
    try:
        with gate(backend.explain, backend.place):
            yield backend
    finally:
        backend.engine.dispose()


def _meta(tx: Connection) -> dict[str, str]:
    """What a database says of itself; empty where there is no ledger."""
    if not {"meta", *_NAMES} <= set(inspect(tx).get_table_names()):
        return {}
    return {row.name: row.value for row in tx.execute(select(schema.meta))}


def _has_left(source: Backend, target: Backend) -> bool:
    """Whether an earlier run got as far as marking the old ledger as moved to this place."""
    with transaction(source, write=False) as tx:
        old = _meta(tx)
    if old.get(schema.MOVED) != target.place:
        return False
    with gate(target.explain, target.place), transaction(target, write=False) as tx:
        return _meta(tx).get(schema.ARRIVING) == old.get("id")


def _settle_orphans(url: str, data_dir: Path, clock: Clock) -> tuple[Recovered, ...]:
    """Settle what dead programs left. Raises LedgerError for what stays open, and for a ledger of no use."""
    opened = open_for_use(url, data_dir, clock=clock, rehearsal=False)
    try:
        still_open = opened.ledger.open_holds()
    finally:
        opened.ledger.close()
    if still_open:
        shown = ", ".join(
            f"{hold.terms.id} ({hold.terms.stream or hold.terms.dataset} on {hold.terms.host})"
            for hold in still_open[:5]
        )
        more = f" and {len(still_open) - 5} more" if len(still_open) > 5 else ""
        raise LedgerError(
            f"{len(still_open)} holds are open: {shown}{more}. End the programs that own them, and decide about those "
            "that nothing proves (budget-guard ledger resolve), then try again"
        )
    return opened.recovered


def _move(source: Backend, target: Backend) -> Audit:
    """Write the copy, then mark the old ledger; nobody else writes to either meanwhile."""
    with transaction(source, write=True) as out:
        source.unhurried(out)
        source.shut(out, [schema.meta.name, *_NAMES])
        if _count(out, schema.holds, schema.holds.c.state.in_(("held", "active"))):
            raise LedgerError(
                f"a hold was opened in {source.place} a moment ago: end what runs, then try again"
            )
        with gate(target.explain, target.place), transaction(target, write=True) as into:
            target.unhurried(into)
            target.alone(into)
            found = _write_copy(out, into, target)
        out.execute(insert(schema.meta).values(name=schema.MOVED, value=target.place))
        source.freeze(out, _NAMES, f"it {schema.moved_text(target.place)}")
    return found


def _write_copy(out: Connection, into: Connection, target: Backend) -> Audit:
    about = _meta(out)
    _make_room(into, target, about["id"])
    into.execute(delete(schema.meta))
    rows = {**about, schema.ARRIVING: about["id"]}
    into.execute(insert(schema.meta), [{"name": name, "value": value} for name, value in rows.items()])
    for table in _ROWS:
        _copy_rows(out, into, target, table)
    target.count_on(into, _NUMBERED)
    found = audit_rows(into, target.place)
    sent = {table.name: _count(out, table) for table in _ROWS}
    if found.rows != sent:
        raise LedgerError(
            f"not every row arrived in {target.place}: {_difference(sent, found.rows)}; nothing is changed"
        )
    if not found.sound:
        raise LedgerError(
            f"the ledger does not agree with itself in {len(found.findings) + found.more} places (budget-guard "
            "ledger verify says where), so it was not copied"
        )
    return found


def _make_room(into: Connection, target: Backend, identity: str) -> None:
    """Empty tables. Raises LedgerError for a place that holds anything but a broken-off copy of this very ledger."""
    tables = set(inspect(into).get_table_names())
    if not tables:
        schema.create(into, target.protect)
        return
    about = _meta(into)
    if about.get("format") != schema.FORMAT:
        raise LedgerError(f"{target.place} holds other tables: copy into an empty database")
    if about.get(schema.ARRIVING) == identity:
        schema.metadata.drop_all(into)
        schema.create(into, target.protect)
        return
    if about.get("id") == identity:
        raise LedgerError(f"{target.place} is this ledger already")
    version, used = about.get("version"), any(_count(into, table) for table in _ROWS)
    if used or version != str(schema.VERSION) or {schema.ARRIVING, schema.MOVED} & about.keys():
        raise LedgerError(f"{target.place} holds a ledger already: copy into an empty place")


def _copy_rows(out: Connection, into: Connection, target: Backend, table: Table) -> None:
    """Every row as the database has it: no instant and no price is made a value on its way."""
    plain = Table(table.name, MetaData(), *(Column(column.name, _stored(column.type)) for column in table.c))
    order = [plain.c[column.name] for column in table.primary_key.columns]
    rows = out.execute(select(plain).order_by(*order), execution_options={"yield_per": BATCH})
    for batch in rows.partitions():
        target.load(into, plain, [tuple(row) for row in batch])


def _stored(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """What a column's values are in the database."""
    return kind.impl_instance if isinstance(kind, TypeDecorator) else kind


def _look_over(target: Backend) -> Audit:
    with gate(target.explain, target.place), transaction(target, write=False) as tx:
        target.unhurried(tx)
        return audit_rows(tx, target.place)


def _arrive(target: Backend) -> None:
    """Open the copy for use."""
    with gate(target.explain, target.place), transaction(target, write=True) as tx:
        tx.execute(delete(schema.meta).where(schema.meta.c.name == schema.ARRIVING))


def _count(tx: Connection, table: Table, condition: Any = True) -> int:
    return int(tx.execute(select(func.count()).select_from(table).where(condition)).scalar_one())


def _difference(sent: Mapping[str, int], found: Mapping[str, int]) -> str:
    return ", ".join(
        f"{name} {found.get(name, 0)} of {count}" for name, count in sent.items() if found.get(name) != count
    )

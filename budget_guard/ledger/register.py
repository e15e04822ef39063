"""The ledger's rows that stand for themselves: written once or replaced by id, and listed. No balance needs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, Table, insert, select, update

from budget_guard.clock import month_bounds
from budget_guard.ledger import schema
from budget_guard.ledger.model import Approval, Breaker, Entry, Gap, Overrun, Purchase, Refusal
from budget_guard.ledger.rows import approvals_in_force, exists, values_in, values_of

R = TypeVar("R")


class Register(ABC):
    """The part of `Ledger` that keeps a record beside the balances."""

    @abstractmethod
    def _read(self, work: Callable[[Connection], R]) -> R:
        """Run it in a transaction that only reads."""

    @abstractmethod
    def _write(self, work: Callable[[Connection], R]) -> R:
        """Run it in a transaction that writes."""

    def entries(self, account: str, month: str) -> list[Entry]:
        table = schema.entries
        query = (
            select(table)
            .where(table.c.account == account, table.c.month == month)
            .order_by(table.c.ended_utc, table.c.seq)
        )
        return self._read(values_in(Entry, query))

    def record_refusal(self, refusal: Refusal) -> None:
        self._record(schema.refusals, refusal)

    def refusals(self, account: str, month: str) -> list[Refusal]:
        return self._read(values_in(Refusal, _of_account(schema.refusals, account, "at_utc", month)))

    def record_gap(self, gap: Gap) -> None:
        self._replace(schema.gaps, gap, ("mended", "note"))

    def gaps(self, account: str, month: str | None = None) -> list[Gap]:
        return self._read(values_in(Gap, _of_account(schema.gaps, account, "start_utc", month)))

    def record_approval(self, approval: Approval) -> None:
        self._record(schema.approvals, approval)

    def approvals(self, account: str, at_utc: datetime | None = None) -> list[Approval]:
        if at_utc is not None:
            return self._read(lambda tx: approvals_in_force(tx, account, at_utc))
        return self._read(values_in(Approval, _of_account(schema.approvals, account)))

    def overruns(self, account: str, month: str | None = None) -> list[Overrun]:
        return self._read(values_in(Overrun, _of_account(schema.overruns, account, "at_utc", month)))

    def record_breaker(self, breaker: Breaker) -> None:
        self._replace(schema.breakers, breaker, ("code", "message", "opened_utc", "until_utc"))

    def breakers(self, account: str, at_utc: datetime) -> list[Breaker]:
        table = schema.breakers
        return self._read(values_in(Breaker, _of_account(table, account).where(table.c.until_utc > at_utc)))

    def record_purchase(self, purchase: Purchase) -> None:
        self._replace(schema.purchases, purchase, ("job_id", "state", "size_bytes", "cost_nano_usd"))

    def purchases(
        self,
        account: str,
        dataset: str | None = None,
        *,
        form: str | None = None,
        within: tuple[str, datetime, datetime] | None = None,
    ) -> list[Purchase]:
        table = schema.purchases
        query = _of_account(table, account)
        if dataset is not None:
            query = query.where(table.c.dataset == dataset)
        if form is not None:
            query = query.where(table.c.form == form)
        if within is not None:
            name, start_utc, end_utc = within
            query = query.where(
                table.c.schema == name, table.c.start_utc < end_utc, table.c.end_utc > start_utc
            )
        return self._read(values_in(Purchase, query))

    # -- inside

    def _replace(self, table: Table, value: Any, changing: tuple[str, ...]) -> None:
        """Insert a row, or renew what may change of the one with the same id."""

        def work(tx: Connection) -> None:
            row = values_of(value)
            if exists(tx, table, value.id):
                newer = {name: row[name] for name in changing}
                tx.execute(update(table).where(table.c.id == value.id).values(**newer))
            else:
                tx.execute(insert(table).values(**row))

        self._write(work)

    def _record(self, table: Table, value: Any) -> None:
        """Insert a row; one that is there already stays as it is."""

        def work(tx: Connection) -> None:
            if not exists(tx, table, value.id):
                tx.execute(insert(table).values(**values_of(value)))

        self._write(work)


def _of_account(table: Table, account: str, at: str | None = None, month: str | None = None) -> Select[Any]:
    """An account's rows in order of a column of instants, of one month or of all; without, as they were written."""
    query = select(table).where(table.c.account == account)
    if at is not None and month is not None:
        start, end = month_bounds(month)
        query = query.where(table.c[at] >= start, table.c[at] < end)
    return query.order_by(*([] if at is None else [table.c[at]]), table.c.seq)

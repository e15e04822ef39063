"""The sandbox's own bill: what it handed to the network, to the byte, and what that costs, exactly.

Live counts every byte that `send()` accepted after the DBN metadata. Control records (mappings, system messages,
errors, heartbeats) are billed too, at the dearest of the prices that are in force on the connection, and reported
apart. History counts the uncompressed record bytes of what was written, before it is written. A connection or
download belongs to the UTC month in which it was opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from budget_guard.clock import Clock, instant_text, month_of
from budget_guard.money import decimal_text
from budget_guard.sandbox.billing.amounts import EXACT, ZERO, Price, Tally, text_of, total_of
from budget_guard.sandbox.billing.amounts import exact_cost as exact_cost
from budget_guard.sandbox.billing.counters import BillError as BillError
from budget_guard.sandbox.billing.keeper import Keeper
from budget_guard.sandbox.billing.line import BillLine as BillLine
from budget_guard.sandbox.billing.line import Row
from budget_guard.sandbox.billing.plans import Mode, paid_by
from budget_guard.sandbox.billing.rules import BillingRules
from budget_guard.sandbox.billing.totals import (
    CONTROL,
    Hour,
    Usage,
    daily_costs,
    hour_of,
    monthly,
    usage_of,
    with_open,
)
from budget_guard.sandbox.billing.usage import Frequency, UsageRow, bill_text, month_to_date, usage_rows
from budget_guard.sandbox.config import Credit, FlatPlan

# Closed lines that stay listed; those before them are summed up.
KEPT_LINES = 1000


class Bill:
    """All lines of a sandbox. Not for several threads.

    With a `path` the bill is kept on disk as it goes and one that is there is gone on with; `finish` ends that.
    Raises BillError when what is there cannot be gone on with.
    """

    def __init__(
        self,
        clock: Clock,
        changed: Callable[[], None],
        *,
        rules: BillingRules | None = None,
        plans: Mapping[str, FlatPlan] | None = None,
        credits: Sequence[Credit] = (),
        kept: int = KEPT_LINES,
        path: Path | None = None,
    ) -> None:
        self.rules = rules or BillingRules()
        self._clock = clock
        self._changed = changed
        self._credits = credits
        self._keeper = Keeper(clock, changed, plans or {}, kept)
        if path is not None:
            self._keeper.keep_at(path)

    def open(self, mode: Mode, key: str, dataset: str) -> BillLine:
        """A new line, from now on."""
        line = self._keeper.open(mode, key, dataset)
        self._changed()
        return line

    def reprice(self, mode: Mode, dataset: str, schema: str, usd_per_gib: Decimal | None) -> None:
        """A new list price: what open lines send from here on costs that."""
        for line in self._keeper.lines.values():
            if (line.mode, line.dataset) == (mode, dataset) and schema in line.prices:
                line.reprice(schema, usd_per_gib)

    def finish(self) -> None:
        """Close what is still open and let the files go. The bill can still be read."""
        self._keeper.finish()

    def usage(self, month: str | None = None, frequency: Frequency = "hour") -> list[UsageRow]:
        """The usage records of a billing month, `YYYY-MM`, or of all."""
        return usage_rows(self._by_hour(), frequency, month)

    def month_to_date(self, month: str | None = None) -> dict[str, int]:
        """`{usage_bytes, usage_cents}` of a billing month, by default the current one."""
        return month_to_date(self.usage(month or month_of(self._clock.now())))

    def as_json(self) -> dict[str, Any]:
        """The whole bill. Amounts are exact decimals in strings, sizes integers.

        `by_usage` has a row for each (key, dataset, schema, mode, month) with any bytes; control is a schema there.
        `connections` are the open lines and the last closed ones, `older` sums up those before.
        """
        totals = self._keeper.totals
        by_usage = self._by_usage()
        total = Tally()
        for tally in by_usage.values():
            total.merge(tally)
        lines = [line.as_json() for line in self._keeper.lines.values()]
        return {
            "synthetic": True,
            "at_utc": instant_text(self._clock.now()),
            "bytes": total.size_bytes,
            "control_bytes": sum(
                tally.size_bytes for place, tally in by_usage.items() if place.schema == CONTROL
            ),
            "excluded_bytes": totals.excluded_bytes + sum(line["excluded_bytes"] for line in lines),
            "uncertain_bytes": totals.uncertain.size_bytes,
            "uncertain_cost_usd": decimal_text(totals.uncertain.cost_usd),
            **total.costs(),
            "months": self._months(by_usage),
            "by_usage": [
                {
                    **place._asdict(),
                    "bytes": tally.size_bytes,
                    "cost_usd": None if tally.unpriced_bytes else text_of(tally.cost_usd),
                }
                for place, tally in by_usage.items()
            ],
            "older": totals.older.as_json(),
            "connections": sorted((*totals.closed, *lines), key=lambda line: line["id"]),
        }

    def _open_rows(self) -> Iterator[tuple[BillLine, Row]]:
        for line in self._keeper.lines.values():
            for row in line.rows.values():
                if row.what != Row.EXCLUDED and row.size_bytes:
                    yield line, row

    def _by_usage(self) -> dict[Usage, Tally]:
        rows: Iterator[tuple[Usage, int, Price]] = (
            (usage_of(line, row), row.size_bytes, row.price) for line, row in self._open_rows()
        )
        return with_open(self._keeper.totals.by_usage, rows)

    def _by_hour(self) -> dict[Hour, Tally]:
        rows: Iterator[tuple[Hour, int, Price]] = (
            (hour_of(line, row), row.size_bytes, row.price) for line, row in self._open_rows()
        )
        return with_open(self._keeper.totals.by_hour, rows)

    def _months(self, by_usage: dict[Usage, Tally]) -> list[dict[str, Any]]:
        """What each month costs, what credits pay of it, and what is due."""
        paid = paid_by(self._credits, daily_costs(self._by_hour())) if self._credits else []
        months = []
        for month, tally in monthly(by_usage):
            credit = total_of(item.used_usd.get(month, ZERO) for item in paid)
            months.append(
                {
                    "month": month,
                    "bytes": tally.size_bytes,
                    **tally.costs(),
                    "credit_usd": decimal_text(credit),
                    "due_usd": decimal_text(EXACT.subtract(tally.cost_usd, credit)),
                    "credits": [
                        item.as_json() | {"used_usd": decimal_text(used)}
                        for item in paid
                        if (used := item.used_usd.get(month))
                    ],
                }
            )
        return months


def read_bill(path: Path, clock: Clock) -> dict[str, Any]:
    """The bill kept at a path as its sandbox left it, whether it ended or was killed; see `Bill.as_json`.

    Nothing is changed. Raises BillError when what is there is no bill.
    """
    bill = Bill(clock, lambda: None)
    bill._keeper.look_at(path)
    return bill.as_json()


def write_bill(path: Path, bill: dict[str, Any]) -> None:
    """Replace the file at once: a reader, or a crash, sees the old bill or the new one, never a part."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(bill_text(bill), encoding="utf-8")
    fresh.replace(path)

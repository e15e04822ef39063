"""The bill in the shape of the vendor's own usage record, as its portal gives it.

The field names and types are those of the vendor's OpenAPI document (`DataUsageRecord`, `MonthToDateUsage`). What it
does not say was chosen: a timestamp is the start of the hour or UTC day, in seconds unless asked otherwise; a cost is
the exact one as the nearest double (15 digits and more), null where no price is known; cents are rounded up.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING
from typing import Any, Literal

from budget_guard.money import decimal_text
from budget_guard.sandbox.billing.amounts import EXACT, Tally
from budget_guard.sandbox.billing.totals import HOUR_S, Hour

Frequency = Literal["hour", "day"]
FREQUENCIES: Mapping[str, int] = {"hour": 1, "day": 24}
UNITS: Mapping[str, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

# The sandbox has one user, who has all keys.
USER_ID, USER_NAME = "sandbox", "Sandbox"

FIELDS = (
    "timestamp",
    "user_id",
    "api_key",
    "user_name",
    "dataset",
    "schema",
    "mode",
    "usage_sum",
    "cost_sum",
)


class UsageRow:
    """One usage record, with its cost still exact."""

    __slots__ = ("place", "tally")

    def __init__(self, place: Hour, tally: Tally) -> None:
        self.place = place
        self.tally = tally

    def fields(self, unit: str) -> dict[str, Any]:
        """The vendor's fields; the cost is an exact decimal's text, or None."""
        place, tally = self.place, self.tally
        return {
            "timestamp": place.hour * HOUR_S * UNITS[unit],
            "user_id": USER_ID,
            "api_key": place.key,
            "user_name": USER_NAME,
            "dataset": place.dataset,
            "schema": place.schema,
            "mode": place.mode,
            "usage_sum": tally.size_bytes,
            "cost_sum": None if tally.unpriced_bytes else decimal_text(tally.cost_usd),
        }


def usage_rows(by_hour: Mapping[Hour, Tally], frequency: Frequency, month: str | None) -> list[UsageRow]:
    """The records of a billing month (None: of all), in the order of time."""
    hours = FREQUENCIES[frequency]
    found: dict[Hour, Tally] = {}
    for place, tally in by_hour.items():
        if month in (None, place.month):
            start = place._replace(hour=place.hour // hours * hours)
            found.setdefault(start, Tally()).merge(tally)
    return [UsageRow(place, tally) for place, tally in sorted(found.items(), key=lambda item: item[0])]


def usage_json(rows: Iterable[UsageRow], unit: str = "s") -> list[dict[str, Any]]:
    """The records as JSON values; `cost_sum` is a number."""
    shown = [row.fields(unit) for row in rows]
    for row in shown:
        row["cost_sum"] = None if row["cost_sum"] is None else float(row["cost_sum"])
    return shown


def usage_csv(rows: Iterable[UsageRow], unit: str = "s") -> str:
    """The records as CSV, with a header; `cost_sum` has every digit, and is empty where no price is known."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.fields(unit) for row in rows)
    return text.getvalue()


def month_to_date(rows: Iterable[UsageRow]) -> dict[str, int]:
    """`{usage_bytes, usage_cents}` of the rows of a month; a part of a cent counts as a whole one."""
    total = Tally()
    for row in rows:
        total.merge(row.tally)
    cents = EXACT.multiply(total.cost_usd, 100).to_integral_value(ROUND_CEILING, EXACT)
    return {"usage_bytes": total.size_bytes, "usage_cents": int(cents)}


def bill_text(bill: Mapping[str, Any]) -> str:
    """A bill as JSON text with a line for each row and connection: quick to write, and to read."""
    parts = []
    for name, value in bill.items():
        if isinstance(value, list) and value:
            rows = ",\n  ".join(json.dumps(row) for row in value)
            parts.append(f" {json.dumps(name)}: [\n  {rows}\n ]")
        else:
            parts.append(f" {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"

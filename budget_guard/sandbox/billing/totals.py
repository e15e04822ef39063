"""What a bill has come to, by usage and by hour, and the lines that are closed: all that stays of them in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from budget_guard.clock import instant_from_ns
from budget_guard.sandbox.billing.amounts import EXACT, ZERO, Price, Tally

if TYPE_CHECKING:
    from budget_guard.sandbox.billing.line import BillLine, Row

CONTROL = "control"
HOUR_S = 3600


class Usage(NamedTuple):
    """What one row of `by_usage` is about; control is a schema there."""

    key: str
    dataset: str
    schema: str
    mode: str
    month: str


class Hour(NamedTuple):
    """What one usage record is about: control bytes stand under the schema whose price they were charged."""

    hour: int  # since the epoch
    key: str
    dataset: str
    schema: str
    mode: str
    month: str


Place = TypeVar("Place", Usage, Hour)


class Older:
    """The closed lines that are no longer listed."""

    def __init__(self, connections: int = 0, control_bytes: int = 0, tally: Tally | None = None) -> None:
        self.connections = connections
        self.control_bytes = control_bytes
        self.tally = tally or Tally()

    def add(self, line: dict[str, Any]) -> None:
        """A line, as it was listed."""
        self.connections += 1
        self.control_bytes += line["control_bytes"]
        costs = (line["bytes"], line["unpriced_bytes"], line["cost_usd"], line["list_cost_usd"])
        self.tally.merge(Tally.of_json(list(costs)))

    def as_json(self) -> dict[str, Any]:
        return {
            "connections": self.connections,
            "bytes": self.tally.size_bytes,
            "control_bytes": self.control_bytes,
            **self.tally.costs(),
        }


class Totals:
    """Sums of everything that is settled: rows whose line, hour or price has ended."""

    def __init__(self, kept: int) -> None:
        """`kept` closed lines stay listed."""
        self.by_usage: dict[Usage, Tally] = {}
        self.by_hour: dict[Hour, Tally] = {}
        self.closed: deque[dict[str, Any]] = deque()
        self.older = Older()
        self.excluded_bytes = 0
        self.uncertain = Tally()
        self._kept = kept

    def settle(self, line: BillLine, row: Row, size_bytes: int) -> None:
        """A row that has ended."""
        if row.what == row.EXCLUDED:
            self.excluded_bytes += size_bytes
        elif size_bytes:
            add_row(self.by_usage, usage_of(line, row), size_bytes, row.price)
            add_row(self.by_hour, hour_of(line, row), size_bytes, row.price)

    def close(self, line: dict[str, Any]) -> None:
        """A line that has ended, as it is listed."""
        self.closed.append(line)
        while len(self.closed) > self._kept:
            self.older.add(self.closed.popleft())

    def as_json(self) -> dict[str, Any]:
        """All of it, for the journal."""
        return {
            "by_usage": [[*place, tally.as_json()] for place, tally in self.by_usage.items()],
            "by_hour": [[*place, tally.as_json()] for place, tally in self.by_hour.items()],
            "closed": list(self.closed),
            "older": [self.older.connections, self.older.control_bytes, self.older.tally.as_json()],
            "excluded_bytes": self.excluded_bytes,
            "uncertain": self.uncertain.as_json(),
        }

    def load(self, values: dict[str, Any]) -> None:
        """What `as_json` gave."""
        self.by_usage = {Usage(*place): Tally.of_json(tally) for *place, tally in values["by_usage"]}
        self.by_hour = {Hour(*place): Tally.of_json(tally) for *place, tally in values["by_hour"]}
        connections, control_bytes, tally = values["older"]
        self.older = Older(connections, control_bytes, Tally.of_json(tally))
        self.excluded_bytes = values["excluded_bytes"]
        self.uncertain = Tally.of_json(values["uncertain"])
        for line in values["closed"]:
            self.close(line)


def usage_of(line: BillLine, row: Row) -> Usage:
    return Usage(line.key[-5:], line.dataset, row.what or CONTROL, line.mode, line.month)


def hour_of(line: BillLine, row: Row) -> Hour:
    return Hour(row.hour, line.key[-5:], line.dataset, row.under or CONTROL, line.mode, line.month)


def add_row(tallies: dict[Place, Tally], place: Place, size_bytes: int, price: Price) -> None:
    """Add bytes at a price to the sum of their place."""
    tally = tallies.get(place)
    if tally is None:
        tally = tallies[place] = Tally()
    tally.add(size_bytes, price)


def with_open(settled: dict[Place, Tally], rows: Iterable[tuple[Place, int, Price]]) -> dict[Place, Tally]:
    """The settled sums and the rows that still run; the sums themselves are left alone."""
    found = dict(settled)
    copied: set[Place] = set()
    for place, size_bytes, price in rows:
        if place not in copied:
            copied.add(place)
            fresh = Tally()
            if place in found:
                fresh.merge(found[place])
            found[place] = fresh
        found[place].add(size_bytes, price)
    return found


def daily_costs(by_hour: dict[Hour, Tally]) -> dict[tuple[date, str], Decimal]:
    """Known costs by (UTC day, mode)."""
    costs: dict[tuple[date, str], Decimal] = {}
    for place, tally in by_hour.items():
        day = instant_from_ns(place.hour * HOUR_S * 10**9).date(), place.mode
        costs[day] = EXACT.add(costs.get(day, ZERO), tally.cost_usd)
    return costs


def monthly(by_usage: dict[Usage, Tally]) -> Iterator[tuple[str, Tally]]:
    """The sum of each month, in order."""
    sums: dict[str, Tally] = {}
    for place, tally in by_usage.items():
        sums.setdefault(place.month, Tally()).merge(tally)
    yield from sorted(sums.items())

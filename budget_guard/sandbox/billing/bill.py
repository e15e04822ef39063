"""The sandbox's own bill: what it handed to the network, to the byte, and what that costs, exactly.

Live counts every byte that `send()` accepted after the DBN metadata. Control records (mappings, system messages,
errors, heartbeats) are billed too, at the dearest price of the connection's subscriptions, and reported apart.
History counts the uncompressed record bytes of what was written, before it is written. A connection or download
belongs to the UTC month in which it was opened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Context, Decimal
from pathlib import Path
from typing import Any, Literal

from budget_guard.clock import Clock, instant_text, month_of
from budget_guard.money import GIB, decimal_text

Mode = Literal["live", "historical"]

_EXACT = Context(prec=80)


def exact_cost(size_bytes: int, usd_per_gib: Decimal) -> Decimal:
    """`bytes * price / 2**30`, without rounding."""
    return _EXACT.divide(_EXACT.multiply(Decimal(size_bytes), usd_per_gib), Decimal(GIB))


class BillLine:
    """One live connection or one download. `changed` is called after every change."""

    def __init__(
        self, number: int, mode: Mode, key: str, dataset: str, clock: Clock, changed: Callable[[], None]
    ) -> None:
        self.number = number
        self.mode: Mode = mode
        self.key = key
        self.dataset = dataset
        self.opened_utc = clock.now()
        self.closed_utc: datetime | None = None
        self.ended: str | None = None
        self.control_bytes = 0
        self.schema_bytes: dict[str, int] = {}
        self._prices: dict[str, Decimal | None] = {}
        self._clock = clock
        self._changed = changed

    @property
    def size_bytes(self) -> int:
        return self.control_bytes + sum(self.schema_bytes.values())

    def subscribe(self, schema: str, usd_per_gib: Decimal | None) -> None:
        """A schema that this line may bill, and its price; None if nobody knows it."""
        self._prices[schema] = usd_per_gib
        self.schema_bytes.setdefault(schema, 0)

    def add(self, schema: str | None, size_bytes: int) -> None:
        """Bytes that were sent; a schema of None is control."""
        if schema is None:
            self.control_bytes += size_bytes
        else:
            self.schema_bytes[schema] += size_bytes
        self._changed()

    def close(self, ended: str) -> None:
        """The end, and how it came about; only the first counts."""
        if self.closed_utc is None:
            self.closed_utc = self._clock.now()
            self.ended = ended
            self._changed()

    def control_price(self) -> Decimal | None:
        return max((price for price in self._prices.values() if price is not None), default=None)

    def charges(self) -> list[tuple[str, int, Decimal | None]]:
        """(what, bytes, price) of everything on the line."""
        rows: list[tuple[str, int, Decimal | None]] = [
            (schema, size, self._prices[schema]) for schema, size in self.schema_bytes.items()
        ]
        return [*rows, ("control", self.control_bytes, self.control_price())]

    def as_json(self) -> dict[str, Any]:
        charges = self.charges()
        return {
            "id": self.number,
            "mode": self.mode,
            "key": self.key[-5:],
            "dataset": self.dataset,
            "month": month_of(self.opened_utc),
            "opened_utc": instant_text(self.opened_utc),
            "closed_utc": None if self.closed_utc is None else instant_text(self.closed_utc),
            "ended": self.ended,
            "bytes": self.size_bytes,
            "control_bytes": self.control_bytes,
            "schemas": {
                what: {"bytes": size, "usd_per_gib": _text(price), "cost_usd": _text(_cost(size, price))}
                for what, size, price in charges
                if what != "control"
            },
            **_totals(charges),
        }


class Bill:
    """All lines of a sandbox, in the order in which they were opened."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self.lines: list[BillLine] = []

    def open(self, mode: Mode, key: str, dataset: str) -> BillLine:
        """A new line, from now on."""
        line = BillLine(len(self.lines) + 1, mode, key, dataset, self._clock, self._changed)
        self.lines.append(line)
        self._changed()
        return line

    def as_json(self) -> dict[str, Any]:
        """The whole bill. Amounts are exact decimals in strings, sizes integers.

        `by_usage` has a row for each (key, dataset, schema, mode, month); control is a schema there.
        """
        charges = [charge for line in self.lines for charge in line.charges()]
        return {
            "synthetic": True,
            "at_utc": instant_text(self._clock.now()),
            "bytes": sum(line.size_bytes for line in self.lines),
            "control_bytes": sum(line.control_bytes for line in self.lines),
            **_totals(charges),
            "by_usage": self._by_usage(),
            "connections": [line.as_json() for line in self.lines],
        }

    def _by_usage(self) -> list[dict[str, Any]]:
        sizes: dict[tuple[str, ...], int] = {}
        costs: dict[tuple[str, ...], Decimal | None] = {}
        for line in self.lines:
            for what, size, price in line.charges():
                place = (line.key[-5:], line.dataset, what, line.mode, month_of(line.opened_utc))
                cost = _cost(size, price)
                known = costs.get(place, Decimal(0))
                sizes[place] = sizes.get(place, 0) + size
                costs[place] = None if cost is None or known is None else _EXACT.add(known, cost)
        names = ("key", "dataset", "schema", "mode", "month")
        return [
            {**dict(zip(names, place, strict=True)), "bytes": size, "cost_usd": _text(costs[place])}
            for place, size in sizes.items()
        ]


def _cost(size: int, price: Decimal | None) -> Decimal | None:
    if size == 0:
        return Decimal(0)
    return None if price is None else exact_cost(size, price)


def _totals(charges: Iterable[tuple[str, int, Decimal | None]]) -> dict[str, Any]:
    """The known cost, and the bytes whose price nobody knows (never counted as free)."""
    total = Decimal(0)
    unpriced = 0
    for _, size, price in charges:
        cost = _cost(size, price)
        if cost is None:
            unpriced += size
        else:
            total = _EXACT.add(total, cost)
    return {"cost_usd": decimal_text(total), "unpriced_bytes": unpriced}


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else decimal_text(amount)


def write_bill(path: Path, bill: dict[str, Any]) -> None:
    """Replace the file at once: a reader, or a crash, sees the old bill or the new one, never a part."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)

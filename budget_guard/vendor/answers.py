"""The vendor's answers, checked and made exact. What is not what its documentation says is an error, never a zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from budget_guard.money import usd_from_vendor
from budget_guard.vendor.errors import not_understood


@dataclass(frozen=True, slots=True)
class DatasetRange:
    """What this key may see of a dataset, half-open; some schemas begin later or end earlier than the whole."""

    start_utc: datetime
    end_utc: datetime
    by_schema: Mapping[str, tuple[datetime, datetime]] = field(default_factory=dict)

    def of(self, schema: str) -> tuple[datetime, datetime]:
        """The schema's own range where the vendor gave one, else the dataset's."""
        return self.by_schema.get(schema, (self.start_utc, self.end_utc))


def parse_unit_prices(answer: Any) -> dict[str, dict[str, str]]:
    """Prices by mode and schema, as decimal text: that is how the cache keeps them."""
    if not isinstance(answer, list):
        raise not_understood("list_unit_prices is not a list")
    prices: dict[str, dict[str, str]] = {}
    for row in answer:
        modes = prices.setdefault(str(row["mode"]), {})
        for schema, price in row["unit_prices"].items():
            modes[schema] = str(parse_cost(price))
    return prices


def parse_cost(answer: Any) -> Decimal:
    """An amount in USD, not below zero."""
    amount = usd_from_vendor(answer)
    if amount < 0:
        raise not_understood(f"an amount below zero: {amount}")
    return amount


def parse_size(answer: Any) -> Decimal:
    """A whole number of bytes."""
    if isinstance(answer, bool) or not isinstance(answer, int) or answer < 0:
        raise not_understood(f"a size of {answer!r}")
    return Decimal(answer)


def parse_names(answer: Any) -> list[str]:
    """A list of datasets or schemas."""
    if not isinstance(answer, list):
        raise not_understood("a list of names was expected")
    return [str(name) for name in answer]


def checked_dataset_range(answer: Any) -> dict[str, Any]:
    """The answer as it is, once it is known to be readable."""
    parse_dataset_range(answer)
    checked: dict[str, Any] = answer
    return checked


def parse_dataset_range(answer: Any) -> DatasetRange:
    """The range of a dataset and of each of its schemas."""
    by_schema = {
        schema: (_parse_instant(row["start"]), _parse_instant(row["end"]))
        for schema, row in (answer.get("schema") or {}).items()
    }
    return DatasetRange(_parse_instant(answer["start"]), _parse_instant(answer["end"]), by_schema)


def _parse_instant(text: str) -> datetime:
    """ISO time, cut to microseconds; without an offset it is UTC, as the vendor documents."""
    instant = datetime.fromisoformat(text)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)

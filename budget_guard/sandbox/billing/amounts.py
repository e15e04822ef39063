"""Exact amounts: what bytes cost at a price, and sums of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

from budget_guard.money import GIB, decimal_text

# Enough digits that no product of a price and a count of bytes, and no sum of those, is ever rounded.
EXACT = Context(prec=80)

ZERO = Decimal(0)


def exact_cost(size_bytes: int, usd_per_gib: Decimal) -> Decimal:
    """`bytes * price / 2**30`, without rounding."""
    return EXACT.divide(EXACT.multiply(Decimal(size_bytes), usd_per_gib), Decimal(GIB))


@dataclass(frozen=True, slots=True)
class Price:
    """USD per GiB: what is charged, and what the list says. None: nobody knows it. They differ under a plan."""

    usd: Decimal | None
    list_usd: Decimal | None

    def as_json(self) -> list[str | None]:
        return [text_of(self.usd), text_of(self.list_usd)]

    @classmethod
    def of_json(cls, texts: list[str | None]) -> Price:
        usd, list_usd = (None if text is None else Decimal(text) for text in texts)
        return cls(usd, list_usd)


UNKNOWN_PRICE = Price(None, None)


def dearest(prices: Mapping[str, Price]) -> tuple[str | None, Price]:
    """The schema whose price is the highest, and that price; None without a schema.

    A known price beats an unknown one, and among equals the list decides, then the first subscribed.
    """
    best: tuple[str | None, Price] = (None, UNKNOWN_PRICE)
    for schema, price in prices.items():
        if best[0] is None or _rank(price) > _rank(best[1]):
            best = schema, price
    return best


def _rank(price: Price) -> tuple[Decimal, Decimal]:
    return tuple(Decimal(-1) if usd is None else usd for usd in (price.usd, price.list_usd))  # type: ignore[return-value]


class Tally:
    """A sum of bytes and of what they cost."""

    __slots__ = ("cost_usd", "list_cost_usd", "size_bytes", "unpriced_bytes")

    def __init__(self) -> None:
        self.size_bytes = 0
        self.unpriced_bytes = 0
        self.cost_usd = ZERO
        self.list_cost_usd = ZERO

    def add(self, size_bytes: int, price: Price) -> None:
        """Bytes at a price. Those whose price nobody knows are unpriced, never free."""
        if size_bytes == 0:
            return
        self.size_bytes += size_bytes
        if price.usd is None:
            self.unpriced_bytes += size_bytes
        elif price.usd:
            self.cost_usd = EXACT.add(self.cost_usd, exact_cost(size_bytes, price.usd))
        if price.list_usd:
            self.list_cost_usd = EXACT.add(self.list_cost_usd, exact_cost(size_bytes, price.list_usd))

    def merge(self, other: Tally) -> None:
        """Everything of another sum."""
        self.size_bytes += other.size_bytes
        self.unpriced_bytes += other.unpriced_bytes
        self.cost_usd = EXACT.add(self.cost_usd, other.cost_usd)
        self.list_cost_usd = EXACT.add(self.list_cost_usd, other.list_cost_usd)

    def costs(self) -> dict[str, Any]:
        """The known cost, the bytes whose price nobody knows, and what the list would charge."""
        return {
            "cost_usd": decimal_text(self.cost_usd),
            "unpriced_bytes": self.unpriced_bytes,
            "list_cost_usd": decimal_text(self.list_cost_usd),
        }

    def as_json(self) -> list[Any]:
        return [self.size_bytes, self.unpriced_bytes, str(self.cost_usd), str(self.list_cost_usd)]

    @classmethod
    def of_json(cls, values: list[Any]) -> Tally:
        tally = cls()
        tally.size_bytes, tally.unpriced_bytes = values[:2]
        tally.cost_usd, tally.list_cost_usd = Decimal(values[2]), Decimal(values[3])
        return tally


def total_of(amounts: Iterable[Decimal]) -> Decimal:
    """Their exact sum; the built-in one rounds to 28 digits."""
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def text_of(amount: Decimal | None) -> str | None:
    """An amount as JSON carries it."""
    return None if amount is None else decimal_text(amount)

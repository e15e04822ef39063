"""A price and where it came from; a range of data as it is both priced and requested."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

PriceKind = Literal["override", "vendor", "sheet", "plan"]


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """USD per GiB of one schema. `source` is a sentence for people; kind "plan" means a known 0.

    `as_of` is the day that the source speaks of, `read_utc` when the vendor was asked, `grade` how sure the bundled
    sheet is.
    """

    usd_per_gib: Decimal
    kind: PriceKind
    source: str
    as_of: date | None = None
    read_utc: datetime | None = None
    grade: str | None = None


@dataclass(frozen=True, slots=True)
class DataRange:
    """Exactly what the vendor is asked for: the same value is priced, requested and booked.

    `symbols` is `("ALL_SYMBOLS",)` for a whole dataset. Half-open: `[start_utc, end_utc)`.
    """

    dataset: str
    schema: str
    symbols: tuple[str, ...]
    stype_in: str
    start_utc: datetime
    end_utc: datetime


@dataclass(frozen=True, slots=True)
class PricedRange:
    """A range, or the part of one, and the price of each of its bytes."""

    range: DataRange
    price: UnitPrice

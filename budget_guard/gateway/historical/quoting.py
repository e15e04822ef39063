"""The price of a historical request, asked for before it is made."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Protocol

from budget_guard.gateway.historical.form import RangeRequest
from budget_guard.guard.purchases import Purchases
from budget_guard.guard.quote import Quote
from budget_guard.money import cost_nano_usd, usd_from_nano
from budget_guard.pricing.model import DataRange, UnitPrice


class Quoter(Protocol):
    """The vendor's free metadata. The first two raise VendorError."""

    def fetch_billable_size(self, data_range: DataRange) -> int: ...

    def fetch_cost(self, data_range: DataRange) -> Decimal: ...

    def forget(self, data_range: DataRange) -> None:
        """Ask the vendor again when this range is next asked about: what was kept is wrong."""


def fetch_quote(quoter: Quoter, wanted: RangeRequest, price: UnitPrice) -> Quote:
    """Size and cost of exactly the range that will be requested; `limit` caps both. Raises VendorError.

    The vendor's figure stays an upper bound when a limit cuts the request short, and 0 stays 0.
    """
    size = quoter.fetch_billable_size(wanted.range)
    cost = quoter.fetch_cost(wanted.range)
    record_bytes = wanted.record_bytes
    if wanted.limit is not None and record_bytes is not None and wanted.limit * record_bytes < size:
        size = wanted.limit * record_bytes
        cost = min(cost, usd_from_nano(cost_nano_usd(size, price.usd_per_gib)))
        return Quote(wanted.range, size, price, cost, bounded=True)
    return Quote(wanted.range, size, price, cost)


def with_owned(quoter: Quoter, purchases: Purchases, quote: Quote) -> Quote:
    """The quote with what of it was bought before, and what the missing part alone would cost."""

    def price(part: DataRange) -> int:
        size, cost = quoter.fetch_billable_size(part), quoter.fetch_cost(part)
        return replace(quote, range=part, size_bytes=size, vendor_cost_usd=cost).cost_nano_usd

    return purchases.with_owned(quote, price)

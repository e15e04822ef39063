"""The price of a historical request, asked for before it is made."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from budget_guard.gateway.historical.form import RangeRequest
from budget_guard.guard.quote import Quote
from budget_guard.money import cost_nano_usd, usd_from_nano
from budget_guard.pricing.model import DataRange, UnitPrice
from budget_guard.pricing.sheet import RECORD_BYTES


class Quoter(Protocol):
    """The vendor's free metadata. Both methods raise VendorError."""

    def fetch_billable_size(self, data_range: DataRange) -> int: ...

    def fetch_cost(self, data_range: DataRange) -> Decimal: ...


def fetch_quote(quoter: Quoter, wanted: RangeRequest, price: UnitPrice) -> Quote:
    """Size and cost of exactly the range that will be requested; `limit` caps both. Raises VendorError.

    The vendor's figure stays an upper bound when a limit cuts the request short, and 0 stays 0.
    """
    size = quoter.fetch_billable_size(wanted.range)
    cost = quoter.fetch_cost(wanted.range)
    record_bytes = RECORD_BYTES.get(wanted.request.schema)
    if wanted.limit is not None and record_bytes is not None and wanted.limit * record_bytes < size:
        size = wanted.limit * record_bytes
        cost = min(cost, usd_from_nano(cost_nano_usd(size, price.usd_per_gib)))
        return Quote(wanted.range, size, price, cost, bounded=True)
    return Quote(wanted.range, size, price, cost)

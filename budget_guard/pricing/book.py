"""Which price applies: the plan that includes the data, the policy's override, the account's list, the sheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, Protocol

from budget_guard.pricing.model import UnitPrice
from budget_guard.pricing.sheet import sheet_price

Mode = Literal["live", "historical"]
VendorPrices = Mapping[str, Mapping[str, Mapping[str, Decimal]]]

# Our modes as the vendor's price list calls them: streaming and batch cost the same per byte.
_VENDOR_MODE: Mapping[Mode, str] = {"live": "live", "historical": "historical-streaming"}


class Billing(Protocol):
    """How live data of one dataset is paid for, as a policy says it."""

    @property
    def kind(self) -> str:
        """`metered`, `flat` or `none`."""

    @property
    def plan(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Every price that an account has. Pure: what the vendor answered is handed in.

    `overrides` maps (dataset, mode, schema), `flat` maps a dataset to the plan that includes its live data,
    `vendor` maps dataset, vendor mode and schema, `not_sold` lists datasets whose live data the account cannot buy.
    """

    overrides: Mapping[tuple[str, Mode, str], Decimal] = field(default_factory=dict)
    flat: Mapping[str, str] = field(default_factory=dict)
    vendor: VendorPrices = field(default_factory=dict)
    not_sold: frozenset[str] = frozenset()

    def price(self, dataset: str, schema: str, mode: Mode) -> UnitPrice | None:
        """USD per GiB of a schema, or None when it is unknown or not sold: never zero by default."""
        if mode == "live":
            if dataset in self.not_sold:
                return None
            if dataset in self.flat:
                plan = self.flat[dataset]
                return UnitPrice(Decimal(0), "plan", f"included in the {plan} plan of {dataset}")
        override = self.overrides.get((dataset, mode, schema))
        if override is not None:
            return UnitPrice(override, "override", "the policy's own price")
        listed = self.vendor.get(dataset, {}).get(_VENDOR_MODE[mode], {}).get(schema)
        if listed is not None:
            return UnitPrice(listed, "vendor", f"the account's list_unit_prices, mode {_VENDOR_MODE[mode]}")
        return sheet_price(dataset, schema, mode)


def price_book(
    overrides: Mapping[tuple[str, Mode, str], Decimal],
    billing: Mapping[str, Billing],
    vendor: VendorPrices | None = None,
) -> PriceBook:
    """The book of an account: `Account.prices`, `Account.billing` and what the vendor listed, if it was asked."""
    flat = {dataset: terms.plan or "flat" for dataset, terms in billing.items() if terms.kind == "flat"}
    not_sold = frozenset(dataset for dataset, terms in billing.items() if terms.kind == "none")
    return PriceBook(overrides, flat, vendor or {}, not_sold)

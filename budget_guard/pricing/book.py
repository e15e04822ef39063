"""Which price applies: the plan that includes the data, the policy's override, the account's list, the sheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol

from budget_guard.pricing.history import included_history
from budget_guard.pricing.model import DataRange, PricedRange, UnitPrice
from budget_guard.pricing.sheet import sheet_price

Mode = Literal["live", "historical"]
VendorPrices = Mapping[str, Mapping[str, Mapping[str, Decimal]]]

# Our modes as the vendor's price list calls them, in the order in which they are looked for: streaming and batch cost
# the same per byte.
_VENDOR_MODES: Mapping[Mode, tuple[str, ...]] = {
    "live": ("live",),
    "historical": ("historical-streaming", "historical"),
}


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
    `vendor` maps dataset, vendor mode and schema, `not_sold` lists datasets whose live data the account cannot buy,
    `read_utc` says when a dataset's list was read.
    """

    overrides: Mapping[tuple[str, Mode, str], Decimal] = field(default_factory=dict)
    flat: Mapping[str, str] = field(default_factory=dict)
    vendor: VendorPrices = field(default_factory=dict)
    not_sold: frozenset[str] = frozenset()
    read_utc: Mapping[str, datetime] = field(default_factory=dict)

    def price(self, dataset: str, schema: str, mode: Mode) -> UnitPrice | None:
        """USD per GiB of a schema, or None when it is unknown or not sold: never zero by default.

        For historical data it is the price outside what a plan includes; `price_range` knows both.
        """
        if mode == "live" and dataset in self.not_sold:
            return None
        return next(iter(self.candidates(dataset, schema, mode)), None)

    def candidates(self, dataset: str, schema: str, mode: Mode) -> tuple[UnitPrice, ...]:
        """Every price that some source gives: the first applies, the others are what it won over."""
        found = (
            self._plan_price(dataset) if mode == "live" else None,
            self._override(dataset, schema, mode),
            self._listed(dataset, schema, mode),
            sheet_price(dataset, schema, mode),
        )
        return tuple(price for price in found if price is not None)

    def included_from(self, dataset: str, schema: str, at: datetime) -> datetime | None:
        """From when on a plan of the account includes the history of a schema, for a request made at an instant.

        None where no plan is known to: then the price of the list applies to all of it.
        """
        plan = self.flat.get(dataset)
        reach = None if plan is None else included_history(dataset, plan, schema)
        return None if reach is None else reach.start_utc(at)

    def included_price(self, dataset: str, schema: str) -> UnitPrice | None:
        """The known 0 of the history that a plan of the account includes; None where no plan is known to."""
        plan = self.flat.get(dataset)
        reach = None if plan is None else included_history(dataset, plan, schema)
        if reach is None:
            return None
        return UnitPrice(
            Decimal(0),
            "plan",
            f"included in the {plan} plan of {dataset}: {reach.level} history, {reach.text} back",
        )

    def price_range(self, data_range: DataRange, at: datetime) -> tuple[PricedRange, ...] | None:
        """A historical range, requested at an instant, in parts of one price each; None when a price is unknown.

        One part, or two where the range reaches back beyond what the account's plan includes.
        """
        listed = self.price(data_range.dataset, data_range.schema, "historical")
        edge = self.included_from(data_range.dataset, data_range.schema, at)
        if edge is None or data_range.end_utc <= edge:
            return None if listed is None else (PricedRange(data_range, listed),)
        included = self.included_price(data_range.dataset, data_range.schema)
        assert included is not None
        if data_range.start_utc >= edge:
            return (PricedRange(data_range, included),)
        if listed is None:
            return None
        return (
            PricedRange(replace(data_range, end_utc=edge), listed),
            PricedRange(replace(data_range, start_utc=edge), included),
        )

    def price_whole(self, data_range: DataRange, at: datetime) -> UnitPrice | None:
        """One price for every byte of a historical range: an upper bound where a plan includes only its later part.

        None when it is unknown. For what counts bytes without knowing which of them are which.
        """
        parts = self.price_range(data_range, at)
        if parts is None:
            return None
        if len(parts) == 1:
            return parts[0].price
        edge = parts[1].range.start_utc
        return replace(
            parts[0].price,
            source=f"{parts[0].price.source}; for the whole range, though the plan includes it from {edge:%Y-%m-%d} "
            "on: ask for that part by itself to have it at no cost",
        )

    def _plan_price(self, dataset: str) -> UnitPrice | None:
        plan = self.flat.get(dataset)
        if plan is None:
            return None
        return UnitPrice(Decimal(0), "plan", f"included in the {plan} plan of {dataset}")

    def _override(self, dataset: str, schema: str, mode: Mode) -> UnitPrice | None:
        price = self.overrides.get((dataset, mode, schema))
        return None if price is None else UnitPrice(price, "override", "the policy's own price")

    def _listed(self, dataset: str, schema: str, mode: Mode) -> UnitPrice | None:
        prices = self.vendor.get(dataset, {})
        name = next((name for name in _VENDOR_MODES[mode] if schema in prices.get(name, {})), None)
        if name is None:
            return None
        read = self.read_utc.get(dataset)
        dated = "" if read is None else f", read {read:%Y-%m-%d}"
        source = f"the account's list_unit_prices, mode {name}{dated}"
        return UnitPrice(prices[name][schema], "vendor", source, None if read is None else read.date(), read)


def price_book(
    overrides: Mapping[tuple[str, Mode, str], Decimal],
    billing: Mapping[str, Billing],
    vendor: VendorPrices | None = None,
    read_utc: Mapping[str, datetime] | None = None,
) -> PriceBook:
    """The book of an account: `Account.prices`, `Account.billing` and what the vendor listed, if it was asked."""
    flat = {dataset: terms.plan or "flat" for dataset, terms in billing.items() if terms.kind == "flat"}
    not_sold = frozenset(dataset for dataset, terms in billing.items() if terms.kind == "none")
    return PriceBook(overrides, flat, vendor or {}, not_sold, read_utc or {})

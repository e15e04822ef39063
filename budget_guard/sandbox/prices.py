"""What the sandbox charges: its own price list, apart from the guard's, so that one can judge the other.

The figures are those that were read from the vendor's account pages and documentation on the dates given; they
are list prices in USD per GiB for historical data. Live is 1.2 times historical in every dataset measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

LIVE_FACTOR = Decimal("1.2")


@dataclass(frozen=True, slots=True)
class DatasetPrices:
    """USD per GiB by schema. The keys of `historical` are the schemas that the dataset offers.

    A price of None means that the schema is offered and its price is published nowhere. `live` overrides
    `LIVE_FACTOR` times historical; 0 there is a flat plan.
    """

    historical: Mapping[str, Decimal | None]
    live: Mapping[str, Decimal | None] = field(default_factory=dict)

    def historical_price(self, schema: str) -> Decimal | None:
        return self.historical.get(schema)

    def live_price(self, schema: str) -> Decimal | None:
        if schema in self.live:
            return self.live[schema]
        price = self.historical.get(schema)
        return None if price is None else (price * LIVE_FACTOR).normalize()

    def unit_prices(self, mode: str) -> dict[str, Decimal]:
        """The known prices of a mode: `historical`, `historical-streaming` or `live`."""
        price_of = self.live_price if mode == "live" else self.historical_price
        priced = {schema: price_of(schema) for schema in self.historical}
        return {schema: price for schema, price in priced.items() if price is not None}


def parse_prices(text: str) -> dict[str, Decimal | None]:
    """`"mbo 1.80, ohlcv-1s/1m 70"` as prices by schema; a slash gives several intervals one price."""
    prices: dict[str, Decimal | None] = {}
    for item in text.split(","):
        names, price = item.split()
        first, *intervals = names.split("/")
        stem = first.rpartition("-")[0]
        for schema in (first, *(f"{stem}-{interval}" for interval in intervals)):
            prices[schema] = Decimal(price)
    return prices


DEFAULT_PRICES: Mapping[str, DatasetPrices] = {
    # Read 2026-06-12, the same on 2026-09-26.
    "GLBX.MDP3": DatasetPrices(
        parse_prices(
            "mbo 1.80, mbp-1 1.80, mbp-10 0.50, trades 28, tbbo 28, bbo-1s/1m 18, ohlcv-1s/1m 70, "
            "ohlcv-1h/1d 190, definition 1.70, statistics 1.00, status 4.00"
        )
    ),
    # The documentation's example answer of list_unit_prices.
    "OPRA.PILLAR": DatasetPrices(
        parse_prices(
            "cmbp-1 0.16, cbbo-1s/1m 2, tcbbo 210, trades 280, ohlcv-1s/1m 280, ohlcv-1h/1d 600, "
            "statistics 11, status 5, definition 5"
        )
    ),
    # Read in August 2026, these three; XNAS.ITCH from its live price of 1.44.
    "EQUS.MINI": DatasetPrices(
        parse_prices(
            "mbp-1 1.20, trades 6, tbbo 6, bbo-1s/1m 4, ohlcv-1s/1m 12, ohlcv-1h/1d 30, definition 16"
        )
    ),
    "DBEQ.BASIC": DatasetPrices(parse_prices("ohlcv-1m 35")),
    "XNAS.ITCH": DatasetPrices({**parse_prices("mbo 1.20"), "imbalance": None}),
}

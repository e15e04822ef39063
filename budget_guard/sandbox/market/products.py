"""The synthetic products: futures roots, stocks and families of options, with what their prices and volumes hang on.

Names, ticks, multipliers and delivery months are the exchanges'. Prices and volumes are assumed; where a source
measured a volume it is named beside the figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["future", "stock", "options"]

USD = 10**9
EVERY_MONTH = "FGHJKMNQUVXZ"
QUARTERS = "HMUZ"


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """What its contracts have in common; each is made once. Prices are in 1e-9 USD.

    `number` is its place in the dataset, `permille` its volume in thousandths of the dataset's reference volume.
    Options have the root that their symbols begin with, `strikes`, the number of expiries listed, and what one point
    of a strike is in the symbol (`scale`).
    """

    name: str
    kind: Kind
    group: str
    number: int
    permille: int
    price: int
    tick: int
    months: str = QUARTERS
    multiplier: int = 1
    exchange: str = "XCME"
    underlying: str = ""
    underlying_number: int = 0
    strikes: tuple[int, ...] = ()
    scale: int = 1
    expiries: int = 1

    @property
    def root(self) -> str:
        """What its symbols begin with."""
        return self.name.removesuffix(".OPT")

    @property
    def contracts(self) -> int:
        """How many of them are listed on a day."""
        if self.kind == "options":
            return 2 * len(self.strikes) * self.expiries
        return 4 if self.kind == "future" else 1


# root, volume, price, tick, contract size
_Line = tuple[str, int, float, float, int]

_INDEX: Sequence[_Line] = (
    ("ES", 1340, 6800.0, 0.25, 50),
    ("NQ", 1000, 25000.0, 0.25, 20),
    ("MES", 1000, 6800.0, 0.25, 5),
    ("MNQ", 1200, 25000.0, 0.25, 2),
    ("RTY", 500, 2400.0, 0.1, 50),
    ("M2K", 300, 2400.0, 0.1, 5),
    ("YM", 500, 47000.0, 1.0, 5),
    ("MYM", 300, 47000.0, 1.0, 1),
    ("EMD", 40, 3300.0, 0.1, 100),
    ("NKD", 60, 50000.0, 5.0, 5),
)
_ENERGY: Sequence[_Line] = (
    ("CL", 1000, 65.0, 0.01, 1000),
    ("MCL", 300, 65.0, 0.01, 100),
    ("QM", 30, 65.0, 0.025, 500),
    ("NG", 600, 4.0, 0.001, 10000),
    ("MNG", 60, 4.0, 0.001, 1000),
    ("RB", 250, 2.0, 0.0001, 42000),
    ("HO", 250, 2.4, 0.0001, 42000),
    ("BZ", 150, 69.0, 0.01, 1000),
)
_METALS: Sequence[tuple[_Line, str]] = (
    (("GC", 800, 4000.0, 0.1, 100), "GJMQVZ"),
    (("MGC", 400, 4000.0, 0.1, 10), "GJMQVZ"),
    (("SI", 400, 50.0, 0.005, 5000), "HKNUZ"),
    (("SIL", 150, 50.0, 0.005, 1000), "HKNUZ"),
    (("HG", 300, 5.0, 0.0005, 25000), "HKNUZ"),
    (("PL", 100, 1500.0, 0.1, 50), "FJNV"),
    (("PA", 60, 1400.0, 0.5, 100), "HMUZ"),
)
_RATES: Sequence[_Line] = (
    ("ZT", 500, 104.0, 0.00390625, 2000),
    ("ZF", 900, 109.0, 0.0078125, 1000),
    ("ZN", 1200, 112.0, 0.015625, 1000),
    ("TN", 600, 115.0, 0.015625, 1000),
    ("ZB", 700, 117.0, 0.03125, 1000),
    ("UB", 500, 121.0, 0.03125, 1000),
    ("SR3", 700, 96.0, 0.005, 2500),
    ("ZQ", 150, 96.0, 0.0025, 4167),
)
_FX: Sequence[_Line] = (
    ("6E", 600, 1.16, 0.00005, 125000),
    ("6J", 450, 0.0065, 0.0000005, 12500000),
    ("6B", 350, 1.31, 0.0001, 62500),
    ("6A", 350, 0.65, 0.00005, 100000),
    ("6C", 300, 0.71, 0.00005, 100000),
    ("6S", 150, 1.24, 0.00005, 125000),
    ("6N", 120, 0.56, 0.00005, 100000),
    ("6M", 150, 0.054, 0.00001, 500000),
    ("M6E", 80, 1.16, 0.0001, 12500),
)
# Grains are quoted in cents.
_GRAINS: Sequence[tuple[_Line, str]] = (
    (("ZC", 300, 430.0, 0.25, 50), "HKNUZ"),
    (("ZS", 350, 1110.0, 0.25, 50), "FHKNQUX"),
    (("ZW", 250, 530.0, 0.25, 50), "HKNUZ"),
    (("KE", 120, 520.0, 0.25, 50), "HKNUZ"),
    (("ZM", 180, 320.0, 0.1, 100), "FHKNQUVZ"),
    (("ZL", 200, 50.0, 0.01, 600), "FHKNQUVZ"),
)
_LIVESTOCK: Sequence[tuple[_Line, str]] = (
    (("LE", 120, 210.0, 0.025, 400), "GJMQVZ"),
    (("HE", 100, 80.0, 0.025, 400), "GJKMNQVZ"),
    (("GF", 50, 320.0, 0.025, 500), "FHJKQUVX"),
)
_CRYPTO: Sequence[_Line] = (
    ("BTC", 150, 85000.0, 5.0, 5),
    ("MBT", 250, 85000.0, 5.0, 1),
    ("ETH", 80, 2800.0, 0.5, 50),
    ("MET", 150, 2800.0, 0.5, 1),
)
# root, underlying, group, volume, tick, first strike, step, points of a strike in the symbol, months, multiplier
# Their volumes fill the dataset up to 15.9 GiB of mbo a session.
_CME_OPTIONS = (
    ("ES", "ES", "equity-index", 8_450, 0.05, 6600.0, 100.0, 1, QUARTERS, 50),
    ("NQ", "NQ", "equity-index", 3_600, 0.05, 24000.0, 500.0, 1, QUARTERS, 20),
    ("LO", "CL", "energy", 1_200, 0.01, 61.0, 2.0, 100, EVERY_MONTH, 1000),
    ("OG", "GC", "metals", 1_000, 0.1, 3900.0, 50.0, 1, "GJMQVZ", 100),
    ("OZN", "ZN", "rates", 1_400, 0.015625, 111.0, 0.5, 10, QUARTERS, 1000),
    ("EUU", "6E", "fx", 500, 0.00005, 1.14, 0.01, 1000, QUARTERS, 125000),
    ("OZC", "ZC", "grains", 480, 0.125, 410.0, 10.0, 1, "HKNUZ", 50),
)
_STOCK_LINES = (
    ("SPY", 1000, 680.0),
    ("QQQ", 800, 610.0),
    ("IWM", 400, 240.0),
    ("AAPL", 500, 270.0),
    ("MSFT", 400, 500.0),
    ("NVDA", 900, 190.0),
    ("AMZN", 400, 230.0),
    ("META", 300, 620.0),
    ("GOOGL", 350, 280.0),
    ("TSLA", 700, 420.0),
    ("AMD", 400, 230.0),
    ("JPM", 150, 310.0),
    ("XOM", 120, 115.0),
    ("IBM", 80, 300.0),
)
# root, volume, underlying's price, first strike, step
_OPRA_LINES = (
    ("SPY", 1000, 680.0, 660.0, 10.0),
    ("QQQ", 700, 610.0, 590.0, 10.0),
    ("AAPL", 250, 270.0, 250.0, 10.0),
    ("NVDA", 400, 190.0, 170.0, 10.0),
    ("TSLA", 450, 420.0, 400.0, 10.0),
)


def _units(price: float) -> int:
    return round(price * USD)


def _future(number: int, group: str, line: _Line, months: str, exchange: str) -> Product:
    name, permille, price, tick, size = line
    return Product(
        name, "future", group, number, permille, _units(price), _units(tick), months, size, exchange
    )


def _cme_products() -> tuple[Product, ...]:
    lines: list[tuple[str, _Line, str, str]] = [
        *(("equity-index", line, QUARTERS, "XCBT" if "YM" in line[0] else "XCME") for line in _INDEX),
        *(("energy", line, EVERY_MONTH, "XNYM") for line in _ENERGY),
        *(
            ("metals", line, months, "XNYM" if line[0] in ("PL", "PA") else "XCEC")
            for line, months in _METALS
        ),
        *(("rates", line, QUARTERS, "XCME" if line[0] == "SR3" else "XCBT") for line in _RATES),
        *(("fx", line, QUARTERS, "XCME") for line in _FX),
        *(("grains", line, months, "XCBT") for line, months in _GRAINS),
        *(("livestock", line, months, "XCME") for line, months in _LIVESTOCK),
        *(("crypto", line, EVERY_MONTH, "XCME") for line in _CRYPTO),
    ]
    futures = [
        _future(number, group, line, months, exchange)
        for number, (group, line, months, exchange) in enumerate(lines)
    ]
    by_name = {product.name: product for product in futures}
    options = [
        Product(
            f"{root}.OPT",
            "options",
            group,
            len(futures) + offset,
            permille,
            by_name[underlying].price,
            _units(tick),
            months,
            size,
            by_name[underlying].exchange,
            underlying,
            by_name[underlying].number,
            tuple(_units(first + step * place) for place in range(5)),
            scale,
            expiries=2,
        )
        for offset, (root, underlying, group, permille, tick, first, step, scale, months, size) in enumerate(
            _CME_OPTIONS
        )
    ]
    return (*futures, *options)


def stock(name: str, permille: int, number: int, price: float = 100.0) -> Product:
    """A stock or fund that trades in cents."""
    return Product(name, "stock", "us-equities", number, permille, _units(price), USD // 100, exchange="XNAS")


def other_future(name: str, permille: int, number: int) -> Product:
    """A future of which nothing but its root is known: 100 USD, in cents, every quarter, index hours."""
    return _future(number, "equity-index", (name, permille, 100.0, 0.01, 1), QUARTERS, "XCME")


def _opra_products() -> tuple[Product, ...]:
    return tuple(
        Product(
            f"{root}.OPT",
            "options",
            "us-options",
            number,
            permille,
            _units(price),
            USD // 100,
            multiplier=100,
            exchange="OPRA",
            underlying=root,
            strikes=tuple(_units(first + step * place) for place in range(5)),
            scale=1000,
            expiries=4,
        )
        for number, (root, permille, price, first, step) in enumerate(_OPRA_LINES)
    )


CME = _cme_products()
STOCKS = tuple(
    stock(name, permille, number, price) for number, (name, permille, price) in enumerate(_STOCK_LINES)
)
OPRA = _opra_products()

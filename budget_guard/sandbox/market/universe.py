"""The synthetic instruments, and what every kind of symbol stands for on a day.

A product is a futures root, a stock or a family of options; its contracts on a day are numbered by rank: 0 is the
front one. Volumes are assumed; where a source measured one it is named beside the figure.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Literal

from budget_guard.sandbox.market.model import ALL_SYMBOLS

Kind = Literal["future", "stock", "options"]

_MONTH_CODES = "FGHJKMNQUVXZ"
_CONTINUOUS = re.compile(r"([A-Z0-9]+)\.[cvn]\.([0-9]{1,2})")
_RANKS: dict[Kind, int] = {"future": 2, "stock": 1, "options": 4}


@dataclass(frozen=True, slots=True)
class Product:
    """`permille` is its volume in thousandths of the dataset's reference volume; prices are in 1e-9 USD."""

    name: str
    kind: Kind
    permille: int
    price: int
    tick: int
    months: str = "HMUZ"


@dataclass(frozen=True, slots=True)
class Stream:
    """The records of one schema of one contract rank: the unit in which the market is made."""

    dataset: str
    schema: str
    product: Product
    rank: int


def _future(name: str, permille: int, price: float, tick: float, months: str = "HMUZ") -> Product:
    return Product(name, "future", permille, round(price * 10**9), round(tick * 10**9), months)


def _stock(name: str, permille: int, price: float = 100.0) -> Product:
    return Product(name, "stock", permille, round(price * 10**9), 10**7)


def _options(name: str, permille: int) -> Product:
    return Product(name, "options", permille, 50 * 10**9, 5 * 10**7)


_CME = (
    _future("ES", 1340, 6800.0, 0.25),
    _future("NQ", 1000, 25000.0, 0.25),
    _future("MES", 1000, 6800.0, 0.25),
    _future("MNQ", 1200, 25000.0, 0.25),
    _future("RTY", 500, 2400.0, 0.1),
    _future("M2K", 300, 2400.0, 0.1),
    _future("YM", 500, 47000.0, 1.0),
    _future("MYM", 300, 47000.0, 1.0),
    _future("CL", 1000, 65.0, 0.01, _MONTH_CODES),
    _future("GC", 800, 4000.0, 0.1, "GJMQVZ"),
    _future("ZN", 1200, 112.0, 0.015625),
    _future("6E", 600, 1.16, 0.00005),
    # With the futures above, mbo of the whole dataset comes to about 15.9 GiB a session.
    _options("ES.OPT", 19_200),
    _options("NQ.OPT", 9_700),
)
_STOCKS = tuple(
    _stock(name, permille, price)
    for name, permille, price in (
        ("SPY", 1000, 680.0),
        ("QQQ", 800, 610.0),
        ("AAPL", 500, 270.0),
        ("MSFT", 400, 500.0),
        ("NVDA", 900, 190.0),
        ("AMZN", 400, 230.0),
        ("META", 300, 620.0),
        ("GOOGL", 350, 280.0),
        ("TSLA", 700, 420.0),
    )
)
_OPRA = (_options("SPY.OPT", 1000), _options("QQQ.OPT", 700))

_PRODUCTS = {"GLBX.MDP3": _CME, "OPRA.PILLAR": _OPRA}
_PUBLISHERS = {"GLBX.MDP3": 1, "XNAS.ITCH": 2, "OPRA.PILLAR": 30, "DBEQ.BASIC": 59, "EQUS.MINI": 95}

# Datasets whose hours are those of US stocks and options; every other one keeps CME's.
_US_PREFIXES = ("XNAS", "XNYS", "EQUS", "DBEQ", "OPRA", "ARCX", "BATS", "IEXG", "XCHI", "XASE")


def calendar_of(dataset: str) -> str:
    """The calendar of a dataset, as `sessions` names it."""
    return "us" if dataset.startswith(_US_PREFIXES) else "cme"


def publisher_of(dataset: str) -> int:
    """The publisher id in a dataset's records; 0 where none is known here."""
    return _PUBLISHERS.get(dataset, 0)


class Universe:
    """The products of every dataset, and the resolution of symbols."""

    def __init__(self, extra: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._extra = dict(extra or {})
        self._on = lru_cache(maxsize=512)(self._instruments_on)

    def products(self, dataset: str) -> tuple[Product, ...]:
        """What trades in a dataset: the built-in products and the configured ones."""
        known = _PRODUCTS.get(dataset, _STOCKS if calendar_of(dataset) == "us" else ())
        names = {product.name for product in known}
        make = (
            _stock
            if calendar_of(dataset) == "us"
            else lambda name, permille: _future(name, permille, 100.0, 0.01)
        )
        added = tuple(make(name, 500) for name in self._extra.get(dataset, ()) if name not in names)
        return known + added

    def resolve(
        self, dataset: str, symbol: str, stype_in: str, label: date
    ) -> tuple[tuple[Product, int], ...]:
        """The contracts that a symbol stands for in the session of a label; empty when it stands for none."""
        raw = self._on(dataset, label)
        if symbol == ALL_SYMBOLS:
            return tuple(raw.values())
        if stype_in == "raw_symbol":
            return (raw[symbol],) if symbol in raw else ()
        if stype_in == "instrument_id":
            return tuple(found for name, found in raw.items() if str(instrument_id(dataset, name)) == symbol)
        if stype_in == "parent":
            kind = {"FUT": "future", "OPT": "options"}.get(symbol.rpartition(".")[2])
            name = symbol.removesuffix(".FUT")
            return tuple(found for found in raw.values() if (found[0].name, found[0].kind) == (name, kind))
        if stype_in == "continuous" and (match := _CONTINUOUS.fullmatch(symbol)):
            wanted = (match[1], int(match[2]))
            return tuple(
                found
                for found in raw.values()
                if found[0].kind == "future" and (found[0].name, found[1]) == wanted
            )
        return ()

    def _instruments_on(self, dataset: str, label: date) -> dict[str, tuple[Product, int]]:
        return {
            raw_symbol(product, rank, label): (product, rank)
            for product in self.products(dataset)
            for rank in range(_RANKS[product.kind])
        }


def instrument_id(dataset: str, raw: str) -> int:
    """A stable number for a raw symbol."""
    return 1000 + zlib.crc32(f"{dataset}/{raw}".encode()) % 9_000_000


@lru_cache(maxsize=65536)
def raw_symbol(product: Product, rank: int, label: date) -> str:
    """The contract's own symbol in the session of a label, as `NQZ6`."""
    if product.kind == "stock":
        return product.name
    year, month = _contract(product.months, rank if product.kind == "future" else 0, label)
    if product.kind == "future":
        return f"{product.name}{_MONTH_CODES[month - 1]}{year % 10}"
    root = product.name.removesuffix(".OPT")
    return f"{root}{_MONTH_CODES[month - 1]}{year % 10} C{5000 + 100 * rank}"


def _contract(months: str, rank: int, label: date) -> tuple[int, int]:
    """The year and month of the rank-th contract that has not rolled yet."""
    year, month, left = label.year, label.month, rank
    while True:
        if _MONTH_CODES[month - 1] in months and label < roll_day(year, month):
            if left == 0:
                return year, month
            left -= 1
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)


def roll_day(year: int, month: int) -> date:
    """The session from which the next contract is the front one: the Monday of the week of the third Friday.

    Every product rolls so here, on a Monday: then a UTC day never has two front contracts.
    """
    first = date(year, month, 1)
    third_friday = first + timedelta(days=(4 - first.weekday()) % 7 + 14)
    return third_friday - timedelta(days=4)

"""What every kind of symbol stands for on a day."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from budget_guard.sandbox.market.contracts import Contract, contract, product_of
from budget_guard.sandbox.market.model import ALL_SYMBOLS
from budget_guard.sandbox.market.products import CME, OPRA, STOCKS, Product, other_future, stock

_NUMBER = re.compile(r"[0-9]{1,10}")
_CONTINUOUS = re.compile(r"([A-Z0-9]+)\.[cvn]\.([0-9]{1,2})")

_PRODUCTS = {"GLBX.MDP3": CME, "OPRA.PILLAR": OPRA}
_PUBLISHERS = {"GLBX.MDP3": 1, "XNAS.ITCH": 2, "OPRA.PILLAR": 30, "DBEQ.BASIC": 59, "EQUS.MINI": 95}
_ADDED_PERMILLE = 500

# Datasets whose hours are those of US stocks and options; every other one keeps CME's.
_US_PREFIXES = ("XNAS", "XNYS", "EQUS", "DBEQ", "OPRA", "ARCX", "BATS", "IEXG", "XCHI", "XASE")


@dataclass(frozen=True, slots=True)
class Stream:
    """The records of one schema of one contract rank: the unit in which the market is made."""

    dataset: str
    schema: str
    product: Product
    rank: int

    def contract(self, label: date) -> Contract:
        """Whose records they are in the session of a label."""
        return contract(self.product, self.rank, label)


def calendar_of(dataset: str) -> str:
    """The calendar of a dataset, as `sessions` names it."""
    return "us" if dataset.startswith(_US_PREFIXES) else "cme"


def publisher_of(dataset: str) -> int:
    """The publisher id in a dataset's records; 0 where none is known here."""
    return _PUBLISHERS.get(dataset, 0)


class Universe:
    """The products of every dataset, and the resolution of symbols. `extra` adds roots or tickers by dataset.

    `products(dataset)` is what trades in a dataset: the built-in products and the configured ones.
    """

    def __init__(self, extra: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._extra = dict(extra or {})
        self.products = lru_cache(maxsize=64)(self._find_products)
        self._candidates = lru_cache(maxsize=4096)(self._find_candidates)
        self._listed = lru_cache(maxsize=512)(self._list)

    def _find_products(self, dataset: str) -> tuple[Product, ...]:
        us = calendar_of(dataset) == "us"
        known = _PRODUCTS.get(dataset, STOCKS if us else ())
        names = {product.name for product in known}
        make = stock if us else other_future
        added = [name for name in self._extra.get(dataset, ()) if name not in names]
        return known + tuple(
            make(name, _ADDED_PERMILLE, len(known) + offset) for offset, name in enumerate(added)
        )

    def resolve(self, dataset: str, symbol: str, stype_in: str, label: date) -> tuple[Contract, ...]:
        """The contracts that a symbol stands for in the session of a label; empty when it stands for none."""
        if symbol == ALL_SYMBOLS:
            return self._listed(dataset, label)
        if stype_in == "continuous":
            match = _CONTINUOUS.fullmatch(symbol)
            products = self._named(dataset, match[1], "future") if match else ()
            rank = int(match[2]) if match else 0
            return tuple(contract(product, rank, label) for product in products if rank < product.contracts)
        listed = _contracts(self._candidates(dataset, symbol, stype_in), label)
        if stype_in == "raw_symbol":
            return tuple(one for one in listed if one.raw_symbol == symbol)
        if stype_in == "instrument_id":
            return tuple(one for one in listed if str(one.instrument_id) == symbol)
        return tuple(listed)

    def _find_candidates(self, dataset: str, symbol: str, stype_in: str) -> tuple[Product, ...]:
        """The products whose contracts a symbol could name: of a parent these and no others."""
        products = self.products(dataset)
        if stype_in == "raw_symbol":
            return tuple(one for one in products if symbol.startswith(one.root))
        if stype_in == "instrument_id" and _NUMBER.fullmatch(symbol):
            return self._of_kind(dataset, *product_of(int(symbol)))
        if stype_in == "parent":
            kind = {"FUT": "future", "OPT": "options"}.get(symbol.rpartition(".")[2])
            return self._named(dataset, symbol.removesuffix(".FUT"), kind)
        return ()

    def _of_kind(self, dataset: str, kind: str, number: int) -> tuple[Product, ...]:
        return tuple(one for one in self.products(dataset) if (one.kind, one.number) == (kind, number))

    def _named(self, dataset: str, name: str, kind: str | None) -> tuple[Product, ...]:
        return tuple(one for one in self.products(dataset) if (one.name, one.kind) == (name, kind))

    def _list(self, dataset: str, label: date) -> tuple[Contract, ...]:
        return tuple(_contracts(self.products(dataset), label))


def _contracts(products: Iterable[Product], label: date) -> Iterator[Contract]:
    return (contract(product, rank, label) for product in products for rank in range(product.contracts))

"""What the rest of the sandbox knows of a market: the questions it answers, whatever it is made of.

The synthetic market and a recorded file answer the same ones. `parts` makes exactly the records that `count` counted,
so every size, cost, download and live record comes from one place.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from budget_guard.sandbox.market.records import Int64s, Rows

ALL_SYMBOLS = "ALL_SYMBOLS"


@dataclass(frozen=True, slots=True)
class Instrument:
    """A contract, stock or option, by the exchange's name and the vendor's number."""

    raw_symbol: str
    instrument_id: int


@dataclass(frozen=True, slots=True)
class Selection:
    """A request's symbols in one schema. What they stand for changes from session to session: contracts roll."""

    dataset: str
    schema: str
    symbols: tuple[str, ...]
    stype_in: str


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive records of one schema of one contract, in the order of their index timestamps.

    `source` names the contract and schema: two parts with the same source hold the same records. `order` places the
    rows among those of other parts that have the same timestamp; without it they come in the order of the parts.
    """

    schema: str
    source: Hashable
    rows: Rows
    order: Int64s | None = None


class NoSnapshot(Exception):
    """An order book that cannot be told at an instant; the text says why."""


class MarketData(Protocol):
    """A market. Instants are nanoseconds since 1970 in UTC, intervals half-open, days UTC dates."""

    def resolve(self, dataset: str, symbol: str, stype_in: str, day: date) -> tuple[Instrument, ...]:
        """The instruments that a symbol stands for on a day; empty when it stands for none."""

    def describe(self, dataset: str) -> str:
        """What a dataset has, for whoever asked for what it has not; empty where that would be too much to say."""

    def count(self, selection: Selection, start_ns: int, end_ns: int) -> int:
        """How many records a selection has in an interval, by index timestamp."""

    def parts(self, selection: Selection, start_ns: int, end_ns: int) -> list[Part]:
        """The records of a selection in an interval, each contract's apart."""

    def snapshot(self, selection: Selection, at_ns: int) -> list[Part]:
        """The order books of an mbo selection at an instant, as the records that a client rebuilds them from.

        Raises NoSnapshot when they cannot be told.
        """

    def blocks(self, selection: Selection, at_ns: int, records: int) -> list[Part]:
        """A block of tick records for each contract of a selection, to be stamped anew and sent again and again."""

"""What a subscription's symbols stand for, day by day, as the mapping records that say so. No I/O and no clock here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import databento_dbn as dbn

from budget_guard.sandbox.live.outgoing import Control
from budget_guard.sandbox.market.model import ALL_SYMBOLS, Instrument, MarketData, Selection
from budget_guard.sandbox.market.sessions import date_of_ns

DAY_NS = 86_400 * 10**9
SYMBOL_RESOLUTION_FAILED = dbn.ErrorCode.from_int(4)

_RAW = dbn.SType.from_str("raw_symbol")


class SymbolMap:
    """The mappings that the client of one subscription has been told; `day` is the UTC day they were last looked at.

    A mapping says which contract a symbol stands for between two UTC midnights. It is said once, and a new one when
    the symbol comes to stand for another contract; unless it `follows` nothing and keeps to what it stands for today.
    """

    def __init__(self, market: MarketData, selection: Selection, *, follows: bool) -> None:
        self.day = date.min
        self._market = market
        self._selection = selection
        self._follows = follows
        self._told: dict[str, frozenset[Instrument]] = {}
        self._seen: dict[tuple[str, date], frozenset[Instrument]] = {}

    @property
    def contracts(self) -> int:
        """How many contracts its symbols stand for, as far as has been told."""
        return sum(len(told) for told in self._told.values())

    def look(self, now_ns: int, at_ns: int, stamp: Mapping[str, int]) -> list[Control]:
        """What has to be said as the stream comes to `at_ns`, which may lie before now.

        The first look also names the symbols that stand for nothing; one that comes to stand for something later is
        mapped then. `stamp` holds `ts_out`, if records carry it.
        """
        day, today = date_of_ns(at_ns), date_of_ns(now_ns)
        if day <= self.day or (self._told and not self._follows):
            return []
        first_look, self.day = self.day == date.min, day
        self._seen.clear()
        said: list[Control] = []
        for symbol in self._selection.symbols:
            instruments = self._on(symbol, day if self._follows else today)
            if first_look and not instruments and not self._comes_later(symbol, day, today):
                said.append(self._unresolved(symbol, now_ns, stamp))
            told = self._told.get(symbol, frozenset())
            for instrument in instruments:
                if instrument not in told:
                    until = self._last_day(symbol, instrument, day, today) if self._follows else today
                    said.append(self._mapping(symbol, instrument, now_ns, day, until, stamp))
            self._told[symbol] = frozenset(instruments)
        return said

    def _comes_later(self, symbol: str, day: date, today: date) -> bool:
        """Whether a symbol stands for something on a day of the replay after its first: a recording may begin there."""
        later = ((day + timedelta(days=number)) for number in range(1, (today - day).days + 1))
        return self._follows and any(self._on(symbol, one) for one in later)

    def _unresolved(self, symbol: str, now_ns: int, stamp: Mapping[str, int]) -> dbn.ErrorMsg:
        offered = self._market.describe(self._selection.dataset)
        text = f"Failed to resolve symbol: {symbol}" + (f"; {offered}" if offered else "")
        return dbn.ErrorMsg(now_ns, error_text(text), True, SYMBOL_RESOLUTION_FAILED, **stamp)

    def _on(self, symbol: str, day: date) -> tuple[Instrument, ...]:
        return self._market.resolve(self._selection.dataset, symbol, self._selection.stype_in, day)

    def _last_day(self, symbol: str, instrument: Instrument, day: date, today: date) -> date:
        """The last day up to today on which a symbol that stands for an instrument still does."""
        while day < today and instrument in self._all_on(symbol, day + timedelta(days=1)):
            day += timedelta(days=1)
        return day

    def _all_on(self, symbol: str, day: date) -> frozenset[Instrument]:
        """What a symbol stands for on a day, found once a look: ALL_SYMBOLS asks as often as it has contracts."""
        found = self._seen.get((symbol, day))
        if found is None:
            found = self._seen[symbol, day] = frozenset(self._on(symbol, day))
        return found

    def _mapping(
        self,
        symbol: str,
        instrument: Instrument,
        now_ns: int,
        day: date,
        until: date,
        stamp: Mapping[str, int],
    ) -> dbn.SymbolMappingMsg:
        return dbn.SymbolMappingMsg(
            0,
            instrument.instrument_id,
            now_ns,
            dbn.SType.from_str(self._selection.stype_in),
            instrument.raw_symbol if symbol == ALL_SYMBOLS else symbol,
            _RAW,
            instrument.raw_symbol,
            midnight_ns(day),
            midnight_ns(until) + DAY_NS,
            **stamp,
        )


def error_text(text: str) -> str:
    """A text as an ErrorMsg holds it: ASCII, at most 301 characters."""
    return text.encode("ascii", "replace").decode("ascii")[:301]


def midnight_ns(day: date) -> int:
    """The start of a UTC day."""
    return (day - date(1970, 1, 1)).days * DAY_NS

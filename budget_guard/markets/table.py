"""Which markets are known, whose data belongs to them, and when they trade on an ordinary day.

Over the calendar library lies this small table: the library has one calendar for all of CME, no daily halt and no
extended hours. `docs/markets.md` tells where the rows come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from functools import cached_property
from types import MappingProxyType
from zoneinfo import ZoneInfo

from budget_guard.errors import CalendarUnknown
from budget_guard.markets.special_days import CME_EQUITY_INDEX, US_EQUITIES, SpecialDay
from budget_guard.policy.model import SessionKind, Stream
from budget_guard.policy.problems import nearest


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of one session kind on an ordinary day, on the exchange's wall clock.

    `open_day_before` opens on the calendar day before the label. After an early close the kind ends at `after_early`,
    or, when that is None, at the early close itself.
    """

    open: time
    close: time
    open_day_before: bool = False
    after_early: time | None = None


@dataclass(frozen=True)
class Market:
    """One market: its calendar in the library, its hours, its special days, and how far they were checked.

    `close` is the ordinary close that the special days' closes replace. `regular_days` names the market on whose
    sessions alone there are regular hours; None means all of this market's own.
    """

    name: str
    calendar: str
    timezone: str
    zone_label: str
    close: time
    hours: Mapping[SessionKind, Hours]
    datasets: tuple[str, ...]
    special_days: tuple[SpecialDay, ...]
    source: str
    checked_from: date
    checked_through: date
    halt: str | None = None
    regular_days: str | None = None

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @cached_property
    def special(self) -> Mapping[date, SpecialDay]:
        """The special days by label."""
        return {day.label: day for day in self.special_days}


CHECKED_FROM = date(2025, 6, 1)
CHECKED_THROUGH = date(2027, 12, 31)

_GLOBEX = Hours(time(17), time(16), open_day_before=True)
_EQUITY_FEED = Hours(time(4), time(20), after_early=time(17))

_US_EQUITY_DATASETS = (
    "ARCX.PILLAR",
    "BATS.PITCH",
    "BATY.PITCH",
    "DBEQ.BASIC",
    "EDGA.PITCH",
    "EDGX.PITCH",
    "EPRL.DOM",
    "EQUS.ALL",
    "EQUS.MINI",
    "EQUS.PLUS",
    "EQUS.SUMMARY",
    "FINN.NLS",
    "FINY.TRADES",
    "IEXG.TOPS",
    "MEMX.MEMOIR",
    "XASE.PILLAR",
    "XBOS.ITCH",
    "XCHI.PILLAR",
    "XCIS.BBO",
    "XCIS.PILLAR",
    "XCIS.TRADES",
    "XCIS.TRADESBBO",
    "XNAS.BASIC",
    "XNAS.ITCH",
    "XNAS.NLS",
    "XNAS.QBBO",
    "XNYS.BBO",
    "XNYS.PILLAR",
    "XNYS.TRADES",
    "XNYS.TRADESBBO",
    "XPSX.ITCH",
)

MARKETS: Mapping[str, Market] = MappingProxyType(
    {
        "cme-equity-index": Market(
            name="cme-equity-index",
            calendar="CMES",
            timezone="America/Chicago",
            zone_label="CT",
            close=time(16),
            hours={"regular": Hours(time(8, 30), time(15)), "extended": _GLOBEX, "full": _GLOBEX},
            datasets=("GLBX.MDP3",),
            special_days=CME_EQUITY_INDEX,
            source="CME's published hours, read 2026-11-22",
            checked_from=CHECKED_FROM,
            checked_through=CHECKED_THROUGH,
            halt="16:00-17:00 CT",
            regular_days="us-equities",
        ),
        "us-equities": Market(
            name="us-equities",
            calendar="XNYS",
            timezone="America/New_York",
            zone_label="ET",
            close=time(16),
            hours={
                "regular": Hours(time(9, 30), time(16)),
                "extended": _EQUITY_FEED,
                "full": _EQUITY_FEED,
            },
            datasets=_US_EQUITY_DATASETS,
            special_days=US_EQUITIES,
            source=(
                "hours of the equity feeds as of 2026-11-22; "
                "longer trading days are announced for late 2026 to 2027 and are not in this row"
            ),
            checked_from=CHECKED_FROM,
            checked_through=CHECKED_THROUGH,
        ),
    }
)

# What is known of datasets without a market here: enough to say why there is none, not enough to open a window.
_KNOWN_OF: Mapping[str, str] = {
    "OPRA.PILLAR": "options trade 09:30-16:00 ET on NYSE days and some until 16:15 ET; which ones is not recorded",
    "OCEA.MEMOIR": "the venue trades overnight, outside the hours of the other US equity feeds",
    "IFUS.IMPACT": "the calendar library has IEPA for ICE US, but its hours were not checked",
    "IFEU.IMPACT": "the calendar library has no calendar for ICE Futures Europe",
    "IFLL.IMPACT": "the calendar library has no calendar for ICE Futures Europe Financials",
    "NDEX.IMPACT": "the calendar library has no calendar for ICE Endex",
    "XEUR.EOBI": "the calendar library's XEUR has hours narrower than the feed's, and the feed's are not known",
    "XEEE.EOBI": "the calendar library's XEEE has hours narrower than the feed's, and the feed's are not known",
    "XCBF.PITCH": "the calendar library's XCBF has hours narrower than the feed's, and the feed's are not known",
}

_MARKET_OF_DATASET: Mapping[str, str] = {
    dataset: market.name for market in MARKETS.values() for dataset in market.datasets
}


def market_for(dataset: str) -> str:
    """The default market of a dataset. Raises CalendarUnknown that says what is known of it."""
    name = _MARKET_OF_DATASET.get(dataset)
    if name is not None:
        return name
    known = _KNOWN_OF.get(dataset)
    if known is not None:
        raise CalendarUnknown(
            f"no market is known for dataset '{dataset}': {known}; a stream may name one with `market:` "
            f"({', '.join(MARKETS)})"
        )
    raise CalendarUnknown(
        f"no market is known for dataset '{dataset}'{nearest(dataset, _MARKET_OF_DATASET)}; "
        f"a stream may name one with `market:` ({', '.join(MARKETS)})"
    )


def find_market(name: str) -> Market:
    """The market of this name. Raises CalendarUnknown with the nearest name."""
    market = MARKETS.get(name)
    if market is None:
        raise CalendarUnknown(f"unknown market '{name}'{nearest(name, MARKETS)}")
    return market


def market_of(stream: Stream) -> Market:
    """The market that a stream names, else its dataset's. Raises CalendarUnknown when there is none."""
    return find_market(stream.market or market_for(stream.dataset))


@dataclass(frozen=True, slots=True)
class WeeklyRestart:
    """When the vendor's live gateways of a dataset restart each week; `weekday` counts from Monday as 0.

    Source: the vendor's page on its live service.
    """

    weekday: int
    at: time
    timezone: str
    text: str


_RESTART_CME = WeeklyRestart(5, time(2, 15), "America/Chicago", "Sat 02:15 CT")
_RESTART_ICE = WeeklyRestart(6, time(9, 45), "UTC", "Sun 09:45 UTC")
_RESTART_OTHERS = WeeklyRestart(6, time(10, 30), "UTC", "Sun 10:30 UTC")


def restart_of(dataset: str) -> WeeklyRestart:
    """The weekly restart of the live gateways that serve a dataset."""
    if dataset == "GLBX.MDP3":
        return _RESTART_CME
    return _RESTART_ICE if dataset.endswith(".IMPACT") else _RESTART_OTHERS

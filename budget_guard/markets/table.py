"""Which markets are known, whose data belongs to them, and when they trade on an ordinary day.

Over the calendar library lies this small table: the library has one calendar for all of CME, no daily halt, no
extended hours and a few days that are wrong. What could not be sourced is absent, and `absent.py` says so when it is
asked for. `docs/markets.md` tells what each row is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from types import MappingProxyType

from budget_guard.errors import CalendarUnknown
from budget_guard.markets import days_cme, days_europe, days_us
from budget_guard.markets.absent import ABSENT_DATASETS, ABSENT_MARKETS
from budget_guard.markets.market import Halt, Hours, Market, Usual
from budget_guard.markets.products import product_group
from budget_guard.markets.special_days import BOTH, SpecialDay
from budget_guard.policy.model import SessionKind, Stream
from budget_guard.policy.problems import nearest

CHECKED_THROUGH = date(2027, 12, 31)
# The first two markets were checked further back. The others start after the New Year's week of 2026.
_CHECKED_FROM_2025 = date(2025, 6, 1)
_CHECKED_FROM_2026 = date(2026, 1, 5)

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

_CHICAGO = "America/Chicago"
_NEW_YORK = "America/New_York"
_CMES = Usual(time(17), time(17), open_day_before=True)
_XNYS = Usual(time(9, 30), time(16))

_PUBLISHED = "CME's published hours, read 2026-11-22"
_GLOBEX = Hours(time(17), time(16), "exchange", _PUBLISHED, open_day_before=True)
_QUOTED_GLOBEX = Hours(
    time(17),
    time(16),
    "third parties",
    "CME's published 2026 Globex schedule, as a broker quotes it by product group; pandas_market_calendars agrees",
    open_day_before=True,
)
_NO_REGULAR = "no regular hours of this group on Globex were sourced"


def _cme(
    name: str,
    what: str,
    days: tuple[SpecialDay, ...],
    *,
    hours: Mapping[SessionKind, Hours] | None = None,
    halts: tuple[Halt, ...] = (),
) -> Market:
    """A product group of CME; without hours of its own it has Globex's, and no regular ones."""
    own = hours or {"extended": _QUOTED_GLOBEX, "full": _QUOTED_GLOBEX}
    return Market(
        name=name,
        what=what,
        calendar="CMES",
        usual=_CMES,
        timezone=_CHICAGO,
        zone_label="CT",
        close=own["full"].close,
        hours=own,
        missing={} if "regular" in own else {"regular": _NO_REGULAR},
        halts=halts,
        special_days=days,
        checked_from=_CHECKED_FROM_2026,
        checked_through=CHECKED_THROUGH,
    )


_GRAIN_SOURCE = "pandas_market_calendars (CME_Agriculture), from CME's contract pages"
_GRAIN_DAY = Hours(time(8, 30), time(13, 20), "one library", f"the day session of {_GRAIN_SOURCE}")
_GRAIN_FULL = Hours(time(19), time(13, 20), "one library", _GRAIN_SOURCE, open_day_before=True)
_LIVESTOCK = Hours(
    time(8, 30),
    time(13, 5),
    "earlier",
    "pandas_market_calendars (CMEGlobex_Livestock), from CME's contract pages; a broker's list ends later",
)

_CME_MARKETS = (
    Market(
        name="cme-equity-index",
        what="E-mini and Micro E-mini S&P, Nasdaq-100, Dow, Russell and their options",
        calendar="CMES",
        usual=_CMES,
        timezone=_CHICAGO,
        zone_label="CT",
        close=time(16),
        hours={
            "regular": Hours(time(8, 30), time(15), "derived", "NYSE's hours, on days when NYSE trades"),
            "extended": _GLOBEX,
            "full": _GLOBEX,
        },
        datasets=("GLBX.MDP3",),
        special_days=days_cme.EQUITY_INDEX,
        checked_from=_CHECKED_FROM_2025,
        checked_through=CHECKED_THROUGH,
        regular_days="us-equities",
    ),
    _cme("cme-interest-rates", "Treasury and SOFR futures and their options", days_cme.INTEREST_RATES),
    _cme("cme-fx", "currency futures and their options", days_cme.FX),
    _cme("cme-energy", "NYMEX crude oil, products and natural gas", days_cme.ENERGY_AND_METALS),
    _cme("cme-metals", "COMEX and NYMEX metals", days_cme.ENERGY_AND_METALS),
    _cme(
        "cme-grains",
        "CBOT corn, wheat, soybeans and their products",
        days_cme.GRAINS,
        hours={"regular": _GRAIN_DAY, "extended": _GRAIN_FULL, "full": _GRAIN_FULL},
        halts=(Halt(time(7, 45), time(8, 30)),),
    ),
    _cme(
        "cme-livestock",
        "live cattle, feeder cattle, lean hogs",
        days_cme.LIVESTOCK,
        hours={"regular": _LIVESTOCK, "extended": _LIVESTOCK, "full": _LIVESTOCK},
    ),
)

_EQUITY_FEED = Hours(
    time(4),
    time(20),
    "one library",
    "pandas_market_calendars (NYSE, before and after hours); hours of the feeds as of 2026-11-22",
    after_early=time(17),
)
_CFE_FEED = Hours(
    time(17),
    time(16),
    "vendor",
    "Databento's page of the dataset: extended trading before and after, a pause from 16:00 to 17:00",
    open_day_before=True,
)
_ICE_PLATFORM = Hours(
    time(20), time(18), "both libraries", f"{BOTH} (which opens a minute later)", open_day_before=True
)

_US_MARKETS = (
    Market(
        name="us-equities",
        what="US stocks and ETFs",
        calendar="XNYS",
        usual=_XNYS,
        timezone=_NEW_YORK,
        zone_label="ET",
        close=time(16),
        hours={
            "regular": Hours(time(9, 30), time(16), "both libraries", BOTH),
            "extended": _EQUITY_FEED,
            "full": _EQUITY_FEED,
        },
        datasets=_US_EQUITY_DATASETS,
        special_days=days_us.EQUITIES,
        checked_from=_CHECKED_FROM_2025,
        checked_through=CHECKED_THROUGH,
        remark="longer trading days are announced for late 2026 to 2027 and are not in this row",
    ),
    Market(
        name="us-options",
        what="options on US stocks, ETFs and indices",
        calendar="XNYS",
        usual=_XNYS,
        timezone=_NEW_YORK,
        zone_label="ET",
        close=time(16),
        hours={
            "regular": Hours(time(9, 30), time(16), "both libraries", f"{BOTH} (CBOE_Equity_Options)"),
            "extended": Hours(
                time(9, 30),
                time(16, 15),
                "one library",
                "pandas_market_calendars (CBOE_Index_Options): index and some ETF options go on to 16:15",
                after_early=time(13, 15),
            ),
        },
        missing={
            "full": "the feed also carries Cboe's global and curb sessions of index options; when was not sourced"
        },
        datasets=("OPRA.PILLAR",),
        special_days=days_us.OPTIONS,
        checked_from=_CHECKED_FROM_2026,
        checked_through=CHECKED_THROUGH,
        remark="which options go on to 16:15 is not recorded",
    ),
    Market(
        name="cfe",
        what="VIX futures and the others of Cboe Futures Exchange",
        calendar="XCBF",
        usual=Usual(time(8, 30), time(15, 15)),
        timezone=_CHICAGO,
        zone_label="CT",
        close=time(16),
        hours={
            "regular": Hours(time(8, 30), time(15), "vendor", "Databento's page of the dataset"),
            "extended": _CFE_FEED,
            "full": _CFE_FEED,
        },
        datasets=("XCBF.PITCH",),
        special_days=days_us.CFE,
        checked_from=_CHECKED_FROM_2026,
        checked_through=CHECKED_THROUGH,
        remark=(
            "on some holidays VIX futures trade until 10:30 CT for the next business day: no session of the library's "
            "covers it, so it is closed here"
        ),
    ),
    Market(
        name="ice-us",
        what="ICE Futures U.S.: currencies, stock indices, softs",
        calendar="IEPA",
        usual=Usual(time(20), time(18), open_day_before=True),
        timezone=_NEW_YORK,
        zone_label="ET",
        close=time(18),
        hours={"extended": _ICE_PLATFORM, "full": _ICE_PLATFORM},
        missing={"regular": "each contract has its own, and only those of the platform were sourced"},
        datasets=("IFUS.IMPACT",),
        special_days=days_us.ICE_US,
        checked_from=_CHECKED_FROM_2026,
        checked_through=CHECKED_THROUGH,
        remark="softs trade shorter hours inside these and rest on US holidays; theirs are not recorded",
    ),
)

_NARROW = "the feed's hours are wider than the library's, and were not sourced"

_EUROPEAN_MARKETS = (
    Market(
        name="eurex",
        what="Eurex futures and options",
        calendar="XEUR",
        usual=Usual(time(8), time(22)),
        timezone="Europe/Berlin",
        zone_label="Frankfurt time",
        close=time(22),
        hours={"regular": Hours(time(8), time(22), "both libraries", BOTH)},
        missing={
            "extended": f"{_NARROW}: the exchange's page of an unknown date has some futures trading from 01:10 CET",
            "full": _NARROW,
        },
        datasets=("XEUR.EOBI",),
        special_days=days_europe.EUREX,
        checked_from=_CHECKED_FROM_2026,
        checked_through=CHECKED_THROUGH,
        remark="products close at other times within these; on the last trading day of a year some close early",
    ),
    Market(
        name="eex",
        what="EEX power, gas and emissions",
        calendar="XEEE",
        usual=Usual(time(8), time(18)),
        timezone="Europe/Berlin",
        zone_label="Frankfurt time",
        close=time(18),
        hours={
            "regular": Hours(
                time(8),
                time(18),
                "one library",
                "exchange_calendars (XEEE); PXE lists the same for EEX's power",
            )
        },
        missing={"extended": _NARROW, "full": _NARROW},
        datasets=("XEEE.EOBI",),
        special_days=days_europe.EEX,
        checked_from=_CHECKED_FROM_2026,
        checked_through=CHECKED_THROUGH,
    ),
)

MARKETS: Mapping[str, Market] = MappingProxyType(
    {market.name: market for market in (*_CME_MARKETS, *_US_MARKETS, *_EUROPEAN_MARKETS)}
)

_MARKET_OF_DATASET: Mapping[str, str] = {
    dataset: market.name for market in MARKETS.values() for dataset in market.datasets
}


def market_for(dataset: str) -> str:
    """The default market of a dataset. Raises CalendarUnknown that says what is known of it."""
    name = _MARKET_OF_DATASET.get(dataset)
    if name is not None:
        return name
    known = ABSENT_DATASETS.get(dataset)
    why = nearest(dataset, _MARKET_OF_DATASET) if known is None else f": {known}"
    raise CalendarUnknown(
        f"no market is known for dataset '{dataset}'{why}; a stream may name one with `market:` "
        f"({', '.join(MARKETS)}), or run `always`, which asks no calendar"
    )


def find_market(name: str) -> Market:
    """The market of this name. Raises CalendarUnknown with the nearest name, or why there is no such market here."""
    market = MARKETS.get(name)
    if market is None:
        known = ABSENT_MARKETS.get(name)
        why = nearest(name, MARKETS) if known is None else f": {known}"
        raise CalendarUnknown(f"unknown market '{name}'{why}")
    return market


def market_of(stream: Stream) -> Market:
    """The market that a stream names, else its dataset's. Raises CalendarUnknown when there is none.

    The dataset's default does not stand for a symbol that is known to be of another product group.
    """
    if stream.market is not None:
        return find_market(stream.market)
    market = find_market(market_for(stream.dataset))
    for symbol in stream.symbols:
        group = product_group(stream.dataset, symbol)
        if group is not None and group != market.name:
            own = f"write `market: {group}`" if group in MARKETS else why_unknown(group)
            raise CalendarUnknown(
                f"'{symbol}' is a product of {group}, whose hours are not those of {market.name}, "
                f"the default market of {stream.dataset}: {own}"
            )
    return market


def why_unknown(market: str) -> str:
    """What `find_market` says against a name. Raises ValueError for a market that is known."""
    try:
        find_market(market)
    except CalendarUnknown as unknown:
        return str(unknown)
    raise ValueError(f"{market} is known")

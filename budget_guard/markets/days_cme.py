"""Days that are not ordinary at CME, by product group; Chicago time.

The library has one calendar for all of CME and says so itself: noon for every product, as the most conservative hours.
So where a product group keeps hours of its own, noon in the library is no evidence against them.
"""

from __future__ import annotations

from datetime import time

from budget_guard.markets.special_days import BOTH, agreed, in_order, rows

_LIBRARY = time(17)  # what CMES 4.13.2 gives as every ordinary day's close
_USUAL = time(16)
_NOON = time(12)
_QUARTER_PAST = time(12, 15)

_CLOSED = "2026-12-25 2027-01-01 2027-12-24"
_JUNETEENTH = "12:00 in exchange_calendars after 4.13.2 and in pandas_market_calendars"
_JUNETEENTH_2027 = f"{_JUNETEENTH}; the exchange's 2027 schedule was not seen"
_QUARTER_2026 = "CME's published 2026 Globex schedule, as third parties quote it"
_QUARTER_2025 = "pandas_market_calendars (CME Globex Equity); the rule of 2026, when NYSE closes at 13:00 ET"
_QUARTER_2027 = "the rule of 2025 and 2026: 12:15 when NYSE closes at 13:00 ET"
_MLK = "CME's published 2026 Globex schedule, as a broker quotes it by product group"
_NO_PAYROLLS = (
    "exchange_calendars; pandas_market_calendars opens until {}, "
    "which CME does only in years when payrolls are published on the day"
)
_PAYROLLS = "pandas_market_calendars; CME's rule for a Good Friday on which payrolls are published"
_BY_GROUP = "pandas_market_calendars ({}); noon in exchange_calendars is that of all products together"

EQUITY_INDEX = in_order(
    rows("2025-06-19 2026-06-19", _NOON, _LIBRARY, "one library", _JUNETEENTH),
    rows("2025-07-03", _QUARTER_PAST, _LIBRARY, "one library", _QUARTER_2025),
    agreed("2025-07-04 2025-09-01 2025-11-27", _NOON),
    rows("2025-11-28 2025-12-24", _QUARTER_PAST, _NOON, "one library", _QUARTER_2025),
    agreed(f"2025-12-25 2026-01-01 {_CLOSED}", None),
    agreed("2026-01-19 2026-02-16 2026-05-25 2026-07-03 2026-09-07 2026-11-26", _NOON),
    rows("2026-04-03", time(8, 15), None, "one library", _PAYROLLS),
    rows("2026-11-27 2026-12-24", _QUARTER_PAST, _NOON, "third parties", _QUARTER_2026),
    agreed("2027-01-18 2027-02-15 2027-05-31 2027-07-05 2027-09-06 2027-11-25", _NOON),
    rows("2027-03-26", None, None, "derived", _NO_PAYROLLS.format("08:15")),
    rows("2027-06-18", _NOON, _LIBRARY, "derived", _JUNETEENTH_2027),
    rows("2027-11-26", _QUARTER_PAST, _NOON, "derived", _QUARTER_2027),
)

INTEREST_RATES = in_order(
    agreed(_CLOSED, None),
    rows("2026-01-19", _NOON, _NOON, "third parties", _MLK),
    agreed("2026-02-16 2026-05-25 2026-07-03 2026-09-07 2026-11-26", _NOON),
    rows("2026-04-03", time(10, 15), None, "one library", f"{_PAYROLLS}; its CME_Bond says 10:00"),
    rows("2026-06-19", _NOON, _LIBRARY, "one library", f"{_JUNETEENTH} (its CME_Bond lacks the day)"),
    rows(
        "2026-11-27 2026-12-24",
        _QUARTER_PAST,
        _NOON,
        "one library",
        _BY_GROUP.format("CME Globex Fixed Income"),
    ),
    agreed("2027-01-18 2027-02-15 2027-05-31 2027-07-05 2027-09-06 2027-11-25", _NOON),
    rows("2027-03-26", None, None, "derived", _NO_PAYROLLS.format("10:15")),
    rows("2027-06-18", _NOON, _LIBRARY, "derived", _JUNETEENTH_2027),
    rows("2027-11-26", _QUARTER_PAST, _NOON, "derived", "the rule of 2026, as in pandas_market_calendars"),
)

_FX_MONDAYS = (
    "2026-02-16 2026-05-25 2026-09-07 2026-11-26 "
    "2027-01-18 2027-02-15 2027-05-31 2027-07-05 2027-09-06 2027-11-25"
)

FX = in_order(
    agreed(_CLOSED, None),
    rows("2026-01-19", _USUAL, _NOON, "third parties", _MLK),
    rows(
        _FX_MONDAYS,
        _USUAL,
        _NOON,
        "one library",
        f"{_BY_GROUP.format('CMEGlobex_FX')}, and the schedule quoted for 2026-01-19 has FX at 16:00",
    ),
    rows("2026-04-03", time(10, 15), None, "one library", _PAYROLLS),
    rows(
        "2026-06-19",
        _NOON,
        _LIBRARY,
        "earlier",
        "exchange_calendars after 4.13.2 has 12:00, pandas_market_calendars an ordinary day; on Fridays other "
        "groups closed at noon",
    ),
    rows(
        "2026-07-03",
        _NOON,
        _NOON,
        "earlier",
        "exchange_calendars has 12:00, pandas_market_calendars an ordinary day",
    ),
    rows(
        "2026-11-27 2026-12-24 2027-11-26",
        _QUARTER_PAST,
        _NOON,
        "one library",
        f"{_BY_GROUP.format('CMEGlobex_FX')}; a later close is reported without a time",
    ),
    rows("2027-03-26", None, None, "derived", _NO_PAYROLLS.format("10:15")),
    rows(
        "2027-06-18",
        _NOON,
        _LIBRARY,
        "earlier",
        "12:00 in exchange_calendars after 4.13.2; pandas_market_calendars has an ordinary day",
    ),
)

_HALF_PAST_ONE = time(13, 30)
_QUOTED_ENERGY = (
    "CME's published 2026 schedule for the group, as a report to pandas_market_calendars quotes it"
)
_ENERGY = f"{_BY_GROUP.format('CMEGlobex_EnergyAndMetals')}, and the schedule quoted for 2026-01-19 has 13:30"

ENERGY_AND_METALS = in_order(
    agreed(f"2026-04-03 2027-03-26 {_CLOSED}", None),
    rows("2026-01-19", _HALF_PAST_ONE, _NOON, "third parties", _MLK),
    rows(
        "2026-02-16 2026-05-25 2026-11-26 2027-01-18 2027-02-15 2027-05-31 2027-07-05 2027-11-25",
        _HALF_PAST_ONE,
        _NOON,
        "one library",
        _ENERGY,
    ),
    rows("2026-06-19", _NOON, _LIBRARY, "third parties", _QUOTED_ENERGY),
    rows("2026-07-03", _NOON, _NOON, "third parties", _QUOTED_ENERGY),
    rows("2026-09-07", _HALF_PAST_ONE, _NOON, "third parties", _QUOTED_ENERGY),
    rows("2026-11-27", time(13, 45), _NOON, "third parties", _QUOTED_ENERGY),
    rows("2026-12-24", time(12, 45), _NOON, "third parties", _QUOTED_ENERGY),
    rows(
        "2027-06-18",
        _NOON,
        _LIBRARY,
        "earlier",
        "noon when Juneteenth was a Friday in 2026; pandas_market_calendars says 13:30",
    ),
    rows("2027-09-06", _NOON, _NOON, "earlier", f"{BOTH} say 12:00; in 2026 it was 13:30"),
    rows(
        "2027-11-26",
        time(12, 45),
        _NOON,
        "earlier",
        "pandas_market_calendars says 12:45; in 2026 it was 13:45",
    ),
)

_AG_HOLIDAYS = (
    "2026-02-16 2026-05-25 2026-07-03 2026-09-07 2026-11-26 "
    "2027-01-18 2027-02-15 2027-05-31 2027-07-05 2027-09-06 2027-11-25"
)
_NO_NIGHT = f"{BOTH}; no night session before it: grains stay closed until 08:30, as farm news report"

GRAINS = in_order(
    agreed(f"2026-04-03 2027-03-26 {_CLOSED}", None),
    rows("2026-01-19", None, _NOON, "third parties", _MLK),
    rows(_AG_HOLIDAYS, None, _NOON, "one library", _BY_GROUP.format("CME_Agriculture")),
    rows(
        "2026-06-19 2027-06-18",
        None,
        _LIBRARY,
        "one library",
        "pandas_market_calendars (CME_Agriculture); exchange_calendars 4.13.2 has the day for no product",
    ),
    rows("2026-11-27 2027-11-26", _NOON, _NOON, "both libraries", _NO_NIGHT, opens=time(8, 30)),
    agreed("2026-12-24", _NOON),
)

LIVESTOCK = in_order(
    agreed(f"2026-04-03 2027-03-26 {_CLOSED}", None),
    rows("2026-01-19", None, _NOON, "third parties", _MLK),
    rows(_AG_HOLIDAYS, None, _NOON, "one library", _BY_GROUP.format("CMEGlobex_Livestock")),
    rows(
        "2026-06-19 2027-06-18",
        None,
        _LIBRARY,
        "earlier",
        "closed in pandas_market_calendars' CME_Agriculture, ordinary in its CMEGlobex_Livestock",
    ),
    rows(
        "2026-11-27 2026-12-24 2027-11-26",
        time(12, 5),
        _NOON,
        "one library",
        _BY_GROUP.format("CMEGlobex_Livestock"),
    ),
)

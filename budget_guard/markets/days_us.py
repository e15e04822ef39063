"""Days that are not ordinary at US equities, US options, CFE and ICE Futures U.S.; each on its own wall clock."""

from __future__ import annotations

from datetime import time

from budget_guard.markets.special_days import BOTH, agreed, in_order, rows

_ONE = time(13)
_QUARTER_PAST = time(12, 15)

_CLOSED = (
    "2026-01-19 2026-02-16 2026-04-03 2026-05-25 2026-06-19 2026-07-03 2026-09-07 2026-11-26 2026-12-25 "
    "2027-01-01 2027-01-18 2027-02-15 2027-03-26 2027-05-31 2027-06-18 2027-07-05 2027-09-06 2027-11-25 "
    "2027-12-24"
)

EQUITIES = in_order(
    agreed("2025-06-19 2025-07-04 2025-09-01 2025-11-27 2025-12-25 2026-01-01", None),
    agreed(_CLOSED, None),
    agreed("2025-07-03 2025-11-28 2025-12-24 2026-11-27 2026-12-24 2027-11-26", _ONE),
)

OPTIONS = in_order(
    agreed(_CLOSED, None),
    agreed("2026-11-27 2027-11-26", _ONE),
    rows(
        "2026-12-24",
        _ONE,
        _ONE,
        "both libraries",
        f"{BOTH} for NYSE; pandas_market_calendars' calendars of Cboe lack the day",
    ),
)

CFE = in_order(
    agreed(_CLOSED, None),
    agreed("2026-11-27 2027-11-26", _QUARTER_PAST),
    rows(
        "2026-12-24",
        _QUARTER_PAST,
        time(15, 15),
        "derived",
        "as on the day after Thanksgiving: 12:15 when NYSE closes at 13:00 ET; neither library has the day",
    ),
)

ICE_US = in_order(
    agreed("2026-04-03 2026-12-25 2027-01-01 2027-03-26 2027-12-24", None),
    agreed("2026-01-19 2026-02-16 2026-05-25 2026-07-03 2026-09-07 2026-11-26", _ONE),
    agreed("2027-01-18 2027-02-15 2027-05-31 2027-07-05 2027-09-06 2027-11-25", _ONE),
    rows(
        "2026-06-19 2027-06-18",
        _ONE,
        time(18),
        "derived",
        "ICE Futures U.S.' holiday calendar of 2025, as third parties quote it, marks Juneteenth like the days that "
        "close at 13:00; neither library has it",
    ),
)

"""Days that are not ordinary at Eurex and EEX; Frankfurt time."""

from __future__ import annotations

from datetime import time

from budget_guard.markets.special_days import agreed, in_order, rows

_CLOSED = "2026-04-03 2026-04-06 2026-05-01 2026-12-25 2027-01-01 2027-03-26 2027-03-29"

EUREX = in_order(
    agreed(_CLOSED, None),
    rows(
        "2026-12-24 2026-12-31 2027-12-24 2027-12-31",
        None,
        None,
        "both libraries",
        "exchange_calendars and pandas_market_calendars' EUREX_Bond, as in Eurex's calendar of 2020; "
        "its EUREX closes at 12:30",
    ),
    rows(
        "2026-12-28 2027-12-27 2027-12-28",
        time(22),
        time(22),
        "both libraries",
        "an ordinary day in exchange_calendars and pandas_market_calendars' EUREX_Bond; its EUREX moves Christmas here",
    ),
)

EEX = in_order(
    rows(
        f"{_CLOSED} 2026-12-24 2026-12-31 2027-12-24 2027-12-31",
        None,
        None,
        "one library",
        "exchange_calendars (XEEE), from EEX Group's trading calendar",
    ),
)

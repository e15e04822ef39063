"""When the synthetic markets trade, and how their volume lies over a session.

Weekends are closed; exchange holidays and early closes are not modelled. The intraday shapes are assumed, not
measured: shares of a full session's bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from budget_guard.clock import ns_from_instant

NEW_YORK = ZoneInfo("America/New_York")
MINUTE_NS = 60 * 10**9

# Calendars: "cme" trades 18:00 to 17:00 ET, "us" 04:00 to 20:00 ET; "weekdays" and "always" are whole UTC days.
_HOURS_ET = {"cme": (time(18), time(17)), "us": (time(4), time(20))}

# (minutes, percent of the session) from its open on; assumed.
SHAPES: dict[str, tuple[tuple[int, int], ...]] = {
    "cme": ((480, 8), (450, 17), (30, 10), (300, 48), (60, 15), (60, 2)),
    "us": ((330, 4), (30, 14), (330, 62), (30, 17), (240, 3)),
}


@dataclass(frozen=True, slots=True)
class Session:
    """One trading session: its label (the day it closes on) and its half-open bounds."""

    calendar: str
    label: date
    start_ns: int
    end_ns: int


@lru_cache(maxsize=8192)
def session_on(calendar: str, label: date) -> Session | None:
    """The session with a label, or None when the market is closed."""
    if calendar != "always" and label.weekday() >= 5:
        return None
    if calendar in ("always", "weekdays"):
        start = datetime.combine(label, time(), UTC)
        end = start + timedelta(days=1)
    else:
        opens, closes = _HOURS_ET[calendar]
        first_day = label - timedelta(days=1) if opens > closes else label
        start = datetime.combine(first_day, opens, NEW_YORK).astimezone(UTC)
        end = datetime.combine(label, closes, NEW_YORK).astimezone(UTC)
    return Session(calendar, label, ns_from_instant(start), ns_from_instant(end))


def sessions_between(calendar: str, start_ns: int, end_ns: int) -> Iterator[Session]:
    """The sessions that overlap `[start_ns, end_ns)`, in order."""
    # A session starts at most a day before its label's midnight and ends within two hours after its label's day.
    label = date_of_ns(start_ns) - timedelta(days=1)
    last = date_of_ns(end_ns) + timedelta(days=1)
    while label <= last:
        session = session_on(calendar, label)
        if session is not None and session.start_ns < end_ns and session.end_ns > start_ns:
            yield session
        label += timedelta(days=1)


def date_of_ns(nanoseconds: int) -> date:
    """The UTC day of an instant."""
    return _EPOCH + timedelta(days=nanoseconds // (1440 * MINUTE_NS))


def trading_label(day: date) -> date:
    """The label whose symbols hold on a UTC day: a weekend belongs to the Monday that opens in it."""
    return day + timedelta(days=max(0, 7 - day.weekday()) if day.weekday() >= 5 else 0)


_EPOCH = date(1970, 1, 1)

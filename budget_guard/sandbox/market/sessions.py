"""When the synthetic markets trade: CME Globex and US stocks and options, with their holidays and early closes.

Which days are holidays comes from the exchange_calendars library (CMES, XNYS), with this room's own corrections; the
hours are those published today, applied to every year. The guard's calendars are not used: a judge has its own.

The library is asked once per calendar, when the first session is needed, for `FIRST` to `LAST`. It knows what was
announced when it was released and derives the rest. Outside those years every weekday is an ordinary session.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from threading import Lock
from zoneinfo import ZoneInfo

from budget_guard.clock import ns_from_instant

FIRST, LAST = date(2010, 1, 1), date(2040, 12, 31)

MINUTE_NS = 60 * 10**9
DAY_NS = 1440 * MINUTE_NS
_EPOCH = date(1970, 1, 1)

ALWAYS = "always"
# Of UTC days on which a calendar trades: "days/cme", "days/us".
_DAYS = "days/"

# One thread at a time asks the library: how warnings are turned off for that holds for all threads of the process.
_ASKING = Lock()


@dataclass(frozen=True, slots=True)
class Hours:
    """A calendar's ordinary session, in its own time: an open later than the close is on the day before.

    `early` is when the feed ends after an early close of the library's, where that is not the close itself.
    """

    library: str
    zone: ZoneInfo
    opens: time
    closes: time
    early: time | None = None


HOURS = {
    # The library leaves the halt from 16:00 to 17:00 CT out.
    "cme": Hours("CMES", ZoneInfo("America/Chicago"), time(17), time(16)),
    # Regular hours are the library's, 09:30 to 16:00 ET. The feeds are longer on either side.
    "us": Hours("XNYS", ZoneInfo("America/New_York"), time(4), time(20), time(17)),
}


@dataclass(frozen=True, slots=True)
class Session:
    """One trading session: its label (the day it closes on) and its half-open bounds."""

    calendar: str
    label: date
    start_ns: int
    end_ns: int

    @property
    def minutes(self) -> int:
        """Its length; every session is whole minutes long."""
        return (self.end_ns - self.start_ns) // MINUTE_NS


@lru_cache(maxsize=32_768)
def session_on(calendar: str, label: date) -> Session | None:
    """The session with a label, or None when the market is closed."""
    if calendar == ALWAYS:
        return _utc_day(calendar, label)
    if calendar.startswith(_DAYS):
        day = _utc_day(calendar, label)
        trades = any(sessions_between(calendar.removeprefix(_DAYS), day.start_ns, day.end_ns))
        return day if trades else None
    closed, early = special_days(calendar)
    if label.weekday() >= 5 or label in closed:
        return None
    hours = HOURS[calendar]
    first_day = label - timedelta(days=1) if hours.opens > hours.closes else label
    start = datetime.combine(first_day, hours.opens, hours.zone)
    end = datetime.combine(label, early.get(label, hours.closes), hours.zone)
    return Session(
        calendar, label, ns_from_instant(start.astimezone(UTC)), ns_from_instant(end.astimezone(UTC))
    )


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


def days_calendar(calendar: str) -> str:
    """The calendar whose sessions are the UTC days on which another one trades, if only for an hour."""
    return _DAYS + calendar


def special_days(calendar: str) -> tuple[frozenset[date], dict[date, time]]:
    """The weekdays without a session, and the ends of those that end early, from `FIRST` to `LAST`."""
    with _ASKING:
        return _from_library(calendar)


@lru_cache(maxsize=8)
def _from_library(calendar: str) -> tuple[frozenset[date], dict[date, time]]:
    import exchange_calendars

    hours = HOURS[calendar]
    with warnings.catch_warnings():
        # The library (4.13) calls what pandas 3 deprecates.
        warnings.simplefilter("ignore")
        schedule = exchange_calendars.get_calendar(
            hours.library, start=FIRST.isoformat(), end=LAST.isoformat()
        ).schedule
    ends = schedule["close"].dt.tz_convert(hours.zone)
    closes = dict(zip((stamp.date() for stamp in schedule.index), (end.time() for end in ends), strict=True))
    weekdays = (FIRST + timedelta(days=offset) for offset in range((LAST - FIRST).days + 1))
    closed = {day for day in weekdays if day.weekday() < 5 and day not in closes}
    usual = max(closes.values())
    early = {day: hours.early or close for day, close in closes.items() if close < usual}
    if calendar == "cme":
        _correct_cme(closed, early)
    return frozenset(closed), early


# Good Fridays with payrolls, on which equity index futures traded until 08:15 CT.
_SHORT_GOOD_FRIDAYS = (date(2015, 4, 3), date(2026, 4, 3))


def _correct_cme(closed: set[date], early: dict[date, time]) -> None:
    """What the library (4.13) does not know of CME, from the exchange's published holiday schedules.

    On the day after Thanksgiving and on Christmas Eve trading ends at 12:15 CT, on other early closes at 12:00 CT.
    Juneteenth has been one of those since 2022.
    """
    for day in early:
        if (day.month, day.weekday()) == (11, 4) or (day.month, day.day) == (12, 24):
            early[day] = time(12, 15)
    for day in _SHORT_GOOD_FRIDAYS:
        closed.discard(day)
        early[day] = time(8, 15)
    for year in range(2022, LAST.year + 1):
        juneteenth = date(year, 6, 19)
        observed = juneteenth + timedelta(days={5: -1, 6: 1}.get(juneteenth.weekday(), 0))
        early[observed] = time(12)


def _utc_day(calendar: str, day: date) -> Session:
    start_ns = (day - _EPOCH).days * DAY_NS
    return Session(calendar, day, start_ns, start_ns + DAY_NS)


def date_of_ns(nanoseconds: int) -> date:
    """The UTC day of an instant."""
    return _EPOCH + timedelta(days=nanoseconds // DAY_NS)


def trading_label(day: date) -> date:
    """The label whose symbols hold on a UTC day: a weekend belongs to the Monday that opens in it."""
    return day + timedelta(days=max(0, 7 - day.weekday()) if day.weekday() >= 5 else 0)

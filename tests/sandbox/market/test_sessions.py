"""Sessions: holidays, early closes and clock changes, against dates published by the exchanges."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from threading import Event
from zoneinfo import ZoneInfo

import exchange_calendars
import pytest

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.market import sessions
from budget_guard.sandbox.market.sessions import (
    MINUTE_NS,
    Session,
    days_calendar,
    session_on,
    sessions_between,
)

CHICAGO, NEW_YORK = ZoneInfo("America/Chicago"), ZoneInfo("America/New_York")


def end_of(calendar: str, label: date, zone: ZoneInfo) -> str | None:
    session = session_on(calendar, label)
    if session is None:
        return None
    return datetime.fromtimestamp(session.end_ns // 10**9, zone).strftime("%H:%M")


def one(session: Session | None) -> Session:
    assert session is not None
    return session


@pytest.mark.parametrize(
    ("label", "end"),
    [
        ("2026-11-25", "16:00"),
        ("2026-11-26", "12:00"),
        ("2026-11-27", "12:15"),
        ("2026-12-24", "12:15"),
        ("2026-12-25", None),
        ("2027-01-01", None),
        ("2027-01-18", "12:00"),
        ("2027-03-26", None),
        ("2027-06-18", "12:00"),
        ("2027-07-05", "12:00"),
        ("2027-11-26", "12:15"),
        ("2027-12-24", None),
        ("2026-06-19", "12:00"),
        ("2021-06-18", "16:00"),
        ("2026-04-03", "08:15"),
        ("2025-04-18", None),
        ("2010-07-05", "12:00"),
        ("2026-11-21", None),
    ],
)
def test_cme_sessions_end_when_the_exchange_says(label: str, end: str | None) -> None:
    """Central time: 16:00 on ordinary days, 12:00 and 12:15 on short ones, nothing on holidays and weekends."""
    assert end_of("cme", date.fromisoformat(label), CHICAGO) == end


@pytest.mark.parametrize(
    ("label", "end"),
    [
        ("2026-11-25", "20:00"),
        ("2026-11-26", None),
        ("2026-11-27", "17:00"),
        ("2026-12-24", "17:00"),
        ("2026-12-25", None),
        ("2026-06-19", None),
        ("2012-10-29", None),
        ("2025-01-09", None),
    ],
)
def test_us_feeds_end_when_the_venues_say(label: str, end: str | None) -> None:
    """New York time: 20:00, 17:00 after an early close; storms and days of mourning are closed."""
    assert end_of("us", date.fromisoformat(label), NEW_YORK) == end


@pytest.mark.parametrize(("calendar", "minutes"), [("cme", 1380), ("us", 960)])
def test_clock_changes_do_not_change_a_sessions_length(calendar: str, minutes: int) -> None:
    """Around both clock changes every session is as long as ever, and opens at the same local hour."""
    for start in (date(2026, 3, 2), date(2026, 10, 26)):
        for day in (start + timedelta(days=offset) for offset in range(12)):
            session = session_on(calendar, day)
            if session is not None:
                zone, hour = (CHICAGO, 17) if calendar == "cme" else (NEW_YORK, 4)
                assert session.end_ns - session.start_ns == minutes * MINUTE_NS
                assert datetime.fromtimestamp(session.start_ns // 10**9, zone).hour == hour


def test_sessions_never_overlap_over_sixteen_years() -> None:
    """In order, each begins after the one before it ended."""
    for calendar, number in (("cme", 4115), ("us", 4025)):
        start = ns_from_instant(datetime(2010, 6, 1, tzinfo=UTC))
        found = list(sessions_between(calendar, start, ns_from_instant(datetime(2026, 6, 1, tzinfo=UTC))))
        assert all(a.end_ns < b.start_ns for a, b in pairwise(found))
        assert len(found) == pytest.approx(number, abs=25)


def test_beyond_the_librarys_years_every_weekday_is_ordinary() -> None:
    """Neither Christmas 2050 nor New Year 2001 is known to be a holiday."""
    for label in (date(2045, 12, 25), date(2001, 1, 1)):
        assert end_of("cme", label, CHICAGO) == "16:00"
    assert session_on("cme", date(2050, 12, 25)) is None  # a Sunday


def test_utc_days_that_trade_include_the_sunday_on_which_a_week_opens() -> None:
    """CME opens on Sunday evening; its UTC days that trade are Sunday to Friday."""
    start = ns_from_instant(datetime(2026, 11, 14, tzinfo=UTC))
    days = sessions_between(days_calendar("cme"), start, start + 7 * 1440 * MINUTE_NS)
    assert [session.label.day for session in days] == [15, 16, 17, 18, 19, 20]
    assert one(session_on(days_calendar("cme"), date(2026, 11, 15))).minutes == 1440


def test_two_threads_that_need_holidays_at_once_ask_the_library_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What turns its warnings off does so for the whole process: two at a time would undo each other's."""
    ask, asked = exchange_calendars.get_calendar, []
    begun, going = Event(), Event()

    def slowly(name: str, **bounds: str) -> object:
        asked.append(name)
        begun.set()
        assert going.wait(60)
        return ask(name, **bounds)

    monkeypatch.setattr(exchange_calendars, "get_calendar", slowly)
    sessions._from_library.cache_clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(sessions.special_days, "us")
        assert begun.wait(60)
        second = pool.submit(sessions.special_days, "us")
        going.set()
        assert first.result(60) is second.result(60)
    assert asked == ["XNYS"]

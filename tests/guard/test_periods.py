"""Periods: months in UTC, days and weeks in a zone, sessions by the exchange; and amounts as the ledger counts them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from budget_guard.clock import EPOCH
from budget_guard.guard.periods import (
    FOREVER,
    LimitsInPeriod,
    budget_limits,
    period_bounds,
)
from budget_guard.markets.model import Interval
from budget_guard.markets.windows import WindowBook
from budget_guard.policy.model import AlwaysClause, PeriodName, Stream
from budget_guard.streaming.assembly import StreamWindows
from tests.guard.samples import NOW, budget, limit

HOUR = timedelta(hours=1)
# Ordinary zones; zones whose clocks change at midnight itself; offsets of a half and a quarter hour; none at all.
ZONES = [
    "UTC",
    "America/New_York",
    "America/Chicago",
    "Europe/London",
    "Africa/Cairo",
    "America/Havana",
    "America/Santiago",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
]
INSTANTS = st.datetimes(datetime(2024, 1, 1), datetime(2029, 12, 31)).map(  # noqa: DTZ001
    lambda naive: naive.replace(tzinfo=UTC)
)


def bounds(period: PeriodName, at: datetime, zone: str = "UTC") -> Interval:
    return period_bounds(period, at, zone, None)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(st.sampled_from(["day", "week", "month", "total"]), INSTANTS, st.sampled_from(ZONES))
def test_periods_divide_time_without_gaps_or_overlaps(period: PeriodName, at: datetime, zone: str) -> None:
    """Every instant lies in its period, the period's ends give the same period, and the next begins where it ends."""
    found = bounds(period, at, zone)
    tick = timedelta(microseconds=1)
    assert at in found
    assert bounds(period, found.start_utc, zone) == found
    assert bounds(period, found.end_utc - tick, zone) == found
    if period != "total":
        assert bounds(period, found.end_utc, zone).start_utc == found.end_utc
        assert bounds(period, found.start_utc - tick, zone).end_utc == found.start_utc


@given(INSTANTS, st.sampled_from(ZONES))
def test_a_day_is_all_that_the_calendar_on_the_wall_calls_one_date(at: datetime, zone: str) -> None:
    day = bounds("day", at, zone)
    wall = ZoneInfo(zone)
    date = at.astimezone(wall).date()
    last = day.end_utc - timedelta(microseconds=1)
    assert {instant.astimezone(wall).date() for instant in (day.start_utc, last)} == {date}
    assert (day.end_utc.astimezone(wall).date() - date).days == 1


@given(INSTANTS, st.sampled_from(ZONES))
def test_a_week_is_seven_days_from_monday(at: datetime, zone: str) -> None:
    week = bounds("week", at, zone)
    wall = ZoneInfo(zone)
    start, end = week.start_utc.astimezone(wall).date(), week.end_utc.astimezone(wall).date()
    assert start.weekday() == 0
    assert (end - start).days == 7


@pytest.mark.parametrize(
    ("zone", "at", "start", "end"),
    [
        ("America/New_York", "2026-11-23T15:00", "2026-11-23T05:00", "2026-11-24T05:00"),
        # Clocks go back: 25 hours.
        ("America/New_York", "2026-11-01T12:00", "2026-11-01T04:00", "2026-11-02T05:00"),
        # Clocks go forward: 23 hours.
        ("America/New_York", "2027-03-14T12:00", "2027-03-14T05:00", "2027-03-15T04:00"),
        # Clocks go forward at midnight: the day begins at one o'clock.
        ("Africa/Cairo", "2026-04-24T12:00", "2026-04-23T22:00", "2026-04-24T21:00"),
        # Clocks go back over midnight: 23:00 to 24:00 of the day before comes twice.
        ("Africa/Cairo", "2026-10-30T12:00", "2026-10-29T22:00", "2026-10-30T22:00"),
        ("Africa/Cairo", "2026-10-29T21:30", "2026-10-28T21:00", "2026-10-29T22:00"),
        # Midnight itself comes twice: the day begins with the first.
        ("America/Havana", "2026-11-01T12:00", "2026-11-01T04:00", "2026-11-02T05:00"),
    ],
)
def test_days_in_a_zone_follow_its_clock_changes(zone: str, at: str, start: str, end: str) -> None:
    assert bounds("day", utc(at), zone) == Interval(utc(start), utc(end))


def test_the_week_of_a_clock_change_is_an_hour_longer() -> None:
    week = bounds("week", utc("2026-10-28T12:00"), "America/New_York")
    assert week == Interval(utc("2026-10-26T04:00"), utc("2026-11-02T05:00"))
    assert week.end_utc - week.start_utc == timedelta(days=7) + HOUR


@pytest.mark.parametrize("zone", ZONES)
def test_months_are_utc_whatever_the_zone(zone: str) -> None:
    found = bounds("month", utc("2026-11-30T23:59:59.999999"), zone)
    assert found == Interval(utc("2026-11-01"), utc("2026-12-01"))
    assert bounds("month", utc("2026-12-01"), zone) == Interval(utc("2026-12-01"), utc("2027-01-01"))


def test_the_total_has_neither_beginning_nor_end() -> None:
    assert bounds("total", NOW) == Interval(EPOCH, FOREVER)


def test_a_session_is_what_the_exchange_says() -> None:
    session = Interval(NOW - HOUR, NOW + HOUR)
    asked: list[datetime] = []

    def session_at(at: datetime) -> Interval:
        asked.append(at)
        return session

    assert period_bounds("session", NOW, "UTC", session_at) == session
    assert asked == [NOW]
    with pytest.raises(ValueError, match="needs a market"):
        period_bounds("session", NOW, "UTC", None)


# Around the clock with a halt, by day with holidays, and in another zone.
STREAMS = [
    Stream("cme", "GLBX.MDP3", "mbo", ("NQ.v.0",), "continuous", windows=(AlwaysClause(),)),
    Stream("us", "XNAS.ITCH", "mbo", ("AAPL",), "raw_symbol", windows=(AlwaysClause(),)),
    Stream("eurex", "XEUR.EOBI", "mbo", ("FDAX.c.0",), "continuous", windows=(AlwaysClause(),)),
]
BOOKS = {stream.name: StreamWindows(WindowBook(stream, "UTC")) for stream in STREAMS}
SESSION_INSTANTS = st.datetimes(datetime(2026, 1, 10), datetime(2027, 12, 20)).map(  # noqa: DTZ001
    lambda naive: naive.replace(tzinfo=UTC)
)


@given(st.sampled_from(sorted(BOOKS)), SESSION_INSTANTS)
@example("us", datetime(2026, 11, 26, 15, tzinfo=UTC))
@example("cme", datetime(2026, 12, 25, 15, tzinfo=UTC))
def test_sessions_divide_time_without_gaps_or_overlaps_over_nights_and_holidays(
    market: str, at: datetime
) -> None:
    def session(when: datetime) -> Interval:
        return period_bounds("session", when, "UTC", BOOKS[market].session_interval)

    found = session(at)
    tick = timedelta(microseconds=1)
    assert at in found
    assert session(found.start_utc) == session(found.end_utc - tick) == found
    assert session(found.end_utc).start_utc == found.end_utc
    assert session(found.start_utc - tick).end_utc == found.start_utc


def test_every_limit_of_every_budget_has_a_balance_of_its_own_in_file_order() -> None:
    zone = "America/New_York"
    daily = budget("daily", limit("day", "usd", 15), limit("day", "gib", "0.5"), timezone=zone)
    monthly = budget("monthly", limit("month", "connections", 400), limit("total", "usd", None))
    found = budget_limits("desk", (daily, monthly), NOW, None)
    assert [(one.key.budget, one.key.period, one.unit, one.limit) for one in found] == [
        ("daily", "day", "usd", 15 * 10**9),
        ("daily", "day", "gib", 2**29),
        ("monthly", "month", "connections", 400),
        ("monthly", "total", "usd", None),
    ]
    assert [one.key.period_start_utc for one in found] == [
        utc("2026-11-23T05:00"),
        utc("2026-11-23T05:00"),
        utc("2026-11-01"),
        EPOCH,
    ]
    assert found[0].period_end_utc == utc("2026-11-24T05:00")


@given(st.lists(st.integers(-24 * 40, 24 * 40), min_size=2, max_size=6))
def test_limits_that_are_remembered_are_those_that_would_be_worked_out_afresh(hours: list[int]) -> None:
    """Whatever the order of the instants: forth into the next period, and back."""
    budgets = (
        budget("account", limit("month", "usd", 200), limit("day", "usd", 15), timezone="America/New_York"),
        budget("glbx", limit("session", "hours", 8), limit("week", "gib", 60), limit("total", "usd", 900)),
    )

    def session_at(at: datetime) -> Interval:
        start = at.replace(hour=0, minute=0) + timedelta(hours=23 if at.hour == 23 else -1)
        return Interval(start, start + timedelta(days=1))

    remembered = LimitsInPeriod("desk", budgets, session_at)
    for instant in (NOW + HOUR * number for number in hours):
        assert remembered.at(instant) == budget_limits("desk", budgets, instant, session_at)

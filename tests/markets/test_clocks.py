from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from budget_guard.markets.clauses import instant_of
from budget_guard.markets.notes import clock_change

NEW_YORK = ZoneInfo("America/New_York")


def wall(day: date, at: time) -> datetime:
    return datetime.combine(day, at)


def test_a_time_that_is_left_out_is_the_moment_of_the_change() -> None:
    """On 2027-03-14 clocks in New York go from 02:00 to 03:00: 02:15 and 02:45 are both 07:00 UTC."""
    for minute in (0, 15, 45):
        instant = instant_of(wall(date(2027, 3, 14), time(2, minute)), NEW_YORK)
        assert instant == datetime(2027, 3, 14, 7, tzinfo=UTC)


def test_a_time_that_happens_twice_is_its_first_occurrence() -> None:
    """On 2027-11-07 01:30 is 05:30 UTC first and 06:30 UTC an hour later."""
    assert instant_of(wall(date(2027, 11, 7), time(1, 30)), NEW_YORK) == datetime(
        2027, 11, 7, 5, 30, tzinfo=UTC
    )


@given(
    st.datetimes(wall(date(2025, 1, 1), time()), wall(date(2028, 1, 1), time())),
    st.timedeltas(timedelta(0), timedelta(hours=3)),
    st.sampled_from(["America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Europe/London"]),
)
def test_a_later_time_on_the_wall_never_comes_earlier(earlier: datetime, more: timedelta, name: str) -> None:
    zone = ZoneInfo(name)
    assert instant_of(earlier, zone) <= instant_of(earlier + more, zone)


def test_a_clock_change_is_found_on_its_local_date() -> None:
    start = datetime(2027, 3, 12, 22, tzinfo=UTC)
    assert clock_change(start, start + timedelta(days=3), NEW_YORK) == ("forward", date(2027, 3, 14))
    assert clock_change(start, start + timedelta(hours=30), NEW_YORK) is None

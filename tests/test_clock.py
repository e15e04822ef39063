"""Time from outside: instants, their text, and the billing month."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.clock import (
    ManualClock,
    RehearsalClock,
    SteppedClock,
    SystemClock,
    instant_from_ns,
    instant_text,
    month_bounds,
    month_of,
    ns_from_instant,
    parse_instant,
)

INSTANTS = st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
OFFSETS = st.integers(min_value=-14 * 60, max_value=14 * 60).map(lambda m: timezone(timedelta(minutes=m)))


@settings(max_examples=100)
@given(INSTANTS)
def test_nanoseconds_hold_an_instant_exactly(instant: datetime) -> None:
    assert instant_from_ns(ns_from_instant(instant)) == instant


@settings(max_examples=100)
@given(INSTANTS, OFFSETS)
def test_the_text_of_an_instant_is_utc_and_reads_back_to_the_millisecond(
    instant: datetime, zone: timezone
) -> None:
    text = instant_text(instant.astimezone(zone))
    assert text.endswith("Z")
    assert parse_instant(text) == instant - timedelta(microseconds=instant.microsecond % 1000)


def test_milliseconds_are_written_only_when_there_are_any() -> None:
    assert instant_text(datetime(2026, 11, 23, 14, 30, tzinfo=UTC)) == "2026-11-23T14:30:00Z"
    assert instant_text(datetime(2026, 11, 23, 14, 30, 0, 7000, tzinfo=UTC)) == "2026-11-23T14:30:00.007Z"
    assert instant_text(datetime(2026, 11, 23, 14, 30, 0, 999, tzinfo=UTC)) == "2026-11-23T14:30:00Z"


def test_an_instant_without_its_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        parse_instant("2026-11-23T14:30:00")
    assert parse_instant("2026-11-23T09:30:00-05:00") == datetime(2026, 11, 23, 14, 30, tzinfo=UTC)


@settings(max_examples=100)
@given(INSTANTS, OFFSETS)
def test_the_billing_month_is_the_utc_month_wherever_the_clock_hangs(
    instant: datetime, zone: timezone
) -> None:
    month = month_of(instant.astimezone(zone))
    start, end = month_bounds(month)
    assert start <= instant < end
    assert (start.day, end.day) == (1, 1)


def test_a_month_ends_where_the_next_begins_also_at_new_year() -> None:
    assert month_bounds("2026-12") == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert month_bounds("2026-11")[1] == month_bounds("2026-12")[0]


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "11/2026", "", "1970-1", "2026-11-23"])
def test_what_is_no_month_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="is not a month: write it as 2026-11"):
        month_bounds(text)


def test_a_manual_clock_moves_only_when_told_and_both_readings_together() -> None:
    clock = ManualClock(datetime(2026, 11, 23, tzinfo=UTC))
    before, elapsed = clock.now(), clock.monotonic_s()
    assert (clock.now(), clock.monotonic_s()) == (before, elapsed)
    clock.advance(90)
    assert clock.now() - before == timedelta(seconds=90)
    assert clock.monotonic_s() - elapsed == 90


def test_a_rehearsal_starts_at_its_instant_and_runs_on() -> None:
    start = datetime(2026, 11, 27, 17, 59, tzinfo=UTC)
    clock = RehearsalClock(start)
    first, second = clock.now(), clock.now()
    assert start <= first <= second < start + timedelta(minutes=1)
    assert clock.monotonic_s() <= clock.monotonic_s()


def test_a_rehearsal_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        RehearsalClock(datetime(2026, 11, 27))  # noqa: DTZ001


def test_the_system_s_clock_is_utc_and_never_runs_back() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.monotonic_s() <= clock.monotonic_s()


def test_a_stepped_clock_goes_where_it_is_told_and_never_back() -> None:
    """Its time-outs run on at the machine's pace, its count of hours at its own."""
    start = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
    clock = SteppedClock(start)
    clock.step_to(start + timedelta(hours=2))
    clock.step_to(start + timedelta(hours=1))
    assert clock.now() == start + timedelta(hours=2)
    assert clock.elapsed_s() == 7200
    assert clock.monotonic_s() == pytest.approx(SystemClock().monotonic_s(), abs=60)


def test_a_stepped_clock_needs_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        SteppedClock(datetime(2026, 11, 23))  # noqa: DTZ001

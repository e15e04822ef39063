"""Which sessions are rehearsed, and when the program runs in them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from budget_guard.errors import CalendarUnknown
from budget_guard.markets.model import Window
from budget_guard.policy.model import Stream
from budget_guard.rehearsal.spans import merge_windows, next_windows

MONDAY = date(2026, 11, 23)
ONE, TWO = (Stream(name, "GLBX.MDP3", "trades", ("NQ.v.0",), "continuous") for name in ("one", "two"))


def window(stream: str, day: date, opens: int, closes: int) -> Window:
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return Window(stream, day, at + timedelta(hours=opens), at + timedelta(hours=closes))


def listed(stream: Stream, first: date, last: date) -> list[Window]:
    """From 14 to 20 UTC, Monday to Friday; `two` an hour later, and never on a Monday."""
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    if stream.name == "one":
        return [window("one", day, 14, 20) for day in days if day.weekday() < 5]
    return [window("two", day, 15, 21) for day in days if 0 < day.weekday() < 5]


def sessions(windows: list[Window]) -> list[date]:
    return sorted({window.session for window in windows})


def at(day: date, hour: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


def test_the_next_sessions_are_those_that_have_not_begun() -> None:
    found = next_windows([ONE], listed, at(MONDAY, 15), MONDAY, 2)
    assert sessions(found) == [MONDAY + timedelta(days=1), MONDAY + timedelta(days=2)]
    found = next_windows([ONE], listed, at(MONDAY, 13), MONDAY, 1)
    assert sessions(found) == [MONDAY]


def test_a_session_counts_once_whatever_streams_are_open_in_it() -> None:
    found = next_windows([ONE, TWO], listed, at(MONDAY, 0), MONDAY, 2)
    assert [(w.session.day, w.stream) for w in found] == [(23, "one"), (24, "one"), (24, "two")]


def test_sessions_are_found_over_weekends_and_weeks() -> None:
    found = next_windows([ONE], listed, at(MONDAY, 0), MONDAY, 12)
    assert len(sessions(found)) == 12
    assert sessions(found)[-1] == MONDAY + timedelta(days=15)


def test_a_policy_without_windows_has_none() -> None:
    assert next_windows([ONE], lambda *_: [], at(MONDAY, 0), MONDAY, 3) == []


def test_what_nobody_knows_of_a_calendar_is_said() -> None:
    def unknown(stream: Stream, first: date, last: date) -> list[Window]:
        raise CalendarUnknown("nobody has checked")

    with pytest.raises(CalendarUnknown):
        next_windows([ONE], unknown, at(MONDAY, 0), MONDAY, 1)


def test_overlapping_windows_are_one_run_of_the_program_and_others_are_not() -> None:
    tuesday = MONDAY + timedelta(days=1)
    spans = merge_windows(
        [window("two", tuesday, 15, 21), window("one", tuesday, 14, 20), window("one", MONDAY, 14, 20)]
    )
    assert [(span.session, span.start_utc, span.end_utc) for span in spans] == [
        (MONDAY, at(MONDAY, 14), at(MONDAY, 20)),
        (tuesday, at(tuesday, 14), at(tuesday, 21)),
    ]


def test_windows_that_touch_are_one_run() -> None:
    spans = merge_windows([window("one", MONDAY, 14, 16), window("two", MONDAY, 16, 18)])
    assert [(span.start_utc.hour, span.end_utc.hour) for span in spans] == [(14, 18)]

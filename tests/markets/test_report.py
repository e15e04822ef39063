"""What the picture of a month is drawn from."""

from __future__ import annotations

from datetime import date

import pytest

from budget_guard.errors import CalendarUnknown
from budget_guard.markets.model import DayMark, StreamWindows
from budget_guard.markets.report import report_windows
from budget_guard.policy.model import AlwaysClause, Stream
from tests.markets.build import NEW_YORK, hours, session, stream


def report(listed: Stream, first: str, last: str, timezone: str = NEW_YORK) -> StreamWindows:
    return report_windows(listed, timezone, date.fromisoformat(first), date.fromisoformat(last))


def marks(report: StreamWindows) -> dict[str, DayMark]:
    return {str(mark.day): mark for month in report.months for mark in month}


def states(report: StreamWindows, *days: str) -> list[str]:
    found = marks(report)
    return [found[day].state for day in days]


THANKSGIVING = ("2026-11-25", "2026-11-26", "2026-11-27", "2026-11-28")


def test_the_months_are_whole_whatever_the_dates_asked_for() -> None:
    found = report(stream(session()), "2026-11-23", "2027-01-02")
    assert [(month[0].day, month[-1].day) for month in found.months] == [
        (date(2026, 11, 1), date(2026, 11, 30)),
        (date(2026, 12, 1), date(2026, 12, 31)),
        (date(2027, 1, 1), date(2027, 1, 31)),
    ]


def test_a_day_is_open_short_or_without_a_window() -> None:
    """No regular hours on Thanksgiving, a short session after it, and a weekend."""
    found = report(stream(session("regular")), "2026-11-23", "2026-11-29")
    assert states(found, *THANKSGIVING) == ["open", "none", "short", "free"]


def test_the_full_session_of_a_holiday_is_a_short_one() -> None:
    found = report(stream(session("full")), "2026-11-23", "2026-11-29")
    assert states(found, *THANKSGIVING) == ["open", "short", "short", "free"]


def test_days_without_a_window_of_the_stream_are_none_though_the_market_trades() -> None:
    found = report(stream(hours("09:30-10:00", "mon")), "2026-11-23", "2026-11-29")
    assert states(found, "2026-11-23", "2026-11-24") == ["open", "none"]


def test_days_that_nobody_checked_are_marked_so() -> None:
    found = report(stream(session("full"), market="cme-fx"), "2026-01-05", "2026-01-09")
    assert states(found, "2026-01-02", "2026-01-05") == ["unknown", "open"]


def test_always_is_open_on_every_day_and_needs_no_calendar() -> None:
    found = report(stream(AlwaysClause(), dataset="IFEU.IMPACT"), "2030-01-01", "2030-01-02")
    assert {mark.state for mark in marks(found).values()} == {"open"}


def test_a_stream_without_windows_is_open_on_no_day() -> None:
    found = report(stream(), "2026-11-23", "2026-11-24")
    assert {mark.state for mark in marks(found).values()} == {"none", "free"}


@pytest.mark.parametrize(
    ("listed", "timezone", "month", "days"),
    [
        (stream(session()), NEW_YORK, "2027-03", ["2027-03-14"]),
        (stream(session()), NEW_YORK, "2027-11", ["2027-11-07"]),
        (stream(session()), "Europe/Berlin", "2027-03", ["2027-03-14", "2027-03-28"]),
        (stream(session(), dataset="XEUR.EOBI"), "Asia/Tokyo", "2027-10", ["2027-10-31"]),
        (stream(AlwaysClause()), "Asia/Tokyo", "2027-03", []),
    ],
)
def test_clock_changes_are_those_of_the_policy_and_of_the_exchange(
    listed: Stream, timezone: str, month: str, days: list[str]
) -> None:
    found = report(listed, f"{month}-01", f"{month}-02", timezone)
    assert [day for day, mark in marks(found).items() if mark.clock_change] == days


def test_restarts_fall_on_the_local_date() -> None:
    """CME's Saturday 02:15 in Chicago is Saturday in New York; the others' Sunday 10:30 UTC is Monday in Kiritimati."""
    cme = report(stream(session()), "2026-11-23", "2026-11-24")
    assert [mark.day.day for mark in marks(cme).values() if mark.restart] == [7, 14, 21, 28]
    far = report(
        stream(AlwaysClause(), dataset="XNAS.ITCH"), "2026-11-23", "2026-11-24", "Pacific/Kiritimati"
    )
    assert [mark.day.day for mark in marks(far).values() if mark.restart] == [2, 9, 16, 23, 30]


def test_a_stream_of_history_restarts_nothing() -> None:
    found = report(stream(session(), mode="historical"), "2026-11-23", "2026-11-24")
    assert not any(mark.restart for mark in marks(found).values())


def test_quiet_days_tell_why() -> None:
    found = report(stream(session("regular")), "2026-12-21", "2027-01-04")
    assert [(str(day), why) for day, why in found.quiet] == [
        ("2026-12-25", "closed: Christmas"),
        ("2027-01-01", "closed: New Year's Day"),
    ]


def test_a_report_of_unknown_hours_is_refused() -> None:
    with pytest.raises(CalendarUnknown, match="the full hours of us-options are not known"):
        report(stream(session("full"), dataset="OPRA.PILLAR"), "2026-11-23", "2026-11-24")

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.errors import CalendarUnknown
from budget_guard.markets import sessions, windows
from budget_guard.markets.clauses import compile_clauses
from budget_guard.markets.model import Interval
from budget_guard.markets.sessions import TradingDay
from budget_guard.markets.windows import ALWAYS, WindowBook, list_windows
from budget_guard.policy.model import AlwaysClause, Stream, WindowClause
from tests.markets.build import NEW_YORK, hours, session, stream, utc

REGULAR = WindowBook(stream(session("regular", 5, 5)), NEW_YORK)
FULL = WindowBook(stream(session("full")), NEW_YORK)


def test_a_window_is_half_open() -> None:
    window = Interval(utc("2026-11-24 14:25"), utc("2026-11-24 21:05"))
    assert REGULAR.covering(window.start_utc) == window
    assert REGULAR.covering(window.end_utc - timedelta(microseconds=1)) == window
    assert REGULAR.covering(window.end_utc) is None
    assert REGULAR.covering(window.start_utc - timedelta(microseconds=1)) is None


def test_any_time_zone_names_the_same_instant() -> None:
    local = datetime.fromisoformat("2026-11-24T09:30:00-05:00")
    assert REGULAR.covering(local) == Interval(utc("2026-11-24 14:25"), utc("2026-11-24 21:05"))


def test_the_next_opening_lies_after_the_instant() -> None:
    """Inside a window it is that of the one after; over Thanksgiving it is Friday's."""
    assert REGULAR.next_open(utc("2026-11-24 03:00")) == utc("2026-11-24 14:25")
    assert REGULAR.next_open(utc("2026-11-24 14:25")) == utc("2026-11-25 14:25")
    assert REGULAR.next_open(utc("2026-11-25 22:00")) == utc("2026-11-27 14:25")


def test_an_opening_beyond_two_weeks_is_not_looked_for() -> None:
    monthly = WindowBook(stream(session(days=("mon",)), hours("09:30-10:00", "mon")), NEW_YORK)
    assert monthly.next_open(utc("2026-12-08 00:00")) == utc("2026-12-14 14:30")
    never = WindowBook(stream(session(days=("sun",))), NEW_YORK)
    assert never.next_open(utc("2026-12-08 00:00")) is None


def test_near_the_end_of_the_checked_range_no_opening_is_promised() -> None:
    assert FULL.next_open(utc("2027-12-31 12:00")) is None
    assert FULL.covering(utc("2027-12-31 12:00")) is not None


def test_session_periods_partition_time() -> None:
    """A period runs from one full open to the next: after the close it is still that of the session that closed."""
    friday = FULL.session_at(utc("2026-11-27 15:00"))
    assert (friday.label, friday.start_utc, friday.end_utc) == (
        date(2026, 11, 27),
        utc("2026-11-26 23:00"),
        utc("2026-11-29 23:00"),
    )
    assert FULL.session_at(utc("2026-11-28 12:00")) == friday
    assert FULL.session_at(friday.end_utc).label == date(2026, 11, 30)
    assert FULL.session_at(friday.end_utc).start_utc == friday.end_utc


def test_the_last_checked_session_ends_with_its_close() -> None:
    """What opens next nobody has checked."""
    last = FULL.session_at(utc("2027-12-31 12:00"))
    assert (last.label, last.end_utc) == (date(2027, 12, 31), utc("2027-12-31 22:00"))


@pytest.mark.parametrize("at", ["2027-12-31 22:00", "2028-02-01 00:00", "2025-05-01 00:00"])
def test_instants_outside_the_checked_sessions_are_unknown(at: str) -> None:
    for ask in (FULL.covering, FULL.next_open, FULL.session_at):
        with pytest.raises(CalendarUnknown, match="2025-06-01 through 2027-12-31"):
            ask(utc(at))


def test_an_instant_without_a_zone_is_refused() -> None:
    naive = utc("2026-11-24 15:00").replace(tzinfo=None)
    always = WindowBook(stream(AlwaysClause()), NEW_YORK)
    for ask in (FULL.covering, FULL.next_open, FULL.session_at, always.covering, always.next_open):
        with pytest.raises(ValueError, match="needs a time zone"):
            ask(naive)


def test_an_unknown_dataset_is_refused_when_asked_not_before() -> None:
    book = WindowBook(stream(session(), dataset="IFEU.IMPACT"), NEW_YORK)
    with pytest.raises(CalendarUnknown, match=r"IFEU\.IMPACT"):
        book.covering(utc("2026-11-24 15:00"))


def test_always_is_open_beyond_every_calendar_and_has_no_next_opening() -> None:
    book = WindowBook(stream(AlwaysClause()), NEW_YORK)
    assert book.covering(utc("2040-01-01 00:00")) is ALWAYS
    assert book.next_open(utc("2040-01-01 00:00")) is None
    assert book.session_at(utc("2026-11-24 15:00")).label == date(2026, 11, 24)


def test_a_stream_without_windows_is_never_covered() -> None:
    book = WindowBook(stream(), NEW_YORK)
    assert book.covering(utc("2026-11-24 15:00")) is None
    assert book.next_open(utc("2026-11-24 15:00")) is None


BOOKS = [
    (listed, WindowBook(listed, NEW_YORK))
    for listed in (
        stream(session("regular", 5, 5), hours("18:00-18:30", "sun", "mon")),
        stream(session("extended"), hours("03:00-21:00"), dataset="XNAS.ITCH"),
        stream(hours("22:00-02:00"), hours("01:00-04:00", "tue")),
    )
]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(BOOKS), st.integers(0, 60 * 24 * 390))
def test_the_book_agrees_with_the_rows(pair: tuple[Stream, WindowBook], minute: int) -> None:
    """An instant is covered exactly if a row contains it, and the next opening is that of the next row."""
    listed, book = pair
    at = utc("2026-11-25 00:00") + timedelta(minutes=minute)
    near = at.date()
    rows = list_windows(
        listed, NEW_YORK, near - timedelta(days=3), min(near + timedelta(days=10), date(2027, 12, 31))
    )
    row = next((row for row in rows if row.open_utc <= at < row.close_utc), None)
    assert book.covering(at) == (None if row is None else Interval(row.open_utc, row.close_utc))
    assert book.next_open(at) == next((row.open_utc for row in rows if row.open_utc > at), None)
    period = book.session_at(at)
    assert period.start_utc <= at < period.end_utc
    assert row is None or row.session == period.label


def test_many_books_share_the_trading_days_of_a_market(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calendar is worked out once per process, not once per stream."""
    FULL.covering(utc("2026-11-24 15:00"))
    monkeypatch.setattr(sessions, "library_days", _refuse)
    for number in range(100):
        book = WindowBook(stream(session("full"), name=f"s{number}"), NEW_YORK)
        assert book.covering(utc("2026-11-24 15:00")) is not None


def test_a_question_works_out_only_the_days_that_it_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the same question nothing at all."""
    asked: list[date] = []

    def counting(
        clauses: Sequence[WindowClause], zone: ZoneInfo, days: Sequence[TradingDay]
    ) -> Iterator[tuple[TradingDay, Interval]]:
        asked.extend(day.label for day in days)
        return compile_clauses(clauses, zone, days)

    monkeypatch.setattr(windows, "compile_clauses", counting)
    book = WindowBook(stream(session("regular")), NEW_YORK)
    for _ in range(2):
        book.covering(utc("2026-11-24 15:00"))
        book.next_open(utc("2026-11-24 15:00"))
    assert asked == [date(2026, 11, 24), date(2026, 11, 25)]


def _refuse(*_: object) -> None:
    raise AssertionError("the library was asked")

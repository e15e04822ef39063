"""A window that plainly reaches as far as another is open whenever that one is, by the calendar itself."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.markets.windows import list_windows
from budget_guard.policy.model import (
    AlwaysClause,
    Edge,
    HoursClause,
    SessionClause,
    Stream,
    Weekday,
    WindowClause,
)
from budget_guard.policy.reach import reaches

FIRST, LAST = date(2026, 11, 16), date(2026, 12, 31)

DAYS: st.SearchStrategy[frozenset[Weekday]] = st.frozensets(
    st.sampled_from(["mon", "wed", "fri"]), max_size=2
)
DATES = st.frozensets(
    st.sampled_from([date(2026, 11, 18), date(2026, 11, 27), date(2026, 12, 4)]), max_size=2
)
OFFSETS = st.sampled_from([-30, 0, 45]).map(lambda minutes: timedelta(minutes=minutes))
SESSIONS = st.builds(
    SessionClause,
    session=st.sampled_from(["regular", "full"]),
    start=st.builds(Edge, st.just("open"), OFFSETS),
    end=st.builds(Edge, st.just("close"), OFFSETS),
    days=DAYS,
    skip=DATES,
    only=DATES,
)
TIMES = st.sampled_from([time(0), time(8), time(12), time(17), time(22)])
HOURS = st.builds(HoursClause, TIMES, TIMES, days=DAYS, skip=DATES, only=DATES)


def open_at(clause: WindowClause) -> list[tuple[datetime, datetime]]:
    stream = Stream("s", "GLBX.MDP3", "mbo", ("NQZ6",), windows=(clause,))
    windows = list_windows(stream, "America/Chicago", FIRST, LAST)
    return [(window.open_utc, window.close_utc) for window in windows]


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.tuples(SESSIONS, SESSIONS), st.tuples(HOURS, HOURS), st.tuples(SESSIONS, HOURS)))
def test_what_reaches_is_open_whenever_the_other_is(clauses: tuple[WindowClause, WindowClause]) -> None:
    wide, narrow = clauses
    if not reaches(wide, narrow, same_clock=True):
        return
    there = open_at(wide)
    for start, end in open_at(narrow):
        assert any(left <= start and end <= right for left, right in there)


def test_every_clause_reaches_as_far_as_itself_and_always_as_far_as_any() -> None:
    for clause in (SessionClause("regular"), HoursClause(time(22), time(2)), AlwaysClause()):
        assert reaches(clause, clause, same_clock=True)
        assert reaches(AlwaysClause(), clause, same_clock=False)


def test_hours_by_another_clock_and_clauses_of_another_kind_are_not_told_from_the_text() -> None:
    hours = HoursClause(time(8), time(9))
    assert not reaches(hours, hours, same_clock=False)
    assert not reaches(SessionClause("full"), hours, same_clock=True)
    assert reaches(
        SessionClause("full"), SessionClause("regular", Edge("close", timedelta(hours=-1))), same_clock=True
    )
    assert not reaches(SessionClause("extended"), SessionClause("regular"), same_clock=True)

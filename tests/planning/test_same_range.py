"""Plan, windows, guard and door speak of the same data: one function makes a range, one set of rules makes windows."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.gateway.historical.form import parse_range_request
from budget_guard.markets.model import Interval
from budget_guard.markets.windows import WindowBook, list_windows
from budget_guard.planning.calendar import market_calendar
from budget_guard.planning.sizing import ranges_of, sample_ranges
from budget_guard.policy.model import Edge, HoursClause, SessionClause, SessionKind, Stream, WindowClause
from budget_guard.pricing.ranges import aligned
from tests.planning.desk import stream

ZONE = "America/New_York"
LABELS = st.dates(date(2026, 3, 1), date(2027, 3, 1))
OFFSETS = st.integers(-90, 90).map(lambda minutes: timedelta(minutes=minutes))
KINDS: st.SearchStrategy[SessionKind] = st.sampled_from(["regular", "extended", "full"])
SCHEMAS = st.sampled_from(["mbo", "trades", "bbo-1s", "definition", "status"])
TIMES = st.times().map(lambda at: time(at.hour, at.minute))


@st.composite
def clauses(draw: st.DrawFn) -> WindowClause:
    """A session clause with offsets, or wall-clock hours."""
    if draw(st.booleans()):
        return SessionClause(draw(KINDS), Edge("open", draw(OFFSETS)), Edge("close", draw(OFFSETS)))
    start, end = draw(TIMES), draw(TIMES)
    return HoursClause(start, end)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    names = draw(st.lists(st.sampled_from(["NQ.v.0", "ES.v.0", "ES.c.1"]), min_size=1, unique=True))
    windows = tuple(draw(st.lists(clauses(), min_size=1, max_size=2)))
    return stream(schema=draw(SCHEMAS), symbols=tuple(names), windows=windows)


def form_of(one: Stream, span: Interval) -> dict[str, str]:
    """What a client that asks for a stream's window sends to the door."""
    return {
        "dataset": one.dataset,
        "schema": one.schema,
        "symbols": ",".join(one.symbols),
        "stype_in": one.stype_in,
        "start": span.start_utc.isoformat(),
        "end": span.end_utc.isoformat(),
    }


@settings(max_examples=60, deadline=None)
@given(streams(), LABELS)
def test_the_door_requests_the_range_that_planning_prices(one: Stream, label: date) -> None:
    """For each window: the same value; what is sampled is that range, widened by the same rule for every schema."""
    for window in list_windows(one, ZONE, label, label + timedelta(days=2)):
        span = Interval(window.open_utc, window.close_utc)
        wanted = parse_range_request(form_of(one, span)).range
        assert ranges_of(one, span) == (wanted,)
        assert sample_ranges(one, span) == (aligned(wanted),)


@settings(max_examples=60, deadline=None)
@given(streams(), LABELS, st.floats(0, 1))
def test_the_guard_opens_the_windows_that_are_planned(one: Stream, label: date, share: float) -> None:
    """An instant is in a planned window of its days exactly when the guard's book says that one is open."""
    first, last = label - timedelta(days=4), label + timedelta(days=4)
    planned = market_calendar().list_windows(one, ZONE, first, last)
    assert planned == list_windows(one, ZONE, first, last)
    noon = datetime(label.year, label.month, label.day, 12, tzinfo=UTC)
    at = noon + timedelta(hours=48) * (share - 0.5)
    covered = WindowBook(one, ZONE).covering(at)
    inside = [window for window in planned if window.open_utc <= at < window.close_utc]
    assert bool(inside) == (covered is not None)
    for window in inside:
        assert covered is not None
        assert covered.start_utc <= window.open_utc
        assert window.close_utc <= covered.end_utc

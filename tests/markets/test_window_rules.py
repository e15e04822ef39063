"""Rules that hold for any clauses in any market."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time, timedelta
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.markets.clauses import WEEKDAYS, merge
from budget_guard.markets.model import Interval, Window
from budget_guard.markets.sessions import days_between, trading_days
from budget_guard.markets.table import MARKETS, market_of
from budget_guard.markets.windows import WindowBook, list_windows
from budget_guard.policy.model import Edge, HoursClause, SessionClause, Stream
from tests.markets.build import stream, utc

LAST = date(2027, 12, 31)

WEEKDAY_SETS = st.frozensets(st.sampled_from(WEEKDAYS), max_size=3)
TIMES = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
EDGES = st.builds(
    Edge, st.sampled_from(["open", "close"]), st.integers(-300, 300).map(lambda m: timedelta(minutes=m))
)
HOURS = st.builds(HoursClause, TIMES, TIMES, days=WEEKDAY_SETS)


def of_market(market: str) -> st.SearchStrategy[Stream]:
    """A stream of one to four clauses; session clauses ask for hours that the market has."""
    known = list(MARKETS[market].hours)
    sessions = st.builds(SessionClause, st.sampled_from(known), EDGES, EDGES, days=WEEKDAY_SETS)
    clauses = st.lists(st.one_of(sessions, HOURS), min_size=1, max_size=4)
    return clauses.map(lambda listed: stream(*listed, dataset="GLBX.MDP3", market=market))


STREAMS = st.sampled_from(sorted(MARKETS)).flatmap(of_market)
ZONES = st.sampled_from(
    ["America/New_York", "Europe/Berlin", "Asia/Tokyo", "Australia/Lord_Howe", "Africa/Cairo", "UTC"]
)
DAYS = st.integers(0, 380).map(lambda n: date(2026, 11, 22) + timedelta(days=n))


def instants(found: list[Window]) -> list[Interval]:
    return merge(Interval(window.open_utc, window.close_utc) for window in found)


@settings(max_examples=80, deadline=None)
@given(STREAMS, ZONES, DAYS, st.integers(0, 9))
def test_windows_lie_inside_the_hours_of_their_label_and_never_meet(
    listed: Stream, zone: str, first: date, more: int
) -> None:
    found = list_windows(listed, zone, first, first + timedelta(days=more))
    days = {day.label: day for day in trading_days(market_of(listed).name)}
    for window in found:
        assert first <= window.session <= first + timedelta(days=more)
        assert any(
            piece.start_utc <= window.open_utc < window.close_utc <= piece.end_utc
            for piece in days[window.session].pieces
        )
    assert all(before.close_utc < after.open_utc for before, after in pairwise(found))


@settings(max_examples=40, deadline=None)
@given(STREAMS, ZONES, DAYS, st.randoms())
def test_the_order_of_clauses_means_nothing(listed: Stream, zone: str, first: date, random: Random) -> None:
    shuffled = list(listed.windows)
    random.shuffle(shuffled)
    last = first + timedelta(days=6)
    assert list_windows(listed, zone, first, last) == list_windows(
        replace(listed, windows=tuple(shuffled)), zone, first, last
    )


@settings(max_examples=40, deadline=None)
@given(STREAMS, ZONES, DAYS)
def test_the_windows_of_a_stream_are_the_union_of_its_clauses(listed: Stream, zone: str, first: date) -> None:
    last = first + timedelta(days=6)
    single = [
        Interval(window.open_utc, window.close_utc)
        for clause in listed.windows
        for window in list_windows(replace(listed, windows=(clause,)), zone, first, last)
    ]
    assert instants(list_windows(listed, zone, first, last)) == merge(single)


@settings(max_examples=60, deadline=None)
@given(
    HOURS,
    st.sampled_from(sorted(MARKETS)),
    st.sampled_from(["Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kolkata", "UTC"]),
    DAYS,
    st.integers(0, 24 * 60 - 1),
)
def test_hours_are_open_when_the_wall_clock_says_so_and_the_market_trades(
    clause: HoursClause, market: str, zone: str, day: date, minute: int
) -> None:
    """Told instant by instant, in zones without clock changes and as far from the exchange as there are any."""
    listed = stream(clause, market=market)
    at = utc(f"{day} 00:00") + timedelta(minutes=minute)
    local = at.astimezone(ZoneInfo(zone))
    now, opened = local.time(), local.date()
    if clause.start < clause.end:
        shows = clause.start <= now < clause.end
    else:
        shows = now >= clause.start or now < clause.end
        opened -= timedelta(days=0 if now >= clause.start else 1)
    shows = shows and (not clause.days or WEEKDAYS[opened.weekday()] in clause.days)
    trades = any(at in piece for day in trading_days(market) for piece in day.pieces)
    first, last = (
        max(day - timedelta(days=3), date(2026, 11, 22)),
        min(day + timedelta(days=3), date(2027, 12, 31)),
    )
    found = list_windows(listed, zone, first, last)
    assert any(window.open_utc <= at < window.close_utc for window in found) == (shows and trades)


@settings(max_examples=5, deadline=None)
@given(STREAMS, ZONES)
def test_a_years_windows_are_those_of_its_days(listed: Stream, zone: str) -> None:
    """Where a range starts and ends changes nothing about a label's windows."""
    first, days = date(2026, 12, 1), 365
    year = list_windows(listed, zone, first, first + timedelta(days=days - 1))
    by_day = [
        window
        for n in range(days)
        for window in list_windows(listed, zone, first + timedelta(days=n), first + timedelta(days=n))
    ]
    assert year == by_day
    assert total(year) == sum((total([window]) for window in by_day), timedelta(0))


def total(found: list[Window]) -> timedelta:
    return sum((window.close_utc - window.open_utc for window in found), timedelta(0))


@settings(max_examples=15, deadline=None)
@given(STREAMS, ZONES)
def test_a_years_hours_never_pass_those_of_its_market(listed: Stream, zone: str) -> None:
    first, last = date(2026, 12, 1), date(2027, 11, 30)
    pieces = [piece for day in days_between(market_of(listed).name, first, last) for piece in day.pieces]
    traded = sum((piece.end_utc - piece.start_utc for piece in pieces), timedelta(0))
    assert total(list_windows(listed, zone, first, last)) <= traded


@settings(max_examples=40, deadline=None)
@given(STREAMS, ZONES, DAYS, st.integers(0, 24 * 60 - 1))
def test_the_book_and_the_rows_agree_in_every_market(
    listed: Stream, zone: str, day: date, minute: int
) -> None:
    at = utc(f"{max(day, date(2026, 11, 26))} 00:00") + timedelta(minutes=minute)
    near = at.date()
    rows = list_windows(listed, zone, near - timedelta(days=3), min(near + timedelta(days=3), LAST))
    row = next((row for row in rows if row.open_utc <= at < row.close_utc), None)
    window = WindowBook(listed, zone).covering(at)
    assert window == (None if row is None else Interval(row.open_utc, row.close_utc))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 10)), max_size=8))
def test_merging_keeps_every_instant_and_leaves_gaps_between(pairs: list[tuple[int, int]]) -> None:
    start = utc("2026-11-23 00:00")

    def at(minute: int) -> Interval:
        return Interval(start + timedelta(minutes=minute), start + timedelta(minutes=minute + 1))

    intervals = [
        Interval(start + timedelta(minutes=first), start + timedelta(minutes=first + length))
        for first, length in pairs
    ]
    merged = merge(intervals)
    for minute in range(61):
        covered = any(at(minute).start_utc in interval for interval in intervals)
        assert covered == any(at(minute).start_utc in interval for interval in merged)
    assert all(before.end_utc < after.start_utc for before, after in pairwise(merged))

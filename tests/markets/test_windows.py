from __future__ import annotations

from datetime import date, time, timedelta
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.errors import CalendarUnknown
from budget_guard.markets.clauses import WEEKDAYS, merge
from budget_guard.markets.model import Interval, Window
from budget_guard.markets.sessions import trading_days
from budget_guard.markets.windows import list_windows
from budget_guard.policy.model import AlwaysClause, Edge, HoursClause, SessionClause, Stream, WindowClause
from tests.markets.build import NEW_YORK, hours, session, spans, stream, utc


def windows_of(listed: Stream, first: str, last: str, timezone: str = NEW_YORK) -> list[Window]:
    return list_windows(listed, timezone, date.fromisoformat(first), date.fromisoformat(last))


def test_thanksgiving_week_of_regular_hours() -> None:
    """Five minutes around regular hours: nothing on Thursday, and Friday's tail is cut by the early close."""
    found = windows_of(stream(session("regular", 5, 5)), "2026-11-23", "2026-11-29")
    assert spans(found) == [
        "2026-11-23: 11-23 14:25 to 11-23 21:05",
        "2026-11-24: 11-24 14:25 to 11-24 21:05",
        "2026-11-25: 11-25 14:25 to 11-25 21:05",
        "2026-11-27: 11-27 14:25 to 11-27 18:15",
    ]
    assert found[3].notes == ("early close 12:15 CT (day after Thanksgiving)",)


def test_thanksgiving_week_of_full_hours() -> None:
    """Each session opens on the evening before its label, holidays included."""
    found = windows_of(stream(session("full")), "2026-11-25", "2026-11-30")
    assert spans(found) == [
        "2026-11-25: 11-24 23:00 to 11-25 22:00",
        "2026-11-26: 11-25 23:00 to 11-26 18:00",
        "2026-11-27: 11-26 23:00 to 11-27 18:15",
        "2026-11-30: 11-29 23:00 to 11-30 22:00",
    ]


def test_thanksgiving_week_of_us_equities() -> None:
    found = windows_of(stream(session("extended"), dataset="XNAS.ITCH"), "2026-11-25", "2026-11-27")
    assert spans(found) == [
        "2026-11-25: 11-25 09:00 to 11-26 01:00",
        "2026-11-27: 11-27 09:00 to 11-27 22:00",
    ]


def test_the_week_in_which_clocks_go_forward() -> None:
    """Local hours stay, UTC hours move; the first session after the change says so."""
    found = windows_of(stream(session("regular")), "2027-03-12", "2027-03-16")
    assert spans(found) == [
        "2027-03-12: 03-12 14:30 to 03-12 21:00",
        "2027-03-15: 03-15 13:30 to 03-15 20:00",
        "2027-03-16: 03-16 13:30 to 03-16 20:00",
    ]
    assert [window.notes for window in found] == [(), ("clocks go forward 2027-03-14",), ()]


def test_the_week_in_which_clocks_go_back() -> None:
    found = windows_of(stream(hours("18:00-18:30", "sun", "mon")), "2027-11-01", "2027-11-09")
    assert spans(found) == [
        "2027-11-01: 10-31 22:00 to 10-31 22:30",
        "2027-11-02: 11-01 22:00 to 11-01 22:30",
        "2027-11-08: 11-07 23:00 to 11-07 23:30",
        "2027-11-09: 11-08 23:00 to 11-08 23:30",
    ]
    assert found[2].notes == ("clocks go back 2027-11-07",)


def test_a_clock_change_of_the_policys_zone_is_told_from_the_exchanges() -> None:
    """Between the two changes the same Berlin hours are other hours of the session."""
    listed = stream(hours("15:30-16:00", "mon"))
    found = windows_of(listed, "2027-03-08", "2027-03-29", "Europe/Berlin")
    assert spans(found) == [
        "2027-03-08: 03-08 14:30 to 03-08 15:00",
        "2027-03-15: 03-15 14:30 to 03-15 15:00",
        "2027-03-22: 03-22 14:30 to 03-22 15:00",
        "2027-03-29: 03-29 13:30 to 03-29 14:00",
    ]
    assert found[1].notes == ("clocks go forward 2027-03-14 at the exchange (America/Chicago)",)
    assert found[3].notes == ("clocks go forward 2027-03-28",)


def test_good_friday_2027_has_no_window() -> None:
    assert windows_of(stream(session("full"), hours("09:00-10:00")), "2027-03-26", "2027-03-28") == []


def test_hours_belong_to_the_session_in_which_they_open() -> None:
    """Sunday 18:00 in New York is Monday's session; between sessions it is the next one, from its open."""
    found = windows_of(stream(hours("17:30-18:30", "sun", "mon")), "2026-11-23", "2026-11-24")
    assert spans(found) == [
        "2026-11-23: 11-22 23:00 to 11-22 23:30",
        "2026-11-24: 11-23 23:00 to 11-23 23:30",
    ]


def test_hours_across_the_daily_halt_are_two_windows() -> None:
    found = windows_of(stream(hours("16:00-19:00", "tue")), "2026-11-24", "2026-11-25")
    assert spans(found) == [
        "2026-11-24: 11-24 21:00 to 11-24 22:00",
        "2026-11-25: 11-24 23:00 to 11-25 00:00",
    ]


def test_hours_that_end_before_they_start_end_on_the_next_day() -> None:
    found = windows_of(stream(hours("22:00-02:00", "mon")), "2026-11-23", "2026-11-25")
    assert spans(found) == ["2026-11-24: 11-24 03:00 to 11-24 07:00"]


@pytest.mark.parametrize(
    ("clause", "zone", "expected"),
    [
        (hours("10:00-11:00", "wed"), "Pacific/Kiritimati", "2026-11-24: 11-24 20:00 to 11-24 21:00"),
        (hours("12:30-12:00", "sun"), "Etc/GMT+12", "2026-11-24: 11-23 23:00 to 11-24 00:00"),
    ],
)
def test_hours_may_open_on_a_date_far_from_the_label(clause: HoursClause, zone: str, expected: str) -> None:
    """A day after it in the easternmost zone; two days before it in the westernmost."""
    assert expected in spans(windows_of(stream(clause), "2026-11-24", "2026-11-24", zone))


def test_hours_never_reach_into_a_closed_market() -> None:
    """A weekend has nothing to sell, and Friday's window ends with Friday's session."""
    found = windows_of(stream(hours("16:30-18:30", "fri", "sat")), "2026-12-04", "2026-12-07")
    assert spans(found) == ["2026-12-04: 12-04 21:30 to 12-04 22:00"]


def test_a_session_window_stays_inside_the_full_hours_of_its_session() -> None:
    """`close + 3h` ends at the daily halt and does not go on in the next session."""
    found = windows_of(stream(session("regular", 0, 180)), "2026-11-24", "2026-11-24")
    assert spans(found) == ["2026-11-24: 11-24 14:30 to 11-24 22:00"]


def test_a_session_window_may_reach_beyond_its_kind() -> None:
    found = windows_of(stream(session("regular", 60), dataset="XNAS.ITCH"), "2026-11-24", "2026-11-24")
    assert spans(found) == ["2026-11-24: 11-24 13:30 to 11-24 21:00"]


def test_a_window_from_close_to_close_is_left_out_when_nothing_is_left_of_it() -> None:
    """The last hour of a session that closed early may lie before the clause's start."""
    last_hour = SessionClause("regular", Edge("open", timedelta(hours=5)), Edge("close"))
    found = windows_of(stream(last_hour), "2026-11-25", "2026-11-27")
    assert spans(found) == ["2026-11-25: 11-25 19:30 to 11-25 21:00"]


def test_touching_windows_of_one_session_are_one_row() -> None:
    found = windows_of(stream(session("regular"), hours("16:00-16:30")), "2026-11-24", "2026-11-24")
    assert spans(found) == ["2026-11-24: 11-24 14:30 to 11-24 21:30"]


def test_days_skip_and_only_of_a_session_speak_of_its_label() -> None:
    monday = stream(session("full", days=("mon",)))
    assert spans(windows_of(monday, "2026-11-22", "2026-11-28")) == ["2026-11-23: 11-22 23:00 to 11-23 22:00"]
    skipping = SessionClause("full", days=frozenset({"mon", "tue"}), skip=frozenset({date(2026, 11, 23)}))
    assert [w.session.day for w in windows_of(stream(skipping), "2026-11-22", "2026-11-28")] == [24]
    single = SessionClause("full", only=frozenset({date(2026, 11, 25)}))
    assert [w.session.day for w in windows_of(stream(single), "2026-11-22", "2026-11-28")] == [25]


def test_days_and_skip_of_hours_speak_of_the_date_of_opening() -> None:
    """Sunday the 22nd is skipped, though the window would belong to Monday's session."""
    clause = HoursClause(
        time(18), time(18, 30), days=frozenset({"sun", "mon"}), skip=frozenset({date(2026, 11, 22)})
    )
    assert spans(windows_of(stream(clause), "2026-11-23", "2026-11-24")) == [
        "2026-11-24: 11-23 23:00 to 11-23 23:30"
    ]


def test_rows_are_whole_windows_of_the_labels_asked_for() -> None:
    """Nothing is clipped to the dates: a label's session may open on the day before."""
    found = windows_of(stream(session("full")), "2026-11-24", "2026-11-24")
    assert spans(found) == ["2026-11-24: 11-23 23:00 to 11-24 22:00"]


def test_always_is_one_row_per_utc_day_with_the_vendors_restarts() -> None:
    found = windows_of(stream(AlwaysClause()), "2026-11-27", "2026-11-29")
    assert spans(found) == [
        "2026-11-27: 11-27 00:00 to 11-28 00:00",
        "2026-11-28: 11-28 00:00 to 11-29 00:00",
        "2026-11-29: 11-29 00:00 to 11-30 00:00",
    ]
    assert [window.notes for window in found] == [
        (),
        ("the vendor's gateways restart Sat 02:15 CT (08:15 UTC)",),
        (),
    ]


def test_always_absorbs_the_other_clauses() -> None:
    assert len(windows_of(stream(session(), AlwaysClause()), "2026-11-23", "2026-11-23")) == 1


def test_always_notes_clock_changes_and_the_restart_of_other_datasets() -> None:
    [sunday] = windows_of(stream(AlwaysClause(), dataset="XNAS.ITCH"), "2027-03-14", "2027-03-14")
    assert sunday.notes == (
        "clocks go forward 2027-03-14",
        "the vendor's gateways restart Sun 10:30 UTC",
    )


def test_always_needs_no_calendar() -> None:
    assert len(windows_of(stream(AlwaysClause(), dataset="IFEU.IMPACT"), "2030-01-01", "2030-01-02")) == 2


def test_a_stream_without_windows_never_opens() -> None:
    assert windows_of(stream(), "2026-11-23", "2026-11-27") == []


def test_a_stream_may_name_another_market_than_its_datasets() -> None:
    [window] = windows_of(
        stream(session("full"), dataset="OPRA.PILLAR", market="us-equities"), "2026-11-24", "2026-11-24"
    )
    assert window.open_utc == utc("2026-11-24 09:00")


def test_unknown_datasets_and_dates_are_refused() -> None:
    with pytest.raises(CalendarUnknown, match=r"IFEU\.IMPACT"):
        windows_of(stream(session(), dataset="IFEU.IMPACT"), "2026-11-24", "2026-11-24")
    with pytest.raises(CalendarUnknown, match="2028-01-03"):
        windows_of(stream(session()), "2027-12-31", "2028-01-03")


# Rules that hold for any clauses.

WEEKDAY_SETS = st.frozensets(st.sampled_from(WEEKDAYS), max_size=3)
TIMES = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
EDGES = st.builds(
    Edge, st.sampled_from(["open", "close"]), st.integers(-300, 300).map(lambda m: timedelta(minutes=m))
)
CLAUSES: st.SearchStrategy[WindowClause] = st.one_of(
    st.builds(
        SessionClause, st.sampled_from(["regular", "extended", "full"]), EDGES, EDGES, days=WEEKDAY_SETS
    ),
    st.builds(HoursClause, TIMES, TIMES, days=WEEKDAY_SETS),
)
STREAMS = st.builds(
    lambda clauses, dataset: stream(*clauses, dataset=dataset),
    st.lists(CLAUSES, min_size=1, max_size=4),
    st.sampled_from(["GLBX.MDP3", "XNAS.ITCH"]),
)
ZONES = st.sampled_from(
    ["America/New_York", "Europe/Berlin", "Asia/Tokyo", "Australia/Lord_Howe", "Africa/Cairo", "UTC"]
)
DAYS = st.integers(0, 380).map(lambda n: date(2026, 11, 22) + timedelta(days=n))


def instants(found: list[Window]) -> list[Interval]:
    return merge(Interval(window.open_utc, window.close_utc) for window in found)


@settings(max_examples=80, deadline=None)
@given(STREAMS, ZONES, DAYS, st.integers(0, 9))
def test_windows_lie_in_the_full_hours_of_their_label_and_never_meet(
    listed: Stream, zone: str, first: date, more: int
) -> None:
    found = list_windows(listed, zone, first, first + timedelta(days=more))
    market = "cme-equity-index" if listed.dataset == "GLBX.MDP3" else "us-equities"
    full = {day.label: day.full for day in trading_days(market)}
    for window in found:
        assert first <= window.session <= first + timedelta(days=more)
        assert (
            full[window.session].open_utc
            <= window.open_utc
            < window.close_utc
            <= full[window.session].close_utc
        )
    assert all(before.close_utc < after.open_utc for before, after in pairwise(found))


@settings(max_examples=40, deadline=None)
@given(STREAMS, ZONES, DAYS, st.randoms())
def test_the_order_of_clauses_means_nothing(listed: Stream, zone: str, first: date, random: Random) -> None:
    shuffled = list(listed.windows)
    random.shuffle(shuffled)
    last = first + timedelta(days=6)
    assert list_windows(listed, zone, first, last) == list_windows(
        stream(*shuffled, dataset=listed.dataset), zone, first, last
    )


@settings(max_examples=40, deadline=None)
@given(STREAMS, ZONES, DAYS)
def test_the_windows_of_a_stream_are_the_union_of_its_clauses(listed: Stream, zone: str, first: date) -> None:
    last = first + timedelta(days=6)
    single = [
        Interval(window.open_utc, window.close_utc)
        for clause in listed.windows
        for window in list_windows(stream(clause, dataset=listed.dataset), zone, first, last)
    ]
    assert instants(list_windows(listed, zone, first, last)) == merge(single)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(HoursClause, TIMES, TIMES, days=WEEKDAY_SETS),
    st.sampled_from(["GLBX.MDP3", "XNAS.ITCH"]),
    st.sampled_from(["Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kolkata", "UTC"]),
    DAYS,
    st.integers(0, 24 * 60 - 1),
)
def test_hours_are_open_when_the_wall_clock_says_so_and_the_market_trades(
    clause: HoursClause, dataset: str, zone: str, day: date, minute: int
) -> None:
    """Told instant by instant, in zones without clock changes and as far from the exchange as there are any."""
    listed = stream(clause, dataset=dataset)
    at = utc(f"{day} 00:00") + timedelta(minutes=minute)
    local = at.astimezone(ZoneInfo(zone))
    now, opened = local.time(), local.date()
    if clause.start < clause.end:
        shows = clause.start <= now < clause.end
    else:
        shows = now >= clause.start or now < clause.end
        opened -= timedelta(days=0 if now >= clause.start else 1)
    shows = shows and (not clause.days or WEEKDAYS[opened.weekday()] in clause.days)
    market = "cme-equity-index" if dataset == "GLBX.MDP3" else "us-equities"
    trades = any(day.full.open_utc <= at < day.full.close_utc for day in trading_days(market))
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

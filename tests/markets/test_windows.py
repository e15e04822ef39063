from __future__ import annotations

from datetime import date, time, timedelta

import pytest

from budget_guard.errors import CalendarUnknown
from budget_guard.markets.model import Window
from budget_guard.markets.windows import WindowBook, list_windows
from budget_guard.policy.model import (
    AlwaysClause,
    Edge,
    HoursClause,
    SessionClause,
    SessionKind,
    Stream,
)
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


def test_a_halt_cuts_a_session_into_two_windows() -> None:
    """Corn has a night and a day session: the label, and a clause's offsets, are those of both together."""
    corn = stream(session("full", 5, 5), market="cme-grains")
    assert spans(windows_of(corn, "2026-11-24", "2026-11-24")) == [
        "2026-11-24: 11-24 01:00 to 11-24 13:45",
        "2026-11-24: 11-24 14:30 to 11-24 19:20",
    ]


def test_a_clause_that_starts_in_a_halt_starts_at_its_end() -> None:
    corn = stream(hours("09:00-10:00"), market="cme-grains")
    assert spans(windows_of(corn, "2026-11-24", "2026-11-24")) == ["2026-11-24: 11-24 14:30 to 11-24 15:00"]
    resting = stream(hours("08:45-09:30"), market="cme-grains")
    assert windows_of(resting, "2026-11-24", "2026-11-24") == []


def test_a_late_opening_leaves_no_night_window() -> None:
    """Grains rest on Thanksgiving and the night after it; the day after is a short one, and says both."""
    [window] = windows_of(stream(session("full"), market="cme-grains"), "2026-11-26", "2026-11-27")
    assert spans([window]) == ["2026-11-27: 11-27 14:30 to 11-27 18:00"]
    assert [note.split(" CT")[0] for note in window.notes] == ["late open 08:30", "early close 12:00"]


def test_one_holiday_is_another_day_in_every_product_group() -> None:
    """2027-01-18: the close in UTC of each group of CME; those that rest have no window."""
    groups = ["equity-index", "interest-rates", "fx", "energy", "metals", "grains", "livestock"]
    closes = {}
    for group in groups:
        found = windows_of(stream(session("full"), market=f"cme-{group}"), "2027-01-18", "2027-01-18")
        closes[group] = f"{found[-1].close_utc:%H:%M}" if found else None
    assert closes == {
        "equity-index": "18:00",
        "interest-rates": "18:00",
        "fx": "22:00",
        "energy": "19:30",
        "metals": "19:30",
        "grains": None,
        "livestock": None,
    }


def test_frankfurt_and_new_york_change_their_clocks_on_different_days() -> None:
    """Between 2027-03-14 and 03-28 Eurex opens an hour later on New York's wall clock; the notes tell whose clocks."""
    eurex = stream(session("regular"), dataset="XEUR.EOBI")
    found = [window for window in windows_of(eurex, "2027-03-12", "2027-03-30") if window.notes]
    assert [(str(window.session), window.notes) for window in found] == [
        ("2027-03-15", ("clocks go forward 2027-03-14",)),
        ("2027-03-30", ("clocks go forward 2027-03-28 at the exchange (Europe/Berlin)",)),
    ]
    assert [f"{window.open_utc:%H:%M}" for window in found] == ["07:00", "06:00"]


@pytest.mark.parametrize("ask", ["full", "extended"])
def test_hours_that_are_not_known_of_a_market_are_refused(ask: SessionKind) -> None:
    eurex = stream(session("regular"), session(ask), dataset="XEUR.EOBI")
    with pytest.raises(CalendarUnknown, match=f"the {ask} hours of eurex are not known"):
        windows_of(eurex, "2026-11-24", "2026-11-24")
    with pytest.raises(CalendarUnknown, match=f"the {ask} hours of eurex are not known"):
        WindowBook(eurex, NEW_YORK).covering(utc("2026-11-24 12:00"))


def test_windows_are_cut_to_what_is_known_of_a_market() -> None:
    found = windows_of(stream(hours("01:00-23:00"), dataset="XEUR.EOBI"), "2026-11-24", "2026-11-24")
    assert spans(found) == ["2026-11-24: 11-24 07:00 to 11-24 21:00"]


def test_unknown_datasets_and_dates_are_refused() -> None:
    with pytest.raises(CalendarUnknown, match=r"IFEU\.IMPACT"):
        windows_of(stream(session(), dataset="IFEU.IMPACT"), "2026-11-24", "2026-11-24")
    with pytest.raises(CalendarUnknown, match="2028-01-03"):
        windows_of(stream(session()), "2027-12-31", "2028-01-03")

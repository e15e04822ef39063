from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from budget_guard.errors import CalendarUnknown
from budget_guard.markets.library import LibraryDay
from budget_guard.markets.model import Session
from budget_guard.markets.sessions import closed_weekdays, combine, resolve_close, sessions, trading_days
from budget_guard.markets.table import MARKETS, find_market, market_for
from budget_guard.policy.model import SessionKind

CME, US = MARKETS["cme-equity-index"], MARKETS["us-equities"]
CHICAGO, NEW_YORK = ZoneInfo("America/Chicago"), ZoneInfo("America/New_York")


def only(market: str, kind: SessionKind, label: str) -> Session | None:
    day = date.fromisoformat(label)
    found = sessions(market, kind, day, day)
    return found[0] if found else None


def cme_close(label: str) -> str | None:
    """The close of a CME equity-index session on Chicago's wall clock; None for no session."""
    session = only("cme-equity-index", "full", label)
    if session is None:
        return None
    closed = session.close_utc.astimezone(CHICAGO)
    assert closed.date() == session.label
    return f"{closed:%H:%M}"


@pytest.mark.parametrize(
    "label", ["2026-11-23", "2026-12-31", "2027-03-12", "2027-03-15", "2027-11-08", "2027-12-31"]
)
def test_ordinary_cme_day_ends_with_the_daily_halt(label: str) -> None:
    """The library says 17:00; trading halts at 16:00."""
    assert cme_close(label) == "16:00"


@pytest.mark.parametrize(
    "label",
    ["2026-11-26", "2027-01-18", "2027-02-15", "2027-05-31", "2027-07-05", "2027-09-06", "2027-11-25"],
)
def test_cme_closes_at_noon_on_a_holiday(label: str) -> None:
    """Both libraries agree on these."""
    assert cme_close(label) == "12:00"


@pytest.mark.parametrize("label", ["2026-11-27", "2026-12-24", "2027-11-26"])
def test_cme_equity_index_closes_at_a_quarter_past_noon_on_half_days(label: str) -> None:
    """The library has 12:00 for every product of CME."""
    assert cme_close(label) == "12:15"


@pytest.mark.parametrize("label", ["2026-06-19", "2027-06-18"])
def test_cme_closes_early_on_juneteenth(label: str) -> None:
    """The library does not know this early close."""
    assert cme_close(label) == "12:00"


@pytest.mark.parametrize("label", ["2027-03-26", "2026-12-25", "2027-01-01", "2027-12-24"])
def test_cme_has_no_session_on_full_holidays(label: str) -> None:
    assert cme_close(label) is None


def test_a_good_friday_with_payrolls_had_a_short_session() -> None:
    """Payrolls were published on 2026-04-03: trading ended at 08:15, before the regular hours."""
    assert cme_close("2026-04-03") == "08:15"
    assert only("cme-equity-index", "regular", "2026-04-03") is None


@pytest.mark.parametrize(
    ("label", "close"),
    [("2025-06-19", "12:00"), ("2025-07-03", "12:15"), ("2025-11-28", "12:15"), ("2025-12-24", "12:15")],
)
def test_past_sessions_are_corrected_too(label: str, close: str) -> None:
    """Samples are taken from them."""
    assert cme_close(label) == close


def test_a_cme_session_opens_on_the_evening_before_its_label() -> None:
    monday = only("cme-equity-index", "full", "2026-11-23")
    assert monday is not None
    assert monday.open_utc.astimezone(CHICAGO) == datetime(2026, 11, 22, 17, tzinfo=CHICAGO)


def test_cme_regular_hours_exist_only_when_nyse_trades() -> None:
    assert only("cme-equity-index", "full", "2026-11-26") is not None
    assert only("cme-equity-index", "regular", "2026-11-26") is None


def test_cme_regular_hours_are_cut_at_the_early_close() -> None:
    half_day = only("cme-equity-index", "regular", "2026-11-27")
    assert half_day is not None
    assert half_day.close_utc.astimezone(CHICAGO).time() == time(12, 15)
    assert half_day.notes == ("early close 12:15 CT (day after Thanksgiving)",)


def test_equity_feeds_end_at_17_after_an_early_close() -> None:
    regular, extended = (
        only("us-equities", "regular", "2026-12-24"),
        only("us-equities", "extended", "2026-12-24"),
    )
    assert regular is not None
    assert extended is not None
    assert regular.close_utc.astimezone(NEW_YORK).time() == time(13)
    assert extended.open_utc.astimezone(NEW_YORK).time() == time(4)
    assert extended.close_utc.astimezone(NEW_YORK).time() == time(17)


def test_equity_feeds_run_from_4_to_20_on_an_ordinary_day() -> None:
    full = only("us-equities", "full", "2026-11-23")
    assert full is not None
    assert (full.open_utc.astimezone(NEW_YORK).time(), full.close_utc.astimezone(NEW_YORK).time()) == (
        time(4),
        time(20),
    )


@pytest.mark.parametrize("market", sorted(MARKETS))
def test_every_kind_lies_inside_the_full_session_and_sessions_never_meet(market: str) -> None:
    days = trading_days(market)
    for day in days:
        for kind in (day.regular, day.extended):
            assert kind is None or day.full.open_utc <= kind.open_utc < kind.close_utc <= day.full.close_utc
    assert all(before.full.close_utc < after.full.open_utc for before, after in pairwise(days))


@pytest.mark.parametrize("market", sorted(MARKETS))
def test_every_special_day_says_what_the_library_says(market: str) -> None:
    """A row that no longer matches the library it was written against has lost its reason: look at it again."""
    from budget_guard.markets.library import Range, library_days

    table = MARKETS[market]
    library = library_days(Range(table.calendar, table.timezone, table.checked_from, table.checked_through))
    said = {label: day.close_local.time() for label, day in library.items()}
    assert [row for row in table.special_days if said.get(row.label) != row.library] == []


@pytest.mark.parametrize("market", sorted(MARKETS))
def test_no_special_day_of_the_library_is_missing_from_the_table(market: str) -> None:
    """Every early close and closed weekday has a row, hence a name and a source."""
    table = MARKETS[market]
    short = {day.label for day in trading_days(market) if day.full.notes}
    closed = {day for day, _ in closed_weekdays(market, table.checked_from, table.checked_through)}
    assert short | closed == set(table.special)


# What a later version of the library could say.


def said(label: str, close: time | None) -> Mapping[date, LibraryDay]:
    day = date.fromisoformat(label)
    if close is None:
        return {}
    opened = datetime.combine(day, time(17)) - timedelta(days=1)
    return {day: LibraryDay(opened, datetime.combine(day, close))}


@pytest.mark.parametrize(
    ("label", "close", "right"),
    [
        ("2026-11-30", time(16), time(16)),  # the halt, fixed upstream
        ("2026-11-30", time(15), time(15)),  # an early close that we do not know yet
        ("2026-11-30", None, None),  # a day of mourning
        ("2027-06-18", time(12), time(12)),  # Juneteenth, fixed upstream
        ("2027-06-18", time(16), time(12)),  # only the halt fixed
        ("2026-11-27", time(12, 15), time(12, 15)),  # 12:15, fixed upstream
        ("2026-11-27", time(11), time(11)),
        ("2027-03-26", time(8, 15), None),  # a Good Friday opened by mistake
        ("2027-03-26", time(17), None),
        ("2026-04-03", time(16), time(8, 15)),
        ("2026-11-26", None, None),
    ],
)
def test_no_fix_of_the_library_breaks_ours(label: str, close: time | None, right: time | None) -> None:
    """The earlier of the two closes counts, except where the library still makes the known mistake."""
    day = date.fromisoformat(label)
    assert resolve_close(CME, day, said(label, close).get(day)) == right


def test_a_late_opening_of_the_library_is_followed() -> None:
    day = date(2026, 11, 30)
    library = {day: LibraryDay(datetime.combine(day, time(3)), datetime.combine(day, time(16)))}
    [late] = [trading for trading in combine(CME, library) if trading.label == day]
    assert late.full.open_utc.astimezone(CHICAGO).time() == time(3)


# What nobody knows.


@pytest.mark.parametrize("market", sorted(MARKETS))
@pytest.mark.parametrize(
    ("first", "last", "named", "bound"),
    [
        (date(2027, 12, 1), date(2028, 1, 3), "2028-01-03", "2027-12-31"),
        (date(2025, 5, 30), date(2026, 1, 1), "2025-05-30", "2025-06-01"),
    ],
)
def test_a_date_outside_the_checked_range_is_unknown(
    market: str, first: date, last: date, named: str, bound: str
) -> None:
    """The message names the date and the bound."""
    with pytest.raises(CalendarUnknown, match=f"{named}.*{bound}"):
        sessions(market, "full", first, last)


def test_a_range_that_ends_before_it_starts_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="ends before it starts"):
        sessions("us-equities", "full", date(2026, 12, 2), date(2026, 12, 1))


def test_an_unknown_market_names_the_nearest() -> None:
    with pytest.raises(CalendarUnknown, match="unknown market 'cme-equity'; did you mean 'cme-equity-index'"):
        find_market("cme-equity")


@pytest.mark.parametrize(
    ("dataset", "market"),
    [
        ("GLBX.MDP3", "cme-equity-index"),
        ("XNAS.ITCH", "us-equities"),
        ("DBEQ.BASIC", "us-equities"),
        ("EQUS.MINI", "us-equities"),
    ],
)
def test_a_dataset_has_its_default_market(dataset: str, market: str) -> None:
    assert market_for(dataset) == market


@pytest.mark.parametrize(
    ("dataset", "known"),
    [
        ("OPRA.PILLAR", "16:15 ET"),
        ("IFEU.IMPACT", "no calendar for ICE Futures Europe"),
        ("XEUR.EOBI", "narrower than the feed's"),
        ("XNAS.ITHC", "did you mean 'XNAS.ITCH'"),
    ],
)
def test_a_dataset_without_a_market_is_refused_with_what_is_known(dataset: str, known: str) -> None:
    with pytest.raises(CalendarUnknown, match=known):
        market_for(dataset)


def test_a_closed_weekday_is_named() -> None:
    assert closed_weekdays("cme-equity-index", date(2027, 3, 22), date(2027, 3, 28)) == [
        (date(2027, 3, 26), "Good Friday")
    ]

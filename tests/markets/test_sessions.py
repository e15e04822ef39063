from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from budget_guard.errors import CalendarUnknown
from budget_guard.markets.library import LibraryDay
from budget_guard.markets.market import KINDS
from budget_guard.markets.model import Session
from budget_guard.markets.sessions import (
    closed_weekdays,
    combine,
    days_between,
    known_sessions,
    resolve_close,
    sessions,
    trading_days,
)
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


# The other markets: hours and closes on their own wall clocks.


@pytest.mark.parametrize(
    ("market", "kind", "label", "hours"),
    [
        # an ordinary day
        ("cme-interest-rates", "full", "2026-11-23", "Sun 17:00 to Mon 16:00"),
        ("cme-grains", "full", "2026-11-23", "Sun 19:00 to Mon 13:20"),
        ("cme-grains", "regular", "2026-11-23", "Mon 08:30 to Mon 13:20"),
        ("cme-livestock", "full", "2026-11-23", "Mon 08:30 to Mon 13:05"),
        ("us-options", "regular", "2026-11-23", "Mon 09:30 to Mon 16:00"),
        ("us-options", "extended", "2026-11-23", "Mon 09:30 to Mon 16:15"),
        ("cfe", "regular", "2026-11-23", "Mon 08:30 to Mon 15:00"),
        ("cfe", "full", "2026-11-23", "Sun 17:00 to Mon 16:00"),
        ("ice-us", "full", "2026-11-23", "Sun 20:00 to Mon 18:00"),
        ("eurex", "regular", "2026-11-23", "Mon 08:00 to Mon 22:00"),
        ("eex", "regular", "2026-11-23", "Mon 08:00 to Mon 18:00"),
        # a Monday holiday: each product group has its own way
        ("cme-interest-rates", "full", "2027-01-18", "Sun 17:00 to Mon 12:00"),
        ("cme-fx", "full", "2027-01-18", "Sun 17:00 to Mon 16:00"),
        ("cme-energy", "full", "2027-01-18", "Sun 17:00 to Mon 13:30"),
        ("cme-metals", "full", "2027-01-18", "Sun 17:00 to Mon 13:30"),
        ("cme-grains", "full", "2027-01-18", None),
        ("cme-grains", "full", "2027-01-19", "Mon 19:00 to Tue 13:20"),
        ("cme-livestock", "full", "2027-01-18", None),
        ("cfe", "full", "2027-01-18", None),
        ("ice-us", "full", "2027-01-18", "Sun 20:00 to Mon 13:00"),
        ("eurex", "regular", "2027-01-18", "Mon 08:00 to Mon 22:00"),
        # the day after Thanksgiving
        ("cme-interest-rates", "full", "2026-11-27", "Thu 17:00 to Fri 12:15"),
        ("cme-fx", "full", "2026-11-27", "Thu 17:00 to Fri 12:15"),
        ("cme-energy", "full", "2026-11-27", "Thu 17:00 to Fri 13:45"),
        ("cme-grains", "full", "2026-11-27", "Fri 08:30 to Fri 12:00"),
        ("cme-livestock", "full", "2026-11-27", "Fri 08:30 to Fri 12:05"),
        ("us-options", "regular", "2026-11-27", "Fri 09:30 to Fri 13:00"),
        ("us-options", "extended", "2026-11-27", "Fri 09:30 to Fri 13:15"),
        ("cfe", "full", "2026-11-27", "Thu 17:00 to Fri 12:15"),
        ("cfe", "regular", "2026-11-27", "Fri 08:30 to Fri 12:15"),
        # days on which the libraries disagree, or both are wrong
        ("cme-energy", "full", "2027-06-18", "Thu 17:00 to Fri 12:00"),
        ("cme-fx", "full", "2027-06-18", "Thu 17:00 to Fri 12:00"),
        ("cme-fx", "full", "2027-03-26", None),
        ("cfe", "full", "2026-12-24", "Wed 17:00 to Thu 12:15"),
        ("us-options", "extended", "2026-12-24", "Thu 09:30 to Thu 13:15"),
        ("ice-us", "full", "2027-06-18", "Thu 20:00 to Fri 13:00"),
        ("eurex", "regular", "2026-12-24", None),
        ("eurex", "regular", "2026-12-28", "Mon 08:00 to Mon 22:00"),
    ],
)
def test_hours_of_the_other_markets(market: str, kind: SessionKind, label: str, hours: str | None) -> None:
    """On the exchange's wall clock, with the weekday."""
    session, zone = only(market, kind, label), MARKETS[market].zone
    shown = None
    if session is not None:
        opened, closed = session.open_utc.astimezone(zone), session.close_utc.astimezone(zone)
        shown = f"{opened:%a %H:%M} to {closed:%a %H:%M}"
    assert shown == hours


def test_grains_rest_between_the_night_and_the_day_session() -> None:
    full, regular = only("cme-grains", "full", "2026-11-23"), only("cme-grains", "regular", "2026-11-23")
    assert full is not None and regular is not None
    [halt] = full.halts
    assert halt.start_utc.astimezone(CHICAGO).time() == time(7, 45)
    assert halt.end_utc == regular.open_utc
    assert regular.halts == ()


def test_a_day_that_opens_late_has_no_halt_before_its_opening_and_says_so() -> None:
    late = only("cme-grains", "full", "2026-11-27")
    assert late is not None and late.halts == ()
    assert late.notes == (
        "late open 08:30 CT (day after Thanksgiving)",
        "early close 12:00 CT (day after Thanksgiving)",
    )


def test_what_is_known_of_a_session_is_its_widest_kind() -> None:
    monday = date(2026, 11, 23)
    assert known_sessions("eurex", monday, monday) == sessions("eurex", "regular", monday, monday)
    assert known_sessions("cfe", monday, monday) == sessions("cfe", "full", monday, monday)


@pytest.mark.parametrize("market", sorted(MARKETS))
def test_every_kind_lies_inside_the_full_session_and_sessions_never_meet(market: str) -> None:
    days = trading_days(market)
    for day in days:
        for kind in day.kinds.values():
            assert day.whole.open_utc <= kind.open_utc < kind.close_utc <= day.whole.close_utc
    assert all(before.whole.close_utc < after.whole.open_utc for before, after in pairwise(days))


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
    short = {day.label for day in trading_days(market) if day.whole.notes}
    closed = {day for day, _ in closed_weekdays(market, table.checked_from, table.checked_through)}
    ordinary = {row.label for row in table.special_days if row.close == table.close and row.opens is None}
    assert short | closed == set(table.special) - ordinary


@pytest.mark.parametrize("market", sorted(MARKETS))
def test_every_kind_of_hours_is_known_with_its_worth_or_missing_with_its_reason(market: str) -> None:
    table = MARKETS[market]
    assert set(table.hours) | set(table.missing) == set(KINDS)
    assert not set(table.hours) & set(table.missing)
    assert all(hours.source for hours in table.hours.values()) and all(table.missing.values())
    for kind in table.missing:
        with pytest.raises(CalendarUnknown, match=f"the {kind} hours of {market} are not known: .*; known: "):
            sessions(market, kind, date(2026, 11, 23), date(2026, 11, 23))


@pytest.mark.parametrize("market", sorted(MARKETS))
def test_pieces_and_halts_make_up_the_widest_session(market: str) -> None:
    for day in trading_days(market):
        parts = sorted([*day.pieces, *day.whole.halts])
        assert (parts[0].start_utc, parts[-1].end_utc) == (day.whole.open_utc, day.whole.close_utc)
        assert all(before.end_utc == after.start_utc for before, after in pairwise(parts))


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
    assert late.whole.open_utc.astimezone(CHICAGO).time() == time(3)


# What nobody knows.


@pytest.mark.parametrize("market", sorted(MARKETS))
def test_a_date_outside_the_checked_range_is_unknown(market: str) -> None:
    """The message names the date and the bound."""
    first, last = MARKETS[market].checked_from, MARKETS[market].checked_through
    before, after = first - timedelta(days=3), last + timedelta(days=3)
    with pytest.raises(CalendarUnknown, match=f"{before}.*{first}"):
        days_between(market, before, last)
    with pytest.raises(CalendarUnknown, match=f"{after}.*{last}"):
        days_between(market, first, after)


def test_a_range_that_ends_before_it_starts_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="ends before it starts"):
        sessions("us-equities", "full", date(2026, 12, 2), date(2026, 12, 1))


def test_an_unknown_market_names_the_nearest() -> None:
    with pytest.raises(CalendarUnknown, match="unknown market 'cme-equity'; did you mean 'cme-equity-index'"):
        find_market("cme-equity")


@pytest.mark.parametrize(
    ("market", "known"),
    [
        ("cme-crypto", "around the clock from 2026-05-29.*may run `always`"),
        ("cme-agriculture", "name cme-grains or cme-livestock"),
        ("ice-europe", "neither calendar library has one"),
    ],
)
def test_a_market_that_could_not_be_sourced_says_what_is_known_of_it(market: str, known: str) -> None:
    with pytest.raises(CalendarUnknown, match=known):
        find_market(market)


@pytest.mark.parametrize(
    ("dataset", "market"),
    [
        ("GLBX.MDP3", "cme-equity-index"),
        ("XNAS.ITCH", "us-equities"),
        ("DBEQ.BASIC", "us-equities"),
        ("EQUS.MINI", "us-equities"),
        ("OPRA.PILLAR", "us-options"),
        ("IFUS.IMPACT", "ice-us"),
        ("XEUR.EOBI", "eurex"),
        ("XEEE.EOBI", "eex"),
        ("XCBF.PITCH", "cfe"),
    ],
)
def test_a_dataset_has_its_default_market(dataset: str, market: str) -> None:
    assert market_for(dataset) == market


@pytest.mark.parametrize(
    ("dataset", "known"),
    [
        ("IFEU.IMPACT", "ICE Futures Europe has no calendar here"),
        ("NDEX.IMPACT", "ICE Endex has no calendar here"),
        ("OCEA.MEMOIR", "trades overnight"),
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

"""Trading sessions: the library's days, the table's hours and corrections, combined.

The rule of combination: a close is the earlier of the library's and the table's, and a label is a session only if both
say so; except on a special day for which the library still gives the answer that the row was written to correct. So no
mistake in the library opens a market that the table closes, and a fix in it changes nothing that is right already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from budget_guard.errors import CalendarUnknown
from budget_guard.markets.library import LibraryDay, Range, library_days
from budget_guard.markets.model import Session
from budget_guard.markets.table import Hours, Market, find_market
from budget_guard.policy.model import SessionKind

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class TradingDay:
    """One session label with the sessions of each kind; `regular` is None where there are no regular hours."""

    label: date
    regular: Session | None
    extended: Session
    full: Session

    def session(self, kind: SessionKind) -> Session | None:
        """The session of a kind."""
        if kind == "regular":
            return self.regular
        return self.extended if kind == "extended" else self.full


def sessions(
    market: str, kind: SessionKind, first: date, last: date, *, cache_dir: Path | None = None
) -> list[Session]:
    """The sessions of a kind with labels `first` to `last`, both included, in order.

    Raises CalendarUnknown for an unknown market or a date outside the range in which its calendar was checked.
    """
    found = (day.session(kind) for day in days_between(market, first, last, cache_dir=cache_dir))
    return [session for session in found if session is not None]


def days_between(market: str, first: date, last: date, *, cache_dir: Path | None = None) -> list[TradingDay]:
    """The trading days with labels `first` to `last`, both included, in order. Raises as `sessions` does."""
    known = find_market(market)
    require_checked(known, first)
    require_checked(known, last)
    if first > last:
        raise ValueError(f"the range ends before it starts: {first} to {last}")
    return [day for day in trading_days(market, cache_dir) if first <= day.label <= last]


def closed_weekdays(
    market: str, first: date, last: date, *, cache_dir: Path | None = None
) -> list[tuple[date, str]]:
    """The days Monday to Friday without a session of their own, with the reason. Raises as `sessions` does."""
    known = find_market(market)
    traded = {day.label for day in days_between(market, first, last, cache_dir=cache_dir)}
    days = (first + n * _DAY for n in range((last - first).days + 1))
    return [
        (day, known.special[day].name if day in known.special else "no session in the calendar library")
        for day in days
        if day.weekday() < 5 and day not in traded
    ]


def require_checked(market: Market, day: date) -> None:
    """Raise CalendarUnknown unless the market's calendar was checked for this date."""
    if day > market.checked_through:
        raise CalendarUnknown(
            f"{market.name}: nobody has checked the calendar for {day}; it was checked through {market.checked_through}"
        )
    if day < market.checked_from:
        raise CalendarUnknown(
            f"{market.name}: nobody has checked the calendar for {day}; it was checked from {market.checked_from}"
        )


@lru_cache(maxsize=16)
def trading_days(market: str, cache_dir: Path | None = None) -> tuple[TradingDay, ...]:
    """Every trading day of the checked range, in order. Raises CalendarUnknown for an unknown market.

    The calendar library is asked once per process, or never when `cache_dir` holds its answer.
    """
    known = find_market(market)
    days = combine(known, _library_days_of(known, cache_dir))
    if known.regular_days is None:
        return days
    with_regular = {day.label for day in trading_days(known.regular_days, cache_dir)}
    return tuple(
        day if day.label in with_regular else TradingDay(day.label, None, day.extended, day.full)
        for day in days
    )


def _library_days_of(market: Market, cache_dir: Path | None) -> Mapping[date, LibraryDay]:
    wanted = Range(market.calendar, market.timezone, market.checked_from, market.checked_through)
    return library_days(wanted, cache_dir)


def combine(market: Market, library: Mapping[date, LibraryDay]) -> tuple[TradingDay, ...]:
    """The market's trading days, given what the library says. Labels outside the checked range are left out."""
    labels = sorted({*library, *market.special})
    return tuple(
        _trading_day(market, label, close, library.get(label))
        for label in labels
        if market.checked_from <= label <= market.checked_through
        and (close := resolve_close(market, label, library.get(label))) is not None
    )


def resolve_close(market: Market, label: date, library: LibraryDay | None) -> time | None:
    """When the market closes on a label, on its wall clock; None when it has no session with this label."""
    said = None if library is None else _close_time(library, label)
    special = market.special.get(label)
    if special is not None and special.library == said:
        return special.close
    ours = market.close if special is None else special.close
    return None if said is None or ours is None else min(said, ours)


def _close_time(day: LibraryDay, label: date) -> time:
    """The library's close as a time of the label's date; a close on a later date never comes first."""
    return day.close_local.time() if day.close_local.date() <= label else time.max


def _trading_day(market: Market, label: date, close: time, library: LibraryDay | None) -> TradingDay:
    notes = _notes(market, label, close)
    opens_late = None if library is None else library.open_local

    def session(kind: SessionKind) -> Session:
        hours = market.hours[kind]
        opened = datetime.combine(label - _DAY if hours.open_day_before else label, hours.open)
        closed = datetime.combine(label, _end(market, hours, close))
        if opens_late is not None and hours.after_early is None:
            opened = max(opened, min(opens_late, closed))
        return Session(label, _instant(opened, market.zone), _instant(closed, market.zone), notes)

    regular = session("regular")
    traded = regular.open_utc < regular.close_utc
    return TradingDay(label, regular if traded else None, session("extended"), session("full"))


def _end(market: Market, hours: Hours, close: time) -> time:
    if hours.after_early is None:
        return min(hours.close, close)
    return hours.after_early if close < market.close else hours.close


def _notes(market: Market, label: date, close: time) -> tuple[str, ...]:
    if close >= market.close:
        return ()
    special = market.special.get(label)
    why = "" if special is None else f" ({special.name})"
    return (f"early close {close:%H:%M} {market.zone_label}{why}",)


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    return local.replace(tzinfo=zone).astimezone(UTC)

"""Trading sessions: the library's days, the table's hours and corrections, combined.

The rule of combination: a close is the earlier of the library's and the table's, and a label is a session only if both
say so; except on a special day for which the library still gives the answer that the row was written to correct. So no
mistake in the library opens a market that the table closes, and a fix in it changes nothing that is right already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from budget_guard.errors import CalendarUnknown
from budget_guard.markets.library import LibraryDay, Range, library_days
from budget_guard.markets.market import Hours, Market
from budget_guard.markets.model import Interval, Session
from budget_guard.markets.table import find_market
from budget_guard.policy.model import SessionKind

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class TradingDay:
    """One session label. `kinds` are the sessions that the day has, of those kinds whose hours are known.

    `whole` is the widest of them, and `pieces` is what its halts leave of it: no window is open outside.
    """

    label: date
    kinds: Mapping[SessionKind, Session]
    whole: Session
    pieces: tuple[Interval, ...]

    def session(self, kind: SessionKind) -> Session | None:
        """The session of a kind; None where the day has none."""
        return self.kinds.get(kind)


def sessions(
    market: str, kind: SessionKind, first: date, last: date, *, cache_dir: Path | None = None
) -> list[Session]:
    """The sessions of a kind with labels `first` to `last`, both included, in order.

    Raises CalendarUnknown for an unknown market, for a kind of hours that is not known of it, and for a date outside
    the range in which its calendar was checked.
    """
    find_market(market).require(kind)
    found = (day.session(kind) for day in days_between(market, first, last, cache_dir=cache_dir))
    return [session for session in found if session is not None]


def known_sessions(market: str, first: date, last: date, *, cache_dir: Path | None = None) -> list[Session]:
    """The widest hours that are known of each session: the full ones, or what is known of them. Else as `sessions`."""
    return [day.whole for day in days_between(market, first, last, cache_dir=cache_dir)]


def days_between(market: str, first: date, last: date, *, cache_dir: Path | None = None) -> list[TradingDay]:
    """The trading days with labels `first` to `last`, both included, in order.

    Raises CalendarUnknown for an unknown market and for a date outside its checked range.
    """
    known = find_market(market)
    require_checked(known, first)
    require_checked(known, last)
    if first > last:
        raise ValueError(f"the range ends before it starts: {first} to {last}")
    return [day for day in trading_days(market, cache_dir) if first <= day.label <= last]


def closed_weekdays(
    market: str, first: date, last: date, *, cache_dir: Path | None = None
) -> list[tuple[date, str]]:
    """The days Monday to Friday without a session of their own, with the reason. Raises as `days_between` does."""
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


@lru_cache(maxsize=64)
def trading_days(market: str, cache_dir: Path | None = None) -> tuple[TradingDay, ...]:
    """Every trading day of the checked range, in order. Raises CalendarUnknown for an unknown market.

    They are worked out once per process; the calendar library is asked once, or never if `cache_dir` has its answer.
    """
    known = find_market(market)
    days = combine(known, _library_days_of(known, cache_dir))
    if known.regular_days is None:
        return days
    with_regular = {day.label for day in trading_days(known.regular_days, cache_dir)}
    return tuple(day if day.label in with_regular else _without_regular(day) for day in days)


def _library_days_of(market: Market, cache_dir: Path | None) -> Mapping[date, LibraryDay]:
    wanted = Range(market.calendar, market.timezone, market.checked_from, market.checked_through)
    return _asked(wanted, cache_dir)


@lru_cache(maxsize=16)
def _asked(wanted: Range, cache_dir: Path | None) -> Mapping[date, LibraryDay]:
    """The library's answer, shared by the markets that have one calendar."""
    return library_days(wanted, cache_dir)


def _without_regular(day: TradingDay) -> TradingDay:
    kinds: dict[SessionKind, Session] = {
        kind: session for kind, session in day.kinds.items() if kind != "regular"
    }
    return TradingDay(day.label, kinds, day.whole, day.pieces)


def combine(market: Market, library: Mapping[date, LibraryDay]) -> tuple[TradingDay, ...]:
    """The market's trading days, given what the library says. Labels outside the checked range are left out."""
    labels = sorted({*library, *market.special})
    days = (
        _trading_day(market, label, close, library.get(label))
        for label in labels
        if market.checked_from <= label <= market.checked_through
        and (close := resolve_close(market, label, library.get(label))) is not None
    )
    return tuple(day for day in days if day is not None)


def resolve_close(market: Market, label: date, library: LibraryDay | None) -> time | None:
    """When the market closes on a label, on its wall clock; None when it has no session with this label."""
    said = None if library is None else _close_time(library, label)
    special = market.special.get(label)
    if special is not None and special.library == said:
        return special.close
    ours = market.close if special is None else special.close
    if said == market.usual.close:
        return ours
    return None if said is None or ours is None else min(said, ours)


def _close_time(day: LibraryDay, label: date) -> time:
    """The library's close as a time of the label's date; a close on a later date never comes first."""
    return day.close_local.time() if day.close_local.date() <= label else time.max


def _late_open(market: Market, label: date, library: LibraryDay | None) -> datetime | None:
    """The later of the late openings that the table and the library have for a label, on the wall clock."""
    special = market.special.get(label)
    ours = None if special is None or special.opens is None else datetime.combine(label, special.opens)
    usual = datetime.combine(label - _DAY if market.usual.open_day_before else label, market.usual.open)
    said = None if library is None or library.open_local == usual else library.open_local
    return max((late for late in (ours, said) if late is not None), default=None)


def _trading_day(market: Market, label: date, close: time, library: LibraryDay | None) -> TradingDay | None:
    """The day's sessions; None when it closes before it would open."""
    late = _late_open(market, label, library)
    notes = tuple(_notes(market, label, close, late))
    kinds: dict[SessionKind, Session] = {}
    for kind, hours in market.hours.items():
        opened = datetime.combine(label - _DAY if hours.open_day_before else label, hours.open)
        closed = datetime.combine(label, _end(market, hours, close))
        if late is not None and hours.after_early is None:
            opened = max(opened, min(late, closed))
        if opened < closed:
            kinds[kind] = _session(market, label, opened, closed, notes)
    whole = kinds.get(market.widest)
    return None if whole is None else TradingDay(label, kinds, whole, tuple(_pieces(whole)))


def _session(
    market: Market, label: date, opened: datetime, closed: datetime, notes: tuple[str, ...]
) -> Session:
    breaks = (
        (max(datetime.combine(label, halt.start), opened), min(datetime.combine(label, halt.end), closed))
        for halt in market.halts
    )
    zone = market.zone
    halts = tuple(
        Interval(_instant(start, zone), _instant(end, zone)) for start, end in breaks if start < end
    )
    return Session(label, _instant(opened, zone), _instant(closed, zone), notes, halts)


def _pieces(session: Session) -> Iterator[Interval]:
    """What the halts of a session leave of it."""
    start = session.open_utc
    for halt in session.halts:
        if start < halt.start_utc:
            yield Interval(start, halt.start_utc)
        start = halt.end_utc
    if start < session.close_utc:
        yield Interval(start, session.close_utc)


def _end(market: Market, hours: Hours, close: time) -> time:
    if hours.after_early is None:
        return min(hours.close, close)
    return hours.after_early if close < market.close else hours.close


def _notes(market: Market, label: date, close: time, late: datetime | None) -> Iterator[str]:
    special = market.special.get(label)
    why = "" if special is None else f" ({special.name})"
    if late is not None:
        yield f"late open {late:%H:%M} {market.zone_label}{why}"
    if close < market.close:
        yield f"early close {close:%H:%M} {market.zone_label}{why}"


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    return local.replace(tzinfo=zone).astimezone(UTC)

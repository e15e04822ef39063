"""From a clause of the policy to instants: pure, given the trading days."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from budget_guard.markets.model import Interval
from budget_guard.markets.sessions import TradingDay
from budget_guard.policy.model import Edge, HoursClause, SessionClause, Weekday, WindowClause

WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = timedelta(days=1)


def compile_clauses(
    clauses: Sequence[WindowClause], zone: ZoneInfo, days: Iterable[TradingDay]
) -> Iterator[tuple[TradingDay, Interval]]:
    """The windows of session and hours clauses in each trading day, in order, merged within a day.

    Every window lies inside what is known of the day that it comes with, and outside its halts. Wall-clock hours are
    those of `zone`.
    """
    sessions = [clause for clause in clauses if isinstance(clause, SessionClause)]
    hours = [clause for clause in clauses if isinstance(clause, HoursClause)]
    for day in days:
        found = [interval for clause in sessions for interval in _session_windows(clause, day)]
        if hours:
            dates = _dates_around(day, zone)
            found += [interval for clause in hours for interval in _hours_windows(clause, zone, day, dates)]
        for interval in merge(found):
            yield day, interval


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """The same instants in as few intervals as possible, in order: overlapping and touching ones become one."""
    merged: list[Interval] = []
    for interval in sorted(intervals):
        if merged and interval.start_utc <= merged[-1].end_utc:
            end = max(merged[-1].end_utc, interval.end_utc)
            merged[-1] = Interval(merged[-1].start_utc, end)
        else:
            merged.append(interval)
    return merged


def _session_windows(clause: SessionClause, day: TradingDay) -> Iterator[Interval]:
    session = day.session(clause.session)
    if session is None or not _allows(clause, day.label):
        return

    def instant(edge: Edge) -> datetime:
        anchor = session.open_utc if edge.anchor == "open" else session.close_utc
        return anchor + edge.offset

    yield from _cut(instant(clause.start), instant(clause.end), day)


def _dates_around(day: TradingDay, zone: ZoneInfo) -> list[date]:
    """The local dates on which a clause may open and still meet the day: a clause lasts a day at most."""
    first = day.whole.open_utc.astimezone(zone).date() - _DAY
    last = day.whole.close_utc.astimezone(zone).date()
    return [first + n * _DAY for n in range((last - first).days + 1)]


def _hours_windows(
    clause: HoursClause, zone: ZoneInfo, day: TradingDay, dates: Iterable[date]
) -> Iterator[Interval]:
    for opens_on in dates:
        if _allows(clause, opens_on):
            ends_on = opens_on if clause.end > clause.start else opens_on + _DAY
            start = instant_of(datetime.combine(opens_on, clause.start), zone)
            end = instant_of(datetime.combine(ends_on, clause.end), zone)
            yield from _cut(start, end, day)


def _allows(clause: SessionClause | HoursClause, day: date) -> bool:
    return (
        (not clause.days or WEEKDAYS[day.weekday()] in clause.days)
        and day not in clause.skip
        and (not clause.only or day in clause.only)
    )


def _cut(start: datetime, end: datetime, day: TradingDay) -> Iterator[Interval]:
    for piece in day.pieces:
        first, last = max(start, piece.start_utc), min(end, piece.end_utc)
        if first < last:
            yield Interval(first, last)


def instant_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant at which a clock on the wall shows this time or a later one.

    So a time that happens twice, when clocks go back, is its first occurrence; and a time that is left out, when
    clocks go forward, is the moment of the change.
    """
    early, late = wall.replace(tzinfo=zone), wall.replace(tzinfo=zone, fold=1)
    if early.utcoffset() == late.utcoffset():
        return early.astimezone(UTC)
    instant = early.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return instant
    return change_between(late.astimezone(UTC), instant, zone)


def change_between(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The instant, to the second, from which the zone's offset is the one at `after`; at `before` it is another."""
    offset = after.astimezone(zone).utcoffset()
    before = before.replace(microsecond=0)
    low_s, high_s = 0, -((before - after) // timedelta(seconds=1))
    while high_s - low_s > 1:
        middle_s = (low_s + high_s) // 2
        if (before + timedelta(seconds=middle_s)).astimezone(zone).utcoffset() == offset:
            high_s = middle_s
        else:
            low_s = middle_s
    return before + timedelta(seconds=high_s)

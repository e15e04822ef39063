"""A stream's windows with what stands around them: the value that a report is drawn from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from budget_guard.markets.market import Market
from budget_guard.markets.model import DayMark, DayState, Interval, StreamWindows
from budget_guard.markets.notes import clock_change
from budget_guard.markets.restarts import restarts_in
from budget_guard.markets.sessions import closed_weekdays, days_between
from budget_guard.markets.table import market_of
from budget_guard.markets.windows import is_always, list_windows
from budget_guard.policy.model import SessionClause, Stream

_DAY = timedelta(days=1)


def report_windows(
    stream: Stream, timezone: str, first: date, last: date, *, cache_dir: Path | None = None
) -> StreamWindows:
    """What there is to say of a stream's windows with labels `first` to `last`. Raises as `list_windows` does."""
    windows = list_windows(stream, timezone, first, last, cache_dir=cache_dir)
    return StreamWindows(
        stream.name,
        stream.dataset,
        stream.schema,
        timezone,
        tuple(windows),
        tuple(_quiet_days(stream, first, last, cache_dir)),
        tuple(
            tuple(_month(stream, ZoneInfo(timezone), start, cache_dir))
            for start in _month_starts(first, last)
        ),
        market=None if is_always(stream) else market_of(stream).name,
    )


def _quiet_days(
    stream: Stream, first: date, last: date, cache_dir: Path | None
) -> Iterator[tuple[date, str]]:
    """The weekdays on which the market is closed, or has none of the regular hours that the stream asks for."""
    if is_always(stream) or not stream.windows:
        return
    market = market_of(stream).name
    for day, why in closed_weekdays(market, first, last, cache_dir=cache_dir):
        yield day, f"closed: {why}"
    if any(isinstance(clause, SessionClause) and clause.session == "regular" for clause in stream.windows):
        for trading in days_between(market, first, last, cache_dir=cache_dir):
            if trading.session("regular") is None:
                yield trading.label, "; ".join(("no regular hours", *trading.whole.notes))


def _month_starts(first: date, last: date) -> Iterator[date]:
    start = first.replace(day=1)
    while start <= last:
        yield start
        start = _next_month(start)


def _next_month(start: date) -> date:
    return (start + 31 * _DAY).replace(day=1)


def _month(stream: Stream, zone: ZoneInfo, start: date, cache_dir: Path | None) -> Iterator[DayMark]:
    market = None if is_always(stream) or not stream.windows else market_of(stream)
    last = _next_month(start) - _DAY
    open_days, short_days = _opened(stream, zone, market, start, last, cache_dir)
    zones = {zone} if market is None else {zone, market.zone}
    for number in range(last.day):
        day = start + number * _DAY
        begins, ends = (_midnight(date_, zone) for date_ in (day, day + _DAY))
        restarts = restarts_in(stream.dataset, Interval(begins, ends)) if stream.mode == "live" else iter(())
        yield DayMark(
            day,
            _state(day, market, open_days, short_days),
            any(_changes_on(day, one) for one in zones),
            next(restarts, None) is not None,
        )


def _state(day: date, market: Market | None, open_days: set[date], short_days: set[date]) -> DayState:
    if market is not None and not market.checked_from <= day <= market.checked_through:
        return "unknown"
    if day in open_days:
        return "short" if day in short_days else "open"
    return "none" if day.weekday() < 5 else "free"


def _opened(
    stream: Stream, zone: ZoneInfo, market: Market | None, first: date, last: date, cache_dir: Path | None
) -> tuple[set[date], set[date]]:
    """The labels that have windows, and those whose session is shorter than usual; as far as they were checked."""
    if market is not None:
        first, last = max(first, market.checked_from), min(last, market.checked_through)
    if first > last:
        return set(), set()
    listed = list_windows(stream, zone.key, first, last, cache_dir=cache_dir)
    short: set[date] = set()
    if market is not None:
        days = days_between(market.name, first, last, cache_dir=cache_dir)
        short = {day.label for day in days if day.whole.notes}
    return {window.session for window in listed}, short


def _changes_on(day: date, zone: ZoneInfo) -> bool:
    change = clock_change(_midnight(day - _DAY, zone), _midnight(day + 2 * _DAY, zone), zone)
    return change is not None and change[1] == day


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)

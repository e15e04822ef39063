"""What only the calendars can say about a policy: unknown markets, windows that never open, periods without an end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from budget_guard.errors import CalendarUnknown
from budget_guard.markets.clauses import compile_clauses
from budget_guard.markets.market import Market
from budget_guard.markets.model import Interval
from budget_guard.markets.products import product_group
from budget_guard.markets.sessions import TradingDay, trading_days
from budget_guard.markets.table import MARKETS, market_for, market_of, why_unknown
from budget_guard.markets.windows import is_always, require_kinds
from budget_guard.policy.model import (
    AlwaysClause,
    Budget,
    HoursClause,
    Policy,
    SessionClause,
    Stream,
    WindowClause,
)
from budget_guard.policy.problems import Place, Problem


class Loaded(Protocol):
    """A policy as it was read, with the place of each of its parts.

    `policy` is None when the file has problems; `readable` is what could be read in spite of them.
    """

    @property
    def policy(self) -> Policy | None: ...

    @property
    def readable(self) -> Policy | None: ...

    def place_of(self, *keys: str | int) -> Place: ...


def find_problems(loaded: Loaded, *, cache_dir: Path | None = None) -> list[Problem]:
    """Every problem and note that the calendars give rise to, in file order.

    A file with problems of its own is checked as far as it could be read: its streams, not how its budgets match them.
    """
    readable = loaded.readable
    if readable is None:
        return []
    problems: list[Problem] = []
    for stream in readable.streams.values():
        problems += _stream_problems(loaded, stream, readable.timezone, cache_dir)
    if loaded.policy is not None:
        problems += _session_limit_problems(loaded, loaded.policy)
    return sorted(problems)


def _stream_problems(
    loaded: Loaded, stream: Stream, timezone: str, cache_dir: Path | None
) -> Iterator[Problem]:
    always = is_always(stream)
    if always and len(stream.windows) > 1:
        place = loaded.place_of("streams", stream.name, "windows")
        yield Problem(place, "`always` covers every instant: the other windows add nothing", "note")
    if stream.market is not None and stream.market not in MARKETS:
        place = loaded.place_of("streams", stream.name, "market")
        yield Problem(place, why_unknown(stream.market))
    elif stream.windows and not always:
        yield from _strangers(loaded, stream)
        yield from _window_problems(loaded, stream, timezone, cache_dir)


def _strangers(loaded: Loaded, stream: Stream) -> Iterator[Problem]:
    """Symbols that are known to trade in the hours of another market than the one that is written."""
    for index, symbol in enumerate(stream.symbols if stream.market is not None else ()):
        group = product_group(stream.dataset, symbol)
        if group is not None and group != stream.market:
            place = loaded.place_of("streams", stream.name, "symbols", index)
            message = (
                f"'{symbol}' is a product of {group}; its windows follow market '{stream.market}' as written"
            )
            yield Problem(place, message, "note")


def _window_problems(
    loaded: Loaded, stream: Stream, timezone: str, cache_dir: Path | None
) -> Iterator[Problem]:
    try:
        market = market_of(stream)
    except CalendarUnknown as unknown:
        yield Problem(loaded.place_of("streams", stream.name, "dataset"), str(unknown))
        return
    days, zone = trading_days(market.name, cache_dir), ZoneInfo(timezone)
    for index, clause in enumerate(stream.windows):
        place = loaded.place_of("streams", stream.name, "windows", index)
        yield from _clause_problems(place, clause, market, zone, days)


def _clause_problems(
    place: Place, clause: WindowClause, market: Market, zone: ZoneInfo, days: Sequence[TradingDay]
) -> Iterator[Problem]:
    try:
        require_kinds(market, (clause,))
    except CalendarUnknown as unknown:
        yield Problem(place, str(unknown))
        return
    opened = next(compile_clauses((clause,), zone, days), None)
    if opened is None:
        yield Problem(place, f"this window never opens: {_why_never(clause, market)}")
    elif market.widest != "full" and _asks_for_more(clause, opened[1]):
        known = f"{market.hours[market.widest]} {market.zone_label}"
        message = f"cut to the hours that are known of {market.name}, {known}: {market.missing['full']}"
        yield Problem(place, f"this window is {message}", "note")


def _asks_for_more(clause: WindowClause, first: Interval) -> bool:
    """Whether a clause reaches out of the known hours, judged by its first window."""
    if isinstance(clause, SessionClause):
        before = clause.start.anchor == "open" and clause.start.offset < timedelta(0)
        return before or (clause.end.anchor == "close" and clause.end.offset > timedelta(0))
    return isinstance(clause, HoursClause) and first.end_utc - first.start_utc < _length(clause)


def _length(clause: HoursClause) -> timedelta:
    start, end = (timedelta(hours=at.hour, minutes=at.minute) for at in (clause.start, clause.end))
    return end - start if end > start else end - start + timedelta(days=1)


def _why_never(clause: WindowClause, market: Market) -> str:
    """The likeliest reason why a clause has no window in the whole checked range."""
    hours = f"{market.hours[market.widest]} {market.zone_label}"
    if isinstance(clause, AlwaysClause):
        return "it is empty"
    if clause.only:
        return f"`only` names {_dates(clause.only - clause.skip, market)}"
    if not isinstance(clause, SessionClause):
        return f"its hours never meet those of {market.name}, {hours} on its trading days"
    if clause.days and clause.days <= {"sat", "sun"}:
        return "`days` speak of the session's label, and none is a Saturday or Sunday (Sunday evening is Monday's)"
    return f"its start does not come before its end within the hours of {market.name}, {hours}"


def _dates(days: Iterable[date], market: Market) -> str:
    def text(day: date) -> str:
        special = market.special.get(day)
        if not market.checked_from <= day <= market.checked_through:
            return f"{day}, outside {market.checked_from} to {market.checked_through} where the calendar was checked"
        return f"{day:%a} {day}" + ("" if special is None else f" ({special.name})")

    listed = ", ".join(text(day) for day in sorted(days))
    return f"no session of {market.name} in which it could open: {listed or 'every date is in `skip` too'}"


def _session_limit_problems(loaded: Loaded, policy: Policy) -> Iterator[Problem]:
    for index, budget in enumerate(policy.budgets):
        if not any(limit.period == "session" for limit in budget.limits):
            continue
        markets: dict[str, str] = {}
        for stream in policy.streams.values():
            if stream.mode != "live" or not _covers(budget, stream):
                continue
            market = _market_name(stream)
            if market is not None:
                markets.setdefault(market, stream.name)
            elif is_always(stream) and stream.market is None:
                message = f"a session limit needs sessions: stream '{stream.name}' has no known market"
                yield Problem(loaded.place_of("budgets", index, "session"), message)
        if len(markets) > 1:
            found = ", ".join(f"{market} (stream '{name}')" for market, name in markets.items())
            message = f"a session limit needs one market, but this budget matches streams of several: {found}"
            yield Problem(loaded.place_of("budgets", index, "session"), message)


def _covers(budget: Budget, stream: Stream) -> bool:
    return budget.match.covers(
        stream=stream.name, dataset=stream.dataset, schema=stream.schema, mode=stream.mode
    )


def _market_name(stream: Stream) -> str | None:
    if stream.market is not None:
        return stream.market if stream.market in MARKETS else None
    try:
        return market_for(stream.dataset)
    except CalendarUnknown:
        return None

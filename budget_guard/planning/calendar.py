"""What planning asks of the calendars, and the windows that a stream's bytes flow in."""

from __future__ import annotations

import calendar as months
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from budget_guard.clock import month_bounds
from budget_guard.markets.model import Session, Window
from budget_guard.policy.model import AlwaysClause, SessionClause, SessionKind, Stream


class MarketFacts(Protocol):
    """A market's name, and its wall clock."""

    @property
    def name(self) -> str: ...

    @property
    def zone(self) -> ZoneInfo: ...


@dataclass(frozen=True, slots=True)
class Calendar:
    """Where windows and sessions come from. Each raises CalendarUnknown rather than guess; labels are inclusive."""

    list_windows: Callable[[Stream, str, date, date], list[Window]]
    sessions: Callable[[str, SessionKind, date, date], list[Session]]
    market_of: Callable[[Stream], MarketFacts]


def market_calendar(cache_dir: Path | None = None) -> Calendar:
    """The package's own calendars."""
    from budget_guard.markets.sessions import known_sessions, sessions
    from budget_guard.markets.table import market_of
    from budget_guard.markets.windows import list_windows

    def listed(stream: Stream, timezone: str, first: date, last: date) -> list[Window]:
        return list_windows(stream, timezone, first, last, cache_dir=cache_dir)

    def held(market: str, kind: SessionKind, first: date, last: date) -> list[Session]:
        if kind == "full":  # of some markets a part is known: its windows can still be sampled
            return known_sessions(market, first, last, cache_dir=cache_dir)
        return sessions(market, kind, first, last, cache_dir=cache_dir)

    return Calendar(listed, held, market_of)


def month_labels(month: str) -> tuple[date, date]:
    """The first and last session label of a month's plan: the calendar month, both included.

    Raises ValueError unless the month is `YYYY-MM`.
    """
    start, _ = month_bounds(month)
    if start.strftime("%Y-%m") != month:
        raise ValueError(f"{month!r} is not a month; write it as 2026-11")
    last_day = months.monthrange(start.year, start.month)[1]
    return date(start.year, start.month, 1), date(start.year, start.month, last_day)


def flowing(stream: Stream) -> Stream:
    """The stream with the windows in which data flows: `always` (and history without windows) is every full session.

    An `always` stream is connected at every instant, but between sessions there is nothing to send.
    """
    always = any(isinstance(clause, AlwaysClause) for clause in stream.windows)
    on_demand = stream.mode == "historical" and not stream.windows
    return replace(stream, windows=(SessionClause("full"),)) if always or on_demand else stream

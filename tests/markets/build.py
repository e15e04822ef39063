"""Streams for the tests of this room, with everything that does not matter here filled in."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from budget_guard.markets.model import Window
from budget_guard.policy.model import (
    Edge,
    HoursClause,
    Mode,
    SessionClause,
    SessionKind,
    Stream,
    Weekday,
    WindowClause,
)

NEW_YORK = "America/New_York"


def stream(
    *windows: WindowClause,
    dataset: str = "GLBX.MDP3",
    market: str | None = None,
    mode: Mode = "live",
    name: str = "nq",
) -> Stream:
    return Stream(name, dataset, "mbo", ("NQ.v.0",), mode=mode, market=market, windows=windows)


def session(
    kind: SessionKind = "regular", before_m: int = 0, after_m: int = 0, *, days: tuple[Weekday, ...] = ()
) -> SessionClause:
    """`{session: kind, from: open - before_m, to: close + after_m}`."""
    start = Edge("open", timedelta(minutes=-before_m))
    end = Edge("close", timedelta(minutes=after_m))
    return SessionClause(kind, start, end, frozenset(days))


def hours(span: str, *days: Weekday) -> HoursClause:
    """`{hours: "18:00-18:30", days: [...]}`."""
    start, end = (time.fromisoformat(part) for part in span.split("-"))
    return HoursClause(start, end, frozenset(days))


def utc(text: str) -> datetime:
    """`2026-11-23 14:30` as an instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def spans(windows: list[Window]) -> list[str]:
    """`label: open to close` of each window, in UTC, to compare at a glance."""
    return [f"{w.session}: {w.open_utc:%m-%d %H:%M} to {w.close_utc:%m-%d %H:%M}" for w in windows]

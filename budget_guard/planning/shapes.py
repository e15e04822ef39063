"""How a session's bytes spread over its hours: *assumed*, until it is sampled.

No measured intraday shape was found; these tables are working assumptions, said so wherever they are used. They
spread a figure for a whole session over windows, because volume is not proportional to hours: in one measured
case windows of 3.94% of the time carried 21.7% of the cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from budget_guard.markets.model import Interval


@dataclass(frozen=True, slots=True)
class Shape:
    """Shares of an ordinary full session, by wall-clock hours; a part that ends before it starts crosses midnight."""

    name: str
    timezone: str
    parts: tuple[tuple[time, time, Fraction], ...]

    def covered(self, span: Interval) -> Fraction:
        """The share of an ordinary session that falls into a span; even within each part."""
        zone = ZoneInfo(self.timezone)
        first = span.start_utc.astimezone(zone).date() - timedelta(days=1)
        last = span.end_utc.astimezone(zone).date()
        total = Fraction(0)
        for offset in range((last - first).days + 1):
            for start, end, share in self.parts:
                part = _part_on(first + timedelta(days=offset), start, end, zone)
                total += share * _overlap(part, span)
        return total


def _part_on(day: date, start: time, end: time, zone: ZoneInfo) -> Interval:
    end_day = day if end > start else day + timedelta(days=1)
    return Interval(
        datetime.combine(day, start, zone).astimezone(UTC),
        datetime.combine(end_day, end, zone).astimezone(UTC),
    )


def _overlap(part: Interval, span: Interval) -> Fraction:
    """The fraction of a part that lies in the span, by elapsed time."""
    start, end = max(part.start_utc, span.start_utc), min(part.end_utc, span.end_utc)
    if start >= end:
        return Fraction(0)
    tick = timedelta(microseconds=1)
    return Fraction((end - start) // tick, (part.end_utc - part.start_utc) // tick)


def _shape(name: str, timezone: str, text: str) -> Shape:
    """`"18:00-02:00 8, ..."`: hours and percent."""
    parts = []
    for item in text.split(", "):
        hours, percent = item.split()
        start, end = hours.split("-")
        parts.append((time.fromisoformat(start), time.fromisoformat(end), Fraction(int(percent), 100)))
    return Shape(name, timezone, tuple(parts))


SHAPES: Mapping[str, Shape] = {
    "cme-equity-index": _shape(
        "cme-equity-index",
        "America/New_York",
        "18:00-02:00 8, 02:00-09:30 17, 09:30-10:00 10, 10:00-15:00 48, 15:00-16:00 15, 16:00-17:00 2",
    ),
    "us-equities": _shape(
        "us-equities",
        "America/New_York",
        "04:00-09:30 4, 09:30-10:00 14, 10:00-15:30 62, 15:30-16:00 17, 16:00-20:00 3",
    ),
}


def session_share(market: str, window: Interval, session: Interval) -> Fraction | None:
    """The share of one session's bytes that a window carries, or None where no shape is known for the market.

    It is the shape inside the window over the shape inside the session's own hours: so the whole of a session cut
    short counts as a full session, an upper bound. The whole of any session is 1 in every market.
    """
    span = Interval(max(window.start_utc, session.start_utc), min(window.end_utc, session.end_utc))
    if span.start_utc >= span.end_utc:
        return Fraction(0)
    if span == session:
        return Fraction(1)
    shape = SHAPES.get(market)
    whole = Fraction(0) if shape is None else shape.covered(session)
    if shape is None or whole == 0:
        return None
    return shape.covered(span) / whole

"""Which past sessions a month's windows are compared with, and what their sizes say. Pure.

A window's *shape* is its opening and closing time on the market's wall clock, counted from the session's label. All
windows of one shape have the same distribution: the sizes of that shape in recent sessions. A shape that the recent
past does not have (an early close) is asked of ordinary sessions, for the same local hours; nothing is ever scaled
by its number of hours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from budget_guard.markets.model import Interval, Session, Window
from budget_guard.planning.model import Quantiles

# How far back comparable sessions are looked for, how many are used, and how few are too few.
LOOKBACK = timedelta(days=60)
SAMPLES = 10
OWN_ENOUGH = 5
TOO_FEW = 3


@dataclass(frozen=True, slots=True, order=True)
class WindowShape:
    """Local times of a window, with their distance in days from the session's label."""

    open_day: int
    open_time: time
    close_day: int
    close_time: time

    def on(self, label: date, zone: ZoneInfo) -> Interval:
        """The same local hours around another label."""
        start = datetime.combine(label + timedelta(days=self.open_day), self.open_time, zone)
        end = datetime.combine(label + timedelta(days=self.close_day), self.close_time, zone)
        return Interval(start.astimezone(UTC), end.astimezone(UTC))


def shape_of(window: Window, zone: ZoneInfo) -> WindowShape:
    """The shape of a window on a market's wall clock."""
    return _shape(window.session, window.open_utc, window.close_utc, zone)


def _shape(label: date, open_utc: datetime, close_utc: datetime, zone: ZoneInfo) -> WindowShape:
    opened, closed = open_utc.astimezone(zone), close_utc.astimezone(zone)
    return WindowShape(
        (opened.date() - label).days,
        opened.time(),
        (closed.date() - label).days,
        closed.time(),
    )


def ordinary_labels(sessions: Iterable[Session], zone: ZoneInfo) -> list[date]:
    """The labels of the sessions that have the most common hours: early closes and late opens are left out."""
    shapes = {
        session.label: _shape(session.label, session.open_utc, session.close_utc, zone)
        for session in sessions
    }
    if not shapes:
        return []
    common, _ = Counter(shapes.values()).most_common(1)[0]
    return sorted(label for label, shape in shapes.items() if shape == common)


def sample_spans(
    shapes: Iterable[WindowShape],
    own: Sequence[Window],
    sessions: Sequence[Session],
    fits: Callable[[Interval], bool],
    zone: ZoneInfo,
) -> dict[WindowShape, list[Interval]]:
    """Which past spans to size for each shape, oldest first, at most `SAMPLES` of them.

    `own` are the stream's own windows in the recent past, `sessions` the market's full sessions there; `fits` says
    whether the vendor can size a span completely. The stream's own windows of the same shape are used if there are
    enough, since they keep its weekdays; else ordinary sessions.
    """
    own_labels: Mapping[WindowShape, list[date]] = _labels_by_shape(own, zone)
    ordinary = ordinary_labels(sessions, zone)
    chosen = {}
    for shape in set(shapes):
        spans = _fitting(fits, shape, own_labels.get(shape, []), zone)
        if len(spans) < OWN_ENOUGH:
            spans = _fitting(fits, shape, ordinary, zone)
        chosen[shape] = spans[-SAMPLES:]
    return chosen


def _labels_by_shape(windows: Iterable[Window], zone: ZoneInfo) -> dict[WindowShape, list[date]]:
    labels: dict[WindowShape, list[date]] = defaultdict(list)
    for window in windows:
        labels[shape_of(window, zone)].append(window.session)
    return labels


def _fitting(
    fits: Callable[[Interval], bool], shape: WindowShape, labels: Iterable[date], zone: ZoneInfo
) -> list[Interval]:
    return [span for span in (shape.on(label, zone) for label in sorted(labels)) if fits(span)]


def quantiles(sizes: Sequence[int]) -> Quantiles:
    """Median and ninth decile by nearest rank: of n sizes in order, the ceil(n/2)-th and the ceil(9n/10)-th.

    Both are sizes that were seen, whole bytes. Raises ValueError when there are none.
    """
    if not sizes:
        raise ValueError("no sizes")
    ordered = sorted(sizes)
    count = len(ordered)
    return Quantiles(
        Fraction(ordered[-(-count // 2) - 1]),
        Fraction(ordered[-(-9 * count // 10) - 1]),
    )

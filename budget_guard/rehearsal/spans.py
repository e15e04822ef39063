"""Which days are rehearsed, and when the program runs in them. Pure, but for the calendar that it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from budget_guard.markets.model import Window
from budget_guard.policy.model import Stream

# The windows of a stream with session labels from one to another, both included. Raises CalendarUnknown.
ListWindows = Callable[[Stream, date, date], list[Window]]

_WEEK = timedelta(days=7)
_DAY = timedelta(days=1)
# No market is closed for longer: windows further apart than this are none at all.
_QUIET_WEEKS = 3


@dataclass(frozen=True, slots=True)
class Span:
    """`[start_utc, end_utc)`: the program is started when it begins and has to end when it does."""

    session: date
    start_utc: datetime
    end_utc: datetime


def next_windows(
    streams: Sequence[Stream], list_windows: ListWindows, since: datetime, first: date, days: int
) -> list[Window]:
    """The windows of the next `days` sessions that have any, of all streams, in order of their opening.

    Sessions have a label from `first` on, and no window of theirs has begun before `since`. Fewer are found where the
    policy has no more windows. Raises CalendarUnknown.
    """
    found: list[Window] = []
    start, quiet = first, 0
    while quiet < _QUIET_WEEKS:
        end = start + _WEEK - _DAY
        fresh = [window for stream in streams for window in list_windows(stream, start, end)]
        found += fresh
        quiet = 0 if fresh else quiet + 1
        begun = {window.session for window in found if window.open_utc < since}
        labels = sorted({window.session for window in found} - begun)[:days]
        if len(labels) == days:
            break
        start = end + _DAY
    chosen = set(labels)
    return sorted(
        (window for window in found if window.session in chosen),
        key=lambda window: (window.open_utc, window.stream),
    )


def merge_windows(windows: Iterable[Window]) -> list[Span]:
    """The stretches in which any window is open, under the label of the first one in them."""
    spans: list[Span] = []
    for window in sorted(windows, key=lambda window: window.open_utc):
        last = spans[-1] if spans else None
        if last is not None and window.open_utc <= last.end_utc:
            spans[-1] = Span(last.session, last.start_utc, max(last.end_utc, window.close_utc))
        else:
            spans.append(Span(window.session, window.open_utc, window.close_utc))
    return spans

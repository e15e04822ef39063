"""Half-open UTC intervals, sessions and windows: the values that the other rooms take from this one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """`[start_utc, end_utc)`."""

    start_utc: datetime
    end_utc: datetime

    def __contains__(self, instant: datetime) -> bool:
        return self.start_utc <= instant < self.end_utc


@dataclass(frozen=True, slots=True)
class Session:
    """An exchange trading session; `label` is the exchange-calendars session label.

    `halts` are the scheduled breaks inside it, in order: nothing trades there, and no window is open.
    """

    label: date
    open_utc: datetime
    close_utc: datetime
    notes: tuple[str, ...] = ()
    halts: tuple[Interval, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """When a stream may run: `[open_utc, close_utc)`, with the session in which it opens."""

    stream: str
    session: date
    open_utc: datetime
    close_utc: datetime
    notes: tuple[str, ...] = ()


# open      has windows, and the market keeps its ordinary hours
# short     has windows, and the market closes early or opens late
# none      a day Monday to Friday without a window
# free      a Saturday or Sunday without a window
# unknown   nobody has checked the calendar for the day
DayState = Literal["open", "short", "none", "free", "unknown"]


@dataclass(frozen=True, slots=True)
class DayMark:
    """What the picture of a month says of one day: its windows by session label, what else happens by local date."""

    day: date
    state: DayState
    clock_change: bool
    restart: bool


@dataclass(frozen=True, slots=True)
class StreamWindows:
    """One stream: its windows for a range of labels, the weekdays without any and why, and the months around them."""

    name: str
    dataset: str
    schema: str
    timezone: str
    windows: tuple[Window, ...]
    quiet: tuple[tuple[date, str], ...]
    months: tuple[tuple[DayMark, ...], ...]
    market: str | None = None  # whose hours they follow; None where they follow none

"""Half-open UTC intervals, sessions and windows: the values that the other rooms take from this one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """`[start_utc, end_utc)`."""

    start_utc: datetime
    end_utc: datetime

    def __contains__(self, instant: datetime) -> bool:
        return self.start_utc <= instant < self.end_utc


@dataclass(frozen=True, slots=True)
class Session:
    """An exchange trading session; `label` is the exchange-calendars session label."""

    label: date
    open_utc: datetime
    close_utc: datetime
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """When a stream may run: `[open_utc, close_utc)`, with the session in which it opens."""

    stream: str
    session: date
    open_utc: datetime
    close_utc: datetime
    notes: tuple[str, ...] = ()

"""The windows of all streams that a program may use, taken together: it runs while any of them is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from budget_guard.errors import CalendarUnknown
from budget_guard.guard.guard import Windows


@dataclass(frozen=True, slots=True)
class Opening:
    """Which stream opens, and when."""

    at_utc: datetime
    stream: str


class Hours:
    """When any of some streams is open. What no calendar knows is said once and counts as closed."""

    def __init__(self, windows: Mapping[str, Windows], say: Callable[[str], None]) -> None:
        """`windows` by stream, in the policy's order."""
        self._windows = windows
        self._say = say
        self._said: set[str] = set()

    def open_streams(self, at: datetime) -> tuple[str, ...]:
        """Those that may run at an instant."""
        return tuple(name for name in self._windows if self._window_end(name, at) is not None)

    def closes(self, at: datetime) -> datetime | None:
        """When the last of the windows closes that are open at an instant; None when none is."""
        ends = [self._window_end(name, at) for name in self._windows]
        return max((end for end in ends if end is not None), default=None)

    def next_opening(self, at: datetime) -> Opening | None:
        """The first one after an instant, of whichever stream; None when none is known."""
        found = [(opens, name) for name in self._windows if (opens := self._next_open(name, at)) is not None]
        return Opening(*min(found)) if found else None

    def _window_end(self, name: str, at: datetime) -> datetime | None:
        try:
            window = self._windows[name].covering(at)
        except CalendarUnknown as error:
            self._unknown(name, error)
            return None
        return None if window is None else window.end_utc

    def _next_open(self, name: str, at: datetime) -> datetime | None:
        try:
            return self._windows[name].next_open(at)
        except CalendarUnknown as error:
            self._unknown(name, error)
            return None

    def _unknown(self, name: str, error: CalendarUnknown) -> None:
        text = f"stream {name}: calendar_unknown: {error}"
        if text not in self._said:
            self._said.add(text)
            self._say(text)

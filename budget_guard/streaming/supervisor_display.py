"""What a supervisor does, as one line at the bottom of the terminal, about once a second."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

from budget_guard.clock import Clock
from budget_guard.guard.status import Status
from budget_guard.streaming.live_line import LiveLine
from budget_guard.streaming.live_line_text import countdown_text, line_text, money_text, tightest
from budget_guard.streaming.supervisor_prospects import Asking
from budget_guard.streaming.supervisor_site import Site
from budget_guard.streaming.supervisor_speech import cause_text, span_text
from budget_guard.streaming.supervisor_states import State

if TYPE_CHECKING:
    from budget_guard.streaming.supervisor import Supervisor

EVERY_S = 1.0
_ENDING = {
    State.CLOSING: "the window has closed",
    State.SWITCHING: "a fallback is to take over",
    State.RETURNING: "the program is to run again",
    State.STOPPING: "the end was asked for",
}


class Display:
    """Asks the ledger beside the main thread, and draws what it last said."""

    def __init__(self, line: LiveLine, site: Site, clock: Clock, budgets: Collection[str]) -> None:
        """`budgets` are the names of those that the program's streams count against."""
        self._line = line
        self._site = site
        self._clock = clock
        self._budgets = budgets
        self._asking: Asking[Status] = Asking()
        self._status: Status | None = None
        self._next_s = 0.0

    def show(self, supervisor: Supervisor) -> None:
        """Draw, when the last time was a second ago, and when there are figures for the first time."""
        now_s = self._clock.monotonic_s()
        answer = self._asking.answer()
        first = self._status is None and answer is not None
        self._status = answer or self._status
        if now_s < self._next_s and not first:
            return
        self._next_s = now_s + EVERY_S
        if self._site.is_open and supervisor.state is State.RUNNING:
            self._asking.ask(self._site.status)
        now = self._clock.now()
        parts, warn = self._parts(supervisor, now)
        self._line.show(line_text(parts, self._line.width, warn=warn))

    def hide(self) -> None:
        """Leave the terminal as it was; the next `show` draws again."""
        self._line.hide()
        self._next_s = 0.0

    def _parts(self, supervisor: Supervisor, now: datetime) -> tuple[list[str], bool]:
        state = supervisor.state
        if state is State.WAITING:
            return [self._wait_text(supervisor, now)], False
        if state is State.PAUSING:
            return [f"failed, started again in {span_text(supervisor.pause_left_s)}"], True
        if state in _ENDING:
            return [_ENDING[state], "waiting for what runs to end"], True
        if state in (State.FALLBACK, State.HELD):
            return self._cause_parts(supervisor), True
        return self._money_parts(supervisor, now)

    def _wait_text(self, supervisor: Supervisor, now: datetime) -> str:
        opening = supervisor.hours.next_opening(now)
        if opening is None:
            return "waiting for a window"
        return f"stream {opening.stream} opens in {countdown_text(opening.at_utc - now)}"

    def _cause_parts(self, supervisor: Supervisor) -> list[str]:
        fallback, cause = supervisor.fallback, supervisor.cause
        parts = [f"fallback {fallback.name} runs" if fallback is not None else "nothing runs"]
        if cause is None:
            return parts
        look_s = supervisor.prospects.next_look_s(cause)
        if look_s is not None:
            parts.append(f"next look in {span_text(look_s)}")
        return [*parts, cause_text(cause)]

    def _money_parts(self, supervisor: Supervisor, now: datetime) -> tuple[list[str], bool]:
        found = None if self._status is None else tightest(self._status, self._budgets)
        parts = money_text(found)
        closes = supervisor.hours.closes(now)
        if closes is None or closes.year >= 9999:
            return parts or ["running"], False
        left = closes - now
        short = found is not None and found.lasts_s is not None and found.lasts_s < left.total_seconds()
        return [*parts, f"window closes in {countdown_text(left)}"], short

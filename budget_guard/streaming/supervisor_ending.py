"""The end of a child, asked for ever more firmly."""

from __future__ import annotations

import signal
from typing import Protocol


class Endable(Protocol):
    """A `Child`."""

    @property
    def code(self) -> int | None: ...

    def send(self, number: int) -> None: ...


class Ending:
    """Time to end by itself, SIGTERM, as much time again, SIGKILL. Times are monotonic seconds."""

    def __init__(
        self, child: Endable, now_s: float, grace_s: float, *, patient: bool = False, told: bool = False
    ) -> None:
        """`patient`: it knows why it has to end, and may do so by itself. `told`: it has had its signal."""
        self._child = child
        self._grace_s = grace_s
        self._steps = [signal.SIGKILL] if told else [signal.SIGTERM, signal.SIGKILL]
        self._next_s = now_s + grace_s if patient or told else now_s
        self.asked = told  # it has been sent a signal to end
        self.killed = False

    def look(self, now_s: float) -> None:
        """Take the next step when its time has come."""
        if self._steps and now_s >= self._next_s and self._child.code is None:
            self._send(self._steps.pop(0), now_s)

    def kill(self, now_s: float) -> None:
        """Wait no longer."""
        if self._steps and self._child.code is None:
            self._steps.clear()
            self._send(signal.SIGKILL, now_s)

    def _send(self, number: signal.Signals, now_s: float) -> None:
        self.asked = True
        self.killed = number == signal.SIGKILL
        self._child.send(number)
        self._next_s = now_s + self._grace_s

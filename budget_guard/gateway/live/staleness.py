"""Whether a vendor that is heard has stopped sending data: heartbeats come, the market is open, no record does. Pure.

Some streams are quiet by nature, so how long is too long depends on what this one has shown, and a reconnection that
brought nothing makes the next one twice as patient.
"""

from __future__ import annotations

from collections.abc import Iterable

from budget_guard.gateway.wire.shapes import SECOND_NS, SHAPES, Shape

# The least that is waited for a record: longer than any pause of a stream that people trade by.
LEAST_S = 120.0
# And so many times the longest pause that this stream has ended by itself.
TIMES = 3
# What a new connection helps against is over within this; data that comes later would have come anyway.
HELPED_S = 5.0


class Staleness:
    """The pauses of one client's stream, over all of its connections to the vendor. Seconds are the market's."""

    def __init__(self) -> None:
        self._longest_s = 0.0
        self._strikes = 0
        self._paused_s = 0.0  # when the last record came before the first of these strikes
        self._struck_s = 0.0
        self._level_s: float | None = None  # when the last record came, as of the last look
        self._open_since_s: float | None = None  # from when on the market is known to have been open

    def patience_s(self, schemas: Iterable[str]) -> float | None:
        """How long a pause may be; None where records are rare by nature, of all that is streamed."""
        shapes = [SHAPES.get(schema, Shape(-1, rare=True)) for schema in schemas]
        spans = [shape.span_ns / SECOND_NS for shape in shapes if not shape.rare]
        if not spans:
            return None
        return max(LEAST_S + min(spans), TIMES * self._longest_s) * float(2**self._strikes)

    def wants_to_know(self, now_s: float, level_s: float, patience_s: float) -> bool:
        """Whether it matters by now if the market is open. Called at every look, with when the last record came."""
        if self._level_s is not None and level_s > self._level_s:
            self._end_of_pause(self._level_s, level_s)
        self._level_s = level_s
        if now_s - level_s >= patience_s / 2:
            return True
        self._open_since_s = None
        return False

    def is_stale(self, now_s: float, patience_s: float, *, is_open: bool) -> bool:
        """Whether the pause has lasted too long: half of its patience it waits while the market is seen to be open."""
        if not is_open:
            self._open_since_s = None
        elif self._open_since_s is None:
            self._open_since_s = now_s
        return self._open_since_s is not None and now_s - self._open_since_s >= patience_s / 2

    def struck(self, now_s: float) -> None:
        """The connection is left for it; from here on the next one is given time."""
        if not self._strikes:
            self._paused_s = now_s if self._level_s is None else self._level_s
        self._strikes += 1
        self._level_s = self._struck_s = now_s
        self._open_since_s = None

    def _end_of_pause(self, began_s: float, ended_s: float) -> None:
        if self._strikes:
            helped = ended_s - self._struck_s <= HELPED_S
            began_s = ended_s if helped else self._paused_s
        self._longest_s = max(self._longest_s, ended_s - began_s)
        self._strikes = 0

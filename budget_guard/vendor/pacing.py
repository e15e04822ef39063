"""Keeping under the vendor's request rate, across threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from budget_guard.clock import Clock

# The vendor allows 20 metadata requests a second and address; a quarter is left for other programs and jitter.
REQUESTS_PER_S = 15
_ROUNDING_S = 1e-9


class Pacer:
    """Lets callers start at least `1 / per_second` seconds apart; each sleeps until its turn.

    Evenly rather than in bursts: a network that delays some requests more than others cannot push two bursts into one
    second at the vendor's end.
    """

    def __init__(
        self, clock: Clock, *, per_second: int = REQUESTS_PER_S, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._interval_s = 1.0 / per_second
        self._turnstile = threading.Lock()
        self._next_s = float("-inf")
        self._held_until_s = float("-inf")

    def wait(self) -> None:
        """Return when the caller may start. A hold that comes while it sleeps counts for it too."""
        with self._turnstile:
            while (wait_s := self._rest_s()) > _ROUNDING_S:
                self._sleep(wait_s)
            # Counted from when it really starts: a machine that stood still does not catch up in a burst.
            self._next_s = self._clock.monotonic_s() + self._interval_s

    def hold(self, seconds: float) -> None:
        """Let nobody start for a while: the vendor asked for it."""
        self._held_until_s = max(self._held_until_s, self._clock.monotonic_s() + seconds)

    def _rest_s(self) -> float:
        return max(self._next_s, self._held_until_s) - self._clock.monotonic_s()

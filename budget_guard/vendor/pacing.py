"""Keeping under the vendor's request rate, across threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from budget_guard.clock import Clock

# The vendor allows 20 metadata requests a second and address; a quarter is left for other programs and jitter.
REQUESTS_PER_S = 15


class Pacer:
    """Lets at most `per_second` callers start within any one second; the others sleep until their turn."""

    def __init__(
        self, clock: Clock, *, per_second: int = REQUESTS_PER_S, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._starts: deque[float] = deque(maxlen=per_second)
        self._held_until_s = float("-inf")

    def wait(self) -> None:
        """Return when the caller may start."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            start_s = max(now_s, self._held_until_s)
            if len(self._starts) == self._starts.maxlen:
                start_s = max(start_s, self._starts[0] + 1.0)
            self._starts.append(start_s)
        if start_s > now_s:
            self._sleep(start_s - now_s)

    def hold(self, seconds: float) -> None:
        """Let nobody start for a while: the vendor asked for it."""
        with self._lock:
            self._held_until_s = max(self._held_until_s, self._clock.monotonic_s() + seconds)

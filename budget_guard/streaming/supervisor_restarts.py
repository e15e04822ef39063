"""How often, and how soon, a program that crashed is started again."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

HOUR_S = 3600.0
FIRST_S = 1.0
MOST_S = 60.0


class Restarts:
    """At most so many in any hour, each after a longer pause than the last: every start may buy data again.

    A run that has proven itself shortens the next pause to the first one. It gives no restart back: a program that
    crashes once a minute has used up its hour all the same. Times are monotonic seconds.
    """

    def __init__(
        self, per_hour: int, spread: Callable[[], float] = lambda: random.uniform(0.75, 1.25)
    ) -> None:
        """`spread` makes several programs that crashed at once start again at different times."""
        self._per_hour = per_hour
        self._spread = spread
        self._at_s: deque[float] = deque()
        self._pause_s = FIRST_S

    @property
    def per_hour(self) -> int:
        return self._per_hour

    def used(self, now_s: float) -> int:
        """How many there were in the last hour."""
        while self._at_s and now_s - self._at_s[0] >= HOUR_S:
            self._at_s.popleft()
        return len(self._at_s)

    def allowed(self, now_s: float) -> bool:
        return self.used(now_s) < self._per_hour

    def take(self, now_s: float) -> float:
        """Count one, and return how long to wait before it."""
        self._at_s.append(now_s)
        pause_s = self._pause_s * self._spread()
        self._pause_s = min(2 * self._pause_s, MOST_S)
        return pause_s

    def proven(self) -> None:
        """The program ran well for a while."""
        self._pause_s = FIRST_S

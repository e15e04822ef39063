"""How often and how many at once an address may ask: the vendor's published limits, over the machine's own seconds."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from budget_guard.clock import Clock
from budget_guard.sandbox.config import Limits
from budget_guard.sandbox.historical.errors import ApiError


class TooManyRequests(ApiError):
    """429, and after how many whole seconds it would be answered."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(429, "rate_limit_exceeded", message)
        self.retry_after_s = retry_after_s


class Window:
    """At most `count` within any `seconds`, for each address. What is refused does not count."""

    def __init__(self, count: int, seconds: float) -> None:
        self._count = count
        self._seconds = seconds
        self._taken: defaultdict[str, deque[float]] = defaultdict(deque)

    def take(self, address: str, now_s: float) -> float:
        """Take a place and return 0, or return the seconds after which there is one."""
        taken = self._taken[address]
        while taken and now_s - taken[0] >= self._seconds:
            taken.popleft()
        if len(taken) >= self._count:
            return self._seconds - (now_s - taken[0]) if taken else self._seconds
        taken.append(now_s)
        return 0.0


class Turnstile:
    """All limits of a sandbox's HTTP side."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._clock = clock
        self._at_once = limits.http_connections
        self._inside: Counter[str] = Counter()
        windows = {
            "metadata": (limits.metadata_per_s, 1.0),
            "timeseries": (limits.timeseries_per_s, 1.0),
            "symbology": (limits.symbology_per_s, 1.0),
            "list_jobs": (limits.list_jobs_per_s, 1.0),
            "submit_jobs": (limits.submit_jobs_per_min, 60.0),
        }
        self._windows: Mapping[str, Window] = {
            name: Window(count, seconds) for name, (count, seconds) in windows.items() if count is not None
        }

    @contextmanager
    def admitted(self, address: str, limit: str | None) -> Iterator[None]:
        """For as long as a request is being answered. Raises TooManyRequests.

        Requests in work count as connections: one that is open and idle costs the vendor nothing either.
        """
        if self._at_once is not None and self._inside[address] >= self._at_once:
            raise TooManyRequests(f"More than {self._at_once} concurrent connections.", 1)
        window = self._windows.get(limit or "")
        wait_s = 0.0 if window is None else window.take(address, self._clock.monotonic_s())
        if wait_s > 0:
            raise TooManyRequests(
                f"The rate limit for {limit} requests is exceeded.", max(1, math.ceil(wait_s))
            )
        self._inside[address] += 1
        try:
            yield
        finally:
            self._inside[address] -= 1
            if self._inside[address] == 0:
                del self._inside[address]

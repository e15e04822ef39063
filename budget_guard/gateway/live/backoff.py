"""How long to wait between attempts to reach the vendor again."""

from __future__ import annotations

import random
from collections.abc import Iterator

# The vendor closes connections beyond 5 a second from one address; after the first attempt none is faster.
FIRST_S = 0.25
MOST_S = 10.0


def delays_s() -> Iterator[float]:
    """Endless waits after each failed attempt: doubling up to ten seconds, each with a quarter of jitter."""
    delay = FIRST_S
    while True:
        yield delay * random.uniform(0.75, 1.25)
        delay = min(delay * 2, MOST_S)

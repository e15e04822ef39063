"""When a connection whose renewal brought nothing more asks again: others may have returned money meanwhile."""

from __future__ import annotations

import random

# Not before an eighth of the rest is used, however fast it comes.
PARTS = 8
AGAIN_S_MIN = 0.05
AGAIN_S_MAX = 1.0


def ask_again_s(lasts_s: float | None) -> float:
    """How long to wait, by how long the rest lasts; None: nothing says that it ends.

    A quarter of it, more or less: so a connection asks two or three times for each halving of its rest, and those that
    were refused together do not ask together.
    """
    if lasts_s is None:
        return AGAIN_S_MAX
    return min(AGAIN_S_MAX, max(AGAIN_S_MIN, lasts_s * random.uniform(0.125, 0.375)))

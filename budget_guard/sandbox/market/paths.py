"""Prices by the second: one path for each product, on which every schema of its contracts agrees.

A path is a sum of waves through random knots, from days long to seconds long. At a second the best ask is the path, the
best bid one tick below it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from budget_guard.sandbox.market.contracts import Contract
from budget_guard.sandbox.market.seeds import MASK, Int64s, mix_many, seed_of

HOUR_S = 3600
# (seconds between knots, share of the contract's swing in thousandths)
_WAVES = ((262_144, 650), (16_384, 220), (1_024, 80), (64, 35), (4, 15))
_FINE_BITS = 16


def asks_between(seed: int, one: Contract, first_s: int, last_s: int) -> Int64s:
    """The best ask (1e-9 USD) at every second since 1970 in `[first_s, last_s)`."""
    asks: Int64s = one.price + one.product.tick * _ticks(seed, one, first_s, last_s)
    return asks


def asks_at(seed: int, one: Contract, stamps: Int64s) -> Int64s:
    """The best ask at each instant (ns), which are in order."""
    if not len(stamps):
        return stamps
    seconds = stamps // 10**9
    first = int(seconds[0])
    asks: Int64s = asks_between(seed, one, first, int(seconds[-1]) + 1)[seconds - first]
    return asks


def _ticks(seed: int, one: Contract, first_s: int, last_s: int) -> Int64s:
    path_seed = seed_of(seed, one.product.name, "path")
    hours = range(first_s // HOUR_S, (last_s - 1) // HOUR_S + 1)
    begin = hours.start * HOUR_S
    runs = [_hour(path_seed, hour) for hour in hours]
    whole = runs[0] if len(runs) == 1 else np.concatenate(runs)
    ticks: Int64s = (whole[first_s - begin : last_s - begin].astype(np.int64) * one.swing) >> _FINE_BITS
    return ticks


@lru_cache(maxsize=4096)
def _hour(path_seed: int, hour: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """An hour of a product's path, in 2**-16 of a contract's swing: at most one of it either way."""
    seconds = np.arange(hour * HOUR_S, (hour + 1) * HOUR_S)
    fine = np.zeros(HOUR_S, dtype=np.int64)
    for number, (period, permille) in enumerate(_WAVES):
        knots, within = np.divmod(seconds, period)
        first = int(knots[0])
        drawn = mix_many(path_seed + number & MASK, np.arange(first, int(knots[-1]) + 2)) >> np.uint64(48)
        heights = (drawn.astype(np.int64) - (1 << _FINE_BITS - 1)) * 2 * permille // 1000
        low, high = heights[knots - first], heights[knots - first + 1]
        fine += (low * (period - within) + high * within) // period
    return fine.astype(np.int32)

"""Bits that belong to a place in the market: the same for the same place, however often they are asked for."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


@lru_cache(maxsize=65_536)
def seed_of(*parts: object) -> int:
    """64 bits that belong to a place."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def mix(value: int) -> int:
    """One step of the splitmix64 generator (public domain, Vigna 2015)."""
    value = ((value ^ (value >> 30)) * _MIX_1) & MASK
    value = ((value ^ (value >> 27)) * _MIX_2) & MASK
    return value ^ (value >> 31)


def mix_many(seed: int, indexes: Int64s) -> Bits:
    """`mix(seed + index * golden)` of every index, wrapping at 64 bits."""
    value = indexes.astype(np.uint64) * np.uint64(GOLDEN)
    value += np.uint64(seed)
    value ^= value >> np.uint64(30)
    value *= np.uint64(_MIX_1)
    value ^= value >> np.uint64(27)
    value *= np.uint64(_MIX_2)
    value ^= value >> np.uint64(31)
    return value


def cut(bits: Bits, shift: int, width: int) -> Int64s:
    """Some of the bits as whole numbers from 0 to `2**width - 1`."""
    return ((bits >> np.uint64(shift)) & np.uint64((1 << width) - 1)).astype(np.int64)

"""Tapes: when each record of a stream stands in a session, and how many come before an instant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from budget_guard.sandbox.market.seeds import GOLDEN, MASK, Bits, Int64s, mix, mix_many
from budget_guard.sandbox.market.sessions import MINUTE_NS


class Tape(Protocol):
    """One stream in one session."""

    total: int

    def index_at(self, instant_ns: int) -> int:
        """How many of its records come before an instant."""

    def stamps(self, first: int, last: int) -> Int64s:
        """The index timestamps (ns) of the records with indexes in `[first, last)`, in order."""


class TickTape:
    """Records that lie as densely as a session's minutes say, evenly jittered within each.

    Record `j` of a minute with `n` records stands at `(j * 60e9 + u) // n`, `u` below 60e9: in order by construction,
    and the number of records before an instant needs one minute's count and one record's `u`. With at most 2,000,000
    records/s the products fit into 63 bits.
    """

    def __init__(self, seed: int, start_ns: int, cumulative: Int64s) -> None:
        self.cumulative = cumulative
        self.total = int(cumulative[-1])
        self._seed = seed
        self._start_ns = start_ns

    def index_at(self, instant_ns: int) -> int:
        minute, within = divmod(instant_ns - self._start_ns, MINUTE_NS)
        if minute < 0:
            return 0
        if minute >= len(self.cumulative) - 1:
            return self.total
        before = int(self.cumulative[minute])
        count = int(self.cumulative[minute + 1]) - before
        if count == 0:
            return before
        # Only this record can lie on either side of the instant; those before and after it cannot.
        nearest = min(within * count // MINUTE_NS, count - 1)
        drawn = mix((self._seed + (before + nearest) * GOLDEN) & MASK)
        jitter = ((drawn >> 36) * MINUTE_NS) >> 28
        return before + nearest + ((nearest * MINUTE_NS + jitter) // count < within)

    def stamps(self, first: int, last: int) -> Int64s:
        low, high = np.searchsorted(self.cumulative, [first, last - 1], side="right") - 1
        bounds = self.cumulative[low : high + 2]
        clipped = np.clip(bounds, first, last)
        inside = clipped[1:] - clipped[:-1]
        counts = bounds[1:] - bounds[:-1]
        if low == high:  # one minute, as live and at high rates: no arrays for what is the same everywhere
            return self._within(np.arange(first, last), int(low), int(bounds[0]), int(counts[0]))
        minutes = np.repeat(np.arange(low, high + 1), inside)
        return self._within(
            np.arange(first, last), minutes, np.repeat(bounds[:-1], inside), np.repeat(counts, inside)
        )

    def stamps_at(self, indexes: Int64s) -> Int64s:
        """The timestamps of some records, wherever they are."""
        minutes = np.searchsorted(self.cumulative, indexes, side="right") - 1
        before = self.cumulative[minutes]
        return self._within(indexes, minutes, before, self.cumulative[minutes + 1] - before)

    def _within(
        self, indexes: Int64s, minutes: Int64s | int, before: Int64s | int, counts: Int64s | int
    ) -> Int64s:
        jitter = ((self.bits(indexes) >> np.uint64(36)) * np.uint64(MINUTE_NS)) >> np.uint64(28)
        within = ((indexes - before) * MINUTE_NS + jitter.astype(np.int64)) // counts
        stamps: Int64s = within + (self._start_ns + MINUTE_NS * minutes)
        return stamps

    def bits(self, indexes: Int64s) -> Bits:
        """36 random bits of each record that nothing else hangs on: the lower ones."""
        return mix_many(self._seed, indexes)


class GridTape:
    """Records on a grid of whole steps since 1970: one for every step that an open interval touches."""

    def __init__(self, intervals: Sequence[tuple[int, int]], step_ns: int) -> None:
        firsts = [start // step_ns for start, _ in intervals]
        lasts = [-(-end // step_ns) for _, end in intervals]
        for place in range(1, len(firsts)):
            firsts[place] = max(firsts[place], lasts[place - 1])
        self._step_ns = step_ns
        self._firsts = np.array(firsts, dtype=np.int64)
        self._counts = np.maximum(np.array(lasts, dtype=np.int64) - self._firsts, 0)
        self._before = np.concatenate([[0], np.cumsum(self._counts)])
        self.total = int(self._before[-1])

    def index_at(self, instant_ns: int) -> int:
        step = -(-instant_ns // self._step_ns)
        return int(np.clip(step - self._firsts, 0, self._counts).sum())

    def stamps(self, first: int, last: int) -> Int64s:
        indexes = np.arange(first, last)
        runs = np.searchsorted(self._before, indexes, side="right") - 1
        stamps: Int64s = self._step_ns * (self._firsts[runs] + indexes - self._before[runs])
        return stamps


class EventTape:
    """A handful of records at given instants."""

    def __init__(self, instants: Int64s) -> None:
        self.total = len(instants)
        self._instants = instants

    def index_at(self, instant_ns: int) -> int:
        return int(np.searchsorted(self._instants, instant_ns, side="left"))

    def stamps(self, first: int, last: int) -> Int64s:
        return self._instants[first:last]

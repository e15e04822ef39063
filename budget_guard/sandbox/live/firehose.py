"""Tick records as fast as they are taken: the load of a benchmark. No I/O and no clock here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from budget_guard.sandbox.live.outgoing import Outgoing, lay_out
from budget_guard.sandbox.market.model import Part


class Firehose:
    """Tick records as fast as they are taken.

    Without a rate no instant has a number of records, so these belong to the connection: two of them, or a replay,
    do not agree. Each stream's block is encoded once and only stamped and numbered anew.
    """

    def __init__(self, blocks: Sequence[Part], now_ns: int, *, ts_out: bool) -> None:
        self._blocks = blocks
        self._ts_out = ts_out
        self._last_ns = now_ns
        self._turn = 0

    def pour(self, now_ns: int) -> Outgoing:
        """The next block: the streams take turns, time never goes back."""
        part = self._blocks[self._turn % len(self._blocks)]
        count = len(part.rows)
        first_ns = max(now_ns - count, self._last_ns + 1)
        self._last_ns = first_ns + count - 1
        blocks_before = self._turn // len(self._blocks)
        self._turn += 1
        rows = part.rows.copy()
        stamps = first_ns + np.arange(count)
        rows["ts_event"] = stamps
        rows["ts_recv"] = stamps
        names = rows.dtype.names or ()
        if "sequence" in names:
            rows["sequence"] += np.uint32(blocks_before * count & 0xFFFF_FFFF)
        if "order_id" in names:
            rows["order_id"] += np.uint64(blocks_before * count)
        return lay_out([replace(part, rows=rows)], now_ns if self._ts_out else None)

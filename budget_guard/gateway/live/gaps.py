"""The gaps of one connection: what the client missed while the vendor was away, and what was made up for."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from budget_guard.gateway.shared import Shared
from budget_guard.policy.model import Stream


@dataclass(frozen=True, slots=True)
class _OpenGap:
    id: str
    stream: Stream
    start_utc: datetime
    end_utc: datetime
    note: str


class Gaps:
    """Rows of the ledger's gap list. They never overlap, and are open until a replay has been completed."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._waiting: list[_OpenGap] = []
        self._recorded_until: datetime | None = None

    async def record(
        self, stream: Stream, start_utc: datetime, end_utc: datetime, note: str, *, replaying: bool
    ) -> None:
        """A stretch that was missed; with `replaying` it waits for `replayed`, else it stays open."""
        if self._recorded_until is not None:
            start_utc = max(start_utc, self._recorded_until)
        if not replaying:
            self._waiting.clear()
        if start_utc >= end_utc:
            return
        self._recorded_until = end_utc
        gap = _OpenGap(uuid.uuid4().hex, stream, start_utc, end_utc, note)
        if replaying:
            self._waiting.append(gap)
        await self._write(gap, mended="")

    async def replayed(self) -> None:
        """Everything that waited has been delivered."""
        waiting, self._waiting = self._waiting, []
        for gap in waiting:
            await self._write(gap, mended="replayed")

    async def _write(self, gap: _OpenGap, *, mended: str) -> None:
        record = self._shared.guard.record_gap
        await self._shared.in_thread(
            partial(record, gap.id, gap.stream, gap.start_utc, gap.end_utc, mended=mended, note=gap.note)
        )

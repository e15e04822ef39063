"""The gaps of one connection: what the client missed while the vendor was away, and what was made up for."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
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
    """Rows of the ledger's gap list, by stream. They never overlap, and are open until a replay has been completed."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._waiting: list[_OpenGap] = []
        self._recorded_until: dict[str, datetime] = {}
        self._fresh: list[_OpenGap] = []  # that end where a session begins which has not been heard of yet

    async def record(
        self, stream: Stream, start_utc: datetime, end_utc: datetime, note: str, *, replaying: bool
    ) -> bool:
        """A stretch that was missed; with `replaying` it waits for `replayed`, else it stays open.

        False when it lies within what is recorded already.
        """
        known = self._recorded_until.get(stream.name, start_utc)
        start_utc = max(start_utc, known)
        self._fresh = [one for one in self._fresh if one.stream != stream]
        gap = _OpenGap(uuid.uuid4().hex, stream, start_utc, end_utc, note)
        if not replaying:
            self._waiting = [one for one in self._waiting if one.stream != stream]
            self._fresh.append(gap)
        if start_utc >= end_utc:
            return False
        self._recorded_until[stream.name] = end_utc
        if replaying:
            self._waiting.append(gap)
        await self._write(gap, mended="")
        return True

    async def last_until(self, end_utc: datetime) -> None:
        """The session after what was recorded, and is not replayed, has begun: nothing came before that."""
        fresh, self._fresh = self._fresh, []
        for gap in fresh:
            if end_utc > max(gap.start_utc, gap.end_utc):
                self._recorded_until[gap.stream.name] = end_utc
                await self._write(replace(gap, end_utc=end_utc), mended="")

    async def replayed(self, schema: str, doubt: str = "") -> None:
        """The replay of a schema is completed. With a doubt whether it brought everything, its gaps stay open."""
        ended = [gap for gap in self._waiting if gap.stream.schema == schema]
        self._waiting = [gap for gap in self._waiting if gap.stream.schema != schema]
        for gap in ended:
            await self._write(gap, mended="" if doubt else "replayed", doubt=doubt)

    async def _write(self, gap: _OpenGap, *, mended: str, doubt: str = "") -> None:
        record = self._shared.guard.record_gap
        note = f"{gap.note}; {doubt}" if doubt else gap.note
        await self._shared.in_thread(
            partial(record, gap.id, gap.stream, gap.start_utc, gap.end_utc, mended=mended, note=note)
        )

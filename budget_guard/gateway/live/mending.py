"""How a live connection that lost the vendor comes back: when it tries again, where it resumes, what stays missing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import timedelta
from typing import Protocol

from budget_guard.clock import Clock, instant_from_ns, ns_from_instant
from budget_guard.decisions import Decision
from budget_guard.errors import Refused, VendorError, VendorUnavailable
from budget_guard.gateway.live.backoff import delays_s
from budget_guard.gateway.live.downstream import ClientGone
from budget_guard.gateway.live.funds import Funds
from budget_guard.gateway.live.gaps import Gaps
from budget_guard.gateway.live.pump import Pump, Stop
from budget_guard.gateway.live.recovery import may_replay
from budget_guard.gateway.shared import Shared
from budget_guard.gateway.wire.refusals import REPLAY_AGED_OUT, SessionsFull
from budget_guard.guard.guard import Admission

log = logging.getLogger(__name__)

# A connection that brought data and lasted this long was a good one: the next is tried for without waiting.
PROVEN_S = 1.0


class Mended(Protocol):
    """The connection that is mended."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is opened any more."""

    @property
    def stop_reason(self) -> Stop | None:
        """Why the vendor's side was ended from here; None when it was lost."""

    async def reopen(self) -> None:
        """Hold money, connect, resume. Raises Refused, VendorError, and ClientGone when it is over."""

    async def refused_by_vendor(self, error: VendorError) -> Decision:
        """What the vendor will not change its mind about ends the connection."""

    def give_up(self, why: Stop, verdict: Decision) -> None:
        """The guard will not have it opened again."""

    async def pause(self, seconds: float) -> None:
        """Wait, but not when it is over."""

    def spawn(self, coroutine: Coroutine[None, None, None]) -> None: ...


class Mending:
    """What is remembered of a connection's losses from one to the next."""

    def __init__(self, shared: Shared, connection: Mended, funds: Funds, pump: Pump) -> None:
        self._clock: Clock = shared.guard.clock
        self._connection = connection
        self._funds = funds
        self._pump = pump
        self._gaps = Gaps(shared)
        self._loop = asyncio.get_running_loop()
        self._delays = delays_s()
        self._opened_s = 0.0
        self._started_ns = 0

    def opened(self, *, resume: bool) -> None:
        """The vendor's side is open; without `resume` for the first time."""
        if not resume:
            self._started_ns = ns_from_instant(self._clock.now())
        self._opened_s = self._loop.time()

    def next_delay_s(self) -> float:
        """How long to wait before the next attempt."""
        return next(self._delays)

    async def mend(self) -> bool:
        """Open the vendor's side again; False when it is over (and why has been set)."""
        connection = self._connection
        lasted_s = self._loop.time() - self._opened_s
        if self._pump.data_bytes and lasted_s >= PROVEN_S:
            self._delays = delays_s()
        elif connection.stop_reason not in (Stop.PERIOD, Stop.REPLAY_SPEND):
            await connection.pause(self.next_delay_s())
        said = ""
        while not connection.is_over:
            try:
                await connection.reopen()
                return True
            except ClientGone:
                break
            except Refused as refused:
                if self._funds.waits_for_ledger(refused.decision):
                    await self._wait_for_ledger()
                    continue
                closed = refused.decision.code == "window_closed"
                connection.give_up(Stop.WINDOW if closed else Stop.LIMIT, refused.decision)
                break
            except VendorError as error:
                if not isinstance(error, SessionsFull | VendorUnavailable):
                    await connection.refused_by_vendor(error)
                    break
                if str(error) != said:  # an outage is a line, not one for every attempt
                    log.warning("stream lost, trying again: %s", error)
                said = str(error)
            await connection.pause(self.next_delay_s())
        if not connection.is_over:
            assert self._funds.admission is not None
            await self.record_gap(self._funds.admission, "given up", replaying=False)
        return False

    async def _wait_for_ledger(self) -> None:
        await self._connection.pause(self._funds.pause_s)
        while not self._connection.is_over and not await self._funds.reaches_ledger():
            await self._connection.pause(self._funds.pause_s)

    def replay_start(self, admission: Admission) -> int | None:
        """Where a replay starts; None when there may be none."""
        aged_out = self._pump.error is not None and self._pump.error.code == REPLAY_AGED_OUT
        silent = timedelta(seconds=self._clock.monotonic_s() - self._pump.current_s)
        spent = self._connection.stop_reason is Stop.REPLAY_SPEND
        if spent or aged_out or not may_replay(admission, silent):
            return None
        return min(self._last_ns, ns_from_instant(self._clock.now()))

    async def record_gap(self, admission: Admission, note: str, *, replaying: bool) -> None:
        """What was missed until now; with `replaying` it may yet be made up for."""
        missed_from = instant_from_ns(self._last_ns)
        await self._gaps.record(admission.stream, missed_from, self._clock.now(), note, replaying=replaying)

    def replay_completed(self) -> None:
        """Everything that was missed has been delivered."""
        self._connection.spawn(self._gaps.replayed())

    @property
    def _last_ns(self) -> int:
        """Until when the client has everything."""
        return self._pump.last_ts_ns or self._started_ns

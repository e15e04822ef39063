"""How a live connection that lost the vendor comes back: when it tries again, where it resumes, what stays missing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from budget_guard.clock import Clock, instant_from_ns, instant_text, ns_from_instant
from budget_guard.decisions import Decision
from budget_guard.errors import Refused, VendorError, VendorUnavailable
from budget_guard.gateway.live.backoff import delays_s
from budget_guard.gateway.live.delivered import Position
from budget_guard.gateway.live.downstream import ClientGone
from budget_guard.gateway.live.gaps import Gaps
from budget_guard.gateway.live.pump import Pump, Stop
from budget_guard.gateway.live.purse import Purse
from budget_guard.gateway.live.recovery import (
    REACH_NS,
    comes_too_late,
    had_until_ns,
    may_replay,
    replay_bytes_max,
    replay_start_ns,
)
from budget_guard.gateway.live.replay import REPLAY_OVERDUE_NS, CatchUp, Replayed
from budget_guard.gateway.shared import Shared
from budget_guard.gateway.wire.refusals import REPLAY_AGED_OUT, SessionsFull
from budget_guard.gateway.wire.subscription import Subscription
from budget_guard.guard.guard import Admission
from budget_guard.policy.model import Stream

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

    def goes_on_without(self, refused: Refused) -> bool:
        """Whether there is more to open than what the guard has just refused: that is left out from here on."""

    async def was_refused(self) -> bool:
        """Whether the vendor has refused for good meanwhile, here or in another program: that ends the connection."""

    def give_up(self, why: Stop, verdict: Decision) -> None:
        """The guard will not have it opened again."""

    async def pause(self, seconds: float) -> None:
        """Wait, but not when it is over."""

    def tell(self, text: str) -> None:
        """Put a notice for a person into the client's stream."""

    def spawn(self, coroutine: Coroutine[None, None, None]) -> None: ...


class Mending:
    """What is remembered of a connection's losses from one to the next."""

    def __init__(self, shared: Shared, connection: Mended, funds: Purse, pump: Pump) -> None:
        self._clock: Clock = shared.guard.clock
        self._connection = connection
        self._funds = funds
        self._pump = pump
        self._gaps = Gaps(shared)
        self._loop = asyncio.get_running_loop()
        self._delays = delays_s()
        self._opened_s = 0.0
        pump.on_resumed = self._resumed

    def _resumed(self) -> None:
        """The vendor has begun another session."""
        self._connection.spawn(self._gaps.last_until(self._market_now()))

    def opened(self) -> None:
        """The vendor's side is open."""
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
        elif connection.stop_reason not in (Stop.PERIOD, Stop.SHED, Stop.REPLAY_SPEND):
            await connection.pause(self.next_delay_s())
        said = ""
        while not connection.is_over:
            if await connection.was_refused():
                break
            try:
                await connection.reopen()
                return True
            except ClientGone:
                break
            except Refused as refused:
                if self._funds.waits_for_ledger(refused.decision):
                    await self._wait_for_ledger()
                    continue
                if connection.goes_on_without(refused):
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
                if not said:
                    connection.tell(f"budget-guard: stream lost, trying again: {error}")
                said = str(error)
            await connection.pause(self.next_delay_s())
        assert self._funds.admission is not None
        note = "ended before it could be mended" if connection.is_over else "given up"
        await self.record_gaps(self._funds.admission, note, None)
        return False

    async def _wait_for_ledger(self) -> None:
        await self._connection.pause(self._funds.pause_s)
        while not self._connection.is_over and not await self._funds.reaches_ledger():
            await self._connection.pause(self._funds.pause_s)

    # --- what was missed ----------------------------------------------------------------------------------

    def catch_up(self, admission: Admission, lines: Sequence[Subscription]) -> CatchUp | None:
        """What a resumed session has to send again; None when nothing may be replayed."""
        aged_out = self._pump.error is not None and self._pump.error.code == REPLAY_AGED_OUT
        spent = self._connection.stop_reason is Stop.REPLAY_SPEND
        if spent or aged_out or not may_replay(admission, self._silent()):
            return None
        now_ns = ns_from_instant(self._market_now())
        positions = self._pump.positions()
        replays = [
            Replayed(line.schema, self._start_ns(line.schema, positions, now_ns))
            for line in lines
            if line.is_last != "0"  # a subscription of many lines is replayed once
        ]
        return CatchUp(
            replays,
            positions,
            self._pump.began_ns,
            now_ns + REPLAY_OVERDUE_NS,
            replay_bytes_max(admission),
            ts_out=self._pump.ts_out,
            size_bytes=self._pump.replayed_bytes,
        )

    def _start_ns(self, schema: str, positions: Mapping[int, Position], now_ns: int) -> int:
        unfinished_ns = self._pump.unfinished_start_ns(schema, positions)
        start_ns = replay_start_ns(schema, positions, self._pump.began_ns, now_ns)
        return start_ns if unfinished_ns is None else max(min(start_ns, unfinished_ns), now_ns - REACH_NS)

    def _silent(self) -> timedelta:
        """For how long, in the market's time, the client has not had everything."""
        since_s = (
            self._pump.level_s if self._connection.stop_reason is Stop.WITHOUT_DATA else self._pump.current_s
        )
        return timedelta(seconds=self._clock.market_s() - since_s)

    async def record_gaps(self, admission: Admission, note: str, catch_up: CatchUp | None) -> None:
        """What each stream has missed until now; with a replay it may yet be made up for."""
        positions = self._pump.positions() if catch_up is None else catch_up.positions
        end_utc = self._market_now()
        for stream in (member.stream for member in admission.members):
            begins = instant_from_ns(self._had_until_ns(stream.schema, positions))
            missed = await self._gaps.record(stream, begins, end_utc, note, replaying=catch_up is not None)
            if missed and catch_up is None:
                self._say_missed(stream, begins, end_utc, "and is not replayed")

    def _had_until_ns(self, schema: str, positions: Mapping[int, Position]) -> int:
        until_ns = had_until_ns(schema, positions, self._pump.began_ns)
        unfinished_ns = self._pump.unfinished_start_ns(schema, positions)
        return until_ns if unfinished_ns is None else min(until_ns, unfinished_ns)

    def _market_now(self) -> datetime:
        """Now, and at least as far from the last record as time has passed since: a clock may be slow, or set back."""
        now = self._clock.now()
        if self._pump.level_ns is None:
            return now
        since = timedelta(seconds=self._clock.market_s() - self._pump.level_s)
        return max(now, instant_from_ns(self._pump.level_ns) + since)

    async def began_late(self, asked_utc: datetime) -> None:
        """The vendor could not be reached when the client asked for it: what came meanwhile is missing."""
        assert self._funds.admission is not None
        opened_utc = self._clock.now()
        for member in self._funds.admission.members:
            begins = max(asked_utc, member.window.start_utc)
            note = "the vendor could not be reached at first"
            if await self._gaps.record(member.stream, begins, opened_utc, note, replaying=False):
                self._say_missed(member.stream, begins, opened_utc, "before the vendor could be reached")

    def records_skipped(self, text: str) -> None:
        """The vendor let the client off what it did not read in time: nobody replays that."""
        begins = instant_from_ns(self._pump.level_ns or self._pump.began_ns)
        self._connection.spawn(self._record_skipped(begins, self._market_now(), text))

    async def _record_skipped(self, start_utc: datetime, end_utc: datetime, text: str) -> None:
        admission = self._funds.admission
        for member in () if admission is None else admission.members:
            note = f"skipped by the vendor after slow reading: {text}"
            await self._gaps.record(member.stream, start_utc, end_utc, note, replaying=False)

    def replay_completed(self, schema: str, missing: int) -> None:
        """Everything that was missed of a schema has been delivered, if the vendor's word is good."""
        doubt = ""
        if missing:
            doubt = f"the replay left out {missing} records that had been sent before, and maybe others"
            self._connection.tell(f"budget-guard: {schema}: {doubt}")
            log.warning("%s: %s", schema, doubt)
        elif comes_too_late(schema, self._pump.positions()):
            doubt = "records that the vendor captured seconds after their time may be missing"
        self._connection.spawn(self._gaps.replayed(schema, doubt))

    def _say_missed(self, stream: Stream, start_utc: datetime, end_utc: datetime, what: str) -> None:
        text = (
            f"{stream.schema} of stream {stream.name} from {instant_text(start_utc)} to {instant_text(end_utc)} "
            f"was missed {what}"
        )
        log.warning("%s", text)
        self._connection.tell(f"budget-guard: {text}")

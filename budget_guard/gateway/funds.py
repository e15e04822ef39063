"""The money of one live connection: the lease it draws on, renewed before it runs low, rolled over, settled."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Coroutine
from functools import partial
from typing import Protocol

from budget_guard.clock import Clock
from budget_guard.decisions import Decision, deny
from budget_guard.errors import Fenced, LedgerError, Refused
from budget_guard.gateway.pump import Stop
from budget_guard.gateway.shared import Shared
from budget_guard.guard.connection import LiveHold
from budget_guard.guard.guard import Admission
from budget_guard.guard.request import Request, whole_stream
from budget_guard.markets.model import Interval

log = logging.getLogger(__name__)

# A refused renewal is asked for again at most this often: other connections may have returned money.
RENEWAL_PAUSE_S = 1.0


class FundsOwner(Protocol):
    @property
    def streaming(self) -> bool:
        """Whether data flows: neither being opened nor mended nor ended."""

    def halt(self) -> None:
        """Read no further until `go_on`."""

    def go_on(self) -> None: ...

    def swap_hold(self, hold: LiveHold) -> None:
        """Count on another hold from the next byte on."""

    def end(self, why: Stop, decision: Decision | None) -> None:
        """Begin to end the connection, and why."""

    def spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        """Run in the background."""


class Funds:
    """Holds, renews and settles. One write to the ledger at a time, none of them on the event loop."""

    def __init__(self, shared: Shared, owner: FundsOwner, *, only: str | None) -> None:
        self._shared = shared
        self._guard = shared.guard
        self._clock: Clock = shared.guard.clock
        self._owner = owner
        self._only = only
        self.connection_id = uuid.uuid4().hex
        self._lock = asyncio.Lock()
        self._renewing = False
        self._rolling = False
        self._next_try_s = 0.0
        self.admission: Admission | None = None

    @property
    def hold(self) -> LiveHold:
        assert self.admission is not None
        return self.admission.hold

    async def open(self, request: Request, continues: LiveHold | None = None) -> Admission:
        """Hold a first lease. Raises Refused."""
        return await self._shared.in_thread(
            partial(
                self._guard.open_live,
                request,
                connection_id=self.connection_id,
                allowance_bytes=self._shared.allowance_bytes,
                only=self._only,
                continues=continues,
            )
        )

    async def activate(self, hold: LiveHold) -> None:
        """Commit that something billable is about to be asked for. Raises Refused; the hold is dealt with then."""
        try:
            await self._shared.in_thread(hold.activate)
        except LedgerError as error:
            # It may have been written all the same: then only recovery can tell.
            hold.abandon()
            raise Refused(_unavailable(error)) from error

    async def release(self, hold: LiveHold) -> None:
        """Give a hold back from which nothing was spent."""
        try:
            await self._shared.in_thread(hold.release)
        except LedgerError as error:
            hold.abandon()
            log.warning("a hold stays until the next start releases it: %s", error)

    def prolong(self, window: Interval) -> None:
        """The window has been followed by another without a break."""
        assert self.admission is not None
        self.admission = Admission(self.admission.stream, window, self.admission.hold)

    # --- renewal ------------------------------------------------------------------------------------------

    def want_renewal(self) -> None:
        """Renew the lease in the background, unless that is under way or was refused a moment ago."""
        if not self._renewing and not self._rolling and self._clock.monotonic_s() >= self._next_try_s:
            self._renewing = True
            self._owner.spawn(self._renew())

    def ran_out(self) -> None:
        """Read no further until the ledger has answered; the allowance covers what is on its way."""
        if self._clock.monotonic_s() < self._next_try_s and self._is_free:
            return
        self._next_try_s = 0.0
        self._owner.halt()
        self.want_renewal()

    async def _renew(self) -> None:
        hold = self.hold
        try:
            async with self._lock:
                if hold is not self.hold or not self._owner.streaming:
                    return
                allowed = await self._shared.in_thread(hold.renew)
            trouble = None if allowed else hold.denied
        except Fenced as error:
            self._owner.end(Stop.LIMIT, _unavailable(error))
            return
        except LedgerError as error:
            log.warning("the ledger cannot be reached: %s", error)
            trouble = _unavailable(error)
        finally:
            self._renewing = False
        if trouble is not None:
            self._next_try_s = self._clock.monotonic_s() + RENEWAL_PAUSE_S
        if self._owner.streaming:
            await self._conclude(hold, trouble)

    async def _conclude(self, hold: LiveHold, trouble: Decision | None) -> None:
        """Go on, ask again or end after a renewal."""
        spent = hold.exhausted or hold.time_exhausted
        if spent and trouble is None:
            # While the ledger answered, what it granted was used up.
            self.ran_out()
        elif spent and not self._may_flow_without_ledger(trouble):
            await self._record_cut(trouble)
            self._owner.end(Stop.LIMIT, trouble)
        else:
            self._owner.go_on()

    async def _record_cut(self, trouble: Decision | None) -> None:
        """A stream that a limit ends is a refusal like any other: the month's review counts it."""
        if self.admission is None or trouble is None or trouble.code == "ledger_unavailable":
            return
        stream = self.admission.stream
        await self._shared.in_thread(
            partial(self._guard.record_refusal, whole_stream(stream), stream.name, trouble)
        )

    @property
    def _is_free(self) -> bool:
        """Whether another byte is known to cost nothing."""
        return self.hold.terms.unit_price_usd == 0

    def _may_flow_without_ledger(self, trouble: Decision | None) -> bool:
        return self._is_free and trouble is not None and trouble.code == "ledger_unavailable"

    # --- periods ------------------------------------------------------------------------------------------

    def want_roll(self, request: Request) -> None:
        """A period has ended: go on under a new hold in the next, or end where that has no room."""
        if not self._rolling and self._clock.monotonic_s() >= self._next_try_s:
            self._rolling = True
            self._owner.spawn(self._roll(request))

    async def _roll(self, request: Request) -> None:
        try:
            async with self._lock:
                if not self._owner.streaming:
                    return
                old = self.hold
                admission = await self.open(request, continues=old)
                await self.activate(admission.hold)
                self._owner.swap_hold(admission.hold)
                self.admission = admission
                await self._finish(old, "period ended; the connection goes on", clean=True)
            self._owner.go_on()
        except Refused as refused:
            self._cannot_roll(refused.decision)
        finally:
            self._rolling = False

    def _cannot_roll(self, decision: Decision) -> None:
        if self._may_flow_without_ledger(decision):
            self._next_try_s = self._clock.monotonic_s() + RENEWAL_PAUSE_S
            self._owner.go_on()
        else:
            self._owner.end(Stop.WINDOW if decision.code == "window_closed" else Stop.LIMIT, decision)

    # --- the end ------------------------------------------------------------------------------------------

    async def settle(self, note: str, *, clean: bool) -> None:
        """Book what the ended connection to the vendor used."""
        async with self._lock:
            await self._finish(self.hold, note, clean=clean)

    def abandon(self) -> None:
        """Leave the hold to recovery."""
        if self.admission is not None:
            self.admission.hold.abandon()

    async def _finish(self, hold: LiveHold, note: str, *, clean: bool) -> None:
        try:
            entry = await self._shared.in_thread(partial(hold.finish, note, clean=clean))
            self._shared.outcome.entries.append(entry)
        except LedgerError as error:
            hold.abandon()
            log.error(
                "%d bytes stay held until the next start settles them: %s", hold.counted.size_bytes, error
            )


def _unavailable(error: LedgerError) -> Decision:
    return deny("ledger_unavailable", str(error))

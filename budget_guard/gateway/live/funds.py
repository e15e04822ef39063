"""The money of one part of a live connection that is counted by itself: the lease it draws on, renewed before it runs
low, rolled over, settled. `purse` has all parts of a connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from budget_guard.clock import Clock
from budget_guard.decisions import Decision, deny
from budget_guard.errors import Fenced, LedgerError, Refused
from budget_guard.gateway.live.pump import Stop
from budget_guard.gateway.shared import Shared
from budget_guard.guard.admission import Admission, Member
from budget_guard.guard.asking import ask_again_s
from budget_guard.guard.connection import LiveHold
from budget_guard.guard.coverage import RequestsRefused
from budget_guard.guard.request import Request, whole_stream
from budget_guard.guard.slots import SlotHold
from budget_guard.markets.model import Interval
from budget_guard.policy.model import Stream

log = logging.getLogger(__name__)

# A ledger that cannot be reached is tried again after so long, then less and less often.
RENEWAL_PAUSE_S = 1.0
AWAY_PAUSE_MAX_S = 30.0


class FundsOwner(Protocol):
    @property
    def streaming(self) -> bool:
        """Whether data flows: neither being opened nor mended nor ended."""

    def halt(self, part: Funds) -> None:
        """Read no further until `go_on` for the same part."""

    def go_on(self, part: Funds) -> None: ...

    def swap_hold(self, old: LiveHold, new: LiveHold, schemas: Collection[str]) -> None:
        """Count the records of some schemas on another hold from the next byte on."""

    def end(self, why: Stop, decision: Decision | None) -> None:
        """Begin to end the connection, and why."""

    def end_some(self, requests: Collection[Request], why: Stop, decision: Decision) -> None:
        """Go on without what was asked for with these requests; end where nothing else was."""

    def spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        """Run in the background, to its end."""


class Outage:
    """Whether a connection can reach the ledger. The first to lose it says so, and the last to have it back."""

    def __init__(self, affected: set[str], connection_id: str) -> None:
        """`affected` is shared by all connections."""
        self._affected = affected
        self._id = connection_id
        self._pause_s = RENEWAL_PAUSE_S

    @property
    def lasts(self) -> bool:
        return self._id in self._affected

    @property
    def pause_s(self) -> float:
        """How long to wait before the next try."""
        return self._pause_s if self.lasts else RENEWAL_PAUSE_S

    def failed(self, error: object) -> None:
        """It could not be reached: the next pause is twice as long."""
        self._pause_s = min(2 * self._pause_s, AWAY_PAUSE_MAX_S) if self.lasts else RENEWAL_PAUSE_S
        if not self._affected:
            log.warning(
                "the ledger cannot be reached, running connections go on with what they hold: %s", error
            )
        self._affected.add(self._id)

    def over(self) -> bool:
        """It was reached; whether that ended an outage of all connections."""
        if not self.lasts:
            return False
        self._affected.discard(self._id)
        if not self._affected:
            log.warning("the ledger is back: what was used meanwhile is booked")
        return not self._affected

    def forget(self) -> None:
        """The connection has ended."""
        self._affected.discard(self._id)


@dataclass(slots=True)
class Terms:
    """What all parts of one connection have in common. `lock`: one write to the ledger at a time.

    `slot` is what counts it among the connections that the vendor allows at once.
    """

    connection_id: str
    only: str | None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    slot: SlotHold | None = None


class Funds:
    """Holds, renews and settles, none of it on the event loop."""

    def __init__(
        self,
        shared: Shared,
        owner: FundsOwner,
        terms: Terms,
        requests: Sequence[Request],
        beside: Callable[[], list[LiveHold]],
    ) -> None:
        """`beside` are the holds of all parts of the connection, now."""
        self._shared = shared
        self._guard = shared.guard
        self._clock: Clock = shared.guard.clock
        self._owner = owner
        self._terms = terms
        self._lock = terms.lock
        self._beside = beside
        self.requests = tuple(requests)
        self._renewing = False
        self._rolling = False
        self._next_try_s = 0.0
        self._short_until_s = 0.0  # nothing more was granted a moment ago
        schemas = sorted({request.schema for request in requests})
        self._outage = Outage(shared.without_ledger, f"{terms.connection_id} {' '.join(schemas)}")
        self.admission: Admission | None = None

    @property
    def hold(self) -> LiveHold:
        assert self.admission is not None
        return self.admission.hold

    @property
    def members(self) -> tuple[Member, ...]:
        return () if self.admission is None else self.admission.members

    @property
    def schemas(self) -> frozenset[str]:
        return frozenset(request.schema for request in self.requests)

    async def open(self) -> None:
        """Hold a first lease. Raises Refused."""
        self.admission = await self._open(self.requests, None)

    async def _open(self, requests: Sequence[Request], continues: LiveHold | None) -> Admission:
        admission = await self._shared.in_thread(
            partial(
                self._guard.open_live,
                requests[0],
                connection_id=self._terms.connection_id,
                allowance_bytes=self._shared.allowance_bytes,
                only=self._terms.only,
                continues=continues,
                alike=requests[1:],
                beside=[hold for hold in self._beside() if hold is not continues],
            )
        )
        self._ledger_answered(admission.hold)
        return admission

    async def activate(self) -> None:
        """Commit that something billable is about to be asked for. Raises Refused; the hold is dealt with then."""
        await self._activate(self.hold)

    async def _activate(self, hold: LiveHold) -> None:
        try:
            await self._shared.in_thread(hold.activate)
        except LedgerError as error:
            # It may have been written all the same: then only recovery can tell.
            hold.abandon()
            raise Refused(_unavailable(error)) from error

    async def release(self) -> None:
        """Give a hold back from which nothing was spent."""
        hold = self.hold
        try:
            await self._shared.in_thread(hold.release)
        except LedgerError as error:
            hold.abandon()
            log.warning("a hold stays until the next start releases it: %s", error)

    def prolong(self, stream: Stream, window: Interval) -> None:
        """A stream's window has been followed by another without a break."""
        assert self.admission is not None
        self.admission = self.admission.prolonged(stream, window)

    # --- renewal ------------------------------------------------------------------------------------------

    def want_renewal(self) -> None:
        """Renew the lease in the background, unless that is under way or brought nothing a moment ago."""
        pauses_until_s = max(self._next_try_s, self._short_until_s)
        if not self._renewing and not self._rolling and self._clock.monotonic_s() >= pauses_until_s:
            self._renewing = True
            self._owner.spawn(self._renew())

    def ran_out(self) -> None:
        """Read no further until the ledger has answered; the allowance covers what is on its way.

        What is known to cost nothing is read on while the ledger is known to be away.
        """
        if self.is_free and self._outage.lasts:
            self.want_renewal()
            return
        self._next_try_s = self._short_until_s = 0.0
        self._owner.halt(self)
        self.want_renewal()

    async def _renew(self) -> None:
        hold = self.hold
        began_s = self._clock.monotonic_s()
        try:
            async with self._lock:
                if hold is not self.hold or not self._owner.streaming:
                    return
                allowed = await self._shared.in_thread(hold.renew)
            trouble = None if allowed else hold.denied
            self._ledger_answered(hold)
        except Fenced as error:
            self._owner.end(Stop.LIMIT, _unavailable(error))
            return
        except LedgerError as error:
            self._outage.failed(error)
            trouble = _unavailable(error)
        finally:
            self._renewing = False
        now_s = self._clock.monotonic_s()
        if self._outage.lasts:
            self._next_try_s = now_s + self._outage.pause_s
        elif hold.short:
            # Never sooner than the ledger answers: the slower it is, the less it is asked.
            self._short_until_s = now_s + max(ask_again_s(hold.lasts_s), now_s - began_s)
        if self._owner.streaming:
            await self._conclude(hold, trouble)

    def _ledger_answered(self, hold: LiveHold) -> None:
        """After an outage, or a failover that lost something, book what ended in it."""
        lost, hold.found_loss = hold.found_loss, False
        if self._outage.over() or lost:
            self._owner.spawn(self._shared.in_thread(self._guard.aftercare.recover))
        if lost and self._terms.slot is not None:
            self._owner.spawn(self._shared.in_thread(partial(_write_again, self._terms.slot)))

    async def _conclude(self, hold: LiveHold, trouble: Decision | None) -> None:
        """Go on, ask again or end after a renewal."""
        spent = hold.exhausted or hold.time_exhausted
        if spent and trouble is None:
            # While the ledger answered, what it granted was used up.
            self.ran_out()
        elif spent and not self._may_flow_without_ledger(trouble):
            await self._record_cut(trouble)
            self._end(Stop.LIMIT, trouble)
        else:
            self._owner.go_on(self)

    async def _record_cut(self, trouble: Decision | None) -> None:
        """A stream that a limit ends is a refusal like any other: the month's review counts it."""
        if self.admission is None or trouble is None or trouble.code == "ledger_unavailable":
            return
        for member in self.admission.members:
            stream = member.stream
            await self._shared.in_thread(
                partial(self._guard.record_refusal, whole_stream(stream), stream.name, trouble)
            )

    def _end(self, why: Stop, decision: Decision | None) -> None:
        """This part is over. Without the ledger no other can be opened again."""
        if decision is None or decision.code == "ledger_unavailable":
            self._owner.end(why, decision)
        else:
            self._owner.end_some(self.requests, why, decision)

    @property
    def is_free(self) -> bool:
        """Whether another byte is known to cost nothing."""
        return self.hold.terms.unit_price_usd == 0

    def waits_for_ledger(self, decision: Decision) -> bool:
        """Whether what is known to cost nothing was refused only because the ledger is away: it waits, `pause_s`."""
        if not self._may_flow_without_ledger(decision):
            return False
        self._away(decision.reasons[0].message)
        return True

    @property
    def pause_s(self) -> float:
        return self._outage.pause_s

    async def reaches_ledger(self) -> bool:
        """Whether the ledger can be read, so that asking it again is worth while."""
        try:
            await self._shared.in_thread(self._guard.ledger.is_rehearsal)
        except LedgerError as error:
            self._away(error)
            return False
        return True

    def _may_flow_without_ledger(self, trouble: Decision | None) -> bool:
        return self.is_free and trouble is not None and trouble.code == "ledger_unavailable"

    # --- periods ------------------------------------------------------------------------------------------

    def want_roll(self) -> None:
        """A period has ended: go on under a new hold in the next, or end where that has no room."""
        if not self._rolling and self._clock.monotonic_s() >= self._next_try_s:
            self._rolling = True
            self._owner.spawn(self._roll())

    async def _roll(self) -> None:
        try:
            async with self._lock:
                if not self._owner.streaming:
                    return
                if self._outage.lasts and not await self._is_back(self.hold):
                    return
                await self._go_on_with(self.requests, "period ended; the connection goes on")
        except Refused as refused:
            self._cannot_roll(refused)
        finally:
            self._rolling = False

    async def take_in(self, request: Request) -> None:
        """Another request whose bytes cannot be told from those of this part. The lock is held. Raises Refused."""
        await self._go_on_with((*self.requests, request), "more was asked for; the connection goes on")

    def add(self, request: Request, stream: str) -> None:
        """Another request of a stream that this part has: its money is held already."""
        assert self.admission is not None
        self.requests = (*self.requests, request)
        self.admission = self.admission.extended(request, stream)

    async def _go_on_with(self, requests: tuple[Request, ...], note: str) -> None:
        old = self.hold
        admission = await self._open(requests, old)
        await self._activate(admission.hold)
        self.requests, self.admission = requests, admission
        self._owner.swap_hold(old, admission.hold, self.schemas)
        await self._finish(old, note, clean=True)
        # A renewal of the old hold, if one was waited for, leaves this to its successor.
        self._owner.go_on(self)

    def _cannot_roll(self, refused: Refused) -> None:
        decision = refused.decision
        if self._may_flow_without_ledger(decision):
            self._away(decision.reasons[0].message)
            self._owner.go_on(self)
            return
        why = Stop.WINDOW if decision.code == "window_closed" else Stop.LIMIT
        if isinstance(refused, RequestsRefused) and decision.code != "ledger_unavailable":
            self._owner.end_some(refused.requests, why, decision)
        else:
            self._owner.end(why, decision)

    async def _is_back(self, hold: LiveHold) -> bool:
        """Whether the ledger can be reached again: asked by a renewal, which books, and refuses nothing."""
        try:
            await self._shared.in_thread(hold.renew)
        except LedgerError as error:
            self._away(error)
            return False
        self._ledger_answered(hold)
        return True

    def _away(self, error: object) -> None:
        self._outage.failed(error)
        self._next_try_s = self._clock.monotonic_s() + self._outage.pause_s

    # --- the end ------------------------------------------------------------------------------------------

    async def settle(self, note: str, *, clean: bool) -> None:
        """Book what the ended connection to the vendor used. The lock is held."""
        await self._finish(self.hold, note, clean=clean)

    def abandon(self) -> None:
        """Leave the hold to recovery."""
        if self.admission is not None:
            self.admission.hold.abandon()

    def leave(self) -> None:
        """It is over."""
        self._outage.forget()

    async def _finish(self, hold: LiveHold, note: str, *, clean: bool) -> None:
        try:
            entry = await self._shared.in_thread(partial(hold.finish, note, clean=clean))
            self._shared.outcome.entries.append(entry)
            self._owner.spawn(self._shared.in_thread(self._guard.aftercare.tidy))
        except LedgerError as error:
            hold.abandon()
            self._shared.outcome.unbooked.append(hold.counted.size_bytes)
            log.error(
                "%d bytes stay held, and are booked from their meter when the ledger can be reached "
                "at the next start: %s",
                hold.counted.size_bytes,
                error,
            )


def _write_again(slot: SlotHold) -> None:
    """A failover that lost something may have lost this too; the next one that loses something is another chance."""
    try:
        slot.assert_again()
    except LedgerError as error:
        log.warning("a connection is not counted among those that are open: %s", error)


def _unavailable(error: LedgerError) -> Decision:
    return deny("ledger_unavailable", str(error))

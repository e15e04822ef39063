"""All the money of one live connection: a `Funds` for each part of it that is counted by itself."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from functools import partial

from budget_guard.decisions import Decision, deny
from budget_guard.errors import LedgerError, Refused
from budget_guard.gateway.live.counting import Counting, counted_alike, rtypes_of
from budget_guard.gateway.live.funds import Funds, FundsOwner, Terms
from budget_guard.gateway.shared import Shared
from budget_guard.guard.admission import Admission
from budget_guard.guard.connection import LiveHold
from budget_guard.guard.denials import unavailable
from budget_guard.guard.request import Request

log = logging.getLogger(__name__)
_NOTHING = "nothing was asked for"


class Purse:
    """Opens, activates and settles the parts together; between that each sees to itself."""

    def __init__(self, shared: Shared, owner: FundsOwner, *, only: str | None) -> None:
        self._shared = shared
        self._owner = owner
        self._terms = Terms(uuid.uuid4().hex, only)
        self.lock = self._terms.lock
        self.parts: list[Funds] = []
        self._heard = len(shared.guard.alerts.told)

    @property
    def connection_id(self) -> str:
        return self._terms.connection_id

    # --- the connection itself ----------------------------------------------------------------------------

    async def take_slot(self, request: Request) -> None:
        """Count among the connections that the vendor allows at once, until `end`. Raises Refused, recorded."""
        guard = self._shared.guard
        try:
            opening = partial(guard.slots.open, request.dataset, self.connection_id)
            self._terms.slot = await self._shared.in_thread(opening)
        except (Refused, LedgerError) as error:
            decision = error.decision if isinstance(error, Refused) else unavailable(error)
            await self._shared.in_thread(partial(guard.record_refusal, request, self._terms.only, decision))
            raise Refused(decision) from error

    async def end(self) -> None:
        """The client's connection is over, and so is the vendor's."""
        slot, self._terms.slot = self._terms.slot, None
        if slot is None:
            return
        try:
            await self._shared.in_thread(slot.release)
        except LedgerError as error:
            slot.abandon()
            log.warning(
                "a connection counts as open until the ledger can be reached at the next start: %s", error
            )

    # --- together -----------------------------------------------------------------------------------------

    async def open(self, requests: Sequence[Request]) -> None:
        """Hold a first lease for each part: all of them, or none. Raises Refused; the parts are as before then."""
        before, self.parts = self.parts, []
        try:
            for group in counted_alike(request.schema for request in requests):
                await self._open_part([request for request in requests if request.schema in group])
        except BaseException:
            await self.release()
            self.parts = before
            raise
        for part in before:
            part.leave()

    async def _open_part(self, requests: Sequence[Request]) -> Funds:
        part = Funds(self._shared, self._owner, self._terms, requests, self.holds)
        await part.open()
        self.parts.append(part)
        return part

    def holds(self) -> list[LiveHold]:
        return [part.hold for part in self.parts]

    async def activate(self) -> None:
        """Commit that something billable is about to be asked for. Raises Refused; the holds are dealt with then."""
        active: list[Funds] = []
        for place, part in enumerate(self.parts):
            try:
                await part.activate()
            except Refused:
                for other in active:
                    await other.settle(_NOTHING, clean=True)
                for other in self.parts[place + 1 :]:
                    await other.release()
                raise
            active.append(part)

    async def release(self) -> None:
        """Give the holds back from which nothing was spent."""
        for part in self.parts:
            await part.release()

    async def settle(self, note: str, *, clean: bool) -> None:
        """Book what the ended connection to the vendor used."""
        async with self.lock:
            for part in self.parts:
                await part.settle(note, clean=clean)

    async def settle_nothing(self) -> None:
        """Nothing was asked for after all."""
        await self.settle(_NOTHING, clean=True)

    def abandon(self) -> None:
        """Leave the holds to recovery."""
        for part in self.parts:
            part.abandon()

    def leave(self) -> None:
        """The client's connection is over."""
        for part in self.parts:
            part.leave()

    def new_alerts(self) -> list[str]:
        """What has been told since the last call of the limits that this connection counts against, for its client."""
        told = self._shared.guard.alerts.told
        if len(told) == self._heard:
            return []
        fresh, self._heard = told[self._heard :], len(told)
        keys = {limit.key for hold in self.holds() for limit in hold.limits}
        return [alert.text for alert in fresh if alert.to_clients and alert.key in keys]

    # --- one by one ---------------------------------------------------------------------------------------

    def part_of(self, hold: LiveHold) -> Funds | None:
        """The part that draws on a hold; None when it has gone on to another."""
        return next((part for part in self.parts if part.hold is hold), None)

    def counting(self, *, ts_out: bool) -> Counting:
        """What counts a connection to the vendor on these holds."""
        counting = Counting(self._shared.guard.policy.account.not_billed, ts_out=ts_out)
        for part in self.parts:
            counting.add(part.hold, rtypes_of(part.schemas))
        return counting

    async def take_in(self, request: Request, stream: str, counting: Counting) -> None:
        """Hold what another subscription of a running connection needs, before it is asked for. Raises Refused.

        The lock is held.
        """
        groups = counted_alike([*(schema for part in self.parts for schema in part.schemas), request.schema])
        group = next(group for group in groups if request.schema in group)
        mates = [part for part in self.parts if part.schemas & group]
        if len(mates) > 1:
            raise Refused(
                deny(
                    "not_covered",
                    f"nothing would tell records of {request.schema} from those of the other subscriptions: "
                    "open a connection for it",
                )
            )
        if not mates:
            part = await self._open_part([request])
            await self._activate_last(part)
            counting.add(part.hold, rtypes_of(part.schemas))
        elif any(member.stream.name == stream for member in mates[0].members):
            mates[0].add(request, stream)
        else:
            await mates[0].take_in(request)

    async def _activate_last(self, part: Funds) -> None:
        try:
            await part.activate()
        except Refused:
            self.parts.remove(part)
            raise

    # --- what is known of it ------------------------------------------------------------------------------

    @property
    def admission(self) -> Admission | None:
        """All parts as one: every member, and the dearest hold. None before the first opening."""
        if not self.parts:
            return None
        dearest = max(self.holds(), key=lambda hold: hold.terms.unit_price_usd)
        return Admission(tuple(member for part in self.parts for member in part.members), dearest)

    # --- without the ledger -------------------------------------------------------------------------------

    def waits_for_ledger(self, decision: Decision) -> bool:
        """Whether what is known to cost nothing was refused only because the ledger is away: it waits, `pause_s`."""
        return all(part.is_free for part in self.parts) and self.parts[0].waits_for_ledger(decision)

    @property
    def pause_s(self) -> float:
        return self.parts[0].pause_s

    async def reaches_ledger(self) -> bool:
        """Whether the ledger can be read, so that asking it again is worth while."""
        return await self.parts[0].reaches_ledger()

"""What has been said to a dataset's connections before: by the vendor to any program, and by the guard here."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from budget_guard.decisions import Decision
from budget_guard.errors import Refused, VendorError
from budget_guard.gateway.outcome import vendor_decision
from budget_guard.gateway.shared import Shared
from budget_guard.guard.request import Request

# How long what the ledger says is believed without a look at it.
LOOK_AGAIN_S = 1.0


class VendorStanding:
    """The refusals of one dataset: met, recorded, and taken back when the vendor accepts."""

    def __init__(self, shared: Shared, dataset: str) -> None:
        self._shared = shared
        self._dataset = dataset

    async def check(self, token: str, only: str | None) -> None:
        """Refuse on the logon line what was refused before, by whomever, while the cause stands. Raises Refused."""
        if (refusal := await self.refusal()) is not None:
            raise Refused(refusal)
        shared, guard = self._shared, self._shared.guard
        known = any(stream.dataset == self._dataset for stream in guard.live_streams(only=only))
        if known and token not in shared.standing.tokens:
            return
        allowance = shared.allowance_bytes
        decision = await shared.in_thread(
            partial(guard.decide_dataset, self._dataset, allowance_bytes=allowance, only=only)
        )
        if not decision.allowed:
            raise Refused(decision)
        shared.standing.tokens.discard(token)

    async def refusal(self) -> Decision | None:
        """The refusal that stands, whoever was given it; the vendor need not be asked."""
        shared, now_s = self._shared, self._shared.guard.clock.monotonic_s()
        known = shared.standing.vendor_refusal(self._dataset, now_s)
        if known is not None:
            return known
        found = await shared.in_thread(partial(shared.breakers.refusal, self._dataset))
        if found is not None:
            told, _ = shared.standing.vendor.get(self._dataset, (None, 0.0))
            if told != found:
                shared.outcome.vendor.append(found)
                told = found
            shared.standing.vendor[self._dataset] = (told, now_s + LOOK_AGAIN_S)
        return found

    async def refused(self, error: VendorError, requests: Iterable[Request]) -> Decision:
        """The vendor has refused: whoever comes next is told, here and, if it is for good, in every program."""
        shared, decision = self._shared, vendor_decision(error)
        shared.outcome.vendor.append(decision)
        shared.standing.believe(self._dataset, decision, shared.guard.clock.monotonic_s())
        await shared.in_thread(partial(shared.breakers.open, self._dataset, decision))
        for request in requests:
            await shared.in_thread(partial(shared.guard.record_refusal, request, None, decision))
        return decision

    async def accepted(self) -> None:
        """The vendor has let a connection in."""
        self._shared.standing.forget(self._dataset)
        if self._shared.breakers.knows(self._dataset):
            await self._shared.in_thread(partial(self._shared.breakers.close, self._dataset))

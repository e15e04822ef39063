"""What costs money: covered, priced, decided, held, and only then asked for."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from aiohttp import web

from budget_guard.errors import LedgerError, Refused, RequestRejected, VendorError
from budget_guard.gateway.historical.answers import problem, refusal
from budget_guard.gateway.historical.batch import Batch, Unknown, unknown
from budget_guard.gateway.historical.following import Following
from budget_guard.gateway.historical.form import FormError, RangeRequest, parse_range_request
from budget_guard.gateway.historical.jobs import Jobs
from budget_guard.gateway.historical.keeping import Keeping
from budget_guard.gateway.historical.quoting import fetch_quote, with_owned
from budget_guard.gateway.historical.room import Room
from budget_guard.gateway.historical.shelf import Kept
from budget_guard.gateway.historical.transfer import Held, Keeper, Transfer
from budget_guard.gateway.outcome import vendor_decision
from budget_guard.guard.denials import unavailable
from budget_guard.guard.download import RequestHold
from budget_guard.guard.purchases import Purchases
from budget_guard.guard.quote import Quote
from budget_guard.policy.model import Stream

log = logging.getLogger(__name__)

# Programs that ask for the same job at one moment step back from each other; each time one of them gets on.
_ROUNDS = 20
_STEP_BACK_S = 0.2


class Buying:
    """The paths that cost money."""

    def __init__(self, room: Room) -> None:
        guard = room.guard
        self._room = room
        self._purchases = Purchases(guard.ledger, room.account, guard.clock)
        jobs = Jobs(room)
        self._following = Following(room, self._purchases, jobs)
        self._batch = Batch(room, self._purchases, jobs, self._following)
        self._keeping = Keeping(room)

    async def start(self) -> None:
        """Take over the batch jobs of dead programs, and remove answers that are too old."""
        await self._following.start()
        await self._keeping.start()

    async def stop(self) -> None:
        """Leave what is open to the next start."""
        await self._following.stop()

    async def get_range(self, request: web.Request, only: str | None) -> web.StreamResponse:
        """A stream of data."""
        wanted = await self._read(request, batch=False)
        if isinstance(wanted, web.Response):
            return wanted
        try:
            await self._room.in_thread(partial(self._room.guard.covering, wanted.request, only=only))
        except Refused as refused:
            return self._refused(refused)
        async with self._keeping.turn(wanted) as kept:
            if isinstance(kept, Kept):
                return await self._keeping.serve(request, kept)
            return await self._buy_range(request, wanted, only, kept)

    async def _buy_range(
        self, request: web.Request, wanted: RangeRequest, only: str | None, keeper: Keeper | None
    ) -> web.StreamResponse:
        held = await self._open(wanted, only)
        if isinstance(held, web.Response):
            return held
        if request.transport is None or request.transport.is_closing():
            await self._room.in_thread(held.release)
            raise ConnectionResetError("the client left before its request was made")
        ask = partial(self._purchases.ask, held.terms, wanted.range, wanted.canonical, "stream")
        try:
            purchase = await self._room.in_thread(ask)
        except LedgerError as error:
            held.abandon()
            return refusal(unavailable(error), status=503)
        owned = held.quote.owned
        note = "" if owned is None else f"{owned.text()}; it is bought again"
        if owned is not None:
            log.warning(
                "%s of %s: %s (historical.cache keeps answers, and gives them again for nothing)",
                wanted.range.schema,
                wanted.range.dataset,
                note,
            )
        sale = Held(wanted, held, purchase, keeper, note)
        return await Transfer(self._room, self._purchases, request, sale).run()

    async def submit_job(self, request: web.Request, only: str | None) -> web.StreamResponse:
        """A batch job: the one that was bought before, or a new one."""
        wanted = await self._read(request, batch=True)
        if isinstance(wanted, web.Response):
            return wanted
        async with self._batch.in_line(wanted.canonical):
            try:
                return await self._find_or_buy(wanted, only)
            except Refused as refused:
                return self._refused(refused)
            except VendorError as error:
                return await self._vendor_refusal(wanted, error)
            except LedgerError as error:
                return refusal(unavailable(error), status=503)
            except Unknown:
                return unknown(self._room, "the same job was submitted before, and its answer was lost")

    async def _find_or_buy(self, wanted: RangeRequest, only: str | None) -> web.StreamResponse:
        """Raises Refused, VendorError, LedgerError, Unknown."""
        guard = self._room.guard
        await self._room.in_thread(partial(guard.covering, wanted.request, only=only))
        again = guard.policy.historical.buy_again
        for _ in range(_ROUNDS):
            found = await self._batch.find(wanted, again=again)
            if isinstance(found, web.Response):
                return found
            hold = await self._hold(wanted, only, self._batch.submission(wanted))
            answer = await self._batch.submit(wanted, hold, found)
            if answer is not None:
                return answer
            await asyncio.sleep(random.uniform(0, _STEP_BACK_S))
        raise Unknown

    # --- steps --------------------------------------------------------------------------------------------

    async def _read(self, request: web.Request, *, batch: bool) -> RangeRequest | web.Response:
        form = {**request.query, **{key: str(value) for key, value in (await request.post()).items()}}
        try:
            return parse_range_request(form, batch=batch)
        except FormError as error:
            return problem(422, "budget_guard_bad_request", str(error))

    async def _open(self, wanted: RangeRequest, only: str | None) -> RequestHold | web.Response:
        try:
            return await self._hold(wanted, only)
        except Refused as refused:
            return self._refused(refused)
        except VendorError as error:
            return await self._vendor_refusal(wanted, error)

    async def _hold(
        self, wanted: RangeRequest, only: str | None, details: Mapping[str, str] | None = None
    ) -> RequestHold:
        """Cover, price, quote, approve, hold. Raises Refused, VendorError; nothing is held then."""
        room, guard, quoter = self._room, self._room.guard, self._room.terms.quoter
        stream = await room.in_thread(partial(guard.covering, wanted.request, only=only))
        price = await room.in_thread(partial(guard.historical_price, wanted.request, wanted.range))
        quote = await room.patiently(partial(fetch_quote, quoter, wanted, price))
        if price.kind == "vendor" and quote.above_list:
            room.terms.doubt_prices()
            price = await room.in_thread(partial(guard.historical_price, wanted.request, wanted.range))
            quote = replace(quote, price=price)
        quote = await room.patiently(partial(with_owned, quoter, self._purchases, quote))
        approved = await self._approved(stream, quote)
        return await room.in_thread(
            partial(guard.open_request, wanted.request, stream, quote, approved=approved, details=details)
        )

    async def _approved(self, stream: Stream, quote: Quote) -> bool:
        room = self._room
        if room.terms.approve is None:
            return False
        if not await room.in_thread(partial(room.guard.needs_approval, stream, quote)):
            return False
        return await room.patiently(partial(room.terms.approve, quote))

    def _refused(self, refused: Refused) -> web.Response:
        self._room.outcome.refused.append(refused.decision)
        return refusal(refused.decision)

    async def _vendor_refusal(self, wanted: RangeRequest, error: VendorError) -> web.Response:
        """The quote could not be had: unknown is never zero, so the request is not made."""
        if isinstance(error, RequestRejected):
            # The vendor would have refused the request itself in the same words.
            return problem(error.status or 422, error.case or "request_rejected", str(error))
        room = self._room
        decision = vendor_decision(error)
        await room.in_thread(partial(room.guard.record_refusal, wanted.request, None, decision))
        if error.status in (401, 402, 403):
            room.outcome.vendor.append(decision)
        elif error.status is None or error.status >= 500:
            room.outcome.refused.append(decision)
        status = error.status if error.status is not None and 400 <= error.status < 500 else 503
        return refusal(decision, status=status)

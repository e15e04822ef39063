"""One held request on its way: asked, passed through, counted, settled whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import aiohttp
from aiohttp import web

from budget_guard.clock import uptime_ns
from budget_guard.decisions import deny
from budget_guard.errors import LedgerError
from budget_guard.gateway.historical.answers import problem, refusal
from budget_guard.gateway.historical.counting import counter_for
from budget_guard.gateway.historical.form import RangeRequest
from budget_guard.gateway.historical.room import Room
from budget_guard.gateway.live.upstream import Endpoint, ending_allowance_bytes
from budget_guard.guard.download import RequestHold
from budget_guard.guard.purchases import Purchases
from budget_guard.ledger.model import Entry, Purchase

log = logging.getLogger(__name__)


class Keeper(Protocol):
    """Takes a copy of an answer as it passes; it may do without. None of it blocks for long."""

    async def begin(self, status: int, headers: dict[str, str]) -> None: ...

    async def add(self, data: bytes) -> None: ...

    async def end(self) -> None:
        """The answer was whole."""

    async def drop(self) -> None:
        """It was not. Safe to call at any time, and after `end`."""


class _TooLarge(ValueError):
    """More came than was quoted."""


@dataclass(frozen=True, slots=True)
class Held:
    """A request whose price is held, its row among the purchases, and who keeps a copy of the answer."""

    wanted: RangeRequest
    hold: RequestHold
    purchase: Purchase
    keeper: Keeper | None = None
    note: str = ""  # for the client's eyes, in a header


class Transfer:
    """Runs once."""

    def __init__(self, room: Room, purchases: Purchases, request: web.Request, held: Held) -> None:
        self._room = room
        self._purchases = purchases
        self._request = request
        self._held = held
        self._hold = held.hold
        wanted = held.wanted
        self._counter = counter_for(wanted.encoding, wanted.record_bytes, zstd=wanted.zstd)
        self._answered = False
        self._whole: asyncio.Task[None] | None = None  # books a whole answer, which is done once

    async def run(self) -> web.StreamResponse:
        """The answer to the client. Raises ConnectionResetError when that had begun and is not whole."""
        hold = self._hold
        try:
            await self._room.in_thread(hold.activate)
        except LedgerError as error:
            hold.abandon()
            return refusal(deny("ledger_unavailable", str(error)), status=503)
        try:
            return await self._transfer()
        except aiohttp.ClientConnectorError as error:
            await self._settle(
                partial(hold.settle, "exact", note="the vendor could not be reached"), "refused"
            )
            return problem(504, "gateway_unreachable", f"the vendor cannot be reached: {error}")
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
            await self._settle_broken(error)
            if not self._answered:
                return problem(504, "gateway_unreachable", f"the vendor cannot be reached: {error}")
            self._break_client()
            raise ConnectionResetError(str(error)) from error
        except asyncio.CancelledError as stopped:
            await asyncio.shield(self._whole or self._settle_broken(stopped))
            raise
        except BaseException:
            hold.abandon()
            raise
        finally:
            if self._held.keeper is not None:
                await self._held.keeper.drop()

    async def _transfer(self) -> web.StreamResponse:
        form = dict(self._held.wanted.form)
        most = self._hold.quote.records_max
        if most is not None:
            # The vendor itself is to stop where the hold ends. A client's own limit above that changes nothing.
            form["limit"] = str(
                most if self._held.wanted.limit is None else min(most, self._held.wanted.limit)
            )
        url = self._room.url("timeseries.get_range")
        async with self._room.asked("POST", url, data=form, paying=True) as answer:
            self._answered = True
            if answer.status not in (200, 206):
                return await self._pass_refusal(answer)
            response = await self._stream(answer)
        if self._counter is not None and not self._counter.complete:
            raise ValueError("the answer ended within a record")
        self._whole = asyncio.create_task(self._settle_whole())
        await asyncio.shield(self._whole)
        # The server writes the end of the body, and minds no client that left meanwhile: it had all of the data.
        return response

    async def _pass_refusal(self, answer: aiohttp.ClientResponse) -> web.Response:
        body = await self._room.said(answer)
        note = f"the vendor refused with {answer.status}"
        await self._settle(partial(self._hold.settle, "exact", note=note), "refused")
        self._room.note_vendor_answer(answer.status, body)
        return web.Response(status=answer.status, body=body, headers=self._room.kept_headers(answer))

    async def _stream(self, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = self._room.kept_headers(answer)
        keeper = self._held.keeper
        if keeper is not None:
            await keeper.begin(answer.status, headers)
        noted = {"X-Budget-Guard": self._held.note} if self._held.note else {}
        response = web.StreamResponse(status=answer.status, headers=headers | noted)
        await response.prepare(self._request)
        async for chunk in answer.content.iter_any():
            if self._counter is not None:
                self._hold.count(self._counter.feed(chunk), uptime_ns())
                self._check_size()
            if keeper is not None:
                await keeper.add(chunk)
            await response.write(chunk)
        return response

    def _check_size(self) -> None:
        """Raise _TooLarge when more comes than is held, or all that the vendor was allowed: that is no whole answer."""
        quote, size = self._hold.quote, self._hold.size_bytes
        most = quote.bytes_max
        if quote.records_max is not None and quote.record_bytes is not None:
            own = self._held.wanted.limit
            if own is None or own > quote.records_max:
                most = quote.records_max * quote.record_bytes - 1
        if size > most:
            raise _TooLarge(
                f"more came than was quoted ({quote.size_bytes} bytes, of which {most} at most are let through): "
                "the next request is quoted anew"
            )

    async def _settle_whole(self) -> None:
        """Book a whole answer. What it says of its records is proof, where it says anything."""
        keeper = self._held.keeper
        if self._counter is None:
            settle = partial(
                self._hold.settle_quote, "its bytes say nothing of records: settled at the quote"
            )
        else:
            how = "to the last byte" if self._held.wanted.dbn else "lines times the size of a record"
            settle = partial(self._hold.settle, "exact", note=how)
        await self._settle(settle, "bought")
        if keeper is not None:
            await keeper.end()

    async def _settle_broken(self, error: BaseException) -> None:
        """Book what flowed and what may have flowed unseen, and say loudly that nobody has the whole of it."""
        note = f"broke off: {_why(error)}"
        if isinstance(error, _TooLarge):
            self._room.terms.quoter.forget(self._hold.quote.range)
        if self._counter is None:
            settle = partial(self._hold.settle_quote, f"{note}; settled at the quote")
        else:
            unseen = self._counter.expand(ending_allowance_bytes(Endpoint()))
            settle = partial(
                self._hold.settle, "residual", residual_bytes=unseen, note=f"{note}; the residual is assumed"
            )
        wanted = self._hold.quote.range
        text = (
            f"an answer is not whole: {wanted.schema} of {wanted.dataset}, {wanted.start_utc.isoformat()} to "
            f"{wanted.end_utc.isoformat()}: {note}. A file that was being written holds only its beginning: remove it"
        )
        log.error("%s", text)
        self._room.outcome.incomplete.append(text)
        await self._settle(settle, "lost")

    async def _settle(self, settle: Callable[[], Entry], state: str) -> None:
        try:
            entry = await self._room.in_thread(settle)
        except LedgerError as error:
            self._hold.abandon()
            log.error("a request stays held until the next start settles it: %s", error)
            return
        await self._room.in_thread(partial(self._purchases.close, self._held.purchase, state, entry))
        self._room.outcome.entries.append(entry)

    def _break_client(self) -> None:
        """A broken answer must not look whole: cut the client's connection instead of ending the body."""
        if self._request.transport is not None:
            self._request.transport.abort()


def _why(error: BaseException) -> str:
    """Who broke off, in words of our own where the library's say less."""
    if isinstance(error, asyncio.CancelledError):
        return "the guard was stopped"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return "the vendor ended it before it was whole"
    if isinstance(error, TimeoutError):
        return "the vendor fell silent"
    if isinstance(error, ConnectionError):
        return f"a connection was lost ({error})"
    return str(error)

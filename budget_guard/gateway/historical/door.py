"""The historical door: an HTTP server with the vendor's paths. Free calls pass, data is priced before it is asked for.

What costs money and is not known here is refused: no path is let through because nobody thought of it.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import aiohttp
from aiohttp import web

from budget_guard.clock import uptime_ns
from budget_guard.decisions import Code, Decision, deny
from budget_guard.errors import LedgerError, Refused, RequestRejected, VendorError
from budget_guard.gateway.historical.answers import problem as _problem
from budget_guard.gateway.historical.counting import RecordCounter
from budget_guard.gateway.historical.entrance import Entrance
from budget_guard.gateway.historical.form import FormError, RangeRequest, parse_range_request
from budget_guard.gateway.historical.quoting import Quoter, fetch_quote
from budget_guard.gateway.keyring import Bearer
from budget_guard.gateway.live.upstream import Endpoint, ending_allowance_bytes
from budget_guard.gateway.outcome import Outcome, vendor_decision
from budget_guard.gateway.shared import Shared
from budget_guard.guard.download import RequestHold
from budget_guard.guard.quote import Quote
from budget_guard.ledger.model import Entry
from budget_guard.policy.model import Stream
from budget_guard.vendor.errors import error_from_answer

log = logging.getLogger(__name__)
T = TypeVar("T")

VENDOR_URL = "https://hist.databento.com"
API = "/v0/"
FREE = frozenset(
    {
        "metadata.list_publishers",
        "metadata.list_datasets",
        "metadata.list_schemas",
        "metadata.list_fields",
        "metadata.list_unit_prices",
        "metadata.get_dataset_condition",
        "metadata.get_dataset_range",
        "metadata.get_record_count",
        "metadata.get_billable_size",
        "metadata.get_cost",
        "symbology.resolve",
        "batch.list_jobs",
        "batch.list_files",
        "batch.get_job_details",
    }
)
_KEPT_HEADERS = ("Content-Type", "Retry-After", "X-Warning", "request-id")
_REFUSED_STATUS = 403
# Long answers are streamed; only silence is a failure.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=100)


@dataclass(frozen=True, slots=True)
class DoorTerms:
    """What the door needs beside what all mounts share. `approve` asks a person, and blocks; None: nobody is there."""

    quoter: Quoter
    upstream_url: str = VENDOR_URL
    approve: Callable[[Quote], bool] | None = None


class Door:
    """Serves the vendor's HTTP paths until it is stopped."""

    def __init__(self, shared: Shared, terms: DoorTerms) -> None:
        self._shared = shared
        self._guard = shared.guard
        self._terms = terms
        # For what may take long, as a vendor's answer or a person's: leases are not to wait for it.
        self._patient = ThreadPoolExecutor(max_workers=8, thread_name_prefix="budget-guard-door")
        self._session: aiohttp.ClientSession | None = None
        self._entrance = Entrance(shared, self._serve)

    @property
    def url(self) -> str:
        """The base URL that takes the vendor's place."""
        return self._entrance.url

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=True)
        await self._entrance.start(host, port)

    async def stop(self) -> None:
        """Let running requests settle, then close."""
        await self._entrance.stop()
        if self._session is not None:
            await self._session.close()
        self._patient.shutdown(wait=False, cancel_futures=True)

    def hurry(self) -> None:
        """Break off what is still running; it is settled all the same."""
        self._entrance.hurry()

    # --- routing ------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request, bearer: Bearer) -> web.StreamResponse:
        if not request.path.startswith(API):
            return _problem(404, "not_found", f"no such path: {request.path}")
        name = request.path.removeprefix(API)
        if name in FREE:
            return await self._pass(request)
        if name == "timeseries.get_range":
            return await self._get_range(request, bearer.stream)
        decision = deny(
            "not_covered",
            f"{name} is not let through: it may cost money, and this version of budget-guard cannot price it; "
            "timeseries.get_range can be priced",
        )
        self._shared.outcome.refused.append(decision)
        return _refusal(decision)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        """Hand a free call on with the real key."""
        assert self._session is not None
        url = f"{self._terms.upstream_url}{request.path_qs}"
        headers = self._authorization
        body = await request.read()
        if body:
            headers["Content-Type"] = request.content_type
        try:
            async with self._session.request(
                request.method, url, data=body or None, headers=headers
            ) as answer:
                said = self._shared.scrubber.data(await answer.read())
                return web.Response(status=answer.status, body=said, headers=self.kept_headers(answer))
        except (aiohttp.ClientError, TimeoutError) as error:
            return _problem(504, "gateway_unreachable", f"the vendor cannot be reached: {error}")

    # --- data ---------------------------------------------------------------------------------------------

    async def _get_range(self, request: web.Request, only: str | None) -> web.StreamResponse:
        form = {**request.query, **{k: str(v) for k, v in (await request.post()).items()}}
        try:
            wanted = parse_range_request(form)
        except FormError as error:
            return _problem(422, "budget_guard_bad_request", str(error))
        try:
            hold = await self._hold(wanted, only)
        except Refused as refused:
            self._shared.outcome.refused.append(refused.decision)
            return _refusal(refused.decision)
        except VendorError as error:
            return await self._vendor_refusal(wanted, error)
        if request.transport is None or request.transport.is_closing():
            await self.in_thread(hold.release)
            raise ConnectionResetError("the client left before its request was made")
        return await _Transfer(self, request, wanted, hold).run()

    async def _hold(self, wanted: RangeRequest, only: str | None) -> RequestHold:
        """Cover, price, quote, approve, hold. Raises Refused, VendorError; nothing is held then."""
        stream = await self.in_thread(partial(self._guard.covering, wanted.request, only=only))
        price = await self.in_thread(partial(self._guard.historical_price, wanted.request, wanted.range))
        quote = await self._patiently(partial(fetch_quote, self._terms.quoter, wanted, price))
        approved = await self._approved(stream, quote)
        return await self.in_thread(
            partial(self._guard.open_request, wanted.request, stream, quote, approved=approved)
        )

    async def _approved(self, stream: Stream, quote: Quote) -> bool:
        if self._terms.approve is None:
            return False
        if not await self.in_thread(partial(self._guard.needs_approval, stream, quote)):
            return False
        return await self._patiently(partial(self._terms.approve, quote))

    async def _vendor_refusal(self, wanted: RangeRequest, error: VendorError) -> web.Response:
        """The quote could not be had: unknown is never zero, so the request is not made."""
        if isinstance(error, RequestRejected):
            # The vendor would have refused the request itself in the same words.
            return _problem(error.status or 422, error.case or "request_rejected", str(error))
        decision = vendor_decision(error)
        await self.in_thread(partial(self._guard.record_refusal, wanted.request, None, decision))
        if error.status in (401, 402, 403):
            self._shared.outcome.vendor.append(decision)
        elif error.status is None or error.status >= 500:
            self._shared.outcome.refused.append(decision)
        status = error.status if error.status is not None and 400 <= error.status < 500 else 503
        return _refusal(decision, status=status)

    # --- for a transfer -----------------------------------------------------------------------------------

    @property
    def _authorization(self) -> dict[str, str]:
        """HTTP Basic with the real key as the user and no password, as the vendor wants it."""
        return {"Authorization": "Basic " + base64.b64encode(f"{self._shared.key}:".encode()).decode()}

    def ask_upstream(self, wanted: RangeRequest) -> Any:
        """The vendor's answer to a pinned request, as an async context."""
        assert self._session is not None
        url = f"{self._terms.upstream_url}{API}timeseries.get_range"
        return self._session.post(url, data=dict(wanted.form), headers=self._authorization)

    def note_vendor_answer(self, status: int, body: Any) -> None:
        """Remember a refusal by the vendor for the exit code."""
        if status in (401, 402, 403):
            self._shared.outcome.vendor.append(vendor_decision(error_from_answer(status, body)))

    def scrubbed(self, body: bytes) -> bytes:
        """What the vendor says, without the key."""
        return self._shared.scrubber.data(body)

    def kept_headers(self, answer: aiohttp.ClientResponse) -> dict[str, str]:
        """The vendor's headers that a client needs, without the key."""
        scrub = self._shared.scrubber.text
        return {name: scrub(answer.headers[name]) for name in _KEPT_HEADERS if name in answer.headers}

    @property
    def outcome(self) -> Outcome:
        return self._shared.outcome

    @property
    def unseen_bytes_max(self) -> int:
        """What may be on the wire, unread, when an answer breaks off: nothing bounds the buffers of HTTP."""
        return ending_allowance_bytes(Endpoint())

    async def in_thread(self, call: Callable[[], T]) -> T:
        return await self._shared.in_thread(call)

    async def _patiently(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._patient, call)


class _Transfer:
    """One held request on its way: asked, passed through, counted, settled whatever happens."""

    def __init__(self, door: Door, request: web.Request, wanted: RangeRequest, hold: RequestHold) -> None:
        self._door = door
        self._request = request
        self._wanted = wanted
        self._hold = hold
        self._counter = RecordCounter(zstd=wanted.zstd) if wanted.dbn else None
        self._answered = False

    async def run(self) -> web.StreamResponse:
        door, hold = self._door, self._hold
        try:
            await door.in_thread(hold.activate)
        except LedgerError as error:
            hold.abandon()
            return _refusal(deny("ledger_unavailable", str(error)), status=503)
        try:
            return await self._transfer()
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
            await self._settle_broken(f"broke off: {type(error).__name__}: {error}")
            if not self._answered:
                return _problem(504, "gateway_unreachable", f"the vendor cannot be reached: {error}")
            self._break_client()
            raise ConnectionResetError(str(error)) from error
        except asyncio.CancelledError:
            await asyncio.shield(self._settle_broken("stopped"))
            raise
        except BaseException:
            hold.abandon()
            raise

    async def _transfer(self) -> web.StreamResponse:
        async with self._door.ask_upstream(self._wanted) as answer:
            self._answered = True
            if answer.status not in (200, 206):
                return await self._pass_refusal(answer)
            response = await self._stream(answer)
        if self._counter is not None and not self._counter.complete:
            raise ValueError("the answer ended within a record")
        await self._settle_whole()
        await response.write_eof()
        return response

    async def _pass_refusal(self, answer: aiohttp.ClientResponse) -> web.Response:
        body = self._door.scrubbed(await answer.read())
        note = f"the vendor refused with {answer.status}"
        await self._settle(partial(self._hold.settle, "exact", note=note))
        self._door.note_vendor_answer(answer.status, body)
        return web.Response(status=answer.status, body=body, headers=self._door.kept_headers(answer))

    async def _stream(self, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=self._door.kept_headers(answer))
        await response.prepare(self._request)
        async for chunk in answer.content.iter_any():
            if self._counter is not None:
                self._hold.count(self._counter.feed(chunk), uptime_ns())
            await response.write(chunk)
        return response

    async def _settle_whole(self) -> None:
        if self._counter is None:
            settle = partial(self._hold.settle_quote, "not DBN: settled at the quote")
        else:
            settle = partial(self._hold.settle, "exact", note="to the last byte")
        await self._settle(settle)

    async def _settle_broken(self, note: str) -> None:
        if self._counter is None:
            settle = partial(self._hold.settle_quote, f"{note}; settled at the quote")
        else:
            unseen = self._counter.expand(self._door.unseen_bytes_max)
            settle = partial(
                self._hold.settle, "residual", residual_bytes=unseen, note=f"{note}; the residual is assumed"
            )
        await self._settle(settle)

    async def _settle(self, settle: Callable[[], Entry]) -> None:
        try:
            self._door.outcome.entries.append(await self._door.in_thread(settle))
        except LedgerError as error:
            self._hold.abandon()
            log.error("a request stays held until the next start settles it: %s", error)

    def _break_client(self) -> None:
        """A broken answer must not look whole: cut the client's connection instead of ending the body."""
        if self._request.transport is not None:
            self._request.transport.abort()


def _refusal(decision: Decision, *, status: int = _REFUSED_STATUS) -> web.Response:
    code: Code = decision.code or "not_covered"
    return _problem(status, f"budget_guard_{code}", decision.text(), payload=decision.as_json())

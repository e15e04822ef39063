"""What the parts of the historical door have in common: the way to the vendor, threads, and what came of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import aiohttp

from budget_guard.gateway.historical.quoting import Quoter
from budget_guard.gateway.outcome import Outcome, vendor_decision
from budget_guard.gateway.shared import Shared
from budget_guard.guard.guard import Guard
from budget_guard.guard.quote import Quote
from budget_guard.vendor.errors import error_from_answer, retry_after_s

T = TypeVar("T")

VENDOR_URL = "https://hist.databento.com"
API = "/v0/"
# What a client needs of the vendor's headers.
_KEPT_HEADERS = ("Content-Type", "Retry-After", "X-Warning", "request-id")
# Long answers are streamed; only silence is a failure.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=100)
# A refusal for being too fast (429) sold nothing: it is waited out, so often and so long. The client waits meanwhile.
TRIES = 3
LONGEST_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class KeepingTerms:
    """Where answers are kept, and for how long; None: for ever."""

    folder: Path
    keep: timedelta | None


@dataclass(frozen=True, slots=True)
class DoorTerms:
    """What the door needs beside what all mounts share. `approve` asks a person, and blocks; None: nobody is there.

    `pace` blocks until the vendor's limit lets one more question about metadata through. `keeping` None: answers are
    not kept. `doubt_prices` has the vendor's list read again: it has just quoted more than that says.
    """

    quoter: Quoter
    upstream_url: str = VENDOR_URL
    approve: Callable[[Quote], bool] | None = None
    pace: Callable[[], None] | None = None
    keeping: KeepingTerms | None = None
    doubt_prices: Callable[[], None] = lambda: None


class Room:
    """Belongs to one event loop, from `open` to `close`."""

    def __init__(self, shared: Shared, terms: DoorTerms) -> None:
        self.shared = shared
        self.terms = terms
        self._session: aiohttp.ClientSession | None = None
        self._paying: aiohttp.ClientSession | None = None
        # For what may take long, as a vendor's answer or a person's: leases are not to wait for it.
        self._patient = ThreadPoolExecutor(max_workers=8, thread_name_prefix="budget-guard-door")
        # Whoever waits for its turn waits here, one after the other.
        self._turns = ThreadPoolExecutor(max_workers=1, thread_name_prefix="budget-guard-pace")

    async def open(self) -> None:
        """Make the connections to the vendor possible."""
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        # A connection of its own for each request that costs money: one that was kept may have been closed meanwhile,
        # and then nobody knows whether the request had arrived.
        self._paying = aiohttp.ClientSession(
            timeout=_TIMEOUT, connector=aiohttp.TCPConnector(force_close=True, limit=0)
        )

    async def close(self) -> None:
        """Close them."""
        for session in (self._session, self._paying):
            if session is not None:
                await session.close()
        for pool in (self._patient, self._turns):
            pool.shutdown(wait=False, cancel_futures=True)

    @property
    def guard(self) -> Guard:
        return self.shared.guard

    @property
    def outcome(self) -> Outcome:
        return self.shared.outcome

    @property
    def account(self) -> str:
        return self.guard.policy.account.name

    @property
    def key_id(self) -> str:
        """Tells keys apart without showing them: another key may see another list of jobs."""
        return hashlib.sha256(f"budget-guard jobs {self.shared.key}".encode()).hexdigest()[:16]

    # --- the vendor ---------------------------------------------------------------------------------------

    def url(self, name: str) -> str:
        """A path of the vendor's by its name, as `batch.list_jobs`."""
        return f"{self.terms.upstream_url}{API}{name}"

    @asynccontextmanager
    async def asked(
        self,
        method: str,
        url: str,
        *,
        data: Mapping[str, str] | bytes | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        paying: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The vendor's answer to a question with the real key; `paying`: on a connection of its own.

        Raises aiohttp.ClientError, TimeoutError.
        """
        session = self._paying if paying else self._session
        assert session is not None
        basic = "Basic " + base64.b64encode(f"{self.shared.key}:".encode()).decode()
        own = {"Authorization": basic, "Accept-Encoding": "identity", **(headers or {})}
        for left in range(TRIES - 1, -1, -1):
            async with session.request(method, url, data=data, params=params, headers=own) as answer:
                wait_s = self._patience_s(answer) if left else None
                if wait_s is None:
                    yield answer
                    return
            await asyncio.sleep(wait_s)

    def _patience_s(self, answer: aiohttp.ClientResponse) -> float | None:
        """How long to wait before the same question is asked again; None: this is the answer."""
        if answer.status != 429:
            return None
        wait_s = retry_after_s(answer.headers, self.guard.clock.now())
        return None if wait_s is None or wait_s > LONGEST_WAIT_S else wait_s

    async def wait_for_turn(self) -> None:
        """Until the vendor's limit lets one more question about metadata through."""
        if self.terms.pace is not None:
            await self._in(self._turns, self.terms.pace)

    def kept_headers(self, answer: aiohttp.ClientResponse, *more: str) -> dict[str, str]:
        """The vendor's headers that a client needs, without the key."""
        scrub = self.shared.scrubber.text
        names = (*_KEPT_HEADERS, *more)
        return {name: scrub(answer.headers[name]) for name in names if name in answer.headers}

    async def said(self, answer: aiohttp.ClientResponse) -> bytes:
        """What the vendor says, without the key. Raises aiohttp.ClientError when it breaks off."""
        return self.shared.scrubber.data(await answer.read())

    def note_vendor_answer(self, status: int, body: bytes) -> None:
        """Remember a refusal by the vendor for the exit code."""
        if status in (401, 402, 403):
            self.outcome.vendor.append(vendor_decision(error_from_answer(status, body)))

    # --- threads ------------------------------------------------------------------------------------------

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Run what blocks for moments."""
        return await self.shared.in_thread(call)

    async def patiently(self, call: Callable[[], T]) -> T:
        """Run what may block for long."""
        return await self._in(self._patient, call)

    async def _in(self, pool: Executor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, call)

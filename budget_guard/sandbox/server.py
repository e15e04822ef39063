"""The sandbox as a whole: both doors, the bill, the faults; on a loop of yours, or on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from aiohttp import web

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.account import Account
from budget_guard.sandbox.billing.bill import Bill, write_bill
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.faults.control import Faults, parse_command
from budget_guard.sandbox.historical.http import Api
from budget_guard.sandbox.live.server import LiveProgress, LiveServer
from budget_guard.sandbox.market.model import MarketData
from budget_guard.sandbox.market.synthetic import Market
from budget_guard.sandbox.market.universe import Universe

BILL_INTERVAL_S = 0.1
LOOK_INTERVAL_S = 0.002
START_TIMEOUT_S = 30.0

T = TypeVar("T")


class _Waiter:
    """Someone on another thread who waits for the bill to come to something."""

    def __init__(self, holds: Callable[[dict[str, Any]], Any]) -> None:
        self._holds = holds
        self.found: Future[dict[str, Any]] = Future()

    def look(self, bill: dict[str, Any]) -> None:
        try:
            if self._holds(bill):
                self.found.set_result(bill)
        except Exception as error:  # noqa: BLE001 - it belongs to the one who waits
            self.found.set_exception(error)


class Sandbox:
    """A local Databento. Synthetic: no byte of it comes from a market.

    `start` and `stop` belong to one event loop. `bill`, `wait_for` (from other threads only) and the controls may be
    called from anywhere; they act on that loop. After `stop` the bill can still be read.
    """

    def __init__(self, config: SandboxConfig | None = None) -> None:
        self.config = config or SandboxConfig()
        self.live_port = 0
        self.http_port = 0
        self._faults = Faults()
        self._waiters: list[_Waiter] = []
        self._looking = False
        self._dirty = asyncio.Event()
        self._bill = Bill(self.config.clock, self._changed)
        self._account = Account(self.config)
        volumes, universe = self.config.records_per_session, Universe(self.config.products)
        history = Market(self.config.seed, volumes, universe=universe)
        live = (
            history
            if self.config.rate is None
            else Market(self.config.seed, volumes, self.config.rate, universe)
        )
        self.market: MarketData = (
            history  # what its history is made of, and at the market's own pace its live data too
        )
        self._live = LiveServer(self.config, self._account, live, self._bill, self._faults, self._changed)
        self._api = Api(self.config, self._account, history, self._bill, self._faults)
        self._runner: web.AppRunner | None = None
        self._writing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0

    @property
    def key(self) -> str:
        """The first of the configured keys."""
        return self.config.keys[0]

    @property
    def http_url(self) -> str:
        """What the client's API classes take as `gateway`."""
        return f"http://{self.config.host}:{self.http_port}"

    @property
    def live_gateway(self) -> tuple[str, int]:
        """Host and port of the live side."""
        return self.config.host, self.live_port

    async def start(self) -> None:
        """Open both ports. Raises OSError when one is taken."""
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        app = self._api.app(self._bill.as_json, self._command)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self.config.host, self.config.http_port)
            await site.start()
            self.http_port = self._runner.addresses[0][1]
            self.live_port = self._live.listen()
        except OSError:
            await self._runner.cleanup()
            raise
        if self.config.bill_path is not None:
            self._write_bill()
            self._writing = self._loop.create_task(self._keep_bill())

    async def stop(self) -> None:
        """End every connection cleanly, close both ports, write the bill for the last time."""
        await self._live.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        self._write_bill()
        self._loop = None

    def bill(self) -> dict[str, Any]:
        """The bill so far; see `Bill.as_json`."""
        return self._on_loop(self._bill.as_json)

    @property
    def live_progress(self) -> LiveProgress:
        """How far its live connections have come: for whoever moves its clock."""
        return self._on_loop(lambda: self._live.progress(ns_from_instant(self.config.clock.now())))

    def wake(self) -> None:
        """Send what is due now: where the clock is moved from outside, it would be looked at a little later."""
        self._on_loop(self._live.wake)

    def wait_for(self, holds: Callable[[dict[str, Any]], Any], timeout_s: float = 30.0) -> dict[str, Any]:
        """The first bill for which `holds` is true. Raises TimeoutError. Not from the sandbox's own thread."""
        waiter = _Waiter(holds)

        def begin() -> None:
            self._waiters.append(waiter)
            self._look()

        self._on_loop(begin)
        try:
            return waiter.found.result(timeout_s)
        except TimeoutError:
            raise TimeoutError(f"the bill did not come to that in {timeout_s} s") from None
        finally:
            self._on_loop(lambda: self._waiters.remove(waiter) if waiter in self._waiters else None)

    def close_live(self) -> int:
        """End all live connections cleanly: the record in hand, then FIN. Returns how many."""
        return self._on_loop(self._live.close_all)

    def reset_live(self) -> int:
        """Reset all live connections. Returns how many."""
        return self._on_loop(self._live.reset_all)

    def refuse_live(self, count: int = 1) -> None:
        """Close the next connections as they arrive."""
        self._faults.refuse_live = count

    def revoke_live(self, dataset: str) -> None:
        """Refuse live logins for a dataset as unlicensed; open connections go on."""
        self._account.revoke_live(dataset)

    def restore_live(self, dataset: str) -> None:
        """Undo `revoke_live`."""
        self._account.restore_live(dataset)

    def metadata_429(self, count: int = 1, retry_after_s: int = 1) -> None:
        """Answer the next metadata requests with 429 and a Retry-After header."""
        self._faults.retry_after_s = retry_after_s
        self._faults.metadata_429 = count

    def metadata_503(self, count: int = 1) -> None:
        """Answer the next metadata requests with 503 in plain text."""
        self._faults.metadata_503 = count

    def break_history(self, after_bytes: int) -> None:
        """Abort the next download after that many record bytes."""
        self._faults.break_history_after = after_bytes

    def _command(self, body: Any) -> dict[str, Any]:
        """Carry out a JSON command. Raises UnknownCommand."""
        name, arguments = parse_command(body)
        result = getattr(self, name)(**arguments)
        return {"did": name} if result is None else {"did": name, "connections": result}

    def _on_loop(self, act: Callable[[], T]) -> T:
        loop = self._loop
        if loop is None or threading.get_ident() == self._thread_id:
            return act()

        async def call() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(call(), loop).result()

    def _changed(self) -> None:
        self._dirty.set()
        if self._waiters and not self._looking and self._loop is not None:
            self._looking = True
            self._loop.call_later(LOOK_INTERVAL_S, self._look)

    def _look(self) -> None:
        """Let everyone who waits for something in the bill see it."""
        self._looking = False
        bill = self._bill.as_json() if self._waiters else {}
        for waiter in list(self._waiters):
            waiter.look(bill)
            if waiter.found.done():
                self._waiters.remove(waiter)

    async def _keep_bill(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            self._write_bill()
            await asyncio.sleep(BILL_INTERVAL_S)

    def _write_bill(self) -> None:
        if self.config.bill_path is not None:
            write_bill(self.config.bill_path, self._bill.as_json())


@contextmanager
def running_sandbox(config: SandboxConfig | None = None) -> Iterator[Sandbox]:
    """A sandbox on a thread of its own, for as long as the block lasts."""
    sandbox = Sandbox(config)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sandbox", daemon=True)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(START_TIMEOUT_S)

    try:
        run(sandbox.start())
        try:
            yield sandbox
        finally:
            run(sandbox.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        with suppress(RuntimeError):
            loop.close()

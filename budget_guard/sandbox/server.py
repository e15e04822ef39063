"""The sandbox as a whole: both doors, the bill, the faults; on a loop of yours, or on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.account import Account
from budget_guard.sandbox.billing.bill import Bill, write_bill
from budget_guard.sandbox.billing.routes import add_routes
from budget_guard.sandbox.billing.usage import Frequency, usage_json
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.faults.control import Action, UnknownCommand, parse_command
from budget_guard.sandbox.faults.engine import Faults
from budget_guard.sandbox.faults.model import Fault
from budget_guard.sandbox.faults.names import Names
from budget_guard.sandbox.faults.requests import request_faults
from budget_guard.sandbox.faults.switches import Switches
from budget_guard.sandbox.historical.http import Api
from budget_guard.sandbox.live.server import LiveProgress, LiveServer
from budget_guard.sandbox.market.model import MarketData
from budget_guard.sandbox.market.recorded import Recording
from budget_guard.sandbox.market.synthetic import Market
from budget_guard.sandbox.market.universe import Universe
from budget_guard.sandbox.replay import replayed

if TYPE_CHECKING:
    import databento

BILL_INTERVAL_S = 0.1
LOOK_INTERVAL_S = 0.002
START_TIMEOUT_S = 30.0
LAST_ANSWER_S = 0.05

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
    """A local Databento. Synthetic, unless it replays recorded files: no other byte of it comes from a market.

    `start` and `stop` belong to one event loop. `bill`, `wait_for` (from other threads only) and the controls may be
    called from anywhere; they act on that loop. After `stop` the bill can still be read.
    """

    def __init__(self, config: SandboxConfig | None = None) -> None:
        self.config = config or SandboxConfig()
        self.recording = Recording(self.config.replay) if self.config.replay else None
        if self.recording is not None:
            self.config = replayed(self.config, self.recording)
        self.live_port = 0
        self.http_port = 0
        self._faults = Faults(self.config.clock)
        self._names = Names(tuple(self.config.prices), self.config.keys)
        self._waiters: list[_Waiter] = []
        self._looking = False
        self._look_s = 0.0
        self._dirty = asyncio.Event()
        self._bill = Bill(
            self.config.clock,
            self._changed,
            rules=self.config.billing,
            plans=self.config.plans,
            credits=self.config.credits,
        )
        self._account = Account(self.config)
        # What both doors sell: its history up to now and its live data from now on
        self.market: MarketData = self.recording or Market(
            self.config.seed,
            self.config.records_per_session,
            self.config.rate,
            Universe(self.config.products),
            since_ns=ns_from_instant(self.config.clock.now()),
        )
        self._live = LiveServer(
            self.config, self._account, self.market, self._bill, self._faults, self._changed
        )
        self._api = Api(self.config, self._account, self.market, self._bill, self._faults)
        self._switches = Switches(self._faults, self._account, self._bill, self._live, self._open_http)
        self._switching: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
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

    def live(self, **options: Any) -> databento.Live:
        """The vendor's own live client, pointed here; `options` are those of its constructor."""
        from budget_guard.sandbox.clients import live_client

        return live_client(self.key, *self.live_gateway, **options)

    def historical(self, key: str | None = None) -> databento.Historical:
        """The vendor's own historical client, pointed here."""
        from budget_guard.sandbox.clients import historical_client

        return historical_client(key or self.key, self.http_url)

    async def start(self) -> None:
        """Open both ports. Raises OSError when one is taken, BillError when the bill on disk cannot be gone on with."""
        if self.config.bill_path is not None:
            self._bill.keep_at(self.config.bill_path)
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        app = self._api.app(self._command)
        add_routes(app, self._bill)
        app.middlewares.append(request_faults(self._faults, self.config.clock))
        app.router.add_get("/control", self._list_faults)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            self._site = web.TCPSite(self._runner, self.config.host, self.config.http_port)
            await self._site.start()
            self.http_port = self._runner.addresses[0][1]
            self.live_port = self._live.listen()
        except OSError:
            await self._runner.cleanup()
            self._bill.finish()
            raise
        for fault in self.config.faults:
            self._faults.arm(fault)
        self._switching = self._loop.create_task(self._switches.keep())
        if self.config.bill_path is not None:
            self._write_bill()
            self._writing = self._loop.create_task(self._keep_bill())

    async def stop(self) -> None:
        """End every connection cleanly, close both ports, write the bill for the last time."""
        if self._switching is not None:
            self._switching.cancel()
            await asyncio.gather(self._switching, return_exceptions=True)
        await self._live.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        self._bill.finish()
        self._write_bill()
        if self.recording is not None:
            self.recording.close()
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

        def look() -> None:
            self._switches.look()
            self._live.wake()

        self._on_loop(look)

    def usage(self, month: str | None = None, frequency: Frequency = "hour") -> list[dict[str, Any]]:
        """The vendor's usage records of a billing month, `YYYY-MM`, or of all; see `billing.usage`."""
        return usage_json(self._on_loop(lambda: self._bill.usage(month, frequency)))

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

    def close_live(self, dataset: str | None = None) -> int:
        """End all live connections (of a dataset) cleanly: the record in hand, then FIN. Returns how many."""
        return self._on_loop(lambda: self._live.close_all(dataset))

    def reset_live(self, dataset: str | None = None) -> int:
        """Reset all live connections (of a dataset). Returns how many."""
        return self._on_loop(lambda: self._live.reset_all(dataset))

    def arm(self, fault: Fault | str, **said: Any) -> int:
        """Let something go wrong: a fault, or its name and words, as `arm("silence", after="1000 records")`.

        `for` and `from`, which Python keeps for itself, are written `for_` and `from_`. Returns its number. Raises
        UnknownCommand.
        """
        if isinstance(fault, str):
            told = {word.removesuffix("_"): value for word, value in said.items()}
            found = parse_command({"do": fault, **told}, self._names)
            if not isinstance(found, Fault):
                raise UnknownCommand(f"{fault} is done at once: call the method of that name")
            fault = found
        elif said:
            raise TypeError("a fault is told all it needs when it is made")
        if problems := self._names.problems(fault):
            raise UnknownCommand("; ".join(f"{fault.do}: {word}: {text}" for word, text in problems))
        armed = fault
        return self._on_loop(lambda: self._faults.arm(armed))

    def drop(self, fault: str | None = None, dataset: str | None = None, number: int | None = None) -> int:
        """Call faults off: by number, of a kind, of a dataset, or all. Returns how many."""
        return self._on_loop(lambda: self._faults.drop(fault, dataset, number))

    def faults(self) -> dict[str, Any]:
        """What is armed, and what has struck; as `GET /control`."""
        return self._on_loop(self._faults.listing)

    def refuse_live(self, count: int = 1) -> None:
        """Close the next connections as they arrive."""
        self.arm("refuse_live", times=count)

    def revoke_live(self, dataset: str) -> None:
        """Refuse live logins for a dataset as unlicensed; open connections go on."""
        self.arm("revoke_live", dataset=dataset)

    def restore_live(self, dataset: str) -> None:
        """Undo `revoke_live`."""
        self.drop("revoke_live", dataset)

    def metadata_429(self, count: int = 1, retry_after_s: int = 1) -> None:
        """Answer the next metadata requests with 429 and a Retry-After header."""
        self.arm("metadata_429", times=count, retry_after_s=retry_after_s)

    def metadata_503(self, count: int = 1) -> None:
        """Answer the next metadata requests with 503 in plain text."""
        self.arm("metadata_503", times=count)

    def break_history(self, after_bytes: int) -> None:
        """Abort the next download after that many record bytes."""
        self.arm("break_history", after=f"{after_bytes} bytes")

    def _command(self, body: Any) -> dict[str, Any]:
        """Carry out a JSON command. Raises UnknownCommand."""
        told = parse_command(body, self._names)
        if isinstance(told, Fault):
            return {"did": body["do"], "number": self._faults.arm(told)}
        if told.name == "list":
            return self._faults.listing()
        return self._act(told)

    def _act(self, action: Action) -> dict[str, Any]:
        result = getattr(self, action.name)(**action.arguments)
        what = "faults" if action.name == "drop" else "connections"
        return {"did": action.name} if result is None else {"did": action.name, what: result}

    async def _list_faults(self, request: web.Request) -> web.Response:
        return web.json_response(self._faults.listing())

    async def _open_http(self, open_: bool) -> None:
        """Listen again on the same port, or stop listening and drop every connection. Raises OSError."""
        if self._runner is None:
            return
        if open_:
            self._site = web.TCPSite(self._runner, self.config.host, self.http_port)
            await self._site.start()
        elif self._site is not None:
            await self._site.stop()
            # Whoever asked for it is answered first.
            await asyncio.sleep(LAST_ANSWER_S)
            for connection in list(self._runner.server.connections if self._runner.server else ()):
                connection.force_close()

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
            self._loop.call_later(max(LOOK_INTERVAL_S, self._look_s), self._look)

    def _look(self) -> None:
        """Let everyone who waits for something in the bill see it."""
        self._looking = False
        began_s = 0.0 if self._loop is None else self._loop.time()
        bill = self._bill.as_json() if self._waiters else {}
        for waiter in list(self._waiters):
            waiter.look(bill)
            if waiter.found.done():
                self._waiters.remove(waiter)
        # A bill that takes long to make is looked at less often.
        self._look_s = 0.0 if self._loop is None else 9 * (self._loop.time() - began_s)

    async def _keep_bill(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            self._write_bill()
            # A long bill is written less often: nine tenths of the time are left for everything else.
            await asyncio.sleep(max(BILL_INTERVAL_S, 9 * (loop.time() - began_s)))

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

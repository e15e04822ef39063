"""A vendor's HTTP side made of answers that a test writes down: for what the sandbox never says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class FakeVendor:
    """Quotes `size_bytes` for `cost_usd`; data requests get `answer`. `forms` holds what was asked for."""

    answer: Answer
    size_bytes: int = 1000 * 56
    cost_usd: float = 0.5
    forms: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        name = request.path.removeprefix("/v0/")
        if name == "metadata.list_unit_prices":
            return web.json_response([{"mode": "historical", "unit_prices": {"mbo": 1.8}}])
        if name == "metadata.get_billable_size":
            return web.json_response(self.size_bytes)
        if name == "metadata.get_cost":
            return web.json_response(self.cost_usd)
        self.forms.append({key: str(value) for key, value in (await request.post()).items()})
        return await self.answer(request)

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = "http://{}:{}".format(*runner.addresses[0][:2])
        return runner


@contextmanager
def running_vendor(vendor: FakeVendor) -> Iterator[FakeVendor]:
    """The vendor on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(vendor.start(), loop).result(10)
    try:
        yield vendor
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

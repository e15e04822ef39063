"""The historical door: an HTTP server with the vendor's paths. Free calls pass, data is priced before it is asked for.

What costs money and is not known here is refused: no path is let through because nobody thought of it.
"""

from __future__ import annotations

from aiohttp import web

from budget_guard.decisions import deny
from budget_guard.gateway.historical.answers import problem, refusal
from budget_guard.gateway.historical.buying import Buying
from budget_guard.gateway.historical.entrance import Entrance
from budget_guard.gateway.historical.files import ALL_FILES, Files, job_in_path
from budget_guard.gateway.historical.passing import FREE, Passing
from budget_guard.gateway.historical.room import API, VENDOR_URL, DoorTerms, Room
from budget_guard.gateway.keyring import Bearer
from budget_guard.gateway.shared import Shared

__all__ = ["API", "VENDOR_URL", "Door", "DoorTerms"]


class Door:
    """Serves the vendor's HTTP paths until it is stopped."""

    def __init__(self, shared: Shared, terms: DoorTerms) -> None:
        self._room = Room(shared, terms)
        self._passing = Passing(self._room)
        self._files = Files(self._room)
        self._buying = Buying(self._room)
        self._entrance = Entrance(shared, self._serve)

    @property
    def url(self) -> str:
        """The base URL that takes the vendor's place."""
        return self._entrance.url

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen. Raises OSError when the port is taken."""
        await self._room.open()
        await self._entrance.start(host, port)
        await self._buying.start()

    async def stop(self) -> None:
        """Let running requests settle, then close."""
        await self._entrance.stop()
        await self._buying.stop()
        await self._room.close()

    def hurry(self) -> None:
        """Break off what is still running; it is settled all the same."""
        self._entrance.hurry()

    async def _serve(self, request: web.Request, bearer: Bearer) -> web.StreamResponse:
        job_id = job_in_path(request.rel_url.raw_path)
        if job_id is not None and request.method in ("GET", "HEAD"):
            return await self._files.fetch_file(request, job_id)
        if not request.path.startswith(API):
            return problem(404, "not_found", f"no such path: {request.path}")
        name = request.path.removeprefix(API)
        if name in FREE:
            return await self._passing.serve(request)
        if name == "batch.list_files":
            return await self._files.list_files(request)
        if request.path == ALL_FILES and request.method in ("GET", "HEAD"):
            return await self._files.fetch_all(request)
        if name == "timeseries.get_range":
            return await self._buying.get_range(request, bearer.stream)
        if name == "batch.submit_job":
            return await self._buying.submit_job(request, bearer.stream)
        decision = deny(
            "not_covered",
            f"{name} is not let through: it may cost money, and this version of budget-guard cannot price it",
        )
        self._room.outcome.refused.append(decision)
        return refusal(decision)

"""What goes wrong with HTTP requests and downloads: a middleware before every path of the vendor's."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from budget_guard.clock import Clock
from budget_guard.sandbox.faults.engine import Armed, Faults
from budget_guard.sandbox.incoming import form_of, key_of

# The vendor's names for its errors, by status; those left out are plain text, as a proxy's are.
_CASES = {
    401: ("auth_authentication_failed", "Authentication failed."),
    402: ("account_insufficient_funds", "The account has insufficient funds."),
    403: ("license_not_found_unauthorized", "A license is required to access this data."),
    410: ("batch_job_expired", "The files of this job have expired."),
    422: ("data_end_after_available_end", "The `end` of the query is after the available range."),
    429: ("rate_limit_exceeded", "Too many requests; slow down."),
}
_PLAIN = {
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_TICK_S = 0.005


@dataclass(frozen=True, slots=True)
class Strain:
    """What goes wrong with one download: where it breaks off, and how fast it may go."""

    clock: Clock
    stop_after: int | None = None
    bytes_per_s: int | None = None

    async def write(self, write: Callable[[bytes], Awaitable[None]], data: bytes) -> None:
        """Hand bytes on, as slowly as they may go."""
        if self.bytes_per_s is None:
            await write(data)
            return
        step = max(1, self.bytes_per_s // 20)
        for start in range(0, len(data), step):
            part = data[start : start + step]
            await write(part)
            await wait(self.clock, len(part) / self.bytes_per_s)


def strain(faults: Faults, clock: Clock, dataset: str, key: str) -> Strain:
    """What goes wrong with the download that begins now; counted as struck."""
    broken = faults.take("break_history", dataset, key)
    slow = faults.take("slow_history", dataset, key)
    after = broken.fault.after if broken else None
    return Strain(
        clock,
        None if after is None else int(after.amount),
        None if slow is None else slow.fault.args["bytes_per_s"],
    )


def batch_fate(faults: Faults, dataset: str, key: str) -> str | None:
    """`queued` for a job that is to stay so, `failed` for one that is to fail, `lost` for one of which no answer tells.

    None for one that is to be done.
    """
    for fate in ("queued", "failed", "lost"):
        if faults.take(f"batch_{fate}", dataset, key) is not None:
            return fate
    return None


async def wait(clock: Clock, seconds: float) -> None:
    """Wait on the sandbox's clock, which may be one that only moves when told to."""
    due_s = clock.monotonic_s() + seconds
    while clock.monotonic_s() < due_s:  # noqa: ASYNC110 - nobody tells when it moves
        await asyncio.sleep(_TICK_S)


def request_faults(faults: Faults, clock: Clock) -> Middleware:
    """A middleware that delays, refuses, resets and garbles what it is told to; `/bill` and `/control` never."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/v0/"):
            return await handler(request)
        dataset, key = await _whose(request)
        # A job's files lie under batch/download/.
        path = request.path.removeprefix("/v0/").replace("/", ".")

        def take(do: str, **told: str) -> Armed | None:
            return _take(faults, do, path, dataset, key, told)

        if (late := take("http_delay")) is not None:
            await wait(clock, late.fault.args["ms"] / 1000)
        if take("http_reset") is not None:
            _reset(request)
            return web.Response(status=500)
        if (refused := take("http_error")) is not None:
            return _error(refused.fault.args)
        response = await handler(request)
        if isinstance(response, web.Response) and response.status == 200 and isinstance(response.body, bytes):
            _garble(response, response.body, path, take)
        return response

    return middleware


def _take(
    faults: Faults, do: str, path: str, dataset: str | None, key: str | None, told: dict[str, str]
) -> Armed | None:
    """The request fault of a kind that strikes this path and was told so, counted as struck."""
    for armed in faults.ready(do, dataset, key):
        args = armed.fault.args
        on = args.get("on", "all")
        if any(args[name] != value for name, value in told.items()):
            continue
        if (on == "all" or path == on or path.startswith(f"{on}.")) and faults.strike(armed, path):
            return armed
    return None


def _garble(response: web.Response, body: bytes, path: str, take: Callable[..., Armed | None]) -> None:
    """Change an answer that is right into one that is wrong."""
    method = path.removeprefix("metadata.")
    said: Any = json.loads(body) if path.startswith("metadata.") else None
    if method == "list_unit_prices" and (gap := take("missing_price")) is not None:
        for mode in said:
            mode["unit_prices"].pop(gap.fault.args["schema"], None)
    if isinstance(said, int | float) and (wrong := take("wrong_number", answer=method)) is not None:
        factor = wrong.fault.args["factor"]
        said = float(said) * float(factor) if isinstance(said, float) else int(said * factor)
    if said is not None:
        response.body = json.dumps(said).encode()
    if take("unparsable") is not None:
        response.body = body[: len(body) // 2] + b"\xff"


def _error(args: Any) -> web.Response:
    status, text = args["status"], args["text"]
    retry_after_s = args["retry_after_s"]
    if status == 429 and retry_after_s is None:
        retry_after_s = 1
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    if status not in _CASES:
        return web.Response(status=status, text=text or _PLAIN.get(status, "Error"), headers=headers)
    case, message = _CASES[status]
    detail = {
        "case": case,
        "message": text or message,
        "status_code": status,
        "docs": "https://databento.com/docs/api-reference-historical/basics/errors",
        "payload": {},
    }
    return web.json_response({"detail": detail}, status=status, headers=headers)


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is None:
        return
    found = transport.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _whose(request: web.Request) -> tuple[str | None, str | None]:
    """The dataset that a request names, and its key; None for what it does not say."""
    dataset = request.query.get("dataset")
    if dataset is None and request.method == "POST":
        dataset = (await form_of(request)).get("dataset")
    return dataset, key_of(request) or None

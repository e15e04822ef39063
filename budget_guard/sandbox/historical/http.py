"""The HTTP side as an application: the routing table, authentication, errors, and the sandbox's own two paths."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler as WebHandler

from budget_guard.sandbox.account import Account
from budget_guard.sandbox.billing.bill import Bill
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.faults.control import Faults, UnknownCommand
from budget_guard.sandbox.historical import batch, metadata, symbology, timeseries
from budget_guard.sandbox.historical.context import Call, Context, Fields, Route
from budget_guard.sandbox.historical.ranges import History
from budget_guard.sandbox.historical.request import ApiError
from budget_guard.sandbox.market.model import MarketData

Command = Callable[[Any], dict[str, Any]]

# Each has `routes(context)`.
PARTS = (metadata, symbology, timeseries, batch)
_BODY_MAX = 1024 * 1024


class Api:
    """Answers the vendor's paths from the market model."""

    def __init__(
        self, config: SandboxConfig, account: Account, market: MarketData, bill: Bill, faults: Faults
    ) -> None:
        self._context = Context(config, account, market, History(market), bill, faults)

    def app(self, bill_json: Callable[[], dict[str, Any]], command: Command) -> web.Application:
        """All routes. `bill_json` and `command` serve the sandbox's own two."""
        app = web.Application(client_max_size=_BODY_MAX)
        for part in PARTS:
            for route in part.routes(self._context):
                for method in route.methods:
                    app.router.add_route(method, route.path, self._handler(route))
        app.router.add_get("/bill", _bill_handler(bill_json))
        app.router.add_post("/control", _control_handler(command))
        return app

    def _handler(self, route: Route) -> WebHandler:
        async def handle(request: web.Request) -> web.StreamResponse:
            if route.limit == "metadata" and (fault := self._metadata_fault()) is not None:
                return fault
            try:
                key = self._key_of(request)
                return await route.handler(Call(request, key, await _fields(request)))
            except ApiError as error:
                return _error_response(error)

        return handle

    def _metadata_fault(self) -> web.Response | None:
        status = self._context.faults.take_metadata_fault()
        if status == 429:
            error = ApiError(429, "rate_limit_exceeded", "Too many requests; slow down.")
            return _error_response(error, {"Retry-After": str(self._context.faults.retry_after_s)})
        if status == 503:
            return web.Response(status=503, text="Service Unavailable")
        return None

    def _key_of(self, request: web.Request) -> str:
        """The API key, from HTTP Basic authentication's user name. Raises ApiError."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            key = base64.b64decode(token, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            key = ""
        if scheme.lower() != "basic" or not self._context.account.knows(key):
            raise ApiError(401, "auth_authentication_failed", "Authentication failed.")
        return key


async def _fields(request: web.Request) -> Fields:
    fields = dict(request.query)
    if request.method == "POST":
        fields |= {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    return fields


def _error_response(error: ApiError, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response(error.body(), status=error.status, headers=headers)


def _bill_handler(bill_json: Callable[[], dict[str, Any]]) -> WebHandler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.json_response(bill_json())

    return handle


def _control_handler(command: Command) -> WebHandler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return web.json_response(command(await request.json()))
        except (UnknownCommand, ValueError) as error:
            return web.json_response({"detail": str(error)}, status=400)

    return handle

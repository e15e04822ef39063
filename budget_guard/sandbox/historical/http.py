"""The HTTP side as an application: the routing table, authentication, errors, and the sandbox's own control."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler as WebHandler

from budget_guard.sandbox.account import Account
from budget_guard.sandbox.billing.bill import Bill
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.faults.control import UnknownCommand
from budget_guard.sandbox.faults.engine import Faults
from budget_guard.sandbox.historical import batch, metadata, symbology, timeseries
from budget_guard.sandbox.historical.context import Call, Context, Fields, Route
from budget_guard.sandbox.historical.errors import ApiError, GatewayTimeout
from budget_guard.sandbox.historical.limits import TooManyRequests, Turnstile
from budget_guard.sandbox.historical.parameters import check_fields
from budget_guard.sandbox.historical.ranges import History
from budget_guard.sandbox.incoming import UNREADABLE, form_of, key_of
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
        self._turnstile = Turnstile(config.limits, config.clock)

    def app(self, command: Command) -> web.Application:
        """All routes but the bill's. `command` serves the sandbox's own control."""
        app = web.Application(client_max_size=_BODY_MAX, middlewares=[_in_the_vendors_shape])
        app.on_response_prepare.append(_add_number)
        app.on_cleanup.append(self._end)
        for part in PARTS:
            for route in part.routes(self._context):
                for method in route.methods:
                    app.router.add_route(method, route.path, self._handler(route))
        app.router.add_post("/control", _control_handler(command))
        return app

    async def _end(self, app: web.Application) -> None:
        for act in self._context.at_stop:
            act()
        self._context.at_stop.clear()

    def _handler(self, route: Route) -> WebHandler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                with self._turnstile.admitted(request.remote or "", route.limit):
                    call = Call(request, self._key_of(request), await _fields(request))
                    check_fields(route.parameters, call.fields)
                    response = await route.handler(call)
                    if not response.prepared:
                        response.headers.update(call.headers)
                    return response
            except ApiError as error:
                return _error_response(error, "query" if request.method == "GET" else "body")

        return handle

    def _key_of(self, request: web.Request) -> str:
        """The API key, from HTTP Basic authentication's user name. Raises ApiError."""
        key = key_of(request)
        if not self._context.account.knows(key):
            raise ApiError(401, "auth_authentication_failed", "Authentication failed.")
        if self._context.account.locked:
            raise ApiError(403, "auth_account_locked", "The account is locked.")
        return key


async def _fields(request: web.Request) -> Fields:
    fields = dict(request.query)
    if request.method == "POST":
        fields |= await form_of(request)
    return fields


def _error_response(error: ApiError, place: str = "body") -> web.Response:
    if isinstance(error, GatewayTimeout):
        page = f"<html><head><title>{error}</title></head><body><h1>{error}</h1></body></html>"
        return web.Response(status=error.status, text=page, content_type="text/html")
    response = web.json_response(error.body(place), status=error.status)
    if isinstance(error, TooManyRequests):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


@web.middleware
async def _in_the_vendors_shape(request: web.Request, handler: WebHandler) -> web.StreamResponse:
    """Unknown paths, wrong methods and bodies that are too large, as JSON."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return web.json_response({"detail": error.reason}, status=error.status, headers=allow)


async def _add_number(request: web.Request, response: web.StreamResponse) -> None:
    """The number of an answer, which the vendor's clients show with an error."""
    response.headers["request-id"] = uuid.uuid4().hex


def _control_handler(command: Command) -> WebHandler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return web.json_response(command(await request.json()))
        except RecursionError:
            return web.json_response({"detail": "nested too deeply"}, status=400)
        except UnknownCommand as error:
            return web.json_response({"detail": str(error)}, status=400)
        except UNREADABLE:
            said = 'this is no JSON: send an object, as {"do": "silence", "for": "10s"}'
            return web.json_response({"detail": said}, status=400)

    return handle

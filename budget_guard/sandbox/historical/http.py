"""The HTTP side: the vendor's metadata, symbology and timeseries paths, and the sandbox's `/bill` and `/control`."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.account import Account
from budget_guard.sandbox.billing.bill import Bill, exact_cost
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.faults.control import Faults, UnknownCommand
from budget_guard.sandbox.historical.ranges import History
from budget_guard.sandbox.historical.request import (
    ApiError,
    Query,
    available_end_ns,
    check_dataset,
    check_query,
    parse_day,
    parse_symbols,
    time_text,
)
from budget_guard.sandbox.market.model import MarketData
from budget_guard.sandbox.market.sessions import date_of_ns

Fields = Mapping[str, str]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Command = Callable[[Any], dict[str, Any]]

MODES = ("historical", "historical-streaming", "live")
_BODY_MAX = 1024 * 1024


class Api:
    """Answers the vendor's paths from the market model."""

    def __init__(
        self, config: SandboxConfig, account: Account, market: MarketData, bill: Bill, faults: Faults
    ) -> None:
        self._config = config
        self._account = account
        self._bill = bill
        self._faults = faults
        self._history = History(market)

    def app(self, bill_json: Callable[[], dict[str, Any]], command: Command) -> web.Application:
        """All routes. `bill_json` and `command` serve the sandbox's own two."""
        app = web.Application(client_max_size=_BODY_MAX)
        metadata = {
            "list_datasets": self._list_datasets,
            "list_schemas": self._list_schemas,
            "list_unit_prices": self._list_unit_prices,
            "get_dataset_range": self._get_dataset_range,
            "get_record_count": self._get_record_count,
            "get_billable_size": self._get_billable_size,
            "get_cost": self._get_cost,
        }
        for name, answer in metadata.items():
            _add(app, f"/v0/metadata.{name}", self._json(answer, metadata=True))
        _add(app, "/v0/symbology.resolve", self._json(self._resolve, metadata=False))
        _add(app, "/v0/timeseries.get_range", self._get_range)
        app.router.add_get("/bill", _bill_handler(bill_json))
        app.router.add_post("/control", _control_handler(command))
        return app

    def _json(self, answer: Callable[[Fields], Any], *, metadata: bool) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            if metadata and (fault := self._metadata_fault()) is not None:
                return fault
            try:
                self._key_of(request)
                return web.json_response(answer(await _fields(request)))
            except ApiError as error:
                return _error_response(error)

        return handle

    def _metadata_fault(self) -> web.Response | None:
        status = self._faults.take_metadata_fault()
        if status == 429:
            error = ApiError(429, "rate_limit_exceeded", "Too many requests; slow down.")
            return _error_response(error, {"Retry-After": str(self._faults.retry_after_s)})
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
        if scheme.lower() != "basic" or not self._account.knows(key):
            raise ApiError(401, "auth_authentication_failed", "Authentication failed.")
        return key

    def _list_datasets(self, fields: Fields) -> list[str]:
        return self._account.datasets()

    def _list_schemas(self, fields: Fields) -> list[str]:
        return self._account.schemas(check_dataset(fields, self._config))

    def _list_unit_prices(self, fields: Fields) -> list[dict[str, Any]]:
        dataset = check_dataset(fields, self._config)
        return [
            {
                "mode": mode,
                "unit_prices": {
                    schema: float(price) for schema, price in self._account.unit_prices(dataset, mode).items()
                },
            }
            for mode in MODES
        ]

    def _get_dataset_range(self, fields: Fields) -> dict[str, Any]:
        dataset = check_dataset(fields, self._config)
        bounds = {
            "start": time_text(ns_from_instant(self._config.history_start)),
            "end": time_text(available_end_ns(self._config)),
        }
        return {**bounds, "schema": dict.fromkeys(self._account.schemas(dataset), bounds)}

    def _get_record_count(self, fields: Fields) -> int:
        return self._history.count(check_query(fields, self._config))

    def _get_billable_size(self, fields: Fields) -> int:
        return self._history.size(check_query(fields, self._config))

    def _get_cost(self, fields: Fields) -> float:
        query = check_query(fields, self._config)
        price = self._account.historical_price(query.dataset, query.schema)
        if price is None:
            raise _unpriced(query)
        return float(exact_cost(self._history.size(query), price))

    def _resolve(self, fields: Fields) -> dict[str, Any]:
        dataset = check_dataset(fields, self._config)
        first = parse_day(fields, "start_date")
        last = parse_day(fields, "end_date", date_of_ns(ns_from_instant(self._config.clock.now())))
        stypes = fields.get("stype_in") or "raw_symbol", fields.get("stype_out") or "instrument_id"
        return self._history.resolve(dataset, parse_symbols(fields), *stypes, first, last)

    async def _get_range(self, request: web.Request) -> web.StreamResponse:
        try:
            key = self._key_of(request)
            query, compression = self._check_download(key, await _fields(request))
            download = self._history.open(query)
        except ApiError as error:
            return _error_response(error)
        line = self._bill.open("historical", key, query.dataset)
        line.subscribe(query.schema, self._account.historical_price(query.dataset, query.schema))
        response = web.StreamResponse(status=206 if download.partial else 200)
        response.content_type = "application/octet-stream"
        await response.prepare(request)
        stop_after = self._faults.take_break()
        ended = "lost"
        try:
            for size, frame in download.frames(compression, stop_after):
                # Counted before it is written: the bill may be ahead of the network, never behind.
                if size:
                    line.add(query.schema, size)
                await response.write(frame)
            if stop_after is not None and line.size_bytes == stop_after:
                ended = "broken off by the sandbox"
                await _break_off(request)
            else:
                await response.write_eof()
                ended = "complete"
        except ConnectionError:
            ended = "lost"
        finally:
            line.close(ended)
        return response

    def _check_download(self, key: str, fields: Fields) -> tuple[Query, str]:
        query = check_query(fields, self._config)
        if not self._account.may_history(key, query.dataset):
            raise ApiError(
                403,
                "license_not_found_unauthorized",
                f"A license is required to access {query.dataset} historical data.",
            )
        if self._account.unpaid:
            raise ApiError(402, "account_insufficient_funds", "The account has insufficient funds.")
        encoding, compression = fields.get("encoding") or "csv", fields.get("compression") or "none"
        if encoding != "dbn" or compression not in ("none", "zstd"):
            raise ApiError(
                422,
                "validation_failed",
                f"{encoding} with {compression}: the sandbox sends dbn, with none or zstd",
            )
        if self._account.historical_price(query.dataset, query.schema) is None:
            raise _unpriced(query)
        return query, compression


def _unpriced(query: Query) -> ApiError:
    return ApiError(422, "data_price_unknown", f"{query.dataset} {query.schema} has no published price")


async def _break_off(request: web.Request) -> None:
    """Abort the connection once everything counted has left for the kernel."""
    transport = request.transport
    if transport is None:
        return
    # A transport tells that it is empty through its protocol's flow control only, which is aiohttp's own.
    while transport.get_write_buffer_size() > 0 and not transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    transport.abort()


def _add(app: web.Application, path: str, handler: Handler) -> None:
    """The vendor answers the same path to GET with a query and to POST with a form."""
    app.router.add_get(path, handler)
    app.router.add_post(path, handler)


async def _fields(request: web.Request) -> Fields:
    fields = dict(request.query)
    if request.method == "POST":
        fields |= {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    return fields


def _error_response(error: ApiError, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response(error.body(), status=error.status, headers=headers)


def _bill_handler(bill_json: Callable[[], dict[str, Any]]) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.json_response(bill_json())

    return handle


def _control_handler(command: Command) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return web.json_response(command(await request.json()))
        except (UnknownCommand, ValueError) as error:
            return web.json_response({"detail": str(error)}, status=400)

    return handle

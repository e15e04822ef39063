"""`timeseries.get_range`: a range of data, sent and billed as it is sent."""

from __future__ import annotations

import asyncio

from aiohttp import web

from budget_guard.sandbox.historical.context import EITHER, Call, Context, Fields, Route
from budget_guard.sandbox.historical.request import ApiError, Query, check_query, unpriced


def routes(context: Context) -> list[Route]:
    """The paths of `timeseries.*`."""

    async def get_range(call: Call) -> web.StreamResponse:
        return await _get_range(context, call)

    return [Route(EITHER, "/v0/timeseries.get_range", get_range, "timeseries")]


async def _get_range(context: Context, call: Call) -> web.StreamResponse:
    query, compression = _check_download(context, call.key, call.fields)
    download = context.history.open(query)
    line = context.bill.open("historical", call.key, query.dataset)
    line.subscribe(query.schema, context.account.historical_price(query.dataset, query.schema))
    response = web.StreamResponse(status=206 if download.partial else 200)
    response.content_type = "application/octet-stream"
    await response.prepare(call.request)
    stop_after = context.faults.take_break()
    ended = "lost"
    try:
        for size, frame in download.frames(compression, stop_after):
            # Counted before it is written: the bill may be ahead of the network, never behind.
            if size:
                line.add(query.schema, size)
            await response.write(frame)
        if stop_after is not None and line.size_bytes == stop_after:
            ended = "broken off by the sandbox"
            await _break_off(call.request)
        else:
            await response.write_eof()
            ended = "complete"
    except ConnectionError:
        ended = "lost"
    finally:
        line.close(ended)
    return response


def _check_download(context: Context, key: str, fields: Fields) -> tuple[Query, str]:
    query = check_query(fields, context.config)
    if not context.account.may_history(key, query.dataset):
        raise ApiError(
            403,
            "license_not_found_unauthorized",
            f"A license is required to access {query.dataset} historical data.",
        )
    if context.account.unpaid:
        raise ApiError(402, "account_insufficient_funds", "The account has insufficient funds.")
    encoding, compression = fields.get("encoding") or "csv", fields.get("compression") or "none"
    if encoding != "dbn" or compression not in ("none", "zstd"):
        raise ApiError(
            422,
            "validation_failed",
            f"{encoding} with {compression}: the sandbox sends dbn, with none or zstd",
        )
    if context.account.historical_price(query.dataset, query.schema) is None:
        raise unpriced(query.dataset, query.schema)
    return query, compression


async def _break_off(request: web.Request) -> None:
    """Abort the connection once everything counted has left for the kernel."""
    transport = request.transport
    if transport is None:
        return
    # A transport tells that it is empty through its protocol's flow control only, which is aiohttp's own.
    while transport.get_write_buffer_size() > 0 and not transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    transport.abort()

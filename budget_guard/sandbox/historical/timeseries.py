"""`timeseries.get_range`: a range of data, sent and billed as it is sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from budget_guard.sandbox.historical.context import EITHER, Call, Context, Route
from budget_guard.sandbox.historical.encodings import Form, parse_form
from budget_guard.sandbox.historical.request import ApiError, Query, check_query, unpriced


def routes(context: Context) -> list[Route]:
    """The paths of `timeseries.*`."""

    async def get_range(call: Call) -> web.StreamResponse:
        return await _get_range(context, call)

    return [Route(EITHER, "/v0/timeseries.get_range", get_range, "timeseries")]


@dataclass(frozen=True, slots=True)
class Purchase:
    """Data that a key may buy: a range, the symbology of its mappings, and how it is to be written."""

    query: Query
    stype_out: str
    form: Form


def check_purchase(context: Context, call: Call) -> Purchase:
    """What a call wants to buy, by the stream or as a batch. Raises ApiError where it may not, or cannot, be sold."""
    query = check_query(call.fields, context.config)
    stype_out = call.fields.get("stype_out") or "instrument_id"
    # One side must be the instrument id, which is what records carry: the client maps symbols by it.
    if stype_out != "instrument_id" and (stype_out, query.stype_in) != ("raw_symbol", "instrument_id"):
        raise ApiError(
            422,
            "symbology_invalid_request",
            f"stype_in {query.stype_in!r} cannot be resolved to stype_out {stype_out!r} in data; "
            "to instrument_id, or from instrument_id to raw_symbol",
        )
    form = parse_form(call.fields)
    if not context.account.may_history(call.key, query.dataset):
        raise ApiError(
            403,
            "license_not_found_unauthorized",
            f"A license is required to access {query.dataset} historical data.",
        )
    if context.account.unpaid:
        raise ApiError(402, "account_insufficient_funds", "The account has insufficient funds.")
    if context.account.historical_price(query.dataset, query.schema) is None:
        raise unpriced(query.dataset, query.schema)
    return Purchase(query, stype_out, form)


async def _get_range(context: Context, call: Call) -> web.StreamResponse:
    purchase = check_purchase(context, call)
    query = purchase.query
    download = context.history.open(query, purchase.stype_out)
    line = context.bill.open("historical", call.key, query.dataset)
    line.subscribe(query.schema, context.account.historical_price(query.dataset, query.schema))
    response = web.StreamResponse(status=206 if download.partial else 200)
    response.content_type = purchase.form.content_type
    await response.prepare(call.request)
    stop_after = context.faults.take_break()
    ended = "lost"
    try:
        for size, frame in download.frames(purchase.form, stop_after):
            # Counted before it is written: the bill may be ahead of the network, never behind.
            if size:
                line.add(query.schema, size)
            await response.write(frame)
            # A reader who keeps up would let nobody else have a turn.
            await asyncio.sleep(0)
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


async def _break_off(request: web.Request) -> None:
    """Abort the connection once everything counted has left for the kernel."""
    transport = request.transport
    if transport is None:
        return
    # A transport tells that it is empty through its protocol's flow control only, which is aiohttp's own.
    while transport.get_write_buffer_size() > 0 and not transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    transport.abort()

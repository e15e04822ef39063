"""`timeseries.get_range`: a range of data, sent and billed as it is sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from budget_guard.clock import instant_from_ns
from budget_guard.sandbox.faults.requests import strain
from budget_guard.sandbox.historical.context import EITHER, Call, Context, Route
from budget_guard.sandbox.historical.encodings import Form, parse_form
from budget_guard.sandbox.historical.parameters import DATA
from budget_guard.sandbox.historical.request import Query, check_conversion, check_download, check_stype


def routes(context: Context) -> list[Route]:
    """The paths of `timeseries.*`."""

    async def get_range(call: Call) -> web.StreamResponse:
        return await _get_range(context, call)

    return [Route(EITHER, "/v0/timeseries.get_range", get_range, "timeseries", DATA)]


@dataclass(frozen=True, slots=True)
class Purchase:
    """Data that a key may buy: a range, the symbology of its mappings, and how it is to be written."""

    query: Query
    stype_out: str
    form: Form


def check_purchase(context: Context, call: Call) -> Purchase:
    """What a call wants to buy, by the stream or as a batch. Raises ApiError where it may not, or cannot, be sold."""
    query = check_download(context, call)
    stype_out = check_stype(call.fields, "stype_out", "instrument_id")
    check_conversion(query.dataset, query.stype_in, stype_out)
    form = parse_form(call.fields)
    return Purchase(query, stype_out, form)


async def _get_range(context: Context, call: Call) -> web.StreamResponse:
    purchase = check_purchase(context, call)
    query = purchase.query
    download = await asyncio.to_thread(context.history.open, query, purchase.stype_out)
    line = context.bill.open("historical", call.key, query.dataset)
    price = context.account.historical_price(query.dataset, query.schema)
    line.subscribe(query.schema, price, instant_from_ns(query.start_ns))
    response = web.StreamResponse(status=206 if download.partial else 200, headers=call.headers)
    response.content_type = purchase.form.content_type
    await response.prepare(call.request)
    wrong = strain(context.faults, context.config.clock, query.dataset, call.key)
    ended = "lost"
    try:
        frames = download.frames(purchase.form, wrong.stop_after)
        # Made on another thread: live data and every other answer go on meanwhile.
        while (made := await asyncio.to_thread(next, frames, None)) is not None:
            size, frame = made
            # Counted before it is written: the bill may be ahead of the network, never behind.
            if size:
                line.add(query.schema, size)
            await wrong.write(response.write, frame)
        if wrong.stop_after is not None and line.size_bytes == wrong.stop_after:
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

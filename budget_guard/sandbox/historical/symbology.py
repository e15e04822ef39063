"""`symbology.resolve`: what symbols stand for, and when."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from budget_guard.sandbox.historical.context import EITHER, Call, Context, Route, json_handler
from budget_guard.sandbox.historical.errors import ApiError
from budget_guard.sandbox.historical.parameters import DATASET, RETRY, Parameter
from budget_guard.sandbox.historical.request import (
    check_conversion,
    check_dataset,
    check_stype,
    parse_day,
    parse_symbols,
    utc_midnight_ns,
)

PARAMETERS = (
    DATASET,
    Parameter("symbols", required=True),
    Parameter("stype_in", required=True),
    Parameter("stype_out", required=True),
    Parameter("start_date", required=True),
    Parameter("end_date"),
    Parameter("symbol"),
    RETRY,
)


def routes(context: Context) -> list[Route]:
    """The paths of `symbology.*`."""
    handler = json_handler(lambda call: _resolve(context, call))
    return [Route(EITHER, "/v0/symbology.resolve", handler, "symbology", PARAMETERS)]


async def _resolve(context: Context, call: Call) -> dict[str, Any]:
    """Not finding a symbol is no error here: the answer lists it, with 200."""
    fields = call.fields
    dataset = check_dataset(fields, context.config)
    stype_in, stype_out = check_stype(fields, "stype_in"), check_stype(fields, "stype_out")
    check_conversion(dataset, stype_in, stype_out)
    symbols = parse_symbols(fields, stype_in, context.config.timeout_symbols)
    first = parse_day(fields, "start_date")
    last = parse_day(fields, "end_date", first + timedelta(days=1))
    if first >= last:
        raise ApiError(
            422,
            "data_date_range_start_on_or_after_end",
            f"Invalid date range query, `start_date` {first} cannot be on or after `end_date` {last}.",
            {"start_date": first.isoformat(), "end_date": last.isoformat()},
        )
    context.horizon.check_days(call.key, dataset, utc_midnight_ns(first), utc_midnight_ns(last))
    resolve = context.history.resolve
    return await asyncio.to_thread(resolve, dataset, symbols, stype_in, stype_out, first, last)

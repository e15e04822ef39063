"""`symbology.resolve`: what symbols stand for, and when."""

from __future__ import annotations

from typing import Any

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.historical.context import EITHER, Call, Context, Route, json_handler
from budget_guard.sandbox.historical.request import check_dataset, parse_day, parse_symbols
from budget_guard.sandbox.market.sessions import date_of_ns


def routes(context: Context) -> list[Route]:
    """The paths of `symbology.*`."""
    return [
        Route(
            EITHER,
            "/v0/symbology.resolve",
            json_handler(lambda call: _resolve(context, call)),
            "symbology",
        )
    ]


def _resolve(context: Context, call: Call) -> dict[str, Any]:
    fields = call.fields
    dataset = check_dataset(fields, context.config)
    first = parse_day(fields, "start_date")
    last = parse_day(fields, "end_date", date_of_ns(ns_from_instant(context.config.clock.now())))
    stypes = fields.get("stype_in") or "raw_symbol", fields.get("stype_out") or "instrument_id"
    return context.history.resolve(dataset, parse_symbols(fields), *stypes, first, last)

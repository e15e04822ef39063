"""`metadata.*`: what is on offer, how far it reaches, what it weighs and what it costs. All of it is free."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import databento_dbn as dbn

from budget_guard.clock import instant_from_ns
from budget_guard.sandbox.billing.amounts import exact_cost
from budget_guard.sandbox.billing.plans import price_under
from budget_guard.sandbox.historical.context import EITHER, GET, Call, Context, Route, json_handler
from budget_guard.sandbox.historical.errors import not_one_of, unpriced
from budget_guard.sandbox.historical.parameters import DATASET, DATES, RANGE, RETRY, Parameter
from budget_guard.sandbox.historical.publishers import PUBLISHERS
from budget_guard.sandbox.historical.reach import Reach, time_text
from budget_guard.sandbox.historical.request import (
    Query,
    check_dataset,
    check_query,
    check_schema,
    parse_day,
    utc_midnight_ns,
)
from budget_guard.sandbox.market.sessions import date_of_ns, sessions_between
from budget_guard.sandbox.market.universe import calendar_of

MODES = ("historical", "historical-streaming", "live")
ENCODINGS = ("dbn", "csv", "json")

_DAY_NS = 86_400 * 10**9
_COARSE_NS = 600 * 10**9
_COARSE_DAYS = ("definition", "status")
# The record of each schema, from which its fields are listed.
_RECORDS: Mapping[str, Any] = {
    "mbo": dbn.MBOMsg,
    "mbp-1": dbn.MBP1Msg,
    "mbp-10": dbn.MBP10Msg,
    "tbbo": dbn.MBP1Msg,
    "trades": dbn.TradeMsg,
    "bbo-1s": dbn.BBOMsg,
    "bbo-1m": dbn.BBOMsg,
    "ohlcv-1s": dbn.OHLCVMsg,
    "ohlcv-1m": dbn.OHLCVMsg,
    "ohlcv-1h": dbn.OHLCVMsg,
    "ohlcv-1d": dbn.OHLCVMsg,
    "definition": dbn.InstrumentDefMsg,
    "statistics": dbn.StatMsg,
    "imbalance": dbn.ImbalanceMsg,
    "status": dbn.StatusMsg,
    "cmbp-1": dbn.CMBP1Msg,
    "cbbo-1s": dbn.CBBOMsg,
    "cbbo-1m": dbn.CBBOMsg,
    "tcbbo": dbn.CMBP1Msg,
}
_C_TYPES = {
    f"{letter}{size}": f"{name}{8 * size}_t"
    for letter, name in (("u", "uint"), ("i", "int"))
    for size in (1, 2, 4, 8)
}


def routes(context: Context) -> list[Route]:
    """The paths of `metadata.*`."""
    answers = Metadata(context)
    fields = (
        Parameter("schema", required=True),
        Parameter("encoding", required=True),
        Parameter("dataset"),
        RETRY,
    )
    table = (
        (GET, answers.list_publishers, (RETRY,)),
        (GET, answers.list_datasets, (*DATES, RETRY)),
        (GET, answers.list_schemas, (DATASET, RETRY)),
        (GET, answers.list_fields, fields),
        (GET, answers.list_unit_prices, (DATASET, RETRY)),
        (GET, answers.get_dataset_range, (DATASET, RETRY)),
        (GET, answers.get_dataset_condition, (DATASET, *DATES, RETRY)),
        (EITHER, answers.get_record_count, RANGE),
        (EITHER, answers.get_billable_size, RANGE),
        (EITHER, answers.get_cost, (*RANGE, Parameter("mode"))),
    )
    return [
        Route(methods, f"/v0/metadata.{answer.__name__}", json_handler(answer), "metadata", parameters)
        for methods, answer, parameters in table
    ]


class Metadata:
    """The answers, each named as its path is."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._config = context.config
        self._account = context.account
        self._history = context.history

    def list_publishers(self, call: Call) -> list[dict[str, Any]]:
        offered = self._account.datasets()
        return [asdict(publisher) for publisher in PUBLISHERS if publisher.dataset in offered]

    def list_datasets(self, call: Call) -> list[str]:
        """Everything with data within the dates, whatever the key may use; the end date is excluded."""
        first = parse_day(call.fields, "start_date", date.min)
        last = parse_day(call.fields, "end_date", date.max)
        horizon = self._context.horizon
        return [
            dataset
            for dataset in self._account.datasets()
            if first < last and _overlaps(horizon.published_of(dataset), first, last)
        ]

    def list_schemas(self, call: Call) -> list[str]:
        return self._account.schemas(check_dataset(call.fields, self._config))

    def list_fields(self, call: Call) -> list[dict[str, str]]:
        """DBN's fields in their order in the record; those of text in the order of its columns."""
        schema, encoding = check_schema(call.fields), call.fields["encoding"]
        if encoding not in ENCODINGS:
            raise not_one_of("encoding", ENCODINGS)
        if call.fields.get("dataset"):
            check_dataset(call.fields, self._config)
        record = _RECORDS[schema]
        types = {name: _c_type(kind) for name, kind in record._dtypes if not name.startswith("_")}
        names = list(types) if encoding == "dbn" else record._ordered_fields
        return [{"name": name, "type": types[name]} for name in names]

    def list_unit_prices(self, call: Call) -> list[dict[str, Any]]:
        """USD per GiB by mode and schema; what nobody knows the price of is left out."""
        dataset = check_dataset(call.fields, self._config)
        return [
            {
                "mode": mode,
                "unit_prices": {
                    schema: float(price) for schema, price in self._account.unit_prices(dataset, mode).items()
                },
            }
            for mode in MODES
        ]

    def get_dataset_range(self, call: Call) -> dict[str, Any]:
        """As far as the key may see: the whole, and each schema's own range."""
        dataset = check_dataset(call.fields, self._config)
        horizon = self._context.horizon
        schemas = {
            schema: _range_json(horizon.of(call.key, dataset, schema))
            for schema in self._account.schemas(dataset)
        }
        return {**_range_json(horizon.of(call.key, dataset)), "schema": schemas}

    async def get_dataset_condition(self, call: Call) -> list[dict[str, str | None]]:
        return await asyncio.to_thread(self.conditions, call)

    def conditions(self, call: Call) -> list[dict[str, str | None]]:
        """Every day of trading between two dates, both included; today's is pending until it is over.

        It may take a second, as the exchange's calendar is read for it.
        """
        dataset = check_dataset(call.fields, self._config)
        reach = self._context.horizon.published_of(dataset)
        today = date_of_ns(reach.end_ns)
        first = max(parse_day(call.fields, "start_date", date.min), date_of_ns(reach.start_ns))
        last = min(parse_day(call.fields, "end_date", date.max), today)
        known = self._config.conditions.get(dataset, {})
        days = []
        for day in _trading_days(dataset, first, last):
            condition = known.get(day, "available" if day < today else "pending")
            changed = None if condition == "missing" else min(day + timedelta(days=1), today).isoformat()
            days.append({"date": day.isoformat(), "condition": condition, "last_modified_date": changed})
        return days

    async def get_record_count(self, call: Call) -> int:
        return await asyncio.to_thread(self._history.count, check_query(self._context, call))

    async def get_billable_size(self, call: Call) -> int:
        return await self._size(check_query(self._context, call))

    async def get_cost(self, call: Call) -> float:
        """USD at list price; `mode` is taken and changes nothing, as the vendor has deprecated it.

        With `quote_discounts`, at the price that the bill would have: nothing for what a flat plan includes.
        """
        query = check_query(self._context, call)
        mode = call.fields.get("mode") or MODES[1]
        if mode not in MODES:
            raise not_one_of("mode", MODES)
        price = self._account.historical_price(query.dataset, query.schema)
        if price is None:
            raise unpriced(query.dataset, query.schema)
        if self._config.quote_discounts:
            plan, now = self._config.plans.get(query.dataset), self._config.clock.now()
            start = instant_from_ns(query.start_ns)
            price = price_under(plan, "historical", query.schema, price, now, start).usd or Decimal(0)
        return float(exact_cost(await self._size(query), price))

    async def _size(self, query: Query) -> int:
        """Counted on another thread: live data and every other answer go on meanwhile."""
        return await asyncio.to_thread(self._history.size, self._as_sized(query))

    def _as_sized(self, query: Query) -> Query:
        """What the vendor weighs: with `coarse_sizes`, from one boundary of its index to another."""
        if not self._config.coarse_sizes:
            return query
        step_ns = _DAY_NS if query.schema in _COARSE_DAYS else _COARSE_NS
        end_ns = query.end_ns + -query.end_ns % step_ns
        return replace(query, start_ns=query.start_ns - query.start_ns % step_ns, end_ns=end_ns)


def _overlaps(reach: Reach, first: date, last: date) -> bool:
    """Whether there is data on the days `[first, last)`."""
    return first <= date_of_ns(reach.end_ns) and last > date_of_ns(reach.start_ns)


def _range_json(reach: Reach) -> dict[str, str]:
    return {"start": time_text(reach.start_ns), "end": time_text(reach.end_ns)}


def _c_type(kind: str) -> str:
    """A numpy type as C spells it: the vendor's lists do."""
    if kind in _C_TYPES:
        return _C_TYPES[kind]
    return "char" if kind == "S1" else f"char[{kind[1:]}]"


def _trading_days(dataset: str, first: date, last: date) -> list[date]:
    """The UTC days on which a dataset's market is open at some time."""
    start_ns, end_ns = utc_midnight_ns(first), utc_midnight_ns(last) + _DAY_NS
    days = {
        day
        for session in sessions_between(calendar_of(dataset), start_ns, end_ns)
        for day in (date_of_ns(session.start_ns), date_of_ns(session.end_ns - 1))
    }
    return sorted(day for day in days if first <= day <= last)

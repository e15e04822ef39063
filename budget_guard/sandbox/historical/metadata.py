"""`metadata.*`: what is on offer, how far it reaches, what it weighs and what it costs."""

from __future__ import annotations

from typing import Any

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.billing.bill import exact_cost
from budget_guard.sandbox.historical.context import EITHER, Call, Context, Route, json_handler
from budget_guard.sandbox.historical.request import (
    available_end_ns,
    check_dataset,
    check_query,
    time_text,
    unpriced,
)

MODES = ("historical", "historical-streaming", "live")


def routes(context: Context) -> list[Route]:
    """The paths of `metadata.*`."""
    answers = Metadata(context)
    return [
        Route(EITHER, f"/v0/metadata.{answer.__name__}", json_handler(answer), "metadata")
        for answer in (
            answers.list_datasets,
            answers.list_schemas,
            answers.list_unit_prices,
            answers.get_dataset_range,
            answers.get_record_count,
            answers.get_billable_size,
            answers.get_cost,
        )
    ]


class Metadata:
    """The answers, each named as its path is."""

    def __init__(self, context: Context) -> None:
        self._config = context.config
        self._account = context.account
        self._history = context.history

    def list_datasets(self, call: Call) -> list[str]:
        return self._account.datasets()

    def list_schemas(self, call: Call) -> list[str]:
        return self._account.schemas(check_dataset(call.fields, self._config))

    def list_unit_prices(self, call: Call) -> list[dict[str, Any]]:
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
        dataset = check_dataset(call.fields, self._config)
        bounds = {
            "start": time_text(ns_from_instant(self._config.history_start)),
            "end": time_text(available_end_ns(self._config)),
        }
        return {**bounds, "schema": dict.fromkeys(self._account.schemas(dataset), bounds)}

    def get_record_count(self, call: Call) -> int:
        return self._history.count(check_query(call.fields, self._config))

    def get_billable_size(self, call: Call) -> int:
        return self._history.size(check_query(call.fields, self._config))

    def get_cost(self, call: Call) -> float:
        query = check_query(call.fields, self._config)
        price = self._account.historical_price(query.dataset, query.schema)
        if price is None:
            raise unpriced(query.dataset, query.schema)
        return float(exact_cost(self._history.size(query), price))

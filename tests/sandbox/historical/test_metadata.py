"""The catalogue, its days and its quotes, beyond what every answer has in common."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from databento.common.publishers import Publisher
from databento.historical.api.metadata import MetadataHttpAPI
from databento_dbn import InstrumentDefMsg, MBOMsg, Schema

from budget_guard.clock import ManualClock
from budget_guard.sandbox.config import FlatPlan
from budget_guard.sandbox.historical.publishers import PUBLISHERS
from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.prices import DEFAULT_PRICES
from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.sandbox.historical.desk import NOW, config

NQ: dict[str, Any] = {"dataset": "GLBX.MDP3", "symbols": ["NQ.v.0"], "stype_in": "continuous"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(config()) as running:
        yield running


@pytest.fixture
def api(sandbox: Sandbox) -> MetadataHttpAPI:
    return api_of(sandbox)


def api_of(sandbox: Sandbox) -> MetadataHttpAPI:
    return MetadataHttpAPI(key=sandbox.key, gateway=sandbox.http_url)


def test_publishers_are_the_vendors(api: MetadataHttpAPI) -> None:
    """Of every dataset on offer all that the official client knows, word for word."""
    known = [
        {
            "publisher_id": publisher.to_int(),
            "dataset": str(publisher.dataset),
            "venue": str(publisher.venue),
            "description": publisher.description,
        }
        for publisher in Publisher
        if str(publisher.dataset) in DEFAULT_PRICES
    ]
    assert sorted(api.list_publishers(), key=lambda row: row["publisher_id"]) == known
    assert len(PUBLISHERS) == len(known)


def test_publishers_of_what_is_not_on_offer_are_not_listed() -> None:
    """A sandbox with one dataset has its publishers alone."""
    prices = {"GLBX.MDP3": DEFAULT_PRICES["GLBX.MDP3"]}
    with running_sandbox(config(prices=prices)) as sandbox:
        assert [row["publisher_id"] for row in api_of(sandbox).list_publishers()] == [1]


@pytest.mark.parametrize(
    ("start", "end", "listed"),
    [
        (None, None, True),
        ("2026-11-20", "2026-11-21", True),
        ("2026-11-21", None, False),
        ("2010-06-06", "2010-06-07", True),
        ("2010-06-05", "2010-06-06", False),
        (None, "2010-06-06", False),
        ("2026-11-20", "2026-11-20", False),
    ],
)
def test_datasets_are_those_with_data_within_the_dates(
    api: MetadataHttpAPI, start: str | None, end: str | None, listed: bool
) -> None:
    """From the first day on, the end excluded; all of them, whatever the key is licensed for."""
    assert api.list_datasets(start, end) == (sorted(DEFAULT_PRICES) if listed else [])


@pytest.mark.parametrize("schema", sorted(SPECS))
@pytest.mark.parametrize("encoding", ["dbn", "csv", "json"])
def test_every_schemas_fields_are_listed(api: MetadataHttpAPI, schema: str, encoding: str) -> None:
    """All that its records have but what is reserved; text has no length, and begins with its index."""
    fields = {field["name"]: field["type"] for field in api.list_fields(Schema.from_str(schema), encoding)}
    dtype = SPECS[schema].dtype
    assert dtype.names is not None
    carried = {name for name in dtype.names if not name.startswith("_")}
    if encoding == "dbn":
        assert set(fields) == carried
        assert list(fields)[:4] == ["length", "rtype", "publisher_id", "instrument_id"]
    else:
        assert set(fields) == carried - {"length"}
        assert next(iter(fields)) == SPECS[schema].index_field


def test_fields_have_the_types_of_c(api: MetadataHttpAPI) -> None:
    """As the vendor's example of trades has them."""
    assert api.list_fields("trades", "dbn") == [
        {"name": name, "type": kind}
        for name, kind in (
            ("length", "uint8_t"),
            ("rtype", "uint8_t"),
            ("publisher_id", "uint16_t"),
            ("instrument_id", "uint32_t"),
            ("ts_event", "uint64_t"),
            ("price", "int64_t"),
            ("size", "uint32_t"),
            ("action", "char"),
            ("side", "char"),
            ("flags", "uint8_t"),
            ("depth", "uint8_t"),
            ("ts_recv", "uint64_t"),
            ("ts_in_delta", "int32_t"),
            ("sequence", "uint32_t"),
        )
    ]
    types = {field["name"]: field["type"] for field in api.list_fields("definition", "dbn")}
    length = dict(InstrumentDefMsg._dtypes)["raw_symbol"].removeprefix("S")
    assert types["raw_symbol"] == f"char[{length}]"
    columns = [field["name"] for field in api.list_fields("mbo", "csv")]
    assert columns == MBOMsg._ordered_fields


def test_conditions_are_of_trading_days_both_ends_included(api: MetadataHttpAPI) -> None:
    """CME's week begins on Sunday evening and leaves Saturday out; a single day is asked for by naming it twice."""
    days = api.get_dataset_condition("GLBX.MDP3", "2026-11-12", "2026-11-16")
    assert [day["date"] for day in days] == ["2026-11-12", "2026-11-13", "2026-11-15", "2026-11-16"]
    assert {day["condition"] for day in days} == {"available"}
    assert [day["date"] for day in api.get_dataset_condition("OPRA.PILLAR", "2026-07-10", "2026-07-13")] == [
        "2026-07-10",
        "2026-07-13",
    ]
    (only,) = api.get_dataset_condition("GLBX.MDP3", "2026-11-12", "2026-11-12")
    assert only == {"date": "2026-11-12", "condition": "available", "last_modified_date": "2026-11-13"}


def test_today_is_pending_and_tomorrow_is_not_there(api: MetadataHttpAPI) -> None:
    """Without an end the days go to the last one that there is data of; without a start from the first."""
    assert api.get_dataset_condition("GLBX.MDP3", "2026-11-20", "2026-12-24") == [
        {"date": "2026-11-20", "condition": "pending", "last_modified_date": "2026-11-20"}
    ]
    every = api.get_dataset_condition("GLBX.MDP3")
    assert (every[0]["date"], every[-1]["date"]) == ("2010-06-06", "2026-11-20")


def test_days_of_reduced_quality_are_said_to_be() -> None:
    """Degraded days have data and were changed, missing ones have no date of change."""
    conditions: dict[str, Any] = {
        "GLBX.MDP3": {date(2026, 11, 12): "degraded", date(2026, 11, 13): "missing"},
    }
    with running_sandbox(config(conditions=conditions)) as sandbox:
        days = api_of(sandbox).get_dataset_condition("GLBX.MDP3", "2026-11-11", "2026-11-13")
    assert [(day["condition"], day["last_modified_date"]) for day in days] == [
        ("available", "2026-11-12"),
        ("degraded", "2026-11-13"),
        ("missing", None),
    ]


def test_a_range_is_that_of_the_key() -> None:
    """Without a live licence it ends earlier, for every schema and the whole."""
    with running_sandbox(config(live_entitlements=frozenset({"OPRA.PILLAR"}))) as sandbox:
        cme = api_of(sandbox).get_dataset_range("GLBX.MDP3")
        options = api_of(sandbox).get_dataset_range("OPRA.PILLAR")
    assert cme["start"] == "2010-06-06T00:00:00.000000000Z"
    assert cme["end"] == "2026-11-20T13:00:00.000000000Z"
    assert cme["schema"]["ohlcv-1d"]["end"] == "2026-11-20T00:00:00.000000000Z"  # type: ignore[index]
    assert options["end"] == "2026-11-20T21:00:00.000000000Z"


@pytest.mark.parametrize(
    ("schema", "asked", "weighed"),
    [
        ("trades", ("2026-11-19T14:33", "2026-11-19T14:41"), ("2026-11-19T14:30", "2026-11-19T14:50")),
        ("trades", ("2026-11-19T14:30", "2026-11-19T14:50"), ("2026-11-19T14:30", "2026-11-19T14:50")),
        ("definition", ("2026-11-18T14:30", "2026-11-18T14:50"), ("2026-11-18", "2026-11-19")),
        ("status", ("2026-11-18", "2026-11-18T00:00:01"), ("2026-11-18", "2026-11-19")),
    ],
)
def test_coarse_sizes_reach_from_boundary_to_boundary(
    api: MetadataHttpAPI, schema: str, asked: tuple[str, str], weighed: tuple[str, str]
) -> None:
    """As the vendor's size and cost do: ten minutes, or days for definition and status; the count stays exact."""

    def figures(api: MetadataHttpAPI, times: tuple[str, str]) -> tuple[int, float, int]:
        query = {**NQ, "schema": schema, "start": times[0], "end": times[1]}
        return api.get_billable_size(**query), api.get_cost(**query), api.get_record_count(**query)

    with running_sandbox(config(coarse_sizes=True)) as coarse:
        size, cost, count = figures(api_of(coarse), asked)
    assert (size, cost) == figures(api, weighed)[:2]
    assert count == figures(api, asked)[2]
    assert size >= figures(api, asked)[0]


def test_quotes_are_list_prices_unless_plans_are_respected() -> None:
    """As measured by default; as documented with the switch: nothing for what a plan includes as a whole."""
    plans = {"GLBX.MDP3": FlatPlan(history_days={"trades": 30})}
    recent = {**NQ, "schema": "trades", "start": "2026-11-19T14:30", "end": "2026-11-19T14:40"}
    old = recent | {"start": "2026-10-20T14:30", "end": "2026-10-20T14:40"}
    across = recent | {"start": "2026-10-21T14:30"}
    with running_sandbox(config(plans=plans)) as sandbox:
        api = api_of(sandbox)
        listed = [api.get_cost(**query) for query in (recent, old, across)]
    with running_sandbox(config(plans=plans, quote_discounts=True)) as sandbox:
        api = api_of(sandbox)
        quoted = [api.get_cost(**query) for query in (recent, old, across)]
    assert all(cost > 0 for cost in listed)
    assert quoted == [0, listed[1], listed[2]]


def test_the_deprecated_mode_changes_nothing(api: MetadataHttpAPI) -> None:
    """Live is not quoted by it either."""
    query = {**NQ, "schema": "trades", "start": "2026-11-19T14:30", "end": "2026-11-19T14:40"}
    plain = api.get_cost(**query)
    for mode in ("live", "historical", "historical-streaming"):
        with pytest.warns(DeprecationWarning, match="mode"):
            assert api.get_cost(**query, mode=mode) == plain > 0


def test_a_dataset_with_a_price_is_a_dataset_with_schemas(api: MetadataHttpAPI) -> None:
    """What is listed as a schema has fields, a range and a price, where one is known."""
    for dataset in api.list_datasets():
        schemas = api.list_schemas(dataset)
        assert set(api.get_dataset_range(dataset)["schema"]) == set(schemas)
        prices = api.list_unit_prices(dataset)
        assert [row["mode"] for row in prices] == ["historical", "historical-streaming", "live"]
        priced = {
            schema for schema in schemas if DEFAULT_PRICES[dataset].historical_price(schema) is not None
        }
        assert set(prices[0]["unit_prices"]) == priced
        for schema, price in prices[0]["unit_prices"].items():
            assert Decimal(repr(price)) == DEFAULT_PRICES[dataset].historical_price(schema)


def test_all_of_this_follows_the_sandboxs_clock() -> None:
    """An hour later the range ends an hour later."""
    clock = ManualClock(NOW)
    with running_sandbox(config(clock=clock)) as sandbox:
        clock.advance(3600)
        end = api_of(sandbox).get_dataset_range("GLBX.MDP3")["end"]
    assert end == f"{datetime(2026, 11, 20, 22, tzinfo=UTC):%Y-%m-%dT%H:%M:%S}.000000000Z"

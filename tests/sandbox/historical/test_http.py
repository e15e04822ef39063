"""The HTTP side, asked by the official client's own API classes: size, cost, stream and bill are one figure."""

from __future__ import annotations

import base64
import itertools
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from databento.common.error import BentoClientError, BentoError, BentoServerError, BentoWarning
from databento.historical.api.metadata import MetadataHttpAPI
from databento.historical.api.timeseries import TimeseriesHttpAPI

from budget_guard.clock import RehearsalClock
from budget_guard.sandbox.billing.bill import exact_cost
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.prices import DEFAULT_PRICES, DatasetPrices
from budget_guard.sandbox.server import Sandbox, running_sandbox

NOW = datetime(2026, 11, 20, 21, tzinfo=UTC)
NQ: dict[str, Any] = {"dataset": "GLBX.MDP3", "symbols": ["NQ.v.0"], "stype_in": "continuous"}
OPENING: dict[str, Any] = {**NQ, "start": "2026-11-19T14:30", "end": "2026-11-19T14:31:30"}


def config(**fields: Any) -> SandboxConfig:
    return SandboxConfig(clock=RehearsalClock(NOW), **fields)


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    """For tests that only ask metadata, and much of it."""
    with running_sandbox(config(limits=Limits.none())) as running:
        yield running


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(config()) as running:
        yield running


def metadata(sandbox: Sandbox, key: str | None = None) -> MetadataHttpAPI:
    return MetadataHttpAPI(key=key or sandbox.key, gateway=sandbox.http_url)


def timeseries(sandbox: Sandbox) -> TimeseriesHttpAPI:
    return TimeseriesHttpAPI(key=sandbox.key, gateway=sandbox.http_url)


def case_of(error: BentoClientError) -> str:
    assert error.json_body is not None
    assert error.json_body["detail"]["status_code"] == error.http_status
    return str(error.json_body["detail"]["case"])


@pytest.mark.parametrize("schema", ["mbo", "trades", "mbp-10", "ohlcv-1s", "definition"])
@pytest.mark.parametrize("symbols", [["NQ.v.0"], ["NQ.v.0", "ES.v.0", "ES.v.1"]])
def test_size_cost_stream_and_bill_are_one_figure(sandbox: Sandbox, schema: str, symbols: list[str]) -> None:
    """What was quoted is what arrives, is what is billed, at the price that was listed."""
    query = {**OPENING, "symbols": symbols, "schema": schema}
    if schema == "definition":
        query |= {"start": "2026-11-18", "end": "2026-11-20"}
    api = metadata(sandbox)
    size, count, cost = api.get_billable_size(**query), api.get_record_count(**query), api.get_cost(**query)
    rows = timeseries(sandbox).get_range(**query).to_ndarray(schema=schema)
    (line,) = sandbox.bill()["connections"]
    price = api.list_unit_prices("GLBX.MDP3")[0]["unit_prices"][schema]
    assert len(rows) == count > 0
    assert rows.nbytes == size == line["bytes"] == count * SPECS[schema].size
    assert Decimal(line["cost_usd"]) == exact_cost(size, Decimal(repr(price)))
    assert cost == float(line["cost_usd"])
    assert (line["mode"], line["ended"], line["control_bytes"]) == ("historical", "complete", 0)
    stamps = rows[SPECS[schema].index_field]
    assert np.all(np.diff(stamps.astype(np.int64)) >= 0)


def test_downloads_of_neighbouring_ranges_make_the_whole(sandbox: Sandbox) -> None:
    """Two halves, laid end to end, are byte for byte the whole."""
    api = timeseries(sandbox)
    middle = "2026-11-19T14:30:41.123456789"
    whole = api.get_range(**OPENING, schema="mbo").to_ndarray()
    first = api.get_range(**{**OPENING, "end": middle}, schema="mbo").to_ndarray()
    second = api.get_range(**{**OPENING, "start": middle}, schema="mbo").to_ndarray()
    assert first.tobytes() + second.tobytes() == whole.tobytes()


def test_a_limit_limits_size_stream_and_bill(sandbox: Sandbox) -> None:
    """Only the first records, everywhere."""
    query = {**OPENING, "schema": "mbo", "limit": 1000}
    assert metadata(sandbox).get_billable_size(**query) == 56_000
    assert len(timeseries(sandbox).get_range(**query).to_ndarray()) == 1000
    assert sandbox.bill()["bytes"] == 56_000


def test_the_header_carries_what_was_asked_and_the_symbols(sandbox: Sandbox) -> None:
    """The client can map instrument ids to the symbols asked for."""
    store = timeseries(sandbox).get_range(**OPENING, schema="trades")
    assert (store.dataset, str(store.schema), store.symbols) == ("GLBX.MDP3", "trades", ["NQ.v.0"])
    day = store.start.date()
    (interval,) = store.mappings["NQ.v.0"]
    assert interval["start_date"] == day
    assert str(store.to_ndarray()["instrument_id"][0]) == interval["symbol"]


def test_uncompressed_dbn_is_served_too(sandbox: Sandbox) -> None:
    """With `compression=none` the body is DBN as it is."""
    body = "dataset=GLBX.MDP3&symbols=NQ.v.0&stype_in=continuous&schema=trades&encoding=dbn&limit=10"
    times = "&start=2026-11-19T14:30&end=2026-11-19T14:31"
    data = urllib.request.urlopen(_request(sandbox, "/v0/timeseries.get_range", body + times)).read()
    length = int.from_bytes(data[4:8], "little")
    assert data[:4] == b"DBN\x03"
    assert len(data) == 8 + length + 480


def _request(sandbox: Sandbox, path: str, body: str) -> urllib.request.Request:
    token = base64.b64encode(f"{sandbox.key}:".encode()).decode()
    return urllib.request.Request(
        f"{sandbox.http_url}{path}", data=body.encode(), headers={"Authorization": f"Basic {token}"}
    )


def test_metadata_is_free(sandbox: Sandbox) -> None:
    """No question about data is on the bill."""
    api = metadata(sandbox)
    api.list_datasets()
    api.get_cost(**OPENING, schema="mbo")
    assert sandbox.bill()["connections"] == []


def test_catalogue(shared: Sandbox) -> None:
    """Datasets, their schemas, and prices in three modes, live at 1.2 times historical."""
    api = metadata(shared)
    assert "GLBX.MDP3" in api.list_datasets()
    assert {"mbo", "trades", "ohlcv-1d"} <= set(api.list_schemas("GLBX.MDP3"))
    prices = {row["mode"]: row["unit_prices"] for row in api.list_unit_prices("GLBX.MDP3")}
    assert set(prices) == {"historical", "historical-streaming", "live"}
    assert (prices["historical"]["mbo"], prices["live"]["mbo"]) == (1.8, 2.16)
    assert prices["historical"] == prices["historical-streaming"]


def test_history_reaches_to_now_less_the_embargo() -> None:
    """The available range ends where the embargo begins, and a query beyond it is refused."""
    with running_sandbox(config(embargo_s=3600.0)) as sandbox:
        bounds = metadata(sandbox).get_dataset_range("GLBX.MDP3")
        assert bounds["end"].startswith("2026-11-20T20:00:0")
        assert bounds["schema"]["mbo"]["end"].startswith("2026-11-20T20:00:0")  # type: ignore[index]
        with pytest.raises(BentoClientError) as caught:
            metadata(sandbox).get_cost(**{**OPENING, "end": "2026-11-20T20:30"})
        assert case_of(caught.value) == "data_end_after_available_end"


def test_a_month_is_counted_without_being_made(shared: Sandbox) -> None:
    """A month of everything is the sum of its days, and asking is quick enough to do it day by day."""
    api = metadata(shared)
    days = [f"2026-10-{day:02d}" for day in range(1, 32)] + ["2026-11-01"]
    everything: dict[str, Any] = {"dataset": "GLBX.MDP3", "schema": "mbo"}
    month = api.get_billable_size(**everything, start=days[0], end=days[-1])
    each = [
        api.get_billable_size(**everything, start=start, end=end) for start, end in itertools.pairwise(days)
    ]
    assert sum(each) == month > 200 * 2**30
    assert each[2] == 0  # a Saturday


def test_a_closed_market_has_no_data(sandbox: Sandbox) -> None:
    """Its size is 0; downloading it is an error and not on the bill."""
    saturday = {**NQ, "start": "2026-11-14T06:00", "end": "2026-11-14T07:00", "schema": "mbo"}
    assert metadata(sandbox).get_billable_size(**saturday) == 0
    with pytest.raises(BentoClientError) as caught:
        timeseries(sandbox).get_range(**saturday)
    assert case_of(caught.value) == "data_no_data_found_for_request"
    assert sandbox.bill()["connections"] == []


def test_symbols_that_stand_for_nothing_are_an_error(sandbox: Sandbox) -> None:
    """If none resolves the request is refused; if some do, the header says which did not."""
    with pytest.raises(BentoClientError) as caught:
        timeseries(sandbox).get_range(**{**OPENING, "symbols": ["XX.v.0"]}, schema="mbo")
    assert case_of(caught.value) == "symbology_invalid_request"
    store = timeseries(sandbox).get_range(**{**OPENING, "symbols": ["XX.v.0", "NQ.v.0"]}, schema="trades")
    assert store.metadata.not_found == ["XX.v.0"]


def test_a_wrong_key_is_401(shared: Sandbox) -> None:
    """Everywhere but the bill."""
    with pytest.raises(BentoClientError) as caught:
        metadata(shared, key="db-wrong").list_datasets()
    assert (caught.value.http_status, case_of(caught.value)) == (401, "auth_authentication_failed")


@pytest.mark.parametrize(
    ("fields", "status", "case"),
    [
        ({"historical_entitlements": frozenset[str]()}, 403, "license_not_found_unauthorized"),
        ({"unpaid": True}, 402, "account_insufficient_funds"),
    ],
)
def test_money_and_licences_bind_data_not_metadata(fields: dict[str, Any], status: int, case: str) -> None:
    """Quotes are still answered; the download is refused and not billed."""
    with running_sandbox(config(**fields)) as sandbox:
        assert metadata(sandbox).get_cost(**OPENING, schema="mbo") > 0
        with pytest.raises(BentoClientError) as caught:
            timeseries(sandbox).get_range(**OPENING, schema="mbo")
        assert (caught.value.http_status, case_of(caught.value)) == (status, case)
        assert sandbox.bill()["connections"] == []


def test_recent_data_needs_a_live_licence_to_be_sent() -> None:
    """Without one, yesterday's is sold as ever; of today's, CME's is not even quoted."""
    with running_sandbox(config(live_entitlements=frozenset[str]())) as sandbox:
        timeseries(sandbox).get_range(**OPENING, schema="trades", limit=10)
        today = {**OPENING, "start": "2026-11-20T14:30", "end": "2026-11-20T14:31", "schema": "trades"}
        calls: list[Callable[..., Any]] = [metadata(sandbox).get_cost, timeseries(sandbox).get_range]
        for call in calls:
            with pytest.raises(BentoClientError, match="Try again with an end time before 2026-11-20T13:00"):
                call(**today)
        stocks: dict[str, Any] = {"dataset": "EQUS.MINI", "symbols": ["SPY"], "schema": "trades"}
        stocks |= {"start": "2026-11-20T14:30", "end": "2026-11-20T14:31"}
        assert metadata(sandbox).get_cost(**stocks) > 0
        with pytest.raises(BentoClientError) as caught:
            timeseries(sandbox).get_range(**stocks)
        assert (caught.value.http_status, case_of(caught.value)) == (403, "license_not_found_unauthorized")
        assert len(sandbox.bill()["connections"]) == 1


def test_the_official_client_warns_of_reduced_quality() -> None:
    """Of the days within the range that are not as they should be, when data is sent and not when it is quoted."""
    conditions: Any = {
        "GLBX.MDP3": {
            date(2026, 11, 18): "missing",
            date(2026, 11, 19): "degraded",
            date(2026, 11, 20): "degraded",
        }
    }
    with running_sandbox(config(conditions=conditions)) as sandbox:
        metadata(sandbox).get_cost(**OPENING, schema="trades")
        with pytest.warns(BentoWarning) as caught:
            timeseries(sandbox).get_range(**OPENING, schema="trades", limit=10)
    assert [str(warning.message) for warning in caught] == [
        "The streaming request contained one or more days which have reduced quality: 2026-11-19 (degraded)"
    ]


def test_a_price_that_nobody_knows_is_not_listed_and_not_sold() -> None:
    """An unknown price is missing from the list, and neither quoted nor billed as 0."""
    prices = {"GLBX.MDP3": DatasetPrices({**DEFAULT_PRICES["GLBX.MDP3"].historical, "mbo": None})}
    with running_sandbox(config(prices=prices)) as sandbox:
        api = metadata(sandbox)
        assert "mbo" in api.list_schemas("GLBX.MDP3")
        assert all("mbo" not in row["unit_prices"] for row in api.list_unit_prices("GLBX.MDP3"))
        assert api.get_billable_size(**OPENING, schema="mbo") > 0
        calls: list[Callable[..., Any]] = [api.get_cost, timeseries(sandbox).get_range]
        for call in calls:
            with pytest.raises(BentoClientError, match="no published price"):
                call(**OPENING, schema="mbo")


def test_a_download_that_breaks_off_costs_what_was_sent(sandbox: Sandbox) -> None:
    """The client sees an error, the bill has exactly the bytes before it; the next download is whole."""
    sandbox.break_history(123_456)
    with pytest.raises(BentoError):
        timeseries(sandbox).get_range(**OPENING, schema="mbo")
    bill = sandbox.wait_for(lambda bill: bill["connections"][0]["closed_utc"])
    assert (bill["bytes"], bill["connections"][0]["ended"]) == (123_456, "broken off by the sandbox")
    timeseries(sandbox).get_range(**OPENING, schema="mbo")
    assert sandbox.bill()["connections"][1]["ended"] == "complete"


def test_a_client_that_leaves_is_billed_for_what_it_read(sandbox: Sandbox) -> None:
    """Reading a little of a large download and leaving costs at least that, and far less than the whole."""
    body = "dataset=GLBX.MDP3&schema=mbo&encoding=dbn&start=2026-11-19T14:30&end=2026-11-19T15:30"
    with urllib.request.urlopen(_request(sandbox, "/v0/timeseries.get_range", body)) as response:
        read = len(response.read(500_000))
    (line,) = sandbox.wait_for(lambda bill: bill["connections"][0]["closed_utc"])["connections"]
    whole = metadata(sandbox).get_billable_size(
        "GLBX.MDP3", schema="mbo", start="2026-11-19T14:30", end="2026-11-19T15:30"
    )
    assert read - 10_000 < line["bytes"] < whole / 2
    assert line["ended"] == "lost"


def control(sandbox: Sandbox, **command: Any) -> dict[str, Any]:
    request = urllib.request.Request(f"{sandbox.http_url}/control", data=json.dumps(command).encode())
    answer: dict[str, Any] = json.load(urllib.request.urlopen(request))
    return answer


def test_too_many_requests_are_told_when_to_come_back(sandbox: Sandbox) -> None:
    """As many 429 as asked for, with Retry-After; then all is well."""
    assert control(sandbox, do="metadata_429", count=2, retry_after_s=7)["did"] == "metadata_429"
    for _ in range(2):
        with pytest.raises(BentoClientError) as caught:
            metadata(sandbox).list_datasets()
        assert caught.value.http_status == 429
        assert caught.value.headers is not None
        assert caught.value.headers["Retry-After"] == "7"
    assert metadata(sandbox).list_datasets()


def test_an_outage_is_plain_text(sandbox: Sandbox) -> None:
    """503 without JSON, as often as asked for."""
    control(sandbox, do="metadata_503")
    with pytest.raises(BentoServerError) as caught:
        metadata(sandbox).list_datasets()
    assert (caught.value.http_status, caught.value.json_body) == (503, None)
    assert metadata(sandbox).list_datasets()


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ({}, "expected"),
        ({"do": "explode"}, "One of: list, drop, close_live"),
        ({"do": "refuse_live", "count": -1}, "count should be a whole number"),
        ({"do": "break_history"}, "needs after"),
        ({"do": "revoke_live"}, "needs dataset"),
        ({"do": "close_live", "now": True}, "now is not known here"),
    ],
)
def test_a_command_that_cannot_be_is_explained(shared: Sandbox, command: dict[str, Any], error: str) -> None:
    """400, and what would be right."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        control(shared, **command)
    with caught.value as answer:
        assert answer.code == 400
        assert error in json.load(answer)["detail"]


def test_the_bill_needs_no_key(sandbox: Sandbox) -> None:
    """It is JSON, and says that it is synthetic."""
    bill = json.load(urllib.request.urlopen(f"{sandbox.http_url}/bill"))
    assert bill["synthetic"] is True
    assert (bill["bytes"], bill["cost_usd"]) == (0, "0")


def test_controls_reach_the_live_side(sandbox: Sandbox) -> None:
    """Closing nothing closes nothing, and says so."""
    assert control(sandbox, do="close_live") == {"did": "close_live", "connections": 0}
    assert control(sandbox, do="reset_live") == {"did": "reset_live", "connections": 0}

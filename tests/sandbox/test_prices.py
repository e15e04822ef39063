"""What is offered without a published price is shown, measured and streamed, but neither quoted nor sold."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from budget_guard.clock import ManualClock
from budget_guard.sandbox.billing.bill import exact_cost
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.faults.scenario import load_scenario
from budget_guard.sandbox.prices import DEFAULT_PRICES
from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.sandbox.bare_client import BareClient, ended
from tests.sandbox.historical.desk import ask, config

# Within the minutes before the closing auction in New York.
AUCTION = datetime(2026, 11, 20, 20, 55, tzinfo=UTC)
IMBALANCE = 20
LINE = "schema=imbalance|stype_in=raw_symbol|symbols=AAPL|start=2026-11-20T20:49:59"
RANGE: dict[str, Any] = {
    "dataset": "XNAS.ITCH",
    "schema": "imbalance",
    "symbols": "AAPL",
    "start": "2026-11-20T20:50",
    "end": "2026-11-20T20:55",
    "encoding": "dbn",
}


def test_imbalance_is_offered_and_its_price_unknown() -> None:
    """None, in either mode: published nowhere."""
    prices = DEFAULT_PRICES["XNAS.ITCH"]
    assert set(prices.historical) == {"mbo", "imbalance"}
    assert prices.historical_price("imbalance") is prices.live_price("imbalance") is None
    assert set(prices.unit_prices("live")) == set(prices.unit_prices("historical")) == {"mbo"}


def test_it_is_listed_and_measured_but_neither_quoted_nor_sold() -> None:
    """list_schemas and sizes know it, unit prices do not; costs, downloads and jobs are refused with the reason."""
    with running_sandbox(config(clock=ManualClock(AUCTION))) as sandbox:
        assert "imbalance" in ask(sandbox, "GET", "/v0/metadata.list_schemas", dataset="XNAS.ITCH").body
        listed = ask(sandbox, "GET", "/v0/metadata.list_unit_prices", dataset="XNAS.ITCH").body
        assert all("imbalance" not in row["unit_prices"] for row in listed)
        assert ask(sandbox, "POST", "/v0/metadata.get_record_count", **RANGE).body == 30
        for path in ("metadata.get_cost", "timeseries.get_range", "batch.submit_job"):
            answer = ask(sandbox, "POST", f"/v0/{path}", **RANGE)
            assert (answer.status, answer.body["detail"]["case"]) == (422, "data_price_unknown")
            assert answer.body["detail"]["message"] == "XNAS.ITCH imbalance has no published price"
        assert sandbox.bill()["connections"] == []


def test_live_it_streams_and_is_billed_as_unpriced() -> None:
    """Every byte is counted; none of them is said to be free."""
    bill = streamed(config(clock=ManualClock(AUCTION)))
    assert bill["bytes"] == bill["unpriced_bytes"] > 30 * 112
    assert {row["cost_usd"] for row in bill["by_usage"]} == {None}


def test_with_a_price_of_a_scenario_it_is_sold(tmp_path: Path) -> None:
    """At that price, live 1.2 times as much unless it is said."""
    scenario = tmp_path / "dear.yaml"
    scenario.write_text("prices:\n  XNAS.ITCH: {historical: {imbalance: 5}}\n")
    own = SandboxConfig(
        prices=load_scenario(scenario).prices, clock=ManualClock(AUCTION), limits=Limits.none()
    )
    bill = streamed(own)
    assert bill["unpriced_bytes"] == 0
    assert Decimal(bill["cost_usd"]) == exact_cost(bill["bytes"], Decimal(6))
    with running_sandbox(own) as sandbox:
        quoted = ask(sandbox, "POST", "/v0/metadata.get_cost", **RANGE).body
        assert ask(sandbox, "POST", "/v0/batch.submit_job", **RANGE).status == 200
        assert quoted == float(sandbox.bill()["cost_usd"]) > 0


def streamed(own: SandboxConfig) -> dict[str, Any]:
    """The bill of a live session that replayed all of an auction."""
    with running_sandbox(own) as sandbox:
        with BareClient(sandbox, LINE, dataset="XNAS.ITCH") as client:
            client.start()
            client.records(30, IMBALANCE)
            client.finish()
        return _closed(sandbox)


def _closed(sandbox: Sandbox) -> dict[str, Any]:
    return sandbox.wait_for(ended(1))

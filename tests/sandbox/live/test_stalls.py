"""One client's heavy question keeps no other waiting: it is answered beside the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from budget_guard.clock import RehearsalClock, ns_from_instant
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.live.outgoing import lay_out
from budget_guard.sandbox.market.model import ALL_SYMBOLS, Selection
from budget_guard.sandbox.market.synthetic import Market
from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.sandbox.bare_client import NQ_MBO, BareClient, ended
from tests.sandbox.historical.desk import ask

TUESDAY = datetime(2026, 11, 24, 14, 40, tzinfo=UTC)
TRADES = 0
EVERYTHING = f"stype_in=raw_symbol|symbols={ALL_SYMBOLS}"
RANGE = {
    "dataset": "GLBX.MDP3",
    "schema": "statistics",
    "symbols": ALL_SYMBOLS,
    "start": "2026-11-23T14:30",
    "end": "2026-11-23T15:30",
    "encoding": "dbn",
}


class Thicket:
    """A market whose answers about ALL_SYMBOLS wait until they may come."""

    def __init__(self, market: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = threading.Event()
        self.free = threading.Event()
        for name in ("parts", "count", "snapshot", "blocks"):
            monkeypatch.setattr(
                market, name, self._waiting(getattr(market, name), lambda asked: asked[0].symbols)
            )
        monkeypatch.setattr(market, "resolve", self._waiting(market.resolve, lambda asked: asked[1:2]))

    def _waiting(
        self, answer: Callable[..., Any], symbols_of: Callable[[tuple[Any, ...]], tuple[str, ...]]
    ) -> Callable[..., Any]:
        def wait(*asked: Any) -> Any:
            self._wait(ALL_SYMBOLS in symbols_of(asked))
            return answer(*asked)

        return wait

    def _wait(self, here: bool) -> None:
        if here:
            self.asked.set()
            assert self.free.wait(20)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(SandboxConfig(clock=RehearsalClock(TUESDAY), limits=Limits.none())) as running:
        yield running


def assert_others_are_served(sandbox: Sandbox) -> None:
    """A live session gets records, and metadata is answered."""
    with BareClient(sandbox, "schema=trades|stype_in=continuous|symbols=NQ.v.0") as neighbour:
        neighbour.start()
        assert len(neighbour.records(5, TRADES)) == 5
    assert ask(sandbox, "GET", "/v0/metadata.list_schemas", dataset="GLBX.MDP3").status == 200


@pytest.mark.parametrize(
    "line",
    [
        f"schema=statistics|{EVERYTHING}",
        f"schema=statistics|{EVERYTHING}|start=0",
        f"schema=mbo|{EVERYTHING}|snapshot=1",
    ],
)
def test_a_live_subscription_that_takes_long(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """Resolved, counted and made beside the loop."""
    thicket = Thicket(sandbox.market, monkeypatch)
    with BareClient(sandbox, line) as client:
        client.send("start_session")
        assert thicket.asked.wait(20)
        try:
            assert_others_are_served(sandbox)
        finally:
            thicket.free.set()


@pytest.mark.parametrize(
    "path",
    ["timeseries.get_range", "batch.submit_job", "metadata.get_cost", "symbology.resolve"],
)
def test_a_request_that_takes_long(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Mapped, counted and sold beside the loop."""
    thicket = Thicket(sandbox.market, monkeypatch)
    fields = {**RANGE, "stype_in": "raw_symbol", "stype_out": "instrument_id", "start_date": "2026-11-23"}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, sandbox, "POST", f"/v0/{path}", **fields)
        assert thicket.asked.wait(20)
        try:
            assert_others_are_served(sandbox)
        finally:
            thicket.free.set()
        assert asked.result().status == 200


def test_a_session_can_be_ended_while_its_data_is_being_made(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as soon as that is done, and sends nothing of it."""
    thicket = Thicket(sandbox.market, monkeypatch)
    monkeypatch.setattr(thicket, "_wait", lambda here: None)
    with BareClient(sandbox, NQ_MBO, f"schema=statistics|{EVERYTHING}|start=0") as client:
        client.start()
        monkeypatch.undo()
        sandbox.close_live()
        client.rest()
    bill = sandbox.wait_for(ended(1))
    assert bill["connections"][0]["ended"] == "closed by the sandbox"


def test_a_buffer_of_many_contracts_is_few_runs() -> None:
    """Runs change with what is billed, not with the contract: thousands of objects would hold the process up."""
    market = Market(0)
    start_ns = ns_from_instant(datetime(2026, 11, 18, 14, 30, tzinfo=UTC))
    parts = [
        part
        for schema in ("ohlcv-1s", "bbo-1s")
        for part in market.parts(
            Selection("GLBX.MDP3", schema, ("NQ.FUT", "ES.FUT", "CL.FUT"), "parent"),
            start_ns,
            start_ns + 20 * 10**9,
        )
    ]
    outgoing = lay_out(parts, None)
    assert sum(len(part.rows) for part in parts) == 2 * 12 * 20
    assert len(outgoing.runs) == 2 * 20
    assert outgoing.runs[-1].end == len(outgoing.data)

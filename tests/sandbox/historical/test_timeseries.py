"""`timeseries.get_range`, asked by the official client and by hand: what is quoted, sent and billed is one figure."""

from __future__ import annotations

import asyncio
import base64
import http.client
import urllib.parse
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard
from databento import DBNStore
from databento.common.error import BentoClientError
from databento.historical.api.metadata import MetadataHttpAPI
from databento.historical.api.timeseries import TimeseriesHttpAPI

from budget_guard.clock import RehearsalClock
from budget_guard.sandbox.config import FlatPlan, Limits, SandboxConfig
from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.prices import DEFAULT_PRICES
from budget_guard.sandbox.server import Sandbox, running_sandbox

# The client's own, against a pandas newer than it.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

NOW = datetime(2026, 11, 20, 21, tzinfo=UTC)
CONFIG = SandboxConfig(clock=RehearsalClock(NOW), limits=Limits.none())
NQ: dict[str, Any] = {"dataset": "GLBX.MDP3", "symbols": "NQ.v.0", "stype_in": "continuous"}
OPENING: dict[str, Any] = {**NQ, "start": "2026-11-19T14:30", "end": "2026-11-19T14:30:20"}
SOLD = [
    (dataset, schema)
    for dataset, prices in DEFAULT_PRICES.items()
    for schema, price in sorted(prices.historical.items())
    if schema in SPECS and price is not None
]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(CONFIG) as running:
        yield running


@pytest.fixture
def own() -> Iterator[Sandbox]:
    with running_sandbox(CONFIG) as running:
        yield running


def client(sandbox: Sandbox) -> TimeseriesHttpAPI:
    return TimeseriesHttpAPI(key=sandbox.key, gateway=sandbox.http_url)


def connection(sandbox: Sandbox, fields: dict[str, Any]) -> http.client.HTTPConnection:
    """A request for a range, by hand, sent and not yet read."""
    found = http.client.HTTPConnection("127.0.0.1", sandbox.http_port, timeout=30)
    token = base64.b64encode(f"{sandbox.key}:".encode()).decode()
    headers = {"Authorization": f"Basic {token}", "Content-Type": "application/x-www-form-urlencoded"}
    found.request("POST", "/v0/timeseries.get_range", urllib.parse.urlencode(fields), headers)
    return found


def ask(sandbox: Sandbox, fields: dict[str, Any]) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    with closing(connection(sandbox, fields)) as asked:
        answer = asked.getresponse()
        return answer.status, answer.headers.get_content_type(), answer.read()


def query_of(dataset: str, schema: str) -> dict[str, Any]:
    """A little of a schema that is known to hold records."""
    kind = SPECS[schema].kind
    times = {"start": "2026-11-19T15:00", "end": "2026-11-19T15:00:05"}
    if schema.endswith(("1m", "1s")):
        times["end"] = "2026-11-19T15:10"
    elif kind != "tick":
        times = {"start": "2026-11-18", "end": "2026-11-20"}
    symbols = {"GLBX.MDP3": ("NQ.v.0", "continuous"), "OPRA.PILLAR": ("SPY.OPT", "parent")}
    symbol, stype_in = symbols.get(dataset, ("SPY", "raw_symbol"))
    return {"dataset": dataset, "schema": schema, "symbols": symbol, "stype_in": stype_in, **times}


@pytest.mark.parametrize(("dataset", "schema"), SOLD)
def test_every_schema_on_sale_is_sent_as_it_was_counted(sandbox: Sandbox, dataset: str, schema: str) -> None:
    """The client's DataFrame has as many rows as were counted, which is what is billed by the size of a record."""
    query = query_of(dataset, schema)
    metadata = MetadataHttpAPI(key=sandbox.key, gateway=sandbox.http_url)
    count, size = metadata.get_record_count(**query), metadata.get_billable_size(**query)
    store = client(sandbox).get_range(**query)
    frame = store.to_df()
    line = sandbox.bill()["connections"][-1]
    assert len(frame) == len(store.to_ndarray()) == count > 0
    assert line["bytes"] == size == count * SPECS[schema].size
    assert (line["ended"], list(line["schemas"])) == ("complete", [schema])
    assert frame["symbol"].notna().all()


@pytest.mark.parametrize("encoding", ["dbn", "csv", "json"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("pretty", ["true", "false"])
def test_every_form_is_billed_alike(
    sandbox: Sandbox, encoding: str, compression: str, pretty: str, tmp_path: Path
) -> None:
    """Whatever it is written as, the bill counts DBN record bytes, and the text is the official client's own."""
    flags = {"pretty_px": pretty, "pretty_ts": pretty, "map_symbols": pretty}
    form = {"encoding": encoding, "compression": compression, **flags}
    status, kind, body = ask(sandbox, {**OPENING, "schema": "mbp-1", **form})
    line = sandbox.bill()["connections"][-1]
    store = client(sandbox).get_range(**OPENING, schema="mbp-1")
    assert (status, line["ended"], line["bytes"]) == (200, "complete", len(store.to_ndarray()) * 80)
    plain = body if compression == "none" else zstandard.ZstdDecompressor().decompressobj().decompress(body)
    if encoding == "dbn":
        assert DBNStore.from_bytes(plain).to_ndarray().tobytes() == store.to_ndarray().tobytes()
        return
    write = store.to_csv if encoding == "csv" else store.to_json
    yes = pretty == "true"
    write(tmp_path / "text", pretty_px=yes, pretty_ts=yes, map_symbols=yes)
    assert plain == (tmp_path / "text").read_bytes()
    plain_kind = {"csv": "text/csv", "json": "application/x-ndjson"}[encoding]
    assert kind == (plain_kind if compression == "none" else "application/octet-stream")


def test_nothing_said_is_csv(sandbox: Sandbox) -> None:
    """The HTTP defaults are the vendor's: CSV of trades, raw numbers, uncompressed."""
    _, kind, body = ask(sandbox, OPENING)
    assert kind == "text/csv"
    assert body.startswith(b"ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,")


# The client's own: it leaves its file open, and asks in a way that aiohttp is giving up.
@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::DeprecationWarning")
def test_a_range_is_the_same_awaited_or_on_disk(sandbox: Sandbox, tmp_path: Path) -> None:
    """`get_range_async` and `path=` give the records that `get_range` gives."""
    api = client(sandbox)
    plain = api.get_range(**OPENING, schema="mbo").to_ndarray().tobytes()
    awaited = asyncio.run(api.get_range_async(**OPENING, schema="mbo"))
    assert awaited.to_ndarray().tobytes() == plain
    stored = api.get_range(**OPENING, schema="mbo", path=tmp_path / "nq.dbn.zst")
    assert (tmp_path / "nq.dbn.zst").stat().st_size < len(plain)
    assert stored.to_ndarray().tobytes() == plain


@pytest.mark.parametrize("encoding", ["dbn", "csv", "json"])
def test_a_limit_limits_every_form_and_the_bill(sandbox: Sandbox, encoding: str) -> None:
    """Only the first records are sent and billed."""
    _, _, body = ask(sandbox, {**OPENING, "schema": "mbo", "encoding": encoding, "limit": "100"})
    assert sandbox.bill()["connections"][-1]["bytes"] == 100 * 56
    if encoding != "dbn":
        assert len(body.splitlines()) == 100 + (encoding == "csv")
    else:
        assert len(DBNStore.from_bytes(body).to_ndarray()) == 100


def test_symbols_that_resolve_in_part_are_206(sandbox: Sandbox) -> None:
    """The data of those that do is sent, and the header names the others."""
    status, _, body = ask(sandbox, {**OPENING, "symbols": "NQ.v.0,XYZ.v.0", "encoding": "dbn"})
    store = DBNStore.from_bytes(body)
    assert (status, store.metadata.not_found) == (206, ["XYZ.v.0"])
    assert len(store.to_ndarray()) > 0
    assert ask(sandbox, {**OPENING, "encoding": "dbn"})[0] == 200


def test_data_only_resolves_to_and_from_instrument_ids(sandbox: Sandbox) -> None:
    """Records carry instrument ids, and the client maps by them; anything else is the vendor's symbology error."""
    with pytest.raises(BentoClientError) as caught:
        client(sandbox).get_range(**OPENING, schema="trades", stype_out="raw_symbol")
    assert caught.value.http_status == 422
    assert caught.value.json_body is not None
    assert caught.value.json_body["detail"]["case"] == "symbology_invalid_request"


@pytest.mark.parametrize("field", ["encoding", "compression", "pretty_px", "map_symbols"])
def test_a_form_that_does_not_exist_costs_nothing(own: Sandbox, field: str) -> None:
    """422, before a byte is billed."""
    status, _, _ = ask(own, {**OPENING, field: "gzip"})
    assert status == 422
    assert own.bill()["connections"] == []


@pytest.mark.parametrize("encoding", ["dbn", "csv"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_an_aborted_download_is_billed_for_what_left(own: Sandbox, encoding: str, compression: str) -> None:
    """A client that goes away has paid for what it was sent, not for the rest."""
    day: dict[str, Any] = {"start": "2026-11-19", "end": "2026-11-20", "schema": "mbo"}
    asked = connection(own, {**NQ, **day, "encoding": encoding, "compression": compression})
    answer = asked.getresponse()
    read = len(answer.read(200_000))
    answer.close()
    asked.close()
    (line,) = own.wait_for(lambda bill: bill["connections"][0]["ended"])["connections"]
    whole = MetadataHttpAPI(key=own.key, gateway=own.http_url).get_billable_size(**NQ, **day)
    assert line["ended"] == "lost"
    assert 0 < line["bytes"] < whole
    if (encoding, compression) == ("dbn", "none"):
        assert line["bytes"] >= read - 1000  # less the header


@pytest.mark.parametrize("encoding", ["dbn", "csv", "json"])
def test_a_broken_download_holds_what_was_billed(own: Sandbox, encoding: str) -> None:
    """Broken off by the sandbox, everything counted has arrived, whatever it was written as."""
    own.arm("break_history", after="56000 bytes")
    body = bytearray()
    asked = connection(own, {**OPENING, "schema": "mbo", "encoding": encoding})
    with closing(asked), pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        read_into(body, asked)
    (line,) = own.wait_for(lambda bill: bill["connections"][0]["ended"])["connections"]
    assert (line["bytes"], line["ended"]) == (56_000, "broken off by the sandbox")
    if encoding != "dbn":
        assert body.count(b"\n") == 1000 + (encoding == "csv")


def read_into(body: bytearray, asked: http.client.HTTPConnection) -> None:
    """Keep what comes until the body ends."""
    answer = asked.getresponse()
    while piece := answer.read1(65536):
        body += piece
    answer.read()  # `read1` says nothing of a body that ends before its time


def test_what_a_plan_includes_costs_nothing() -> None:
    """The bytes are on the bill at $0; a request that begins before the plan's days costs the list price."""
    plan = FlatPlan(history_days={"trades": 30})
    with running_sandbox(replace(CONFIG, plans={"GLBX.MDP3": plan})) as running:
        client(running).get_range(**OPENING, schema="trades")
        client(running).get_range(**NQ, schema="trades", start="2026-09-10T14:30", end="2026-09-10T14:31")
        included, sold = running.bill()["connections"]
    assert included["bytes"] > 0
    assert included["cost_usd"] == "0"
    assert float(sold["cost_usd"]) > 0


def test_others_have_their_turn_while_a_range_is_written(own: Sandbox) -> None:
    """A download that nobody reads, and one that is read as fast as it comes, leave metadata answered."""
    day = {"start": "2026-11-19", "end": "2026-11-20", "schema": "mbo", "encoding": "csv"}
    with closing(connection(own, {**NQ, **day})) as unread:
        unread.getresponse()
        metadata = MetadataHttpAPI(key=own.key, gateway=own.http_url)
        for _ in range(3):
            assert metadata.get_record_count(**OPENING) > 0

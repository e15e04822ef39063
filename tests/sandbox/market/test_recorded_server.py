"""Recorded files through both doors: what the official client wrote, the official client gets back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import databento
import numpy as np
import pytest
import zstandard
from click.testing import CliRunner
from databento.common.error import BentoClientError
from databento.historical.api.metadata import MetadataHttpAPI
from databento.historical.api.timeseries import TimeseriesHttpAPI

from budget_guard.cli.sandbox import command
from budget_guard.clock import ManualClock, RehearsalClock, instant_from_ns, ns_from_instant
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.market.recorded_file import RecordingError
from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.prices import DatasetPrices
from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.sandbox.bare_client import DATASET, BareClient, ended
from tests.sandbox.market.recordings import MONDAY_NS, header, mapped, rows_of, write

START, END = datetime(2026, 3, 10, 14, 30, tzinfo=UTC), datetime(2026, 3, 10, 14, 31, tzinfo=UTC)
WINDOW: dict[str, Any] = {"start": "2026-03-10T14:30", "end": "2026-03-10T14:31"}
BOTH: dict[str, Any] = {"symbols": ["NQ.v.0", "ES.v.0"], "stype_in": "continuous"}
MBO, ERROR = 160, 21
T = MONDAY_NS + 14 * 3600 * 10**9


@dataclass(frozen=True)
class Files:
    """Files that the official client wrote of a synthetic market."""

    mbo: Path
    tbbo: Path
    live: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """One minute of two contracts in two schemas; and of live, mbo and tbbo together with ts_out."""
    folder = tmp_path_factory.mktemp("recorded")
    found = Files(folder / "mbo.dbn.zst", folder / "tbbo.dbn.zst", folder / "live.dbn")
    clock = RehearsalClock(datetime(2026, 3, 10, 15, tzinfo=UTC))
    with running_sandbox(SandboxConfig(rate=2000, clock=clock, limits=Limits.none())) as sandbox:
        for schema, path in (("mbo", found.mbo), ("tbbo", found.tbbo)):
            timeseries(sandbox).get_range(DATASET, schema=schema, **WINDOW, **BOTH).to_file(path)
        client = databento.Live(key=sandbox.key, gateway="127.0.0.1", port=sandbox.live_port, ts_out=True)
        client.subscribe(DATASET, "mbo", "NQ.v.0", "continuous")
        client.subscribe(DATASET, "tbbo", "ES.FUT", "parent")
        client.add_stream(found.live)
        client.start()
        sandbox.wait_for(lambda bill: bill["connections"][-1]["bytes"] > 300_000)
        sandbox.close_live()
        client.block_for_close(timeout=10)
    return found


def timeseries(sandbox: Sandbox) -> TimeseriesHttpAPI:
    return TimeseriesHttpAPI(key=sandbox.key, gateway=sandbox.http_url)


def metadata(sandbox: Sandbox) -> MetadataHttpAPI:
    return MetadataHttpAPI(key=sandbox.key, gateway=sandbox.http_url)


def config(*paths: Path, **fields: Any) -> SandboxConfig:
    return SandboxConfig(**{"replay": paths, "limits": Limits.none(), "slow_reader_s": 1e9, **fields})


@pytest.fixture
def sandbox(files: Files) -> Iterator[Sandbox]:
    """The two downloads, served an hour later."""
    with running_sandbox(
        config(files.mbo, files.tbbo, clock=ManualClock(END + timedelta(hours=1)))
    ) as running:
        yield running


def bodies(path: Path) -> bytes:
    """The records of a file, without its header."""
    data = path.read_bytes()
    if path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data[8 + int.from_bytes(data[4:8], "little") :]


def records(data: bytes, rtype: int, trim: int = 0) -> list[bytes]:
    """The records of one type, each without its last bytes and its length."""
    found, at = [], 0
    while at < len(data):
        size = 4 * data[at]
        if data[at + 1] == rtype:
            found.append(data[at + 1 : at + size - trim])
        at += size
    return found


@pytest.mark.parametrize("schema", ["mbo", "tbbo"])
def test_a_download_comes_back_byte_for_byte(
    sandbox: Sandbox, files: Files, tmp_path: Path, schema: str
) -> None:
    """The request that made a file gets the file's records again; sizes and the bill are the bytes' own."""
    path = tmp_path / "again.dbn.zst"
    original = getattr(files, schema)
    timeseries(sandbox).get_range(DATASET, schema=schema, **WINDOW, **BOTH).to_file(path)
    assert bodies(path) == bodies(original)
    before, after = (databento.DBNStore.from_bytes(one.read_bytes()) for one in (original, path))
    assert before.metadata.mappings == after.metadata.mappings
    size = len(bodies(original))
    ask = metadata(sandbox)
    assert ask.get_billable_size(DATASET, schema=schema, **WINDOW, **BOTH) == size
    (line,) = sandbox.wait_for(ended())["connections"]
    assert line["bytes"] == size


def test_only_what_was_recorded_is_on_offer(sandbox: Sandbox) -> None:
    """Datasets, schemas, prices and ranges are the files'; what lies outside is refused in the vendor's way."""
    ask = metadata(sandbox)
    assert ask.list_datasets() == [DATASET]
    assert ask.list_schemas(DATASET) == ["mbo", "tbbo"]
    prices = {row["mode"]: row["unit_prices"] for row in ask.list_unit_prices(DATASET)}
    assert prices["historical"] == {"mbo": 1.8, "tbbo": 28.0}
    bounds = ask.get_dataset_range(DATASET)
    assert (bounds["start"][:19], bounds["end"][:19]) == ("2026-03-10T14:30:00", "2026-03-10T14:31:00")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"schema": "trades"}, "trades"),
        ({"start": "2026-03-10T14:29"}, "data_start_before_available_start"),
        ({"end": "2026-03-10T14:32"}, "data_end_after_available_end"),
        ({"symbols": "CL.v.0"}, "symbology_invalid_request"),
    ]
    for change, words in cases:
        asked = {"schema": "mbo", **WINDOW, **BOTH, **change}
        with pytest.raises(BentoClientError, match=words):
            timeseries(sandbox).get_range(DATASET, **asked)
    with pytest.raises(BentoClientError, match=r"there is continuous ES\.v\.0, NQ\.v\.0"):
        timeseries(sandbox).get_range(
            DATASET, schema="mbo", symbols="CL.v.0", stype_in="continuous", **WINDOW
        )


def test_a_price_that_nobody_knows_is_not_zero(tmp_path: Path) -> None:
    """A dataset that the price list does not have is refused as unpriced, until it is given a price."""
    head = header(dataset="XEUR.EOBI", mappings=[mapped("FDAX", (0, 1, 7))], end=T + 10)
    path = write(tmp_path / "a.dbn", head, rows_of("mbo", [T]))
    request: dict[str, Any] = {"schema": "mbo", "symbols": "FDAX", "start": T, "end": T + 5}
    clock = ManualClock(instant_from_ns(T) + timedelta(hours=1))
    with (
        running_sandbox(config(path, clock=clock)) as sandbox,
        pytest.raises(BentoClientError, match="price"),
    ):
        timeseries(sandbox).get_range("XEUR.EOBI", **request)
    prices = {"XEUR.EOBI": DatasetPrices({"mbo": Decimal(2), "trades": Decimal(9)})}
    with running_sandbox(config(path, clock=clock, prices=prices)) as sandbox:
        assert timeseries(sandbox).get_range("XEUR.EOBI", **request).to_ndarray().nbytes == 56
        assert metadata(sandbox).list_schemas("XEUR.EOBI") == ["mbo"]


def test_live_sends_what_a_live_client_recorded(files: Files) -> None:
    """Each record as the clock comes to it, without and with a time of sending; then nothing but heartbeats."""
    mbo = records(bodies(files.live), MBO, trim=8)
    ts_recv = np.frombuffer(b"\x0e" + mbo[0], dtype=SPECS["mbo"].dtype)["ts_recv"]
    clock = ManualClock(instant_from_ns(int(ts_recv[0])) - timedelta(milliseconds=50))
    with running_sandbox(config(files.live, clock=clock, heartbeat_interval_s=30.0)) as sandbox:
        subscription = "schema=mbo|stype_in=continuous|symbols=NQ.v.0"
        with (
            BareClient(sandbox, subscription) as plain,
            BareClient(sandbox, subscription, login="|ts_out=1") as stamped,
        ):
            plain.start()
            stamped.start()
            sandbox.wait_for(lambda bill: sum(line["control_bytes"] > 0 for line in bill["connections"]) == 2)
            clock.advance(60.0)
            got = plain.records(len(mbo), MBO)
            assert [one[1:] for one in got] == mbo
            assert [one[1:-8] for one in stamped.records(len(mbo), MBO)] == mbo
            clock.advance(60.0)
            last = plain.record()
            assert b"Heartbeat" in last


def test_a_replay_has_the_whole_file(files: Files) -> None:
    """A client that joins when the file is over still gets all of it with `start`, and then hears that it is done."""
    mbo = records(bodies(files.mbo), MBO)
    with running_sandbox(config(files.mbo, clock=ManualClock(END + timedelta(minutes=1)))) as sandbox:
        start_ns = ns_from_instant(START)
        line = f"schema=mbo|stype_in=continuous|symbols=NQ.v.0,ES.v.0|start={start_ns}"
        with BareClient(sandbox, line) as client:
            client.start()
            assert [one[1:] for one in client.records(len(mbo), MBO)] == mbo
            assert b"Finished mbo replay" in client.record()


def test_a_replay_from_before_the_recording_finds_its_symbols(files: Files) -> None:
    """They stand for nothing on the days before the file's first: said is what they stand for where it begins."""
    clock = RehearsalClock(datetime(2026, 3, 10, 14, 31, 5, tzinfo=UTC))
    config = SandboxConfig(replay=(files.mbo,), clock=clock, limits=Limits.none())
    with running_sandbox(config) as sandbox:
        for start in ("0", str(ns_from_instant(datetime(2026, 3, 9, 12, tzinfo=UTC)))):
            line = f"schema=mbo|stype_in=continuous|symbols=NQ.v.0|start={start}"
            with BareClient(sandbox, line) as client:
                client.start()
                kinds = {record[1] for record in client.records(40)}
            assert ERROR not in kinds
            assert {22, MBO} <= kinds


def test_live_symbols_that_no_file_has(sandbox: Sandbox) -> None:
    """They fail to resolve, and the error says what the files have; the session goes on."""
    with BareClient(sandbox, "schema=mbo|stype_in=raw_symbol|symbols=ESZ9") as client:
        client.start()
        (error,) = client.records(1, ERROR)
        assert b"Failed to resolve symbol: ESZ9; continuous ES.v.0, NQ.v.0; " in error


def test_a_snapshot_needs_a_file_that_begins_with_one(tmp_path: Path) -> None:
    """A book that can be built is sent before what follows; one that cannot ends the session, saying why."""
    whole = rows_of(
        "mbo", [T, T + 1, T + 10**9], action=[b"R", b"A", b"A"], size=[0, 5, 6], order_id=[0, 1, 2]
    )
    clock = ManualClock(instant_from_ns(T) + timedelta(milliseconds=500))
    line = "schema=mbo|stype_in=instrument_id|symbols=7|snapshot=1"
    path = write(tmp_path / "whole.dbn", header(), whole)
    with running_sandbox(config(path, clock=clock)) as sandbox, BareClient(sandbox, line) as client:
        client.start()
        book = np.frombuffer(b"".join(client.records(2, MBO)), dtype=whole.dtype)
        assert (book["action"].tolist(), book["size"].tolist()) == ([b"R", b"A"], [0, 5])
        clock.advance(1.0)
        assert client.records(1, MBO) == [whole[2:].tobytes()]
    path = write(tmp_path / "part.dbn", header(), whole[1:])
    with running_sandbox(config(path, clock=clock)) as sandbox, BareClient(sandbox, line) as client:
        client.start()
        assert b"begins with neither a clear nor a snapshot" in client.rest()


def test_the_clock_starts_with_the_first_record(files: Files) -> None:
    """On the machine's clock a recording would be over: unless it is given a time, it starts where the file does."""
    with running_sandbox(config(files.mbo)) as sandbox:
        since = sandbox.config.clock.now() - START
        assert timedelta(0) <= since < timedelta(minutes=1)
        assert metadata(sandbox).get_dataset_range(DATASET)["end"] < "2026-03-10T14:31"


def test_a_rate_does_not_go_with_a_recording(files: Files) -> None:
    """Recorded data has a pace of its own; only the market's may be asked for."""
    with pytest.raises(ValueError, match="pace of their own"):
        SandboxConfig(replay=(files.mbo,), rate=5)
    assert SandboxConfig(replay=(files.mbo,), rate=None).replay == (files.mbo,)
    refused = CliRunner().invoke(command, ["--replay", str(files.mbo), "--rate", "1000"])
    assert (refused.exit_code, "pace of their own" in refused.output) == (2, True)


def test_a_broken_file_opens_no_port(tmp_path: Path) -> None:
    """Nothing is half-served: the error names file and byte before anything listens; the command ends with code 2."""
    path = write(tmp_path / "bad.dbn", header(), rows_of("mbo", [T]).tobytes()[:-1])
    with pytest.raises(RecordingError, match=r"bad\.dbn: truncated"):
        Sandbox(SandboxConfig(replay=(path,)))
    refused = CliRunner().invoke(command, ["--replay", str(path), "--live-port", "0", "--http-port", "0"])
    assert refused.exit_code == 2
    assert "bad.dbn: truncated: the record at byte" in refused.output


def test_the_command_says_what_it_serves(files: Files) -> None:
    """Kind, schemas, range, symbols and what was done with the file stand in the text; JSON says "not synthetic"."""
    from budget_guard.cli import sandbox as cli

    shown: dict[str, str] = {}
    with running_sandbox(config(files.mbo)) as sandbox:
        shown["text"], shown["json"] = cli._text(sandbox), json.dumps(cli._facts(sandbox))
    for words in (
        "A local Databento with recorded data.",
        "GLBX.MDP3 mbo, 2026-03-10T14:30:00Z to 2026-03-10T14:31:00Z",
        "Symbols of GLBX.MDP3: continuous ES.v.0, NQ.v.0; ",
        "decompressed into a temporary file of",
        "start with --now at the end",
    ):
        assert words in shown["text"]
    assert json.loads(shown["json"])["synthetic"] is False

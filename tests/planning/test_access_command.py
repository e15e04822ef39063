"""`budget-guard access` as its user meets it, against a local Databento with and without licences."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from budget_guard.cli import main
from budget_guard.clock import ManualClock
from budget_guard.errors import KeyRejected, NotEntitled, VendorUnavailable
from budget_guard.gateway.live.probe import probe_live
from budget_guard.gateway.live.upstream import Endpoint
from budget_guard.render.access import render_access
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.planning.desk import GLBX, policy, stream
from tests.planning.test_access import reported

NQ = str(Path(__file__).parents[2] / "policies" / "nq-futures.yaml")
WRONG_KEY = "db-wrong-00000000000000000000001"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One that licenses live data of XNAS.ITCH only."""
    config = SandboxConfig(
        clock=ManualClock(datetime(2026, 11, 22, 12, tzinfo=UTC)),
        live_entitlements=frozenset({"XNAS.ITCH"}),
        limits=replace(Limits.none(), connections_per_dataset=1),
    )
    with running_sandbox(config) as running:
        yield running


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sandbox: Sandbox) -> None:
    monkeypatch.setenv("DATABENTO_API_KEY", sandbox.key)
    monkeypatch.setenv("BUDGET_GUARD_LIVE_GATEWAY", f"127.0.0.1:{sandbox.live_port}")
    monkeypatch.setenv("BUDGET_GUARD_HISTORICAL_GATEWAY", sandbox.http_url)
    monkeypatch.setenv("BUDGET_GUARD_NOW", "2026-11-22T12:00:00Z")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["access", *args])
    return int(ended.value.code or 0)


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, Any]:
    code = run(*args, "--format", "json")
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, json.loads(captured.out)


def test_a_refusal_of_what_is_needed_exits_with_5(capsys: pytest.CaptureFixture[str]) -> None:
    """With the step to take, its price, and what the stream costs as history until then."""
    code, report = shown(capsys, NQ, "--month", "2026-11")
    (one,) = report["datasets"]
    assert (code, report["verdict"]) == (5, "refused")
    assert (one["dataset"], one["live"]["access"], one["live"]["needed_by"]) == (GLBX, "refused", ["nq-mbo"])
    assert one["live"]["problem"]["code"] == "not_entitled"
    assert one["historical"]["access"] == "granted"
    assert {"schema": "mbo", "start_utc": "2010-06-06T00:00:00Z", "end_utc": "2026-11-22T04:00:00Z"} in one[
        "historical"
    ]["ranges"]
    with pytest.raises(SystemExit):
        main(["plan", NQ, "--month", "2026-11", "--format", "json"])
    ways = json.loads(capsys.readouterr().out)["ways_down"]
    next_day = next(way["cost_usd"]["p50"] for way in ways if way["way"] == "next_day_historical")
    assert [step["usd_per_month"] for step in one["steps"]] == ["199", next_day]


def test_a_key_that_has_what_is_needed_exits_with_0(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A stream of the licensed dataset."""
    path = tmp_path / "policy.yaml"
    path.write_text(
        "version: 1\nname: p\nbudgets: [{name: b, month: 5 USD}]\nstreams:\n"
        "  s: {dataset: XNAS.ITCH, schema: mbo, symbols: AAPL, windows: {session: regular}}\n",
        encoding="utf-8",
    )
    code, report = shown(capsys, str(path))
    assert (code, report["verdict"], report["datasets"][0]["live"]["problem"]) == (0, "granted", None)


def test_without_a_policy_everything_known_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is needed, so it exits with 0 whatever is refused."""
    code, report = shown(capsys)
    assert code == 0
    states = {one["dataset"]: one["live"]["access"] for one in report["datasets"]}
    assert states == {
        "DBEQ.BASIC": "refused",
        "EQUS.MINI": "refused",
        GLBX: "refused",
        "OPRA.PILLAR": "refused",
        "XNAS.ITCH": "granted",
    }


def test_asking_costs_nothing(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Not a byte, by the vendor's own bill: no session was started."""
    shown(capsys)
    bill = sandbox.wait_for(lambda bill: all(row["closed_utc"] for row in bill["connections"]))
    assert bill["connections"]
    assert (bill["bytes"], bill["cost_usd"]) == (0, "0")


def test_a_wrong_key_exits_with_5(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says where keys are."""
    monkeypatch.setenv("DATABENTO_API_KEY", WRONG_KEY)
    assert run(NQ) == 5
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "DATABENTO_API_KEY" in captured.err
    assert WRONG_KEY not in captured.err


def test_no_key_is_wrong_usage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 2, with the variable to set."""
    monkeypatch.delenv("DATABENTO_API_KEY")
    assert run(NQ) == 2
    assert "DATABENTO_API_KEY is not set" in capsys.readouterr().err


def test_a_live_gateway_that_is_down_exits_with_6(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not refused: not found out."""
    monkeypatch.setenv("BUDGET_GUARD_LIVE_GATEWAY", "127.0.0.1:1")
    code, report = shown(capsys, NQ)
    assert (code, report["verdict"]) == (6, "unknown")
    assert "BUDGET_GUARD_LIVE_GATEWAY" in report["datasets"][0]["live"]["problem"]["advice"]


def test_the_table_names_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict first, then each dataset, then what to do."""
    assert run(NQ, "--month", "2026-11") == 5
    text = capsys.readouterr().out
    assert "refused: the vendor refuses something that the policy needs" in text
    assert "no licence" in text
    assert "$10.75" in text


def test_the_table_reads_at_eighty_columns() -> None:
    """No line is longer than the terminal."""
    report = reported(policy(stream(), stream("other", dataset="OPRA.PILLAR", schema="trades")))
    console = Console(file=io.StringIO(), width=80, color_system=None, legacy_windows=False)
    console.print(render_access(report))
    written: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line.rstrip()) for line in written.splitlines()) <= 80
    assert "licensed" in written


def test_the_probe_knows_each_answer(sandbox: Sandbox) -> None:
    """Welcome, no licence, a wrong key asked once, and nobody there."""
    endpoint = Endpoint("127.0.0.1", sandbox.live_port)
    welcome = probe_live(endpoint, sandbox.key, ["XNAS.ITCH", GLBX], pause_s=0)
    assert welcome["XNAS.ITCH"] is None
    assert isinstance(welcome[GLBX], NotEntitled)
    wrong = probe_live(endpoint, WRONG_KEY, ["XNAS.ITCH", GLBX], pause_s=0)
    assert isinstance(wrong["XNAS.ITCH"], KeyRejected)
    assert wrong[GLBX] is wrong["XNAS.ITCH"]
    nobody = probe_live(Endpoint("127.0.0.1", 1), sandbox.key, [GLBX], pause_s=0)[GLBX]
    assert isinstance(nobody, VendorUnavailable)
    assert "BUDGET_GUARD_LIVE_GATEWAY" in nobody.advice


def test_a_probe_leaves_no_connection_behind(sandbox: Sandbox) -> None:
    """With room for one connection, three logons in a row are three welcomes."""
    endpoint = Endpoint("127.0.0.1", sandbox.live_port)
    for _ in range(3):
        assert probe_live(endpoint, sandbox.key, ["XNAS.ITCH"], pause_s=0) == {"XNAS.ITCH": None}

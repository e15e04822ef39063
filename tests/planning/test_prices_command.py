"""`budget-guard prices`, and what the commands that ask the vendor have in common, as their user meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from budget_guard.cli import main
from tests.vendor.server import Answer, Asked, PlayedServer, played_server

POLICIES = Path(__file__).parents[2] / "policies"
NQ = str(POLICIES / "nq-futures.yaml")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATABENTO_API_KEY", "BUDGET_GUARD_NOW", "BUDGET_GUARD_HISTORICAL_GATEWAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*args])
    return int(ended.value.code or 0)


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, Any]:
    code = run("prices", *args, "--format", "json")
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, json.loads(captured.out)


def prices(asked: Asked) -> Answer:
    return Answer([{"mode": "live", "unit_prices": {"mbo": 2.5}}])


def use(monkeypatch: pytest.MonkeyPatch, server: PlayedServer) -> None:
    monkeypatch.setenv("DATABENTO_API_KEY", "db-TestTestTestTestTestTestTest1")
    monkeypatch.setenv("BUDGET_GUARD_HISTORICAL_GATEWAY", server.url)


def test_without_a_policy_and_a_key_the_sheet_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0, JSON alone on stdout."""
    code, report = shown(capsys)
    assert (code, report["policy"]) == (0, None)
    assert {row["kind"] for row in report["prices"]} == {"sheet"}
    assert len(report["plans"]) == 5


def test_a_price_that_a_stream_needs_and_nobody_knows_exits_with_6(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An alternative that has no price does not."""
    path = tmp_path / "policy.yaml"
    text = (
        "version: 1\nname: p\nbudgets: [{{name: b, month: 5 USD}}]\nstreams:\n"
        "  s: {{dataset: GLBX.MDP3, schema: {0}, symbols: X, windows: {{session: full}}, cheaper: [{1}]}}\n"
    )
    path.write_text(text.format("imbalance", "mbo"), encoding="utf-8")
    assert shown(capsys, str(path))[0] == 6
    path.write_text(text.format("mbo", "imbalance"), encoding="utf-8")
    assert shown(capsys, str(path))[0] == 0


def test_the_accounts_list_is_asked_once_a_day_and_again_when_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run reads what is kept, `--refresh` does not, `--offline` asks nobody."""
    with played_server(prices) as server:
        use(monkeypatch, server)
        first = shown(capsys, NQ)[1]["prices"][0]
        assert (first["usd_per_gib"], first["kind"]) == ("2.5", "vendor")
        again = shown(capsys, NQ)[1]["prices"][0]
        assert again["read_utc"] == first["read_utc"]
        assert server.calls() == ["list_unit_prices"]
        shown(capsys, NQ, "--refresh")
        assert server.calls() == ["list_unit_prices"] * 2
        assert shown(capsys, NQ, "--offline")[1]["prices"][0]["kind"] == "sheet"
        assert server.calls() == ["list_unit_prices"] * 2


def test_the_table_and_the_page_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Each in its format."""
    assert run("prices", NQ) == 0
    assert "nq-futures: prices in USD per GiB" in capsys.readouterr().out
    assert run("prices", NQ, "--format", "md") == 0
    assert capsys.readouterr().out.startswith("# nq-futures: prices in USD per GiB\n")


@pytest.mark.parametrize("command", ["plan", "prices"])
def test_to_ask_again_and_to_ask_nobody_is_wrong_usage(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, with both options named."""
    assert run(command, NQ, "--offline", "--refresh") == 2
    assert "--refresh asks the vendor again and --offline asks nobody" in capsys.readouterr().err


def test_a_wrong_key_exits_with_5(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prices of the sheet would hide it."""
    with played_server(lambda asked: Answer({"detail": "no"}, 401)) as server:
        use(monkeypatch, server)
        assert run("prices", NQ) == 5
    assert "DATABENTO_API_KEY" in capsys.readouterr().err


def test_a_plan_shows_the_age_of_what_it_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source of a price ends with how long ago it was asked for."""
    with played_server(prices) as server:
        use(monkeypatch, server)
        assert run("plan", NQ, "--month", "2026-12") == 0
    assert "(asked just now)" in capsys.readouterr().out

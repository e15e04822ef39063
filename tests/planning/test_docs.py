"""What the pages of planning, prices and access show is what the commands print and mean."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from budget_guard.cli import main
from budget_guard.clock import ManualClock
from budget_guard.planning.shapes import SHAPES
from budget_guard.pricing.history import LEVELS, PLAN_HISTORY
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.server import Sandbox, running_sandbox

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("planning", "prices", "access")
}
PAGE = PAGES["planning"]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Without a licence for CME, and with history that ends eight hours ago."""
    config = SandboxConfig(
        clock=ManualClock(datetime(2026, 11, 22, 12, tzinfo=UTC)),
        live_entitlements=frozenset({"XNAS.ITCH"}),
        embargo_s=8 * 3600,
    )
    with running_sandbox(config) as running:
        yield running


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("DATABENTO_API_KEY", "BUDGET_GUARD_NOW", "BUDGET_GUARD_HISTORICAL_GATEWAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def use(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABENTO_API_KEY", sandbox.key)
    monkeypatch.setenv("BUDGET_GUARD_LIVE_GATEWAY", f"127.0.0.1:{sandbox.live_port}")
    monkeypatch.setenv("BUDGET_GUARD_HISTORICAL_GATEWAY", sandbox.http_url)
    monkeypatch.setenv("BUDGET_GUARD_NOW", "2026-11-22T12:00:00Z")


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit):
        main([*args])
    return capsys.readouterr().out


def example_of(page: str) -> tuple[list[str], list[str]]:
    """The command of a page's example, and the lines that it prints."""
    shown = re.search(r"```console\n\$ budget-guard (?P<command>.*)\n(?P<output>[^`]*)```", page)
    assert shown is not None
    return shown["command"].split(), shown["output"].splitlines()


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.parametrize("name", ["planning", "prices"])
def test_the_example_is_what_the_command_prints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Line by line, blanks at the ends aside."""
    command, output = example_of(PAGES[name])
    assert lines(printed(capsys, *command)) == output


def test_the_example_of_access_is_what_it_prints(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a local Databento, whose ports alone are others."""
    use(sandbox, monkeypatch)
    command, output = example_of(PAGES["access"])
    text = printed(capsys, *command)
    text = text.replace(sandbox.http_url, "http://127.0.0.1:8080")
    assert lines(text.replace(f"127.0.0.1:{sandbox.live_port}", "127.0.0.1:13000")) == output


@pytest.mark.parametrize("name", ["prices", "access"])
def test_every_field_of_the_json_is_on_its_page(
    name: str, sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program's author finds each key there."""
    use(sandbox, monkeypatch)
    keys = set(keys_of(json.loads(printed(capsys, name, "policies/nq-futures.yaml", "--format", "json"))))
    keys |= set(keys_of(json.loads(printed(capsys, name, "--format", "json"))))
    assert {key for key in keys if not re.search(rf"\b{key}\b", PAGES[name])} == set()


def keys_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from keys_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


def test_every_reach_of_a_plan_is_in_the_table() -> None:
    """The page and the code hold the same facts."""
    for reach in PLAN_HISTORY["standard"]:
        row = next(line for line in PAGES["prices"].splitlines() if line.startswith(f"| {reach.level} |"))
        assert row.endswith(f"| {reach.text} |")
        assert all(schema in row or schema.startswith("ohlcv-") for schema in LEVELS[reach.level])


@pytest.mark.parametrize("name", ["plan", "prices", "access"])
def test_every_option_is_on_its_page(name: str) -> None:
    """Nothing can be asked of a command that its page does not name."""
    from importlib import import_module

    command = import_module(f"budget_guard.cli.{name}").command
    options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    page = PAGES["planning" if name == "plan" else name]
    assert {option for option in options if option not in page} == set()


@pytest.mark.parametrize("market", SHAPES)
def test_every_share_of_a_shape_is_in_the_table(market: str) -> None:
    """The page and the code hold the same assumption."""
    for start, end, share in SHAPES[market].parts:
        assert f"| {start:%H:%M}-{end:%H:%M} | {int(share * 100)}% |" in PAGE

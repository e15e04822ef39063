"""The sandbox's page: its example runs, and it names every command there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from budget_guard.cli.sandbox import command
from budget_guard.sandbox.faults.control import COMMANDS
from budget_guard.sandbox.faults.model import KINDS, Kind, Param
from budget_guard.sandbox.faults.scenario import bundled_scenarios, load_scenario
from budget_guard.sandbox.server import running_sandbox
from tests.sandbox.bare_client import NQ_MBO, BareClient

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")


def test_the_example_runs() -> None:
    """Every Python block of the page, as it stands."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/sandbox.md", "exec"), {})


def test_every_control_and_option_is_on_the_page() -> None:
    """Nothing can be asked of the sandbox that the page does not name."""
    options = {name for parameter in command.params for name in parameter.opts}
    missing = [name for name in {*COMMANDS, *options} - {"--host"} if name not in PAGE]
    assert missing == []


def _word(name: str, param: Param) -> str:
    if param.required or param.default is None:
        return f"`{name}`"
    default = param.default
    return f"`{name}` ({str(default).lower() if isinstance(default, bool) else default})"


def _row(name: str, kind: Kind) -> str:
    words = [_word(word, param) for word, param in kind.params.items()] + [f"`{word}`" for word in kind.must]
    return f"| `{name}` | {', '.join(words)} | {kind.does} |"


def test_the_table_of_faults_is_the_language() -> None:
    """Each fault has its row: its own words, with their defaults, and what it does."""
    rows = [_row(name, kind) for name, kind in KINDS.items()]
    assert [row for row in rows if row not in PAGE] == []
    assert all(f"`{name}`" in PAGE for name in bundled_scenarios())


def test_the_example_scenario_does_what_it_says(tmp_path: Path) -> None:
    """The reset comes after 500 records of the first connection."""
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.partition("## Faults")[2], re.DOTALL)
    path = tmp_path / "scenario.yaml"
    path.write_text(block, encoding="utf-8")
    config = load_scenario(path)
    assert len(config.faults) == 4
    with running_sandbox(config) as sandbox:
        with BareClient(sandbox, NQ_MBO) as client:
            client.start()
            with pytest.raises(ConnectionResetError):
                client.rest()
        line = sandbox.bill()["connections"][0]
    assert line["schemas"]["mbo"]["bytes"] == 500 * 56

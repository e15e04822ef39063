"""The sandbox's page: its example runs, and it names every command there is."""

from __future__ import annotations

import re
from pathlib import Path

from budget_guard.cli.sandbox import command
from budget_guard.sandbox.faults.control import COMMANDS

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

"""Every command line on the pages about the ledger is one that the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from budget_guard.cli import cli

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
LINES = [
    line
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("budget-guard ")
]


@pytest.mark.parametrize("line", LINES)
def test_a_documented_command_line_is_understood(line: str) -> None:
    """Its commands, options and values, as they stand on the page."""
    words = shlex.split(line)[1:]
    found: click.Command = cli
    while isinstance(found, click.Group):
        known = found.get_command(click.Context(found), words.pop(0))
        assert known is not None, line
        found = known
    found.make_context("documented", words)


def test_every_command_about_the_ledger_is_documented() -> None:
    """With an example."""
    group = cli.get_command(click.Context(cli), "ledger")
    assert isinstance(group, click.Group)
    shown = {tuple(line.split()[1:3]) for line in LINES}
    assert {("ledger", name) for name in group.commands} <= shown
    assert any(line.startswith("budget-guard approve ") for line in LINES)

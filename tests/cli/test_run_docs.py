"""What docs/running.md says of options, times and pauses is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from budget_guard.cli.run import command
from budget_guard.streaming.fallback import PACES
from budget_guard.streaming.supervisor import GRACE_S, PROVEN_S
from budget_guard.streaming.supervisor_prospects import UNREACHABLE_S
from budget_guard.streaming.supervisor_restarts import FIRST_S, MOST_S

PAGE = (Path(__file__).parents[2] / "docs" / "running.md").read_text(encoding="utf-8")


def test_every_option_is_on_the_page_and_no_other() -> None:
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    table = PAGE.split("## Windows")[0]
    assert set(re.findall(r"^\| `(--[a-z]+)", table, re.MULTILINE)) == options


def test_its_times_are_those_of_the_code() -> None:
    (grace,) = (parameter.default for parameter in command.params if parameter.name == "grace")
    assert grace == GRACE_S
    assert f"killed; {GRACE_S:.0f} |" in PAGE
    assert f"after 1, 2, 4, ... up to {MOST_S:.0f} seconds" in PAGE
    assert (FIRST_S, PROVEN_S, UNREACHABLE_S) == (1, 60, 60)
    assert PACES == {"money": (10, 5 * 60), "vendor": (30, 15 * 60), "unreachable": (15, 2 * 60)}
    assert "after 10 s, 20 s, ... at most every 5 minutes" in PAGE
    assert "after 30 s, 1 min, ... at most every 15 minutes" in PAGE
    assert "after 15 s, 30 s, ... at most every 2 minutes" in PAGE

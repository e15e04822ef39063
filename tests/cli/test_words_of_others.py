"""What others wrote into a shared ledger is read on terminals: it is shown, and moves nothing there."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from budget_guard.cli import cli
from budget_guard.cli.screen import say
from budget_guard.ledger.model import Approval, Gap
from budget_guard.ledger.store import SqlLedger
from budget_guard.render.console import ReportConsole
from tests.cli.test_approve import POLICY, TOMORROW
from tests.ledger.samples import USD, claiming, terms

# Clears the screen, sets the title, rings, goes back over the line, and writes from right to left.
HOSTILE = "res\x1b[2Jults\x1b]0;owned\x07 d\ray\u202e\x9b31m"
MOVING = ("\x1b", "\x07", "\r", "\u202e", "\x9b")


@pytest.mark.parametrize(
    "command", [("status",), ("review",), ("review", "--format", "md"), ("gaps",)], ids=" ".join
)
def test_no_report_hands_on_what_moves_a_cursor(
    command: tuple[str, ...], ledger: SqlLedger, url: str, tmp_path: Path
) -> None:
    """Names, reasons and streams are printed without it."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    now = TOMORROW - timedelta(days=1)
    ledger.record_approval(Approval("a1", "desk", "account", "usd", 10**9, now, TOMORROW, HOSTILE, HOSTILE))
    ledger.open_hold(terms(stream=HOSTILE, host="elsewhere"), [USD], claiming({USD: (0, 5)}))
    ledger.record_gap(Gap("g1", "desk", HOSTILE, "GLBX.MDP3", "mbo", now, TOMORROW, "", HOSTILE))
    said = CliRunner().invoke(
        cli, [command[0], str(file), *command[1:]], env={"BUDGET_GUARD_LEDGER": url, "BUDGET_GUARD_NOW": ""}
    )
    assert said.exit_code == 0, said.output
    assert [sign for sign in MOVING if sign in said.stdout] == []


def test_a_line_on_stderr_hands_on_none_of_it_either(capsys: pytest.CaptureFixture[str]) -> None:
    """What became of a dead program's hold names its stream."""
    say(f"{HOSTILE}\nsecond")
    said = capsys.readouterr().err
    assert [sign for sign in MOVING if sign in said] == []
    assert said.splitlines()[-1] == "second"


def test_neither_does_the_log() -> None:
    """As the guard writes it, of what a vendor or a client said."""
    program = f"""
import logging, sys
from budget_guard.streaming.secrecy import log_without_key
log_without_key(sys.stderr, None)
logging.warning("%s", {HOSTILE!r})
"""
    said = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
    ).stderr.decode()
    assert said.startswith("budget-guard: res")
    assert [sign for sign in MOVING if sign in said] == []


def test_styles_and_lines_are_the_consoles_own() -> None:
    """Colours are kept, and so are the ends of lines."""
    table = Table(box=None, show_header=False)
    table.add_row(Text(f"{HOSTILE}\nsecond", style="bold"))
    console = ReportConsole(width=80)
    segments: list[Segment] = list(console.render(table))
    text = "".join(segment.text for segment in segments)
    assert [line.strip()[:3] for line in text.splitlines()] == ["res", "sec"]
    assert any(segment.style is not None and segment.style.bold for segment in segments)

"""The page of faults is what is measured: a part of it here, all of it by `python -m tests.gateway.proof`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from budget_guard.sandbox.faults.model import KINDS
from tests.gateway.proof import PAGE
from tests.sandbox.proving.faults import cases_of

TEXT = PAGE.read_text(encoding="utf-8")
# Quick ones: a stream, a record that no client can read, a login, a download.
QUICK = ("close", "corrupt_length", "reject_login", "break_history")
# A price that changes under an open connection: a guard cannot know it before it asks again.
UNKNOWABLE = "price"


def rows_of(fault: str) -> list[str]:
    return [line for line in TEXT.splitlines() if line.startswith(f"| `{fault}` |")]


@pytest.mark.parametrize("fault", KINDS)
def test_every_fault_was_tried(fault: str) -> None:
    places = [place for row in rows_of(fault) for place in row.split(" | ")[1].split("; ")]
    assert sorted(places) == sorted(case.where for case in cases_of(fault))


def test_the_ledger_covers_the_bill_whatever_goes_wrong() -> None:
    short = [line for line in TEXT.splitlines() if "short**" in line]
    assert [line for line in short if not line.startswith(f"| `{UNKNOWABLE}` |")] == []


def test_no_program_hangs() -> None:
    assert "the process hangs" not in "".join(
        line.split(" | ")[4] for fault in KINDS for line in rows_of(fault)
    )


def test_the_outcomes_are_what_is_measured() -> None:
    """In a process that may fork."""
    command = [sys.executable, "-m", "tests.gateway.proof", "--faults", ",".join(QUICK)]
    measured = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=240, cwd=PAGE.parents[1]
    )
    assert measured.stdout.splitlines()[2:] == [row for fault in QUICK for row in rows_of(fault)]

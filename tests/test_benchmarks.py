"""The ledger's benchmark runs, and its race finds nothing spent past a limit. How fast it is, is not asked here."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmarks import deciding
from benchmarks.ledger import PARTS, main


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_the_ledgers_benchmark_prints_its_table(part: str) -> None:
    said = io.StringIO()
    assert main(["--quick", "--store", "sqlite", "--part", part], Console(file=said, width=150)) == 0
    lines = said.getvalue().splitlines()
    assert " cores, " in lines[0]
    assert any("│" in line for line in lines)


def test_grants_are_measured_on_postgresql_too() -> None:
    said = io.StringIO()
    assert main(["--quick", "--store", "postgresql", "--part", "grants"], Console(file=said, width=150)) == 0
    assert "postgresql" in said.getvalue()


def test_the_decision_that_is_measured_is_under_every_budget_and_lets_the_request_through() -> None:
    guard, request = deciding.guard_and_request()
    stream = guard.covering(request)
    assert len(guard.live_limits(stream, guard.clock.now())) == deciding.BUDGETS
    assert len(guard.policy.streams) == deciding.STREAMS
    assert guard.decide_live(request, allowance_bytes=deciding.ALLOWANCE_BYTES).allowed

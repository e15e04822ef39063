"""The benchmarks run, and the ledger's race finds nothing spent past a limit. How fast they are is not asked here."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from benchmarks import deciding, latency, many, pump, throughput
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


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (pump.main, ["--pairs", "1", "--seconds", "0.2"]),
        (latency.main, ["--rounds", "1", "--seconds", "0.2", "--rate", "2000"]),
        (many.main, ["--connections", "3", "--seconds", "0.2"]),
        (throughput.main, ["--pairs", "1", "--seconds", "0.2", "--schemas", "mixed"]),
    ],
    ids=["pump", "latency", "many", "throughput"],
)
def test_what_the_guard_costs_a_program_is_measured(main: Callable[..., int], arguments: list[str]) -> None:
    """Several schemas on one connection in the last."""
    said = io.StringIO()
    assert main(arguments, Console(file=said, width=150)) == 0
    assert any("│" in line for line in said.getvalue().splitlines())


def test_latencies_are_counted_from_the_fastest_direct_record() -> None:
    took = [2_000_000 + 1000 * number for number in range(100)]
    assert latency.Latency.of(took, 1_999_000) == latency.Latency(51.0, 100.0)


def test_shares_are_of_an_equal_one() -> None:
    share = many.Share((5, 10, 15), 2.0)
    assert (share.least, share.most) == (0.5, 1.5)

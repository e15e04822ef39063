"""A few seconds of the simulation: seeded schedules keep every promise, and a broken ledger is found out."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.mutations import MUTATIONS, find
from tests.simulation.running import run, run_many, shrink
from tests.simulation.schedule import Fault, Step, make_schedule

HERE = Path(__file__).parent
# Found by the first few seeds; the others take `make soak`.
QUICK = (
    "held is not added",
    "a balance is left as it was",
    "only the first budget is held",
    "a refusal leaves a hold",
    "the vendor is asked before the ledger knows",
    "money is rounded down",
    "a lease keeps nothing for its ending",
    "a broken line leaves no residual",
    "recovery assumes no residual",
    "recovery takes from the living",
    "recovery releases what was active",
    "overruns are kept quiet",
    "what the ledger lost stays lost",
)


@pytest.mark.parametrize("first", [0, 20, 40])
def test_whatever_breaks_the_bill_is_below_the_ledger_and_the_ledger_below_its_limits(first: int) -> None:
    summary = run_many(first, 20)
    assert [(failed.seed, failed.step, failed.failure) for failed in summary.failures] == []
    assert summary.checks > 100


def test_what_a_failover_took_is_written_again() -> None:
    summary = run_many(0, 15, lossy=True)
    assert [(failed.seed, failed.step, failed.failure) for failed in summary.failures] == []
    assert summary.counts["commits lost"] > 0


@pytest.mark.parametrize("mutation", QUICK)
def test_a_broken_ledger_is_found_out(mutation: str) -> None:
    assert find(mutation, 40).outcome is not None


def test_every_mutation_has_a_name_of_its_own() -> None:
    assert set(QUICK) < set(MUTATIONS)


def test_a_seed_means_the_same_steps_and_the_same_end_each_time() -> None:
    assert make_schedule(7) == make_schedule(7)
    first, second = run(make_schedule(7)), run(make_schedule(7))
    assert (first.counts, first.fired, first.checks) == (second.counts, second.fired, second.checks)


def test_a_failure_is_shrunk_to_the_steps_that_it_needs() -> None:
    """One process that starts and opens a connection is all it takes to see an activation left out."""
    broken = MUTATIONS["the vendor is asked before the ledger knows"]
    schedule = make_schedule(0)
    small = shrink(schedule, broken=broken)
    assert {step.kind for step in small.steps} == {"start", "open"}
    assert run(small, broken=broken).failure is not None
    assert run(small).failure is None


def test_a_step_that_finds_nobody_does_nothing() -> None:
    schedule = make_schedule(0)
    steps = tuple(Step(step.kind, 0, 5, 5) for step in schedule.steps if step.kind != "start")
    assert run(replace(schedule, steps=steps)).failure is None


def test_a_write_that_arrives_after_a_restart_is_judged_by_what_its_sender_knew() -> None:
    """Recovery releases what had not begun, on a whole meter; the write arrives when the machine has restarted."""
    steps = (
        Step("start", 49436, 674, 39503),
        Step("open", 12505, 2, 42246),
        Step("open", 52029, 921999, 20618, Fault("kill_before", 0)),
        Step("start", 48839, 1, 4431, Fault("delay", 0)),
        Step("crash", 40085, 145087, 40393),
    )
    outcome = run(replace(make_schedule(1687), steps=steps))
    assert (outcome.failure, outcome.counts["late write"]) == (None, 1)


def test_after_a_restart_what_came_for_nothing_past_its_lease_is_booked_by_the_vendors_record() -> None:
    steps = (
        Step("start", 0, 0, 47016),
        Step("start", 1, 0, 54529),
        Step("open", 20996, 24, 45706),
        Step("kill", 51007, 13311580, 14443),
        Step("tick", 9169, 21866, 46515, Fault("traffic", 0)),
        Step("crash", 4300, 118436, 60243),
    )
    outcome = run(replace(make_schedule(3155), steps=steps))
    assert (outcome.failure, outcome.counts["recovered: resolved by the vendor's record"]) == (None, 1)


@pytest.mark.parametrize("module", ["auditor", "books", "calendar"])
def test_the_auditor_uses_none_of_the_arithmetic_that_it_judges(module: str) -> None:
    tree = ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {name for name in imported if name and name.startswith("budget_guard")}
    assert ours <= {"budget_guard.policy.model"}


def test_a_seed_is_told_step_by_step() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", "3"],
        capture_output=True,
        text=True,
        check=True,
        cwd=HERE.parent.parent,
        timeout=60,
    )
    assert "start(" in done.stdout
    assert "kept every promise" in done.stdout

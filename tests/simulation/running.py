"""Runs schedules: one, many, and a failing one with as few steps as fail still."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from budget_guard.guard import connection as connection_module
from budget_guard.guard import guard as guard_module
from budget_guard.ledger import meter as meter_module
from tests.simulation.auditor import Auditor
from tests.simulation.schedule import Schedule, Step, make_schedule
from tests.simulation.store import fresh_backend
from tests.simulation.world import World

Break = Callable[[], AbstractContextManager[object]]


@dataclass(slots=True)
class Outcome:
    """How a schedule went. `step` is the one at which it failed; one past the last is the end of all."""

    seed: int
    steps: int
    failure: str | None = None
    step: int | None = None
    checks: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Summary:
    """How many schedules went."""

    schedules: int = 0
    steps: int = 0
    checks: int = 0
    seconds: float = 0.0
    failures: list[Outcome] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        self.schedules += 1
        self.steps += outcome.steps
        self.checks += outcome.checks
        self.counts.update(outcome.counts)
        self.fired.update(outcome.fired)
        if outcome.failure is not None:
            self.failures.append(outcome)

    def merge(self, other: Summary) -> None:
        self.schedules += other.schedules
        self.steps += other.steps
        self.checks += other.checks
        self.counts.update(other.counts)
        self.fired.update(other.fired)
        self.failures.extend(other.failures)


@cache
def scratch() -> Path:
    """Where ledgers are made: in memory if the system has such a place."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else Path(tempfile.gettempdir())


@cache
def _template_folder() -> Path:
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="budget-guard-simulation-", dir=scratch()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=_template_folder()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Ids:
    """Hold ids that a seed repeats."""

    def __init__(self) -> None:
        self._made = 0

    def uuid4(self) -> SimpleNamespace:
        self._made += 1
        return SimpleNamespace(hex=f"h{self._made:05d}")


def run(
    schedule: Schedule, *, broken: Break | None = None, tell: Callable[[str], None] | None = None
) -> Outcome:
    """Carry out a schedule, with the code under test broken on purpose if asked for."""
    outcome = Outcome(schedule.seed, len(schedule.steps))
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        backend, identity, path = stack.enter_context(fresh_backend(folder, _template_folder()))
        auditor = Auditor(path, schedule.setting, lossy=schedule.lossy)
        stack.callback(auditor.close)
        world = World(schedule, folder, backend, identity, auditor)
        stack.callback(world.bury_all)
        stack.enter_context(patch.object(guard_module, "uuid", _Ids()))
        stack.enter_context(patch.object(meter_module, "this_boot_id", lambda: world.here.boot_id))
        stack.enter_context(patch.object(connection_module, "uptime_ns", lambda: world.here.now_ns))
        stack.enter_context(broken() if broken is not None else nullcontext())
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, logging.NOTSET)
        for number, step in enumerate((*schedule.steps, None)):
            if tell is not None:
                tell(f"{number:4} {step if step is not None else 'the end'}")
            try:
                world.take(step) if step is not None else world.finish()
            except Exception as error:  # noqa: BLE001
                outcome.failure, outcome.step = f"{type(error).__name__}: {error}", number
                break
        outcome.checks, outcome.counts, outcome.fired = auditor.checks, world.counts, world.fired
    return outcome


def run_many(first: int, count: int, lossy: bool = False) -> Summary:
    """Run the schedules of so many seeds."""
    summary, began = Summary(), time.perf_counter()
    for seed in range(first, first + count):
        summary.add(run(make_schedule(seed, lossy=lossy)))
    summary.seconds = time.perf_counter() - began
    return summary


def shrink(schedule: Schedule, *, broken: Break | None = None, tries: int = 400) -> Schedule:
    """A failure with fewer steps: whatever can be left out is, in ever smaller pieces."""
    best = schedule
    failed = run(best, broken=broken)
    if failed.step is not None:
        best = replace(best, steps=best.steps[: failed.step + 1])
    piece = max(1, len(best.steps) // 2)
    while piece and tries:
        at = 0
        while at < len(best.steps) and tries:
            tries -= 1
            fewer: tuple[Step, ...] = best.steps[:at] + best.steps[at + piece :]
            smaller = replace(best, steps=fewer)
            if run(smaller, broken=broken).failure is not None:
                best = smaller
            else:
                at += piece
        piece //= 2
    return best

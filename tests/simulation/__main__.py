"""`python -m tests.simulation`: one schedule told step by step, many of them, or the code broken on purpose."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context

from tests.simulation.mutations import MUTATIONS, find
from tests.simulation.running import Summary, run, run_many, shrink
from tests.simulation.schedule import make_schedule

_CHUNK = 50
_SHOWN_FAILURES = 10


def main() -> int:
    """0 when every schedule kept every promise, or every mutation was found; else 1."""
    options = _parser().parse_args()
    if options.seed is not None:
        return _tell(options.seed, small=options.shrink, lossy=options.lost_commits)
    if options.mutations:
        return _show_mutations(options.schedules or 1500, options.workers)
    count, lossy = options.schedules or 60, options.lost_commits
    return _show_many(options.first, count, options.workers, lossy=lossy, statistics=options.statistics)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="tell one schedule step by step")
    parser.add_argument(
        "--shrink", action="store_true", help="with --seed: leave out what a failure does not need"
    )
    parser.add_argument("--schedules", type=int, help="how many (default 60; for a mutation at most 1500)")
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="SEED", help="the first seed")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--statistics", action="store_true", help="how often each thing happened")
    parser.add_argument("--lost-commits", action="store_true", help="let the ledger lose its last commits")
    parser.add_argument(
        "--mutations", action="store_true", help="break the code on purpose, and see it found"
    )
    return parser


def _tell(seed: int, *, small: bool, lossy: bool) -> int:
    schedule = make_schedule(seed, lossy=lossy)
    outcome = run(schedule, tell=None if small else print)
    if outcome.failure is not None and small:
        schedule = shrink(schedule)
        outcome = run(schedule, tell=print)
    print(outcome.failure or f"kept every promise, after {outcome.checks} looks at the ledger")
    return int(outcome.failure is not None)


def _summaries(first: int, count: int, workers: int, *, lossy: bool) -> Iterator[Summary]:
    if workers == 1:
        yield run_many(first, count, lossy)
        return
    starts = range(first, first + count, _CHUNK)
    sizes = [min(_CHUNK, first + count - start) for start in starts]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_many, starts, sizes, repeat(lossy))


def _show_many(first: int, count: int, workers: int, *, lossy: bool, statistics: bool) -> int:
    began = time.perf_counter()
    total = Summary()
    for summary in _summaries(first, count, workers, lossy=lossy):
        total.merge(summary)
    print(
        f"{total.schedules} schedules from seed {first}: {total.steps} steps, {total.checks} looks at the ledger, "
        f"{sum(total.fired.values())} faults, {time.perf_counter() - began:.0f} s"
    )
    print("faults: " + ", ".join(f"{name} {times}" for name, times in sorted(total.fired.items())))
    if statistics:
        for name, times in total.counts.most_common():
            print(f"{times:>8}  {name}")
    for failure in total.failures[:_SHOWN_FAILURES]:
        print(f"FAILED seed {failure.seed}, step {failure.step}: {failure.failure}")
    print(f"{len(total.failures)} failed")
    return int(bool(total.failures))


def _show_mutations(schedules: int, workers: int) -> int:
    print(f"{'mutation':44} {'schedule':>8} {'step':>5}  what the auditor said")
    missed = 0
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for found in pool.map(find, MUTATIONS, repeat(schedules)):
            print(found.row(), flush=True)
            missed += found.outcome is None
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())

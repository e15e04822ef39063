"""What the ledger costs, and what it keeps: `python -m benchmarks.ledger [--quick]`.

Decisions in memory; durable grants beside what the bare database commits, alone and shared by many processes; grants
from ledgers that have grown; the last dollar; and whether data waits for the ledger. Figures that are compared are
measured in turn, in one run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from benchmarks import deciding, filling, grants, race, waiting
from benchmarks.stores import STORES, fsync_us, machine
from benchmarks.workers import Tally

PARTS = ("decide", "grants", "size", "race", "waiting")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    processes: tuple[int, ...]
    sizes: tuple[int, ...]
    rounds: int
    seconds: float
    race_rounds: int
    racers: int
    wait_seconds: float


FULL = Effort((1, 2, 4, 8, 16), (1_000, 10_000, 100_000, 1_000_000), 15, 0.3, 1_000, 16, 20.0)
QUICK = Effort((1, 2), (10, 100), 2, 0.1, 1, 2, 0.5)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the benchmark: what to measure, where, how much, and where it is told."""

    console: Console
    effort: Effort
    stores: tuple[str, ...]
    folder: Path

    def decide(self) -> None:
        found = deciding.measure(max(1.0, self.effort.seconds))
        title = f"decide_live in memory, {deciding.BUDGETS} budgets, {deciding.STREAMS} streams; microseconds"
        table = _table(title, "decisions", "median", "p99", "slowest")
        table.add_row(f"{found.count:,}", *(f"{us:.1f}" for us in _times(found)))
        self.console.print(table)

    def grants(self) -> None:
        title = (
            f"durable grants/s, three balances shared by all, beside the bare database; fsync {self._fsync()}"
        )
        table = _table(
            title,
            "store",
            "processes",
            "bare/s",
            "grants/s",
            "share",
            "bare p99 ms",
            "grant p99 ms",
            "slowest",
        )
        for store in self.stores:
            table.add_section()
            effort = self.effort
            for one in grants.measure(
                store,
                self.folder / "grants",
                effort.processes,
                rounds=effort.rounds,
                seconds=effort.seconds,
            ):
                table.add_row(
                    store,
                    str(one.processes),
                    f"{_median(one.bare, lambda tally: tally.per_second):,.0f}",
                    f"{_median(one.ledger, lambda tally: tally.per_second):,.0f}",
                    f"{one.share:.0%}",
                    f"{_median(one.bare, lambda tally: tally.p99_us) / 1000:,.1f}",
                    f"{_median(one.ledger, lambda tally: tally.p99_us) / 1000:,.1f}",
                    f"{max(tally.max_us for tally in one.ledger) / 1000:,.1f}",
                )
        self.console.print(table)

    def size(self) -> None:
        title = f"durable grants/s of one process by the size of the ledger; fsync {self._fsync()}"
        table = _table(title, "store", "holds and entries", "grants/s", "beside the smallest")
        for store in self.stores:
            table.add_section()
            for one in filling.measure(
                store,
                self.folder / "size" / store,
                self.effort.sizes,
                rounds=self.effort.rounds,
                seconds=self.effort.seconds,
            ):
                table.add_row(store, f"{one.holds:,}", f"{one.per_second:,.0f}", f"{one.beside:.2f}")
        self.console.print(table)

    def race(self) -> None:
        title = f"{self.effort.racers} processes and the last {race.LIMIT_USD} USD"
        table = _table(
            title,
            "store",
            "rounds",
            "spent, least",
            "spent, median",
            "usable, least",
            "most seen held",
            "never above",
        )
        broken = 0
        for store in self.stores:
            rounds = race.race(
                store, self.folder / "race" / store, self.effort.racers, self.effort.race_rounds
            )
            broken += sum(not one.holds for one in rounds)
            table.add_row(
                store,
                f"{len(rounds):,}",
                f"{min(one.share for one in rounds):.2%}",
                f"{statistics.median(one.share for one in rounds):.2%}",
                f"{min(one.usable for one in rounds):.2%}",
                f"{max(one.most / one.limit for one in rounds):.4%}",
                "yes" if all(one.holds for one in rounds) else "NO",
            )
        self.console.print(table)
        if broken:
            raise SystemExit(f"{broken} rounds went past their limit")

    def waiting(self) -> None:
        title = (
            f"latency of records at {waiting.RATE:,}/s, milliseconds above the fastest direct one; "
            f"a slow ledger takes {waiting.DELAY_S * 1000:.0f} ms longer for each call"
        )
        table = _table(title, "way", "records", "median", "p99", "slowest", "renewals")
        for one in waiting.measure(self.folder / "waiting", self.effort.wait_seconds):
            times = (f"{ms:.2f}" for ms in (one.median_ms, one.p99_ms, one.max_ms))
            table.add_row(one.way, f"{one.records:,}", *times, str(one.renewals))
        self.console.print(table)

    def _fsync(self) -> str:
        return f"{fsync_us(self.folder):,.0f} us"


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", min_width=110)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _times(found: Tally) -> tuple[float, float, float]:
    return found.median_us, found.p99_us, found.max_us


def _median(tallies: Sequence[Tally], figure: Callable[[Tally], float]) -> float:
    return statistics.median(figure(one) for one in tallies)


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure what the ledger costs and keeps.")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--store", choices=STORES, action="append", help="one store only; both unless said")
    parser.add_argument("--part", choices=PARTS, action="append", help="one part only; all unless said")
    parser.add_argument("--race-rounds", type=int, help=f"{FULL.race_rounds:,} unless said")
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else FULL
    if options.race_rounds is not None:
        effort = replace(effort, race_rounds=options.race_rounds)
    said = console or Console(width=120)
    with TemporaryDirectory() as folder:
        said.print(machine())
        run = Run(said, effort, tuple(options.store or STORES), Path(folder))
        for part in options.part or PARTS:
            getattr(run, part)()
    return 0


if __name__ == "__main__":
    sys.exit(main())

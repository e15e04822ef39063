"""The last dollar: processes that stream at the same time until the budget that they share has nothing left.

Each draws on the ledger as a live connection of the relay does, with its leases, its allowance for ending and its meter
file; the data is made up. What is refused asks again while it uses up the rest, as the relay does. When all have ended,
one more connects: what it gets was usable all the time, and nobody was left to use it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic

from benchmarks.grants import MONTH_END, MONTH_START, NOW, hold_terms
from benchmarks.stores import new_ledger
from benchmarks.workers import end_process
from budget_guard.clock import ManualClock
from budget_guard.errors import Refused
from budget_guard.guard.asking import ask_again_s
from budget_guard.guard.connection import LiveHold, connection_allowance_bytes
from budget_guard.guard.periods import BudgetLimit
from budget_guard.ledger.meter import Meter
from budget_guard.ledger.model import BalanceKey, Ledger
from budget_guard.ledger.store import open_ledger
from budget_guard.money import nano_from_usd

LIMIT_USD = Decimal(1)
# What each connection streams: its leases are worth half a minute of that, or their part of what is left.
BYTES_PER_S = 2 * 2**20
READ_BYTES = 16 * 1024
ALLOWANCE_BYTES = connection_allowance_bytes(256 * 1024, 256 * 1024)
# How often the ledger is looked at while they race, and how long a round may take.
LOOK_EVERY_S = 0.05
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Round:
    """What a round came to, in nano-USD; `most` is the most that was ever seen settled and held."""

    limit: int
    settled: int
    held: int
    most: int
    used: int  # what the racers streamed, by their own count
    refused: int  # of them, before they streamed anything
    later: int  # what one more connection used when all had ended

    @property
    def share(self) -> float:
        """The part of the limit that was spent when the last one was refused."""
        return self.settled / self.limit

    @property
    def usable(self) -> float:
        """The part of the limit that could be spent at all."""
        return (self.settled + self.later) / self.limit

    @property
    def holds(self) -> bool:
        spent = self.settled + self.later
        return self.used == self.settled and max(spent, self.most) <= self.limit and self.held == 0


def race(store: str, folder: Path, racers: int, rounds: int) -> list[Round]:
    """Rounds on one ledger, each with a budget of its own."""
    url = new_ledger(store, folder)
    ledger = open_ledger(url)
    try:
        with _standing(url, folder / "meters", racers) as lines:
            return [_play(ledger, lines, folder / "meters", number) for number in range(rounds)]
    finally:
        ledger.close()


def _budget(number: int) -> BudgetLimit:
    key = BalanceKey("desk", f"round-{number}", "month", MONTH_START, "usd")
    return BudgetLimit(key, nano_from_usd(LIMIT_USD), MONTH_END)


def _play(ledger: Ledger, lines: Sequence[Connection], meters: Path, number: int) -> Round:
    budget = _budget(number)
    for line in lines:
        line.send(number)
    used: list[int] = []
    most, waiting, deadline = 0, list(lines), monotonic() + TIMEOUT_S
    while waiting:
        ready = wait(waiting, LOOK_EVERY_S)
        used += [int(line.recv()) for line in waiting if line in ready]
        waiting = [line for line in waiting if line not in ready]
        now = ledger.balances([budget.key])[budget.key]
        most = max(most, now.settled + now.held)
        if monotonic() > deadline:
            raise TimeoutError(f"round {number}: {len(waiting)} are not done after {TIMEOUT_S:.0f} s")
    assert budget.limit is not None
    later = _stream(ledger, meters, f"round-{number}-later", budget)
    return Round(budget.limit, now.settled, now.held, most, sum(used), used.count(0), later)


@contextmanager
def _standing(url: str, meters: Path, racers: int) -> Iterator[list[Connection]]:
    """A line to each of so many processes that wait for the number of a round."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        lines = []
        for name in range(racers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, url, meters, name), daemon=True)
            process.start()
            theirs.close()
            stack.callback(end_process, process, ours)
            lines.append(ours)
        for line in lines:
            line.recv()
        yield lines


def _serve(line: Connection, url: str, meters: Path, name: int) -> None:
    ledger = open_ledger(url)
    line.send("ready")
    while (number := line.recv()) is not None:
        line.send(_stream(ledger, meters, f"round-{number}-{name}", _budget(number)))
    ledger.close()


def _read(hold: LiveHold, clock: ManualClock, next_try_s: float) -> None:
    """Read as the relay does until it asks for more: a part of the lease is gone, and the last try a while ago."""
    while not hold.exhausted and not (hold.renewal_due and clock.elapsed_s() >= next_try_s):
        left = hold.left_bytes
        assert left is not None
        size = min(left, READ_BYTES)
        hold.count(size, 0, 1)
        clock.advance(size / BYTES_PER_S)


def _stream(ledger: Ledger, meters: Path, hold_id: str, budget: BudgetLimit) -> int:
    """Stream until the guard says no; what that cost, in nano-USD."""
    clock = ManualClock(NOW)
    meter = Meter.create(meters, hold_id)
    terms = replace(hold_terms(hold_id), meter=meter.path.name)
    hold = LiveHold(
        terms, (budget,), ledger=ledger, clock=clock, meter=meter, allowance_bytes=ALLOWANCE_BYTES
    )
    try:
        hold.open()
    except Refused:
        meter.close(remove=True)
        return 0
    hold.activate()
    next_try_s = 0.0
    while True:
        _read(hold, clock, next_try_s)
        if not hold.renew() and hold.exhausted:
            break
        next_try_s = clock.elapsed_s() + (ask_again_s(hold.lasts_s) if hold.short else 0)
    return hold.finish("nothing is left", clean=True).cost_nano_usd

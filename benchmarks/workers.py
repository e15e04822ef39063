"""Processes that stand ready to do one thing again and again, all beginning at the same instant."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from benchmarks.stores import Doing

# Time for the last of many processes to read its order, in seconds.
_HEAD_START_S = 0.1


@dataclass(frozen=True, slots=True)
class Tally:
    """How often it was done, in how many seconds, and how long the slowest ones took."""

    count: int
    seconds: float
    median_us: float
    p99_us: float
    max_us: float

    @property
    def per_second(self) -> float:
        return self.count / self.seconds


@dataclass(frozen=True, slots=True)
class Workers:
    """One process for each of several workers; `ways` are the names of what each can do."""

    lines: tuple[Connection, ...]

    def run(self, way: str, count: int, seconds: float) -> Tally:
        """Let the first `count` of them do something at the same time."""
        lines = self.lines[:count]
        start_s = time.monotonic() + _HEAD_START_S
        for line in lines:
            line.send((way, start_s, seconds))
        took = [took for line in lines for took in _answer(line)]
        return tally(took, seconds)


def tally(took: Sequence[float], seconds: float) -> Tally:
    """From how long each took, in seconds."""
    if len(took) < 2:
        raise RuntimeError("it was not done twice in the time that there was: give it more seconds")
    ordered = sorted(took)
    p99 = ordered[int(len(ordered) * 0.99)]
    return Tally(len(took), seconds, statistics.median(ordered) * 1e6, p99 * 1e6, ordered[-1] * 1e6)


def timed(do: Callable[[], None], seconds: float) -> list[float]:
    """How long each of its runs took, for a number of seconds."""
    took = []
    now = time.perf_counter()
    end = now + seconds
    while now < end:
        do()
        then, now = now, time.perf_counter()
        took.append(now - then)
    return took


Make = Callable[[int], dict[str, Doing]]


@contextmanager
def ready(make: Make, count: int) -> Iterator[Workers]:
    """So many processes; each calls `make`, which must be importable, with its number."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        lines = []
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make, number), daemon=True)
            process.start()
            theirs.close()
            stack.callback(end_process, process, ours)
            lines.append(ours)
        for line in lines:
            _answer(line)
        yield Workers(tuple(lines))


def _serve(line: Connection, make: Make, number: int) -> None:
    ways = make(number)
    line.send([])
    while (order := line.recv()) is not None:
        way, start_s, seconds = order
        time.sleep(max(0.0, start_s - time.monotonic()))
        line.send(timed(ways[way][0], seconds))
    for _, close in ways.values():
        close()


def _answer(line: Connection) -> list[float]:
    try:
        answer: list[float] = line.recv()
    except EOFError:
        raise RuntimeError("a worker ended; what it said is above") from None
    return answer


def end_process(process: BaseProcess, line: Connection) -> None:
    """Tell a process to end, and wait until it has."""
    with suppress(OSError):
        line.send(None)
    line.close()
    process.join(timeout=30)
    if process.is_alive():
        process.kill()

"""What the guard adds to the way of a record: `python -m benchmarks.latency`.

A sandbox sends MBO at a steady rate, in a write every millisecond (`--slot-ms`), each record stamped when it is sent
(`ts_out`). A bare reader notes when it has read each: directly, through a byte pump without checks, and through the
relay, in turn.
Figures are microseconds above the fastest record that was read directly in the same round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from benchmarks.desk import Desk, Vendor, running_vendor
from benchmarks.middle import running_middle
from benchmarks.throughput import facts
from benchmarks.waiting import stamps
from tests.sandbox.bare_client import NQ_MBO, BareClient

WAYS = ("direct", "pump", "relay")
RATE = 50_000
WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one reading, in microseconds."""

    median: float
    p99: float

    @classmethod
    def of(cls, took_ns: list[int], fastest_ns: int) -> Latency:
        ordered = sorted(took_ns)
        median, p99 = (ordered[int(len(ordered) * part)] - fastest_ns for part in (0.5, 0.99))
        return cls(median / 1e3, p99 / 1e3)


def read(vendor: Vendor, desk: Desk, way: str, seconds: float) -> list[int]:
    """For each record the moment at which it was read less the one at which it was sent, up to a constant, in ns."""
    with ExitStack() as stack:
        port, key = int(vendor.live_gateway.rpartition(":")[2]), vendor.key
        if way != "direct":
            target = vendor.live_gateway if way == "pump" else str(desk.policy)
            middle = stack.enter_context(running_middle(way, target, desk.environment()))
            port, key = middle.port, middle.key
        client = stack.enter_context(BareClient(port, NQ_MBO, key=key, login="|ts_out=1"))
        client.start()
        return _times(client, seconds)


def _times(client: BareClient, seconds: float) -> list[int]:
    took: list[int] = []
    data = bytearray()
    begins = time.monotonic_ns() + int(WARM_UP_S * 1e9)
    now = 0
    while now < begins + seconds * 1e9:
        part = client.socket.recv(1 << 20)
        now = time.monotonic_ns()
        data += part
        sent = stamps(data)
        if now >= begins:
            took += [now - one for one in sent]
    return took


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rate", type=int, default=RATE)
    parser.add_argument("--slot-ms", type=int, default=1)
    options = parser.parse_args(arguments)
    console = console or Console(width=110)
    console.print(facts())
    table = Table(
        title=f"records at {options.rate:,}/s, a write every {options.slot_ms} ms, µs above the fastest direct one"
    )
    for name in ("round", "load", *(f"{way}, {figure}" for way in WAYS for figure in ("median", "p99"))):
        table.add_column(name, justify="right")
    added: dict[str, list[Latency]] = {way: [] for way in WAYS[1:]}
    with TemporaryDirectory() as folder, running_vendor(rate=options.rate, slot_ms=options.slot_ms) as vendor:
        desk = Desk.set_up(vendor, Path(folder) / "desk", "100000")
        for number in range(options.rounds):
            turn = number % len(WAYS)
            took = {way: read(vendor, desk, way, options.seconds) for way in WAYS[turn:] + WAYS[:turn]}
            fastest = min(took["direct"])
            found = {way: Latency.of(took[way], fastest) for way in WAYS}
            for way, others in added.items():
                one, direct = found[way], found["direct"]
                others.append(Latency(one.median - direct.median, one.p99 - direct.p99))
            cells = [f"{part:,.0f}" for way in WAYS for part in (found[way].median, found[way].p99)]
            table.add_row(str(number + 1), f"{os.getloadavg()[0]:.1f}", *cells)
    table.add_section()
    medians = [
        f"{statistics.median(getattr(one, figure) for one in others):+,.0f}"
        for others in added.values()
        for figure in ("median", "p99")
    ]
    table.add_row("added", "", "", "", *medians)
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the guard's checks cost beside a mere byte pump: `python -m benchmarks.pump`.

A bare reader, which looks at nothing, reads MBO from a sandbox that sends as fast as it is read: through a byte pump
without any checks, and through the relay. Each stands in a process of its own; rounds alternate.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from benchmarks.desk import Desk, Vendor, running_vendor
from benchmarks.middle import running_middle
from benchmarks.sandbox import pour
from benchmarks.throughput import facts
from tests.sandbox.bare_client import NQ_MBO, BareClient

WAYS = ("pump", "relay")


@dataclass(frozen=True, slots=True)
class Reading:
    """How fast it came, and what the process between used for it."""

    mb_per_s: float
    cpu_s_per_gb: float


def measure(vendor: Vendor, desk: Desk, way: str, seconds: float) -> Reading:
    target = vendor.live_gateway if way == "pump" else str(desk.policy)
    with (
        running_middle(way, target, desk.environment()) as middle,
        BareClient(middle.port, NQ_MBO, key=middle.key) as client,
    ):
        client.start()
        pour(client, 0.0)
        before = middle.cpu_s()
        flow = pour(client, seconds)
        used = middle.cpu_s() - before
    return Reading(flow.size / flow.seconds / 1e6, used / ((flow.size + flow.before) / 1e9))


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args(arguments)
    console = console or Console(width=110)
    console.print(f"{facts()}, load {os.getloadavg()[0]:.1f}")
    table = Table(title="a bare reader, MB/s, and CPU seconds per GB of the process between")
    for name in ("round", "pump", "relay", "relay / pump", "pump, CPU s/GB", "relay, CPU s/GB"):
        table.add_column(name, justify="right")
    ratios = []
    with TemporaryDirectory() as folder, running_vendor(rate=0) as vendor:
        desk = Desk.set_up(vendor, Path(folder) / "desk", "100000")
        for number in range(1, options.pairs + 1):
            order = WAYS if number % 2 else WAYS[::-1]
            found = {way: measure(vendor, desk, way, options.seconds) for way in order}
            one, other = found["pump"], found["relay"]
            ratios.append(other.mb_per_s / one.mb_per_s)
            table.add_row(
                str(number),
                f"{one.mb_per_s:,.0f}",
                f"{other.mb_per_s:,.0f}",
                f"{ratios[-1]:.2f}",
                f"{one.cpu_s_per_gb:.2f}",
                f"{other.cpu_s_per_gb:.2f}",
            )
    table.add_section()
    table.add_row("median", "", "", f"{statistics.median(ratios):.2f}", "", "")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

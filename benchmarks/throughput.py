"""What the guard costs in throughput: `python -m benchmarks.throughput`.

The vendor's own client counts MBO records in a callback while a sandbox, in a process of its own, sends as fast as it
is read: directly, behind `budget-guard run` (a relay in a process of its own), and with the guard mounted in its own
process. Rounds of the three alternate, so that a busy machine troubles all of them alike; figures are ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from benchmarks.desk import Desk, running_vendor

CLIENT = Path(__file__).with_name("client.py")
WAYS = ("direct", "run", "mounted")
RECORD_BYTES = 56


def measure(desk: Desk, way: str, seconds: float) -> float:
    """Records per second of one client. Raises RuntimeError when it ends without a result."""
    environment = desk.environment() | {"BENCH_POLICY": str(desk.policy)}
    program = [sys.executable, str(CLIENT), "mounted" if way == "mounted" else "plain", str(seconds)]
    if way == "direct":
        environment["BENCH_GATEWAY"] = desk.vendor.live_gateway
    if way == "run":
        program = [sys.executable, "-m", "budget_guard", "run", str(desk.policy), "--", *program]
    done = subprocess.run(
        program, env=environment, capture_output=True, text=True, timeout=60 + seconds, check=False
    )
    try:
        result = json.loads(done.stdout.splitlines()[-1])
        return float(result["records"]) / float(result["seconds"])
    except (IndexError, ValueError, TypeError):
        raise RuntimeError(f"{way}: no result; it said: {done.stderr[-2000:]}") from None


def facts() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("databento", "databento-dbn"))
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {system}, {packages}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what the guard costs in throughput.")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    console = Console(width=110)
    console.print(f"{facts()}\n{options.seconds:g} s a measurement, after a second that does not count")
    table = Table(title="records/s of the vendor's client, MBO, callback (synthetic data)")
    for name in ("round", "direct", "run", "run / direct", "mounted", "mounted / direct"):
        table.add_column(name, justify="right")
    ratios: dict[str, list[float]] = {"run": [], "mounted": []}
    with TemporaryDirectory() as folder, running_vendor(rate=0) as vendor:
        for number in range(1, options.pairs + 1):
            desk = Desk.set_up(vendor, Path(folder) / str(number), "100000")
            # The first of a round has no advantage that the others do not have in their turn.
            order = WAYS[number % 3 :] + WAYS[: number % 3]
            rates = {way: measure(desk, way, options.seconds) for way in order}
            for way, found in ratios.items():
                found.append(rates[way] / rates["direct"])
            table.add_row(
                str(number),
                f"{rates['direct']:,.0f}",
                f"{rates['run']:,.0f}",
                f"{ratios['run'][-1]:.3f}",
                f"{rates['mounted']:,.0f}",
                f"{ratios['mounted'][-1]:.3f}",
            )
    medians = {way: statistics.median(found) for way, found in ratios.items()}
    table.add_section()
    table.add_row("median", "", "", f"{medians['run']:.3f}", "", f"{medians['mounted']:.3f}")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

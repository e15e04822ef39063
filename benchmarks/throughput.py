"""What the guard costs in throughput: `python -m benchmarks.throughput`.

The vendor's own client counts records in a callback while a sandbox, in a process of its own, sends as fast as it is
read: directly, behind `budget-guard run`, behind a gateway that was started before, and with `budget_guard.Live` in the
program. Rounds of the four alternate, so that a busy machine troubles all of them alike; figures are ratios. The second
table is the same for three schemas on one connection.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from benchmarks.desk import Desk, Vendor, running_vendor
from benchmarks.middle import running_middle

CLIENT = Path(__file__).with_name("client.py")
GUARDED = ("run", "gateway", "mounted")
WAYS = ("direct", *GUARDED)
SCHEMAS: Mapping[str, Sequence[str]] = {"mbo": ("mbo",), "mixed": ("mbo", "trades", "mbp-1")}


@dataclass(frozen=True, slots=True)
class Result:
    """How fast one client was, and the CPU that it used itself."""

    records_per_s: float
    cpu_us_per_record: float


def measure(desk: Desk, way: str, seconds: float, schemas: Sequence[str] = ("mbo",)) -> Result:
    """One client's run. Raises RuntimeError when it ends without a result."""
    environment = desk.environment() | {"BENCH_POLICY": str(desk.policy)}
    mode = "mounted" if way == "mounted" else "plain"
    program = [sys.executable, str(CLIENT), mode, str(seconds), *schemas]
    with ExitStack() as stack:
        if way == "direct":
            environment["BENCH_GATEWAY"] = desk.vendor.live_gateway
        if way == "gateway":
            middle = stack.enter_context(running_middle("relay", str(desk.policy), environment))
            environment |= {"BENCH_GATEWAY": f"127.0.0.1:{middle.port}", "DATABENTO_API_KEY": middle.key}
        if way == "run":
            program = [sys.executable, "-m", "budget_guard", "run", str(desk.policy), "--", *program]
        done = subprocess.run(
            program, env=environment, capture_output=True, text=True, timeout=60 + seconds, check=False
        )
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        return Result(found["records"] / found["seconds"], found["cpu_s"] / found["records"] * 1e6)
    except (IndexError, ValueError, TypeError):
        raise RuntimeError(f"{way}: no result; it said: {done.stderr[-2000:]}") from None


def facts() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("databento", "databento-dbn"))
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {system}, {packages}"


def compare(vendor: Vendor, folder: Path, name: str, rounds: int, seconds: float) -> Table:
    """Rounds of all ways, with the median of the ratios at the end."""
    schemas = SCHEMAS[name]
    table = Table(title=f"records/s of the vendor's client, {', '.join(schemas)}, callback (synthetic data)")
    for column in ("round", "load", "direct", *(part for way in GUARDED for part in (way, "ratio"))):
        table.add_column(column, justify="right")
    ratios: dict[str, list[float]] = {way: [] for way in GUARDED}
    cpu: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds):
        desk = Desk.set_up(vendor, folder / f"{name}-{number}", "100000", schemas)
        # The first of a round has no advantage that the others do not have in their turn.
        turn = number % len(WAYS)
        found = {way: measure(desk, way, seconds, schemas) for way in WAYS[turn:] + WAYS[:turn]}
        for way, one in found.items():
            cpu[way].append(one.cpu_us_per_record)
        direct = found["direct"].records_per_s
        row = [str(number + 1), f"{os.getloadavg()[0]:.1f}", f"{direct:,.0f}"]
        for way in GUARDED:
            ratios[way].append(found[way].records_per_s / direct)
            row += [f"{found[way].records_per_s:,.0f}", f"{ratios[way][-1]:.3f}"]
        table.add_row(*row)
    table.add_section()
    medians = [part for way in GUARDED for part in ("", f"{statistics.median(ratios[way]):.3f}")]
    table.add_row("median", "", "", *medians)
    used = {way: f"{statistics.median(found):.2f}" for way, found in cpu.items()}
    table.add_row("CPU, µs", "", used["direct"], *(part for way in GUARDED for part in (used[way], "")))
    return table


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure what the guard costs in throughput.")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--schemas", choices=tuple(SCHEMAS), action="append", help="default: all of them")
    options = parser.parse_args(arguments)
    console = console or Console(width=110)
    console.print(f"{facts()}\n{options.seconds:g} s a measurement, after a second that does not count")
    with TemporaryDirectory() as folder, running_vendor(rate=0) as vendor:
        for name in options.schemas or SCHEMAS:
            console.print(compare(vendor, Path(folder), name, options.pairs, options.seconds))
    console.print("CPU: what the client itself used for a record, its guard not counted")
    return 0


if __name__ == "__main__":
    sys.exit(main())

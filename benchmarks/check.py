"""How long `budget-guard check` takes, as a user waits for it: `python -m benchmarks.check`.

Policies of 1, 50 and 500 streams, with a calendar cache that is warm, and files that were made to be slow. Each row is
the median of several runs of the command in a process of its own; `starting` is what `--version` takes.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

RUNS = 5

_CLAUSES = (
    "{session: regular, from: open - 5m, to: close + 5m}",
    '{hours: "18:00-18:30", days: [sun, mon]}',
    "{session: full}",
    "{session: regular, to: open + 30m, skip: [2026-12-24]}",
)
_HEAD = "version: 1\nname: many\ntimezone: America/New_York\nbudgets:\n  - {name: account, month: 200 USD}\n"


def streams(count: int, clause: Callable[[int], str] = lambda n: _CLAUSES[n % len(_CLAUSES)]) -> str:
    """A policy of so many streams, in as many ways as people write them."""
    parts = [
        f"  s{n}:\n    dataset: GLBX.MDP3\n    schema: {('mbo', 'trades', 'mbp-1')[n % 3]}\n    symbols: [S{n}.v.0]\n"
        f"    stype_in: continuous\n    windows:\n      - {clause(n)}\n    volume: {{gib_per_session: 0.41}}\n"
        for n in range(count)
    ]
    return f"{_HEAD}streams:\n{''.join(parts)}"


def _misspelt(count: int) -> str:
    names = ", ".join(f"GLBX.MDP{n}x" for n in range(count))
    return f"{_HEAD}  - {{name: other, match: {{dataset: [{names}]}}, month: 1 USD}}\nstreams: {{}}\n"


def policies() -> dict[str, str]:
    """What is checked, by what the table calls it."""
    return {
        **{f"{count} stream{'s' if count > 1 else ''}": streams(count) for count in (1, 50, 500)},
        "500 streams, each with hours of its own": streams(
            500, lambda n: f'{{hours: "{n // 60:02}:{n % 60:02}-{12 + n // 60}:{n % 60:02}"}}'
        ),
        "19,000 misspelt datasets": _misspelt(19_000),
        "1 MiB of one comment": "#" * 2**20,
        "1 MiB of one quoted text": f'a: "{"x" * (2**20 - 10)}"',
        "20,000 nested lists": "a: " + "[" * 20_000,
        "20,000 unknown keys": "".join(f"key{n}: 1\n" for n in range(9_900)),
        "200 budgets on 1,200 streams": (
            "version: 1\nname: x\nbudgets:\n"
            + "".join(
                f"  - {{name: b{n}, match: {{schema: tbbo}}, month: {n + 1} USD}}\n" for n in range(200)
            )
            + "streams:\n"
            + "".join(
                f"  s{n}: {{dataset: GLBX.MDP3, schema: mbo, symbols: A, windows: always}}\n"
                for n in range(1_200)
            )
        ),
    }


def measure(command: list[str], environment: dict[str, str]) -> float:
    """The median wall time of a command, in seconds, after one run that does not count."""
    took = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        subprocess.run(command, env=environment, capture_output=True, check=False)
        took.append(time.perf_counter() - start)
    return statistics.median(took[1:])


def main() -> None:
    table = Table("checked", "seconds", "beyond starting", title=f"budget-guard check, median of {RUNS} runs")
    start = [sys.executable, "-c", "from budget_guard.cli import main; main()"]
    with TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder, "HOME": folder}
        starting = measure([*start, "--version"], environment)
        table.add_row("starting", f"{starting:.2f}", "")
        for name, text in policies().items():
            path = Path(folder) / "policy.yaml"
            path.write_text(text, encoding="utf-8")
            took = measure([*start, "check", str(path)], environment)
            table.add_row(name, f"{took:.2f}", f"{took - starting:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()

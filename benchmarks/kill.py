"""Kill the guard in mid-stream and see whether the ledger still covers the bill: `python -m benchmarks.kill`.

Each round starts `budget-guard run` with the vendor's own client behind it, lets a random amount of data flow, and
sends SIGKILL to the guard and to its orphan. The next opening of the ledger settles what is left from the meter. Then
the sandbox's bill must be covered by the ledger, and the ledger must not be past the limit.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.desk import NOW, Desk, Vendor, running_vendor
from budget_guard.clock import RehearsalClock
from budget_guard.ledger.opening import open_for_use
from budget_guard.money import decimal_text, size_text, usd_from_nano

CLIENT = Path(__file__).with_name("client.py")
# A large limit, and small ones that are reached within the round: the kill then meets a connection that ends.
LIMITS_USD = ("5", "0.03", "0.06", "0.10")
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Round:
    """What a round came to; money in nano-USD, the bill exact."""

    number: int
    killed_at_bytes: int
    billed_bytes: int
    billed_nano_usd: Decimal
    ledger_nano_usd: int
    limit_nano_usd: int
    found: str  # what recovery found

    @property
    def holds(self) -> bool:
        return self.billed_nano_usd <= self.ledger_nano_usd <= self.limit_nano_usd


def play(number: int, vendor: Vendor, folder: Path, chance: random.Random) -> Round:
    """One round on a running sandbox. Raises TimeoutError when nothing flows."""
    limit_usd = chance.choice(LIMITS_USD)
    limit_bytes = int(Decimal(limit_usd) / Decimal("2.16") * 2**30)
    most = min(64 * 2**20, limit_bytes + 2**20)
    desk = Desk.set_up(vendor, folder / str(number), limit_usd)
    before = vendor.bill()
    guard = desk.start([sys.executable, str(CLIENT), "plain", "600"], guarded=True)
    assert guard.stdout is not None
    orphan = guard.stdout.readline().strip()
    killed_at = _wait_for_bytes(vendor, int(before["bytes"]) + chance.randrange(most), guard)
    _kill(guard.pid)
    if orphan:
        _kill(int(orphan))
    guard.wait()
    guard.stdout.close()
    after = _wait_for_end(vendor)
    found, ledger = _recover(desk)
    return Round(
        number,
        killed_at - int(before["bytes"]),
        int(after["bytes"]) - int(before["bytes"]),
        (Decimal(after["cost_usd"]) - Decimal(before["cost_usd"])) * 10**9,
        ledger,
        int(Decimal(limit_usd) * 10**9),
        found,
    )


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _wait_for_bytes(vendor: Vendor, target: int, guard: subprocess.Popen[str]) -> int:
    """The billed bytes as soon as they reach a target, or as the guard has ended by itself."""
    deadline = time.monotonic() + TIMEOUT_S
    while (billed := int(vendor.bill()["bytes"])) < target and guard.poll() is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{billed} of {target} bytes flowed in {TIMEOUT_S} s")
    return billed


def _wait_for_end(vendor: Vendor) -> dict[str, Any]:
    """The bill once the vendor has seen every connection end."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        bill = vendor.bill()
        if all(line["closed_utc"] for line in bill["connections"]):
            return bill
        if time.monotonic() > deadline:
            raise TimeoutError("the vendor still has a connection open")


def _recover(desk: Desk) -> tuple[str, int]:
    """What the next start finds, and what the ledger holds of the month afterwards, in nano-USD."""
    opened = open_for_use(desk.ledger_url, desk.folder, clock=RehearsalClock(NOW), rehearsal=True)
    try:
        day = timedelta(days=40)
        balances = opened.ledger.account_balances("bench", NOW - day, NOW + day)
        spent = sum(balance.settled + balance.held for key, balance in balances.items() if key.unit == "usd")
    finally:
        opened.ledger.close()
    found = ", ".join(
        f"{one.outcome}: {size_text(one.size_bytes)} + {size_text(one.residual_bytes)} assumed"
        for one in opened.recovered
    )
    return found or "ended before the kill", spent


def play_all(times: int, seed: int, folder: Path) -> list[Round]:
    """That many rounds; the same seed draws the same limits and moments."""
    chance = random.Random(seed)
    with running_vendor(rate=0) as vendor:
        return [play(number, vendor, folder, chance) for number in range(1, times + 1)]


def main() -> int:
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(
        description="Kill the guard in mid-stream; see that the ledger covers the bill."
    )
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        rounds = play_all(options.times, options.seed, Path(folder))
    table = Table(title=f"kill -9 in mid-stream, seed {options.seed}; USD")
    for name in (
        "round",
        "killed at",
        "billed",
        "bill",
        "ledger",
        "limit",
        "found",
        "bill <= ledger <= limit",
    ):
        table.add_column(name, justify="left" if name == "found" else "right")
    for one in rounds:
        table.add_row(
            str(one.number),
            size_text(one.killed_at_bytes),
            size_text(one.billed_bytes),
            f"{one.billed_nano_usd / 10**9:.9f}",
            f"{usd_from_nano(one.ledger_nano_usd):.9f}",
            decimal_text(usd_from_nano(one.limit_nano_usd)),
            one.found,
            "yes" if one.holds else "NO",
        )
    Console(width=150).print(table)
    return 0 if all(one.holds for one in rounds) else 1


if __name__ == "__main__":
    sys.exit(main())

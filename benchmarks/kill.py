"""Kill guard, program or both at random moments; does the ledger cover the bill? `python -m benchmarks.kill`.

Each round starts `budget-guard run` with the vendor's own client behind it and sends SIGKILL: while they start, or
after a random amount of data. The next opening of the ledger settles what is left from the meter. Then the sandbox's
bill must be covered by the ledger, and the ledger must not be past the limit.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.desk import NOW, Desk, Vendor, children, running_vendor
from budget_guard.clock import RehearsalClock
from budget_guard.ledger.opening import open_for_use
from budget_guard.money import decimal_text, size_text, usd_from_nano

CLIENT = Path(__file__).with_name("client.py")
# A large limit, and small ones that are reached within the round: the kill then meets a connection that ends.
LIMITS_USD = ("5", "0.03", "0.06", "0.10")
# Schemas of three prices on one connection, and limits for them: trades cost 15 times what orders do.
SEVERAL = ("mbo", "trades", "mbp-1")
SEVERAL_LIMITS_USD = ("8", "0.6", "0.9")
TIMEOUT_S = 60.0
VICTIMS = ("guard", "program", "both")
# A round in so many is killed while it starts, within this time.
STARTING = 6
START_S = 4.0


@dataclass(frozen=True, slots=True)
class Round:
    """What a round came to; money in nano-USD, the bill exact."""

    number: int
    victim: str
    killed_at_bytes: int
    billed_bytes: int
    billed_nano_usd: Decimal
    ledger_nano_usd: int
    limit_nano_usd: int
    found: str  # what recovery found

    @property
    def holds(self) -> bool:
        return self.billed_nano_usd <= self.ledger_nano_usd <= self.limit_nano_usd


def play(
    number: int, vendor: Vendor, folder: Path, chance: random.Random, schemas: Sequence[str] = ("mbo",)
) -> Round:
    """One round on a running sandbox. Raises TimeoutError when nothing flows."""
    limits = LIMITS_USD if len(schemas) == 1 else SEVERAL_LIMITS_USD
    limit_usd, victim = chance.choice(limits), VICTIMS[number % len(VICTIMS)]
    limit_bytes = int(Decimal(limit_usd) / Decimal("2.16") * 2**30)
    target = chance.randrange(min(64 * 2**20, limit_bytes + 2**20))
    start_s = chance.uniform(0, START_S) if chance.randrange(STARTING) == 0 else None
    desk = Desk.set_up(vendor, folder / str(number), limit_usd, schemas)
    before = vendor.bill()
    guard = desk.start([sys.executable, str(CLIENT), "plain", "600", *schemas], guarded=True)
    if start_s is None:
        killed_at = _wait_for_bytes(vendor, int(before["bytes"]) + target, guard)
    else:
        with suppress(subprocess.TimeoutExpired):
            guard.wait(start_s)
        killed_at = int(vendor.bill()["bytes"])
    _strike(guard, victim)
    after = _wait_for_end(vendor)
    found, ledger = _recover(desk)
    return Round(
        number,
        victim,
        killed_at - int(before["bytes"]),
        int(after["bytes"]) - int(before["bytes"]),
        (Decimal(after["cost_usd"]) - Decimal(before["cost_usd"])) * 10**9,
        ledger,
        int(Decimal(limit_usd) * 10**9),
        found,
    )


def _strike(guard: subprocess.Popen[str], victim: str) -> None:
    """Kill the guard, its program or both, and see both end."""
    programs = children(guard.pid)
    if victim != "program" or not programs:
        _kill(guard.pid)
    if victim != "guard":
        for program in programs:
            _kill(program)
    try:
        guard.wait(TIMEOUT_S)
    finally:
        # Without its guard the program has nobody to talk to; it must not outlive the round.
        for pid in (guard.pid, *programs):
            _kill(pid)
        guard.wait()
        if guard.stdout is not None:
            guard.stdout.close()


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


def play_all(times: int, seed: int, folder: Path, schemas: Sequence[str] = ("mbo",)) -> list[Round]:
    """That many rounds; the same seed draws the same limits and moments."""
    chance = random.Random(seed)
    with running_vendor(rate=0) as vendor:
        return [play(number, vendor, folder, chance, schemas) for number in range(1, times + 1)]


def main() -> int:
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(
        description="Kill guard, program or both; see that the ledger covers the bill."
    )
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--several", action="store_true", help="several schemas on each connection")
    options = parser.parse_args()
    schemas = SEVERAL if options.several else ("mbo",)
    with TemporaryDirectory() as folder:
        rounds = play_all(options.times, options.seed, Path(folder), schemas)
    table = Table(title=f"kill -9, seed {options.seed}; USD")
    for name in (
        "round",
        "killed",
        "after",
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
            one.victim,
            size_text(one.killed_at_bytes),
            size_text(one.billed_bytes),
            f"{one.billed_nano_usd / 10**9:.9f}",
            f"{usd_from_nano(one.ledger_nano_usd):.9f}",
            decimal_text(usd_from_nano(one.limit_nano_usd)),
            one.found,
            "yes" if one.holds else "NO",
        )
    Console(width=150).print(table)
    held = sum(one.holds for one in rounds)
    print(f"{held} of {len(rounds)} rounds: bill <= ledger <= limit")
    return 0 if all(one.holds for one in rounds) else 1


if __name__ == "__main__":
    sys.exit(main())

"""What it takes the relay to find where records end: `python -m benchmarks.framing`.

A sandbox that sends as fast as it is read sends each schema in long runs, which is the easy case. Here records of three
types alternate at random too, as they do when a market moves.
"""

from __future__ import annotations

import random
import statistics
import sys
import time

from rich.console import Console
from rich.table import Table

from benchmarks.throughput import facts
from budget_guard.gateway.live.upstream import READ_BYTES
from budget_guard.gateway.wire.framer import Framer

HEADER = b"DBN\x03" + bytes(4)
# Length, record type, and how many of ten records it is.
KINDS = ((56, 0xA0, 7), (48, 0x00, 1), (80, 0x01, 2))
RECORDS = 200_000
ROUNDS = 7


def stream(*, alternating: bool) -> bytes:
    """Records of all types, at random or all of a type together."""
    chance = random.Random(1)
    pool = [bytes([length // 4, rtype]) + chance.randbytes(length - 2) for length, rtype, _ in KINDS]
    records = chance.choices(pool, [part for *_, part in KINDS], k=RECORDS)
    if not alternating:
        records.sort(key=lambda record: record[1])
    return b"".join(records)


def measure(data: bytes) -> float:
    """Nanoseconds of CPU for a record, the median of several rounds."""
    reads = [data[at : at + READ_BYTES] for at in range(0, len(data), READ_BYTES)]
    took = []
    for _ in range(ROUNDS):
        framer = Framer()
        framer.feed(HEADER)
        begins = time.process_time_ns()
        for read in reads:
            framer.feed(read)
        took.append((time.process_time_ns() - begins) / RECORDS)
    return statistics.median(took)


def main() -> int:
    console = Console(width=110)
    console.print(facts())
    table = Table("records", "ns of CPU each", title="framing, reads of full size")
    for name, alternating in (("in runs of a type", False), ("types alternate at random", True)):
        table.add_row(name, f"{measure(stream(alternating=alternating)):.0f}")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Many connections through one relay at once: `python -m benchmarks.many`.

Bare readers, all in one process, read MBO from a sandbox that sends as fast as it is read and limits nobody: how evenly
the relay serves them, beside how evenly the sandbox does without it, and what memory a connection takes, read from and
stalled (its client has stopped reading, and everything that may wait for it waits).
"""

from __future__ import annotations

import argparse
import os
import selectors
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from benchmarks.desk import Desk, Vendor
from benchmarks.middle import Middle, running_middle
from benchmarks.sandbox import running
from benchmarks.throughput import facts
from tests.sandbox.bare_client import NQ_MBO, BareClient

CONNECTIONS = 50
READ_BYTES = 1 << 16
# A relay's memory is first what its code takes, and grows with its first connections' work.
WARM_UP_CONNECTIONS = 5


@dataclass(frozen=True, slots=True)
class Share:
    """What readers got at the same time, in bytes, in ascending order."""

    sizes: tuple[int, ...]
    seconds: float

    @property
    def mb_per_s(self) -> float:
        return sum(self.sizes) / self.seconds / 1e6

    @property
    def least(self) -> float:
        """What the last got of an equal share."""
        return self.sizes[0] * len(self.sizes) / sum(self.sizes)

    @property
    def most(self) -> float:
        return self.sizes[-1] * len(self.sizes) / sum(self.sizes)


def read_all(clients: Sequence[BareClient], seconds: float) -> Share:
    """Read from whoever has something, a piece at a time."""
    buffer = memoryview(bytearray(READ_BYTES))
    sizes = [0] * len(clients)
    with selectors.DefaultSelector() as selector:
        for number, client in enumerate(clients):
            selector.register(client.socket, selectors.EVENT_READ, number)
        begins = time.perf_counter()
        while (now := time.perf_counter()) < begins + seconds:
            for key, _ in selector.select(1.0):
                size = clients[key.data].socket.recv_into(buffer)
                if not size:
                    raise RuntimeError(f"connection {key.data + 1} of {len(clients)} was ended")
                sizes[key.data] += size
    return Share(tuple(sorted(sizes)), now - begins)


def connected(stack: ExitStack, port: int, key: str, count: int) -> list[BareClient]:
    clients = [stack.enter_context(BareClient(port, NQ_MBO, key=key)) for _ in range(count)]
    for client in clients:
        client.start()
    return clients


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a connection adds to the relay's process."""

    reading: float
    later: float  # after as long again
    stalled: float


def through_relay(desk: Desk, count: int, seconds: float) -> tuple[Share, Memory]:
    with ExitStack() as stack:
        middle = stack.enter_context(running_middle("relay", str(desk.policy), desk.environment()))
        read_all(connected(stack, middle.port, middle.key, WARM_UP_CONNECTIONS), seconds / 4)
        before = middle.rss_bytes()
        clients = connected(stack, middle.port, middle.key, count)
        share = read_all(clients, seconds)
        reading = middle.rss_bytes()
        read_all(clients, seconds)
        later = middle.rss_bytes()
        stalled = _when_it_stands(middle)
        return share, Memory(*((size - before) / count for size in (reading, later, stalled)))


def _when_it_stands(middle: Middle) -> int:
    """The memory once nobody reads any more and everything that may wait does: when the relay has nothing to do."""
    used, now = -1.0, middle.cpu_s()
    while now - used > 0.05:
        time.sleep(1.0)
        used, now = now, middle.cpu_s()
    return middle.rss_bytes()


def direct(vendor: Vendor, count: int, seconds: float) -> Share:
    with ExitStack() as stack:
        port = int(vendor.live_gateway.rpartition(":")[2])
        return read_all(connected(stack, port, vendor.key, count), seconds)


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args(arguments)
    console = console or Console(width=110)
    console.print(f"{facts()}, load {os.getloadavg()[0]:.1f}")
    count, seconds = options.connections, options.seconds
    with TemporaryDirectory() as folder, running(rate=0) as server:
        vendor = Vendor(server.process, server.key, f"127.0.0.1:{server.port}", server.http_url)
        desk = Desk.set_up(vendor, Path(folder) / "desk", "1000000")
        without = direct(vendor, count, seconds)
        share, memory = through_relay(desk, count, seconds)
    table = Table(
        "what", "directly", "through the relay", title=f"{count} connections at once, {seconds:g} s"
    )
    table.add_row("all together, MB/s", f"{without.mb_per_s:,.0f}", f"{share.mb_per_s:,.0f}")
    table.add_row("the least of an equal share", f"{without.least:.2f}", f"{share.least:.2f}")
    table.add_row("the most of an equal share", f"{without.most:.2f}", f"{share.most:.2f}")
    for name, size in (
        ("memory of a connection, MiB", memory.reading),
        (f"after {seconds:g} s more", memory.later),
        ("stalled", memory.stalled),
    ):
        table.add_row(name, "", f"{size / 2**20:.2f}")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

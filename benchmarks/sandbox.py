"""How fast the sandbox's live side is, and what it keeps: `python -m benchmarks.sandbox`.

Each row is a sandbox in a process of its own, read by a bare socket in this one. Throughput is at rate 0, as fast as
it is taken; `behind` is how late the newest record was when it was read, at a paced rate. Memory is the resident set of
the sandbox's process, before and after.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import zstandard
from rich.console import Console
from rich.table import Table

from benchmarks.desk import NOW
from budget_guard.clock import RehearsalClock, ns_from_instant, parse_instant
from tests.sandbox.bare_client import NQ_MBO, BareClient

RECORD = 56
BUFFER_BYTES = 2**20
PACED_RATE = 500_000
WARM_UP_S = 0.3


@dataclass(frozen=True, slots=True)
class Server:
    """A sandbox as a child process; `clock` tells its time, to the
    millisecond or so that the news of it takes."""

    process: subprocess.Popen[str]
    port: int
    key: str
    http_url: str
    clock: RehearsalClock

    def rss_kib(self) -> int:
        """The memory that it holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def client(self, *subscriptions: str, login: str = "") -> BareClient:
        return BareClient(self.port, *subscriptions, key=self.key, login=login)


@contextmanager
def running(rate: int) -> Iterator[Server]:
    """A sandbox without limits."""
    command = [sys.executable, "-m", "benchmarks.sandbox", "--serve", str(rate)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None
    try:
        facts = json.loads(process.stdout.readline())
        clock = RehearsalClock(parse_instant(facts["now_utc"]))
        yield Server(process, facts["port"], facts["key"], facts["http_url"], clock)
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def serve(rate: int) -> None:
    """The child: runs until its stdin ends."""
    from budget_guard.sandbox.config import Limits, SandboxConfig
    from budget_guard.sandbox.server import running_sandbox

    config = SandboxConfig(rate=rate, limits=Limits.none(), clock=RehearsalClock(NOW))
    with running_sandbox(config) as sandbox:
        facts = {
            "port": sandbox.live_port,
            "key": sandbox.key,
            "http_url": sandbox.http_url,
            "now_utc": config.clock.now().isoformat(),
        }
        print(json.dumps(facts), flush=True)
        sys.stdin.read()


@dataclass(frozen=True, slots=True)
class Flow:
    """Record bytes read in a time, and those before it."""

    size: int
    seconds: float
    before: int

    def rate(self, record_bytes: int) -> float:
        """Millions of records a second."""
        return self.size / record_bytes / self.seconds / 1e6


def pour(client: BareClient, seconds: float, size_of: Callable[[memoryview], int] = len) -> Flow:
    """Read for a while; `size_of` says how many record bytes are in what was received."""
    buffer = memoryview(bytearray(BUFFER_BYTES))
    size, before, begins = 0, 0, time.perf_counter() + WARM_UP_S
    while (now := time.perf_counter()) < begins + seconds:
        received = size_of(buffer[: client.socket.recv_into(buffer)])
        if now < begins:
            before += received
        else:
            size += received
    return Flow(size, now - begins, before)


def throughput(seconds: float, login: str, record_bytes: int) -> float:
    """Millions of mbo records a second to a reader that only counts."""
    with running(0) as server, server.client(NQ_MBO, login=login) as client:
        if "zstd" in login:
            client.send("start_session")
            unpack = zstandard.ZstdDecompressor().decompressobj()
            return pour(client, seconds, lambda data: len(unpack.decompress(data))).rate(record_bytes)
        client.start()
        return pour(client, seconds).rate(record_bytes)


def paced(seconds: float) -> tuple[float, float]:
    """Millions of records a second at a paced rate, and how many milliseconds late the last of them was."""
    with running(PACED_RATE) as server, server.client(NQ_MBO) as client:
        client.start()
        client.records(2)
        flow = pour(client, seconds)
        client.read(-(flow.before + flow.size) % RECORD)
        record = client.record()
        late_ns = ns_from_instant(server.clock.now()) - int.from_bytes(record[40:48], "little")
        return flow.rate(RECORD), late_ns / 1e6


def memory_over_records(count: int) -> tuple[int, int]:
    """KiB before and after so many records on one connection."""
    with running(0) as server, server.client(NQ_MBO) as client:
        client.start()
        client.records(2)
        _skip(client, 200_000)
        before = server.rss_kib()
        _skip(client, count)
        return before, server.rss_kib()


def memory_over_connections(count: int) -> tuple[int, int]:
    """KiB before and after so many connections, one after another; each reads a few records."""
    with running(1000) as server:
        for _ in range(200):
            _visit(server)
        before = server.rss_kib()
        for _ in range(count):
            _visit(server)
        return before, server.rss_kib()


def _skip(client: BareClient, count: int) -> None:
    for _ in range(count // 1000):
        client.read(RECORD * 1000)


def _visit(server: Server) -> None:
    with server.client(NQ_MBO) as client:
        client.start()
        client.records(3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", type=int, metavar="RATE", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each reading (default 3)")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=10_000)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve)
        return
    table = Table("what", "result", title="the sandbox's live side")
    for name, login, size in (
        ("plain", "", RECORD),
        ("ts_out", "|ts_out=1", RECORD + 8),
        ("zstd", "|compression=zstd", RECORD),
    ):
        rate = throughput(options.seconds, login, size)
        table.add_row(f"mbo as fast as it is read, {name}", f"{rate:.1f} M records/s")
    rate, late_ms = paced(options.seconds)
    table.add_row(f"mbo at {PACED_RATE:,} records/s", f"{rate:.3f} M records/s, {late_ms:.0f} ms behind")
    for name, (before, after) in (
        (f"memory over {options.records:,} records", memory_over_records(options.records)),
        (f"memory over {options.connections:,} connections", memory_over_connections(options.connections)),
    ):
        table.add_row(name, f"{before / 1024:.1f} MiB, then {after / 1024:.1f} MiB")
    Console().print(table)


if __name__ == "__main__":
    main()

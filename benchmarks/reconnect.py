"""How long a reset keeps a program without records, and what it misses: `python -m benchmarks.reconnect`.

The vendor's client reads MBO from a sandbox that resets every connection now and then: by itself with its own reconnect
policy, in a loop made by hand that starts a new client, and behind the guard. Each reset counts as the longest wait for
a record that begins within a tenth of a second of it; records are told by their sequence.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import databento
from rich.console import Console
from rich.table import Table

from benchmarks.desk import Desk, Vendor, running_vendor
from benchmarks.middle import running_middle
from benchmarks.throughput import facts

RATE = 2000
# Between two resets: the vendor takes five new connections a second, and a connection shall have been a good one.
PAUSE_S = 1.5
SOON_S = 0.1
TIMEOUT_S = 30.0


@dataclass
class Reader:
    """Takes records, and remembers when each came."""

    came: list[tuple[float, int]] = field(default_factory=list)  # when, and the record's sequence
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, record: object) -> None:
        if isinstance(record, databento.MBOMsg):
            with self._changed:
                self.came.append((time.perf_counter(), record.sequence))
                self._changed.notify_all()

    def wait_past(self, instant_s: float) -> None:
        """Until a record came after an instant."""
        self.wait(lambda: bool(self.came) and self.came[-1][0] > instant_s)

    def wait(self, holds: Callable[[], bool]) -> None:
        with self._changed:
            if not self._changed.wait_for(holds, TIMEOUT_S):
                raise TimeoutError("no record came any more")

    def silence_ms(self, since_s: float) -> float:
        """The longest wait for a record that begins at an instant or soon after."""
        waits = pairwise([since_s, *(at for at, _ in self.came if at > since_s)])
        return max(after - before for before, after in waits if before <= since_s + SOON_S) * 1e3

    def missed(self) -> int:
        """How many sequences did not come, of those between the first and the last."""
        seen = {sequence for _, sequence in self.came}
        return max(seen) - min(seen) + 1 - len(seen)

    def repeated(self) -> int:
        return len(self.came) - len({sequence for _, sequence in self.came})


def start(reader: Reader, port: int, key: str, **options: Any) -> databento.Live:
    client = databento.Live(key=key, gateway="127.0.0.1", port=port, **options)
    client.subscribe("GLBX.MDP3", "mbo", "NQ.v.0", "continuous")
    client.add_callback(reader.take)
    client.start()
    return client


@contextmanager
def own_policy(vendor: Vendor, _: Desk, reader: Reader) -> Iterator[None]:
    client = start(reader, port_of(vendor), vendor.key, reconnect_policy="reconnect")
    try:
        yield
    finally:
        client.terminate()


@contextmanager
def loop_by_hand(vendor: Vendor, _: Desk, reader: Reader) -> Iterator[None]:
    """What people write: when the client has ended, another is started."""
    clients: list[databento.Live] = []
    over = threading.Event()

    def again() -> None:
        while not over.is_set():
            try:
                clients.append(start(reader, port_of(vendor), vendor.key))
                clients[-1].block_for_close()
            except databento.BentoError:
                continue

    thread = threading.Thread(target=again, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        for client in clients:
            client.terminate()
        thread.join()


@contextmanager
def guarded(vendor: Vendor, desk: Desk, reader: Reader) -> Iterator[None]:
    with running_middle("relay", str(desk.policy), desk.environment()) as middle:
        client = start(reader, middle.port, middle.key)
        try:
            yield
        finally:
            client.terminate()


WAYS = {"the client's own policy": own_policy, "a loop by hand": loop_by_hand, "the guard": guarded}


def port_of(vendor: Vendor) -> int:
    return int(vendor.live_gateway.rpartition(":")[2])


def reset(vendor: Vendor) -> None:
    body = json.dumps({"do": "reset_live"}).encode()
    request = urllib.request.Request(f"{vendor.http_url}/control", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=20):
        pass


def measure(vendor: Vendor, desk: Desk, way: str, times: int) -> tuple[list[float], Reader]:
    """The silences after each reset, in ms, and all that was read."""
    reader, silences = Reader(), []
    with WAYS[way](vendor, desk, reader):
        reader.wait(lambda: len(reader.came) > RATE // 10)
        for _ in range(times):
            time.sleep(PAUSE_S)
            asked_s = time.perf_counter()
            reset(vendor)
            # The silence is over by then.
            reader.wait_past(asked_s + 5 * SOON_S)
            silences.append(reader.silence_ms(asked_s))
    return silences, reader


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=40, help="resets of each way")
    options = parser.parse_args()
    console = Console(width=110)
    console.print(facts())
    table = Table(title=f"{options.times} resets each, records at {RATE:,}/s (synthetic data)")
    for name in ("way", "median, ms", "p99, ms", "records", "missed", "twice"):
        table.add_column(name, justify="left" if name == "way" else "right")
    with TemporaryDirectory() as folder, running_vendor(rate=RATE) as vendor:
        desk = Desk.set_up(vendor, Path(folder) / "desk", "100000")
        for way in WAYS:
            silences, reader = measure(vendor, desk, way, options.times)
            silences.sort()
            figures = (statistics.median(silences), silences[int(len(silences) * 0.99)])
            counts = (len(reader.came), reader.missed(), reader.repeated())
            table.add_row(way, *(f"{ms:,.0f}" for ms in figures), *(f"{count:,}" for count in counts))
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

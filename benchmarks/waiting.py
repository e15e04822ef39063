"""Whether data waits for the ledger: records over the relay while every call of the ledger takes 200 ms longer.

Three readers, each in a process of its own, take the same stream from one sandbox at the same time: directly, through
a relay, and through a relay whose ledger is slow. A record's latency counts from the sandbox's stamp of sending,
`ts_out`, and is given above the fastest record of the direct reader.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from benchmarks.desk import NOW, Desk, Vendor, running_vendor
from benchmarks.workers import end_process
from budget_guard import load_policy
from budget_guard.clock import RehearsalClock
from budget_guard.ledger.model import Ledger
from budget_guard.settings import Settings
from budget_guard.streaming.assembly import OpenGateway, open_gateway

RATE = 20_000
DELAY_S = 0.2
# 47 MiB, so that a lease is a part of what is left and is renewed every few seconds; for half a minute at this rate.
LIMIT_USD = "0.10"
WAYS = ("direct", "relay", "relay, slow ledger")
_MBO = 160


class SlowLedger:
    """A ledger whose every call takes `delay_s` longer, and how many calls there were."""

    def __init__(self, ledger: Ledger, delay_s: float) -> None:
        self._ledger = ledger
        self._delay_s = delay_s
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._ledger, name)
        if not callable(found):
            return found

        def slowly(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            time.sleep(self._delay_s)
            return found(*args, **options)

        return slowly


@dataclass(frozen=True, slots=True)
class Latencies:
    """What one reader saw, in milliseconds above the fastest record of the direct one."""

    way: str
    records: int
    median_ms: float
    p99_ms: float
    max_ms: float
    renewals: int


@dataclass(slots=True)
class _Mount:
    """A relay in this process, before the sandbox, with a ledger of its own."""

    gateway: OpenGateway
    ledger: SlowLedger

    @classmethod
    def open(cls, vendor: Vendor, folder: Path, delay_s: float) -> _Mount:
        desk = Desk.set_up(vendor, folder, LIMIT_USD)
        host, _, port = vendor.live_gateway.rpartition(":")
        settings = Settings(
            key=vendor.key,
            ledger_url=desk.ledger_url,
            live_gateway=(host, int(port)),
            historical_gateway=vendor.http_url,
            now=NOW,
            data_dir=folder,
            cache_dir=folder.parent / "cache",
        )
        gateway = open_gateway(load_policy(desk.policy), settings, RehearsalClock(NOW))
        slow = SlowLedger(gateway.opened.ledger, delay_s)
        gateway.opened.guard.ledger = cast(Ledger, slow)
        return cls(gateway, slow)


def measure(folder: Path, seconds: float, *, rate: int = RATE, delay_s: float = DELAY_S) -> list[Latencies]:
    """The three ways, at the same time."""
    with ExitStack() as stack:
        vendor = stack.enter_context(running_vendor(rate))
        port = vendor.live_gateway.rpartition(":")[2]
        mounts = {WAYS[1]: _Mount.open(vendor, folder / "relay", 0.0)}
        stack.callback(mounts[WAYS[1]].gateway.close)
        mounts[WAYS[2]] = _Mount.open(vendor, folder / "slow", delay_s)
        stack.callback(mounts[WAYS[2]].gateway.close)
        places = {WAYS[0]: (int(port), vendor.key)}
        places |= {
            way: (mount.gateway.host.live_port, mount.gateway.host.token()) for way, mount in mounts.items()
        }
        lines = {way: _start(stack, place, seconds) for way, place in places.items()}
        seen: Mapping[str, Sequence[int]] = {way: line.recv() for way, line in lines.items()}
        renewals = {way: mount.ledger.calls.count("restate") for way, mount in mounts.items()}
    fastest = min(seen[WAYS[0]])
    return [_summary(way, took, fastest, renewals.get(way, 0)) for way, took in seen.items()]


def _summary(way: str, took: Sequence[int], fastest: int, renewals: int) -> Latencies:
    ordered = sorted(one - fastest for one in took)
    median, p99 = (ordered[int(len(ordered) * part)] for part in (0.5, 0.99))
    return Latencies(way, len(took), median / 1e6, p99 / 1e6, ordered[-1] / 1e6, renewals)


def _start(stack: ExitStack, place: tuple[int, str], seconds: float) -> Connection:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_read, args=(theirs, *place, seconds), daemon=True)
    process.start()
    theirs.close()
    stack.callback(end_process, process, ours)
    return ours


def _read(line: Connection, port: int, key: str, seconds: float) -> None:
    """For each record, the moment at which it was read less the one at which it was sent, in nanoseconds."""
    from tests.sandbox.bare_client import NQ_MBO, BareClient

    took: list[int] = []
    with BareClient(port, NQ_MBO, key=key, login="|ts_out=1") as client:
        client.start()
        data = bytearray()
        # The first second is for connecting and for first leases.
        begins = time.monotonic_ns() + 10**9
        ends = begins + int(seconds * 1e9)
        while (now := time.monotonic_ns()) < ends:
            part = client.socket.recv(1 << 20)
            if not part:
                break
            now = time.monotonic_ns()
            data += part
            took += [now - sent for sent in stamps(data) if now >= begins]
    line.send(took)
    line.recv()


def stamps(data: bytearray) -> list[int]:
    """When the whole records of market data were sent; they are taken off the data."""
    place, found = 0, []
    while place < len(data) and place + data[place] * 4 <= len(data):
        size = data[place] * 4
        if data[place + 1] == _MBO:
            found.append(int.from_bytes(data[place + size - 8 : place + size], "little"))
        place += size
    del data[:place]
    return found

"""What may stand between a reader and the vendor, each in a process of its own: the guard's relay, or a mere byte pump.

`python -m benchmarks.middle pump HOST:PORT` or `relay POLICY`: prints a JSON line with its port and the key to log on
with, and runs until its stdin ends. The pump is what the relay would be without any of its checks: asyncio, the same
sizes of reads, the same bound on what waits for a slow reader.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from budget_guard.gateway.live.downstream import WRITE_BUFFER_BYTES
from budget_guard.gateway.live.upstream import READ_BYTES

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Middle:
    """A process to read through: where it listens, and what to log on with."""

    process: subprocess.Popen[str]
    port: int
    key: str

    def cpu_s(self) -> float:
        """Seconds of CPU that it has used so far."""
        return cpu_seconds(self.process.pid)

    def rss_bytes(self) -> int:
        """The memory that it holds now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def cpu_seconds(pid: int) -> float:
    """Seconds of CPU, in the program and in the kernel, that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


@contextmanager
def running_middle(what: str, target: str, environment: Mapping[str, str]) -> Iterator[Middle]:
    """`what` is `pump` or `relay`; `target` the vendor's live gateway or a policy's file."""
    command = [sys.executable, "-m", "benchmarks.middle", what, target]
    process = subprocess.Popen(
        command, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        facts = json.loads(process.stdout.readline())
        yield Middle(process, facts["port"], facts["key"])
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


class _Half(asyncio.BufferedProtocol):
    """One side of a pumped connection: what it reads is written to the other."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(READ_BYTES))
        self.transport: asyncio.Transport
        self.other: _Half | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        assert self.other is not None
        self.other.transport.write(bytes(self._view[:nbytes]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        assert self.other is not None
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        assert self.other is not None
        self.other.transport.resume_reading()


class _Client(_Half):
    """The reader's side: it opens the vendor's."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._place = (host, port)
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        _, self.other = await asyncio.get_running_loop().create_connection(_Half, *self._place)
        self.other.other = self


async def pump(host: str, port: int) -> None:
    """Listen, and copy bytes both ways, until stdin ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Client(host, port), "127.0.0.1", 0)
    _tell(server.sockets[0].getsockname()[1], os.environ["DATABENTO_API_KEY"])
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def relay(policy: str) -> None:
    """The guard's gateway, until stdin ends."""
    from budget_guard import load_policy
    from budget_guard.settings import load_settings
    from budget_guard.streaming.assembly import open_gateway

    settings = load_settings()
    gateway = open_gateway(load_policy(policy), settings, settings.clock())
    _tell(gateway.host.live_port, gateway.host.token())
    sys.stdin.read()
    gateway.close()


def _tell(port: int, key: str) -> None:
    print(json.dumps({"port": port, "key": key}), flush=True)


def main() -> None:
    what, target = sys.argv[1:]
    if what == "pump":
        host, _, port = target.rpartition(":")
        asyncio.run(pump(host, int(port)))
    else:
        relay(target)


if __name__ == "__main__":
    main()

"""A live gateway made of a script: for what a vendor does on its worst days."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import databento_dbn as dbn

from budget_guard.clock import Clock, ManualClock, ns_from_instant
from budget_guard.gateway.historical.door import DoorTerms
from budget_guard.gateway.host import GatewayHost
from budget_guard.gateway.live.upstream import Endpoint
from budget_guard.ledger.backends import meter_directory
from budget_guard.policy.model import Policy
from budget_guard.pricing.model import DataRange
from budget_guard.settings import Settings
from budget_guard.streaming.assembly import OpenGuard, open_guard
from tests.gateway.desk import GLBX, NOW, Desk, policy

NOW_NS = ns_from_instant(NOW)


class Session:
    """One connection to the fake gateway, logged on; `number` counts connections from 1."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self.logon: dict[str, str] = {}
        self.lines: list[dict[str, str]] = []
        self.sent_bytes = 0  # after the header

    async def log_on(self, answer: bytes) -> None:
        self.writer.write(b"lsg_version=9|extra=1\ncram=abc|hint=none\n")
        self.logon = await self._line()
        self.writer.write(answer)

    async def until_start(self) -> None:
        while "start_session" not in (line := await self._line()):
            self.lines.append(line)

    def header(self, version: int = 3, *, ts_out: bool = False) -> None:
        self.writer.write(metadata(version, ts_out=ts_out))

    def send(self, data: bytes) -> None:
        self.sent_bytes += len(data)
        self.writer.write(data)

    async def until_fin(self) -> None:
        """Until the other side has ended its direction."""
        while await self.reader.read(1 << 16):
            pass

    async def _line(self) -> dict[str, str]:
        line = (await self.reader.readline()).decode().rstrip("\n")
        if not line:
            raise ConnectionError
        return {name: value for name, _, value in (part.partition("=") for part in line.split("|"))}


Script = Callable[[Session], Awaitable[None]]


@dataclass
class FakeGateway:
    """Runs a script for every session that was started. `sessions` holds them all."""

    script: Script
    answer: bytes = b"success=1|session_id=7|colour=blue\n"
    sessions: list[Session] = field(default_factory=list)
    port: int = 0
    closes: bool = False  # whether it closes every new connection without a greeting
    changed: threading.Condition = field(default_factory=threading.Condition)
    _turns: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def go_on(self) -> None:
        """Let a script that waits for its turn go on."""
        self._turns.release()

    async def turn(self) -> None:
        """For scripts: wait until the test says `go_on`."""
        await asyncio.to_thread(self._turns.acquire, timeout=20)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(len(self.sessions) + 1, reader, writer)
        with self.changed:
            self.sessions.append(session)
            self.changed.notify_all()
        if self.closes:
            writer.close()
            return
        with suppress(ConnectionError, asyncio.CancelledError):
            await session.log_on(self.answer)
            await session.until_start()
            await self.script(session)
            await writer.drain()
        writer.close()

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def wait_for_sessions(self, number: int, timeout_s: float = 20) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.sessions) >= number, timeout_s)


@contextmanager
def running_gateway(gateway: FakeGateway) -> Iterator[FakeGateway]:
    """The fake gateway on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(gateway.start(), loop).result(10)

    async def stop() -> None:
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    try:
        yield gateway
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class NoQuotes:
    def fetch_billable_size(self, data_range: DataRange) -> int:
        raise AssertionError("nobody asks for history here")

    def fetch_cost(self, data_range: DataRange) -> object:
        raise AssertionError("nobody asks for history here")


@dataclass(frozen=True)
class _Mount:
    """What a desk needs of an open gateway."""

    host: GatewayHost
    opened: OpenGuard

    def close(self) -> None:
        self.host.stop()
        self.opened.ledger.close()


@contextmanager
def desk_before(
    gateway: FakeGateway, folder: Path, rules: Policy | None = None, clock: Clock | None = None
) -> Iterator[Desk]:
    """A desk whose vendor is the fake gateway; its `sandbox` is not there."""
    clock = clock or ManualClock(NOW)
    with running_gateway(gateway):
        settings = Settings(
            key="db-" + "k" * 29,
            ledger_url=f"sqlite:///{folder / 'ledger.sqlite'}",
            live_gateway=("127.0.0.1", gateway.port),
            historical_gateway="http://127.0.0.1:9",
            now=NOW,
            data_dir=folder,
            cache_dir=folder / "cache",
        )
        opened = open_guard(rules or policy(), settings, clock)
        endpoint = Endpoint("127.0.0.1", gateway.port)
        host = GatewayHost(opened.guard, key="db-" + "k" * 29, live=endpoint, door=DoorTerms(NoQuotes()))  # type: ignore[arg-type]
        host.start()
        desk = Desk(None, _Mount(host, opened), settings, clock)  # type: ignore[arg-type]
        try:
            yield desk
        finally:
            desk.close()
            if desk._books is not None:
                desk._books.close()


def metadata(version: int = 3, *, ts_out: bool = False) -> bytes:
    """A live session's header."""
    return dbn.Metadata(
        dataset=GLBX,
        start=NOW_NS,
        stype_in=None,
        stype_out=dbn.SType.from_str("instrument_id"),
        schema=None,
        ts_out=ts_out,
        version=version,
    ).encode()


_orders = count(1)


def order(ts_ns: int, order_id: int | None = None) -> bytes:
    """One order that looks like no other."""
    record = bytearray(56)
    record[0], record[1] = 14, 0xA0
    record[4:8] = (1).to_bytes(4, "little")
    record[8:16] = ts_ns.to_bytes(8, "little")
    record[16:24] = (next(_orders) if order_id is None else order_id).to_bytes(8, "little")
    record[37], record[38] = ord("A"), ord("B")
    record[40:48] = ts_ns.to_bytes(8, "little")
    return bytes(record)


def orders(first_ns: int, number: int, step_ns: int = 1000) -> list[bytes]:
    return [order(first_ns + index * step_ns) for index in range(number)]


def error(text: str, code: int) -> bytes:
    return bytes(dbn.ErrorMsg(NOW_NS, text, True, dbn.ErrorCode.from_int(code)))


def replay_completed() -> bytes:
    return bytes(dbn.SystemMsg(NOW_NS, "Finished mbo replay", dbn.SystemCode.from_int(3)))


def meters_left(desk: Desk) -> list[Path]:
    """Meter files of holds that were not settled."""
    folder = meter_directory(desk.settings.ledger_url, desk.settings.data_dir)
    return sorted(folder.glob("*.meter")) if folder.is_dir() else []

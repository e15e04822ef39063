"""The live gateway: accepts connections, knows them all, can end them all."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable
from dataclasses import dataclass

from budget_guard.sandbox.account import Account
from budget_guard.sandbox.billing.bill import Bill
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.faults.control import Faults
from budget_guard.sandbox.live.connection import LiveConnection, cancelled
from budget_guard.sandbox.market.model import MarketData

ACCEPT_RETRY_S = 0.05
GOODBYE_TIMEOUT_S = 5.0
LAST_GOODBYE_TIMEOUT_S = 0.5  # when the whole sandbox stops


@dataclass(frozen=True, slots=True)
class LiveProgress:
    """How many connections stream and how many are being opened, by how many seconds the slowest is behind the clock,
    and what all live connections were ever billed.

    Behind is what the market has published and the kernel has not taken yet: a reader that is slow, or data that is
    being made.
    """

    streaming: int
    opening: int
    lag_s: float
    billed_bytes: int


class LiveServer:
    """Accepts live connections and can end them all."""

    def __init__(
        self,
        config: SandboxConfig,
        account: Account,
        market: MarketData,
        bill: Bill,
        faults: Faults,
        changed: Callable[[], None],
    ) -> None:
        self.config = config
        self.account = account
        self.market = market
        self.bill = bill
        self.faults = faults
        self.changed = changed
        self.connections: dict[LiveConnection, asyncio.Task[None]] = {}
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._session_ids = 0
        self.goodbye_s = GOODBYE_TIMEOUT_S

    def listen(self) -> int:
        """Open the port and return its number."""
        listener = socket.create_server((self.config.host, self.config.live_port), backlog=128)
        # Accepted sockets inherit it. It bounds what can be billed and lost on the way.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.config.send_buffer_bytes)
        listener.setblocking(False)
        self._listener = listener
        self._accepting = asyncio.get_running_loop().create_task(self._accept(listener))
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        """Close the port, then every connection cleanly."""
        self.goodbye_s = LAST_GOODBYE_TIMEOUT_S
        if self._accepting is not None and self._listener is not None:
            await cancelled(self._accepting)
            self._listener.close()
        self.close_all()
        await asyncio.gather(*self.connections.values(), return_exceptions=True)

    def close_all(self) -> int:
        """End every connection as the vendor ends a session: the record in hand, then FIN."""
        for connection, task in self.connections.items():
            connection.end("closed by the sandbox")
            if not connection.streaming:
                task.cancel()
        return len(self.connections)

    def reset_all(self) -> int:
        """Reset every connection; what the kernel still held is lost, and billed."""
        for connection, task in self.connections.items():
            connection.reset()
            task.cancel()
        return len(self.connections)

    def open_in(self, dataset: str) -> int:
        """How many authenticated connections a dataset has, over all keys."""
        return sum(1 for connection in self.connections if connection.dataset == dataset)

    def progress(self, now_ns: int) -> LiveProgress:
        """How far the live side has come at an instant of its clock."""
        marks = [connection.current_ns for connection in self.connections if not connection.ending]
        known = [mark for mark in marks if mark is not None]
        return LiveProgress(
            streaming=len(known),
            opening=len(marks) - len(known),
            lag_s=max((now_ns - mark for mark in known), default=0) / 10**9,
            billed_bytes=sum(line.size_bytes for line in self.bill.lines if line.mode == "live"),
        )

    def wake(self) -> None:
        """Let every connection look at the clock now, where that is moved from outside."""
        for connection in self.connections:
            connection.wake()

    def next_session_id(self) -> int:
        self._session_ids += 1
        return 1_700_000_000 + self._session_ids

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted_socket, _ = await loop.sock_accept(listener)
            except OSError:
                # A client that left the queue, or no file descriptor to spare: the next one may fare better.
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            if self.faults.take_refusal():
                accepted_socket.close()
                self.changed()
                continue
            accepted_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = LiveConnection(self, accepted_socket)
            task = loop.create_task(connection.run())
            self.connections[connection] = task
            task.add_done_callback(functools.partial(self._forget, connection))

    def _forget(self, connection: LiveConnection, _: asyncio.Task[None]) -> None:
        self.connections.pop(connection, None)

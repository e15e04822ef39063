"""The relay: a server that speaks the vendor's live protocol to clients, and one connection behind each of them."""

from __future__ import annotations

import asyncio
import logging

from budget_guard.gateway.live.connection import LiveConnection
from budget_guard.gateway.live.downstream import Downstream
from budget_guard.gateway.live.pump import Stop
from budget_guard.gateway.live.states import State
from budget_guard.gateway.shared import Shared

log = logging.getLogger(__name__)

# Connections that may be open at once, half-open ones included.
CONNECTIONS_MAX = 256
# What a stop waits for: the vendor's last bytes and their settlement.
STOP_S = 15.0


class Relay:
    """Listens on a port and serves clients until it is stopped."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._server: asyncio.Server | None = None
        self._serving: dict[asyncio.Task[None], LiveConnection] = {}

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def mending(self) -> int:
        """How many clients wait for a lost connection to the vendor to be opened again. From any thread."""
        return sum(connection.state is State.MENDING for connection in list(self._serving.values()))

    @property
    def clients(self) -> int:
        """How many clients are connected. From any thread."""
        return len(self._serving)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Downstream(self._admit), host, port)

    async def stop(self) -> None:
        """End every connection to the vendor in order, settle it, then close."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self._serving.values():
            connection.stop(Stop.SHUTDOWN)
        if self._serving:
            _, late = await asyncio.wait(set(self._serving), timeout=STOP_S)
            for task in late:
                log.error("a connection did not end in time; its bytes are settled at the next start")
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _admit(self, down: Downstream) -> None:
        if len(self._serving) >= CONNECTIONS_MAX:
            log.warning("refused a connection: %d are open", len(self._serving))
            down.abort()
            return
        connection = LiveConnection(self._shared, down)
        task = asyncio.get_running_loop().create_task(self._serve(connection, down))
        self._serving[task] = connection
        task.add_done_callback(self._serving.pop)

    async def _serve(self, connection: LiveConnection, down: Downstream) -> None:
        try:
            await connection.serve()
        except Exception:
            # A defect of ours must not leave a client hanging; what it held stays held until recovery.
            log.exception("a connection failed")
            down.abort()

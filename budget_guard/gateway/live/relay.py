"""The relay: a server that speaks the vendor's live protocol to clients, and one connection behind each of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from budget_guard.gateway.live.connection import LiveConnection
from budget_guard.gateway.live.downstream import Downstream
from budget_guard.gateway.live.logon import DOOR
from budget_guard.gateway.live.pump import Stop
from budget_guard.gateway.live.states import State
from budget_guard.gateway.shared import LISTEN_BACKLOG, Shared
from budget_guard.gateway.visitors import network_of

log = logging.getLogger(__name__)

# Connections that may be open at once, half-open ones included.
CONNECTIONS_MAX = 256
# Of them, those of one address that have not logged on yet. One more, and the oldest is closed: who knows a token
# needs a moment, and who does not cannot keep others out.
STRANGERS_MAX = 64
# How often the list of tokens is looked at for what was revoked.
LOOK_S = 0.5
# A client of which something was begun: it has a stream until that is over.
_BEGUN = (State.STREAMING, State.MENDING, State.ENDING)
# What a stop waits for: the vendor's last bytes and their settlement.
STOP_S = 15.0


class Relay:
    """Listens on a port and serves clients until it is stopped."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._server: asyncio.Server | None = None
        self._serving: dict[asyncio.Task[None], LiveConnection] = {}  # in the order in which they came
        self._looking: asyncio.Task[None] | None = None
        self._full = False

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
    def going_on(self) -> int:
        """How many clients have a stream that goes on, if only after a loss or without a part. From any thread."""
        return sum(
            connection.state in _BEGUN and not connection.is_over
            for connection in list(self._serving.values())
        )

    @property
    def clients(self) -> int:
        """How many clients are connected. From any thread."""
        return len(self._serving)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Downstream(self._admit), host, port, backlog=LISTEN_BACKLOG
        )
        self._looking = loop.create_task(self._look_for_revoked())

    async def stop(self) -> None:
        """End every connection to the vendor in order, settle it, then close."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
            self._looking = None
        for task, connection in self._serving.items():
            if connection.state is State.GREETED:
                connection.turn_away()  # nothing has been asked for
                task.cancel()
            else:
                connection.stop(Stop.SHUTDOWN)
        if self._serving:
            _, late = await asyncio.wait(set(self._serving), timeout=STOP_S)
            for task in late:
                log.error("a connection did not end in time; its bytes are settled at the next start")
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def hurry(self) -> None:
        """Break off the connections to the vendor that are still ending: what nobody saw of them is assumed."""
        for connection in self._serving.values():
            connection.hurry()

    def _make_room(self, down: Downstream) -> bool:
        """Whether a new connection has a place, if need be that of a stranger who took too long."""
        strangers = [one for one in self._serving.values() if one.state is State.GREETED and not one.leaving]
        network = network_of(down.address)
        neighbours = [one for one in strangers if network_of(one.address) == network]
        if len(neighbours) >= STRANGERS_MAX:
            neighbours[0].turn_away()
        elif len(self._serving) >= CONNECTIONS_MAX:
            if not strangers:
                return False
            strangers[0].turn_away()
        return True

    def _admit(self, down: Downstream) -> None:
        room = self._make_room(down)
        if room is self._full:
            self._full = not room
            if not room:
                log.warning("new connections are refused: %d are open", len(self._serving))
        if not room:
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
        finally:
            if connection.bearer is not None:
                log.info("%s from %s has left", connection.bearer, connection.address)
                self._shared.visitors.give_place(DOOR, connection.bearer.token)

    async def _look_for_revoked(self) -> None:
        """End the connections of tokens that were revoked while they ran."""
        keyring = self._shared.keyring
        while True:
            await asyncio.sleep(LOOK_S)
            keyring.look()
            for connection in list(self._serving.values()):
                if connection.bearer is not None and not keyring.still_holds(connection.bearer):
                    connection.stop(Stop.REVOKED)

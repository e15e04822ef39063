"""One live client, from greeting to FIN."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from typing import TYPE_CHECKING

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.live.feed import INVALID_SUBSCRIPTION, SLOT_NS, FatalSubscription, Feed
from budget_guard.sandbox.live.firehose import Firehose
from budget_guard.sandbox.live.outlet import Outlet
from budget_guard.sandbox.live.wire import (
    LINE_MAX,
    Login,
    SubscriptionLine,
    WireError,
    accepted,
    greeting,
    is_start,
    parse_login,
    parse_subscription,
    rejected,
)

if TYPE_CHECKING:
    from budget_guard.sandbox.live.server import LiveServer

HANDSHAKE_TIMEOUT_S = 30.0


class Lines:
    """Reads a client's lines. A line longer than LINE_MAX is an error, not a memory leak."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._rest = b""

    async def next(self) -> bytes | None:
        """The next line without its end; None when the client has finished sending."""
        while b"\n" not in self._rest:
            if len(self._rest) > LINE_MAX:
                raise WireError("Line too long")
            data = await asyncio.get_running_loop().sock_recv(self._socket, 16 * 1024)
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


class LiveConnection:
    """One client, from greeting to FIN."""

    def __init__(self, server: LiveServer, connection: socket.socket) -> None:
        self.dataset: str | None = None
        self.streaming = False
        self.current_ns: int | None = None  # it has handed over everything until then; None before it streams
        self._server = server
        self._config = server.config
        self._socket = connection
        self._lines = Lines(connection)
        self._outlet = Outlet(connection)
        self._pending: list[SubscriptionLine | WireError] = []

    def end(self, why: str) -> None:
        """Stop sending new records from now on; the first reason is the one that is kept."""
        self._outlet.end(why)

    @property
    def ending(self) -> bool:
        """Whether no new records are sent any more."""
        return self._outlet.ending is not None

    def wake(self) -> None:
        """Look at the clock now: it may have moved on."""
        self._outlet.wake()

    def reset(self) -> None:
        """Make the coming close a reset."""
        self._outlet.reset()

    async def run(self) -> None:
        """Serve the client to the end, whatever it does."""
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                login = await self._authenticate()
            if login is not None:
                await self._serve(login)
        except WireError as error:
            self.end(f"protocol error: {error}")
        except TimeoutError:
            self.end("handshake timed out")
        except OSError as error:
            self.end(f"lost: {error.strerror or error}")
        finally:
            self._socket.close()
            if self._outlet.line is not None:
                self._outlet.line.close(self._outlet.ending or "ended")

    async def _authenticate(self) -> Login | None:
        loop = asyncio.get_running_loop()
        challenge = secrets.token_hex(16)
        await loop.sock_sendall(self._socket, greeting(challenge))
        line = await self._lines.next()
        if line is None:
            return None
        try:
            login = parse_login(line, challenge, self._server.account.keys())
            self._admit(login)
        except WireError as error:
            await loop.sock_sendall(self._socket, rejected(str(error)))
            return None
        self.dataset = login.dataset
        self._outlet.line = self._server.bill.open("live", login.key, login.dataset)
        await loop.sock_sendall(self._socket, accepted(self._server.next_session_id()))
        return login

    def _admit(self, login: Login) -> None:
        dataset = login.dataset
        if dataset not in self._server.account.datasets():
            raise WireError(f"Unknown dataset {dataset!r}")
        if not self._server.account.may_live(login.key, dataset):
            raise WireError(f"A live data license is required to access {dataset}.")
        limit = self._config.limits.connections_per_dataset
        if limit is not None and self._server.open_in(dataset) >= limit:
            raise WireError("User has reached their open connection limit")

    async def _serve(self, login: Login) -> None:
        before: list[SubscriptionLine | WireError] = []
        while True:
            line = await self._lines.next()
            if line is None:
                self.end("closed by the client")
                return
            if is_start(line):
                break
            before.append(_parsed(line))
        self.streaming = True
        listening = asyncio.get_running_loop().create_task(self._listen())
        try:
            await self._stream(login, before)
            await self._outlet.finish_record()
            self._socket.shutdown(socket.SHUT_WR)
            # Closing with the client's bytes unread would turn the FIN into a reset.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._server.goodbye_s):
                    await listening
        finally:
            await cancelled(listening)

    async def _listen(self) -> None:
        """Read on beside the stream: later subscriptions, and the client's FIN."""
        try:
            while (line := await self._lines.next()) is not None:
                self._pending.append(_parsed(line))
                self._outlet.wake()
            self.end("closed by the client")
        except WireError as error:
            self.end(f"protocol error: {error}")
        except OSError as error:
            self.end(f"lost: {error.strerror or error}")

    async def _stream(self, login: Login, before: list[SubscriptionLine | WireError]) -> None:
        assert self._outlet.line is not None
        offered = frozenset(self._server.account.schemas(login.dataset))
        feed = Feed(self._server.market, login.dataset, offered, ts_out=login.ts_out)
        await self._outlet.send(feed.metadata(self._now_ns()))
        try:
            for line in before:
                await self._subscribe(feed, line, started=False)
            feed.begin(self._now_ns())
            await self._pump(feed, login)
        except FatalSubscription as error:
            await self._outlet.send(feed.error(self._now_ns(), str(error), error.code))
            self.end(f"refused: {error}")

    async def _subscribe(self, feed: Feed, line: SubscriptionLine | WireError, *, started: bool) -> None:
        assert self._outlet.line is not None
        if isinstance(line, WireError):
            raise FatalSubscription(str(line), INVALID_SUBSCRIPTION)
        answers = feed.subscribe(line, self._now_ns(), self._config.replay_limit_s, started=started)
        self._outlet.line.subscribe(
            line.schema, self._server.account.live_price(self._outlet.line.dataset, line.schema)
        )
        for answer in answers:
            await self._outlet.send(answer)

    async def _pump(self, feed: Feed, login: Login) -> None:
        clock = self._config.clock
        interval_s = self._config.heartbeat_interval_s or login.heartbeat_s
        hose = self._firehose(feed, login)
        last_sent_s = clock.monotonic_s()
        while self._outlet.ending is None:
            while self._pending:
                await self._subscribe(feed, self._pending.pop(0), started=True)
                hose = self._firehose(feed, login)
            now_ns = self._now_ns()
            outgoing = feed.due(now_ns)
            if outgoing is None:
                for notice in feed.replays_done(now_ns):
                    await self._outlet.send(notice)
                if hose is not None:
                    outgoing = hose.pour(now_ns)
                elif clock.monotonic_s() - last_sent_s >= interval_s:
                    outgoing = feed.heartbeat(now_ns)
            if outgoing is None:
                self.current_ns = now_ns
                await self._outlet.pause((SLOT_NS - now_ns % SLOT_NS) / 10**9)
            else:
                await self._outlet.send(outgoing)
                last_sent_s = clock.monotonic_s()

    def _firehose(self, feed: Feed, login: Login) -> Firehose | None:
        if self._config.rate != 0:
            return None
        blocks = feed.blocks(self._now_ns())
        return Firehose(blocks, self._now_ns(), ts_out=login.ts_out) if blocks else None

    def _now_ns(self) -> int:
        return ns_from_instant(self._config.clock.now())


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task and see it end: a socket must not be closed under a pending read."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _parsed(line: bytes) -> SubscriptionLine | WireError:
    """A subscription, or what is wrong with it: that is said once the session has started."""
    try:
        return parse_subscription(line)
    except WireError as error:
        return error

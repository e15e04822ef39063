"""The live gateway: sockets, and the count of what they took.

The sockets are non-blocking and written to directly: what `send()` returns is what is billed. A transport's
`write()` would only say what was queued.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import socket
import struct
from collections.abc import Callable

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.billing.bill import Bill, BillLine
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.faults.control import Faults
from budget_guard.sandbox.live.feed import (
    INVALID_SUBSCRIPTION,
    SLOT_NS,
    FatalSubscription,
    Feed,
    Firehose,
    Outgoing,
    Run,
)
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
from budget_guard.sandbox.market.synthetic import Market
from budget_guard.sandbox.market.universe import Universe

HANDSHAKE_TIMEOUT_S = 30.0
ACCEPT_RETRY_S = 0.05
FINISH_TIMEOUT_S = 1.0
GOODBYE_TIMEOUT_S = 5.0
LAST_GOODBYE_TIMEOUT_S = 0.5  # when the whole sandbox stops

# One call of send(): large enough to be cheap, small enough that other connections get their turn.
_SEND_MAX = 256 * 1024


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


class LiveServer:
    """Accepts live connections and can end them all."""

    def __init__(
        self, config: SandboxConfig, bill: Bill, faults: Faults, changed: Callable[[], None]
    ) -> None:
        self.config = config
        self.bill = bill
        self.faults = faults
        self.changed = changed
        self.universe = Universe(config.products)
        self.market = Market(config.seed, config.records_per_session, config.rate)
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
            await _cancelled(self._accepting)
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


class LiveConnection:
    """One client, from greeting to FIN."""

    def __init__(self, server: LiveServer, connection: socket.socket) -> None:
        self.dataset: str | None = None
        self.streaming = False
        self._server = server
        self._config = server.config
        self._socket = connection
        self._lines = Lines(connection)
        self._line: BillLine | None = None
        self._ending: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._pending: list[SubscriptionLine | WireError] = []
        self._unfinished: Outgoing | None = None

    def end(self, why: str) -> None:
        """Stop sending new records from now on; the first reason is the one that is kept."""
        if self._ending is None:
            self._ending = why
        self._wake()

    def reset(self) -> None:
        """Make the coming close a reset."""
        self._ending = "reset by the sandbox"
        with contextlib.suppress(OSError):  # it may have ended by itself a moment ago
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

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
            if self._line is not None:
                self._line.close(self._ending or "ended")

    async def _authenticate(self) -> Login | None:
        loop = asyncio.get_running_loop()
        challenge = secrets.token_hex(16)
        await loop.sock_sendall(self._socket, greeting(challenge))
        line = await self._lines.next()
        if line is None:
            return None
        try:
            login = parse_login(line, challenge, self._config.keys)
            self._admit(login)
        except WireError as error:
            await loop.sock_sendall(self._socket, rejected(str(error)))
            return None
        self.dataset = login.dataset
        self._line = self._server.bill.open("live", login.key, login.dataset)
        await loop.sock_sendall(self._socket, accepted(self._server.next_session_id()))
        return login

    def _admit(self, login: Login) -> None:
        dataset = login.dataset
        if dataset not in self._config.prices:
            raise WireError(f"Unknown dataset {dataset!r}")
        if not self._config.may_live(dataset) or dataset in self._server.faults.revoked:
            raise WireError(f"A live data license is required to access {dataset}.")
        if self._server.open_in(dataset) >= self._config.max_connections:
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
            await self._finish_record()
            self._socket.shutdown(socket.SHUT_WR)
            # Closing with the client's bytes unread would turn the FIN into a reset.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._server.goodbye_s):
                    await listening
        finally:
            await _cancelled(listening)

    async def _listen(self) -> None:
        """Read on beside the stream: later subscriptions, and the client's FIN."""
        try:
            while (line := await self._lines.next()) is not None:
                self._pending.append(_parsed(line))
                self._wake()
            self.end("closed by the client")
        except WireError as error:
            self.end(f"protocol error: {error}")
        except OSError as error:
            self.end(f"lost: {error.strerror or error}")

    async def _stream(self, login: Login, before: list[SubscriptionLine | WireError]) -> None:
        assert self._line is not None
        prices = self._config.prices[login.dataset]
        feed = Feed(
            self._server.market,
            self._server.universe,
            login.dataset,
            frozenset(prices.historical),
            ts_out=login.ts_out,
        )
        await self._send(feed.metadata(self._now_ns()))
        try:
            for line in before:
                await self._subscribe(feed, line, started=False)
            feed.begin(self._now_ns())
            await self._pump(feed, login)
        except FatalSubscription as error:
            await self._send(feed.error(self._now_ns(), str(error), error.code))
            self.end(f"refused: {error}")

    async def _subscribe(self, feed: Feed, line: SubscriptionLine | WireError, *, started: bool) -> None:
        assert self._line is not None
        if isinstance(line, WireError):
            raise FatalSubscription(str(line), INVALID_SUBSCRIPTION)
        prices = self._config.prices[self._line.dataset]
        answers = feed.subscribe(line, self._now_ns(), self._config.replay_limit_s, started=started)
        self._line.subscribe(line.schema, prices.live_price(line.schema))
        for answer in answers:
            await self._send(answer)

    async def _pump(self, feed: Feed, login: Login) -> None:
        clock = self._config.clock
        interval_s = self._config.heartbeat_interval_s or login.heartbeat_s
        hose = self._firehose(feed, login)
        last_sent_s = clock.monotonic_s()
        while self._ending is None:
            while self._pending:
                await self._subscribe(feed, self._pending.pop(0), started=True)
                hose = self._firehose(feed, login)
            now_ns = self._now_ns()
            outgoing = feed.due(now_ns)
            if outgoing is None:
                for notice in feed.replays_done(now_ns):
                    await self._send(notice)
                if hose is not None:
                    outgoing = hose.pour(now_ns)
                elif clock.monotonic_s() - last_sent_s >= interval_s:
                    outgoing = feed.heartbeat(now_ns)
            if outgoing is None:
                await self._pause((SLOT_NS - now_ns % SLOT_NS) / 10**9)
            else:
                await self._send(outgoing)
                last_sent_s = clock.monotonic_s()

    def _firehose(self, feed: Feed, login: Login) -> Firehose | None:
        if self._config.rate != 0:
            return None
        streams = feed.tick_streams(self._now_ns())
        if not streams:
            return None
        return Firehose(self._config.seed, streams, self._now_ns(), ts_out=login.ts_out)

    async def _send(self, outgoing: Outgoing) -> None:
        """Hand a buffer to the kernel, and bill what it takes as it takes it, until the session is to end."""
        if self._ending is not None:
            return
        position, run = 0, 0
        while position < len(outgoing.data) and self._ending is None:
            try:
                taken = self._socket.send(outgoing.data[position : position + _SEND_MAX])
            except BlockingIOError:
                await self._pause(None, writable=True)
                continue
            run = self._account(outgoing, position, position + taken, run)
            position += taken
            await asyncio.sleep(0)
        self._unfinished = _rest_of_record(outgoing, position)

    async def _finish_record(self) -> None:
        """Complete the record that was cut by the end, so that the client reads whole ones."""
        rest = self._unfinished
        if rest is None:
            return
        position = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_TIMEOUT_S):
                while position < len(rest.data):
                    try:
                        taken = self._socket.send(rest.data[position:])
                    except BlockingIOError:
                        await self._pause(None, writable=True)
                        continue
                    self._account(rest, position, position + taken, 0)
                    position += taken

    def _account(self, outgoing: Outgoing, start: int, end: int, run: int) -> int:
        """Bill `[start, end)` of a buffer; `run` is the run in which `start` lies. Returns that of `end`."""
        assert self._line is not None
        while run < len(outgoing.runs):
            here = outgoing.runs[run]
            self._line.add(here.schema, min(end, here.end) - start)
            if end < here.end:
                break
            start = here.end
            run += 1
            if start == end:
                break
        return run

    async def _pause(self, timeout_s: float | None, *, writable: bool = False) -> None:
        """Wait for the time, for room in the socket, or for something to happen; whichever comes first."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, self._wake)
        if writable:
            loop.add_writer(self._socket, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
            if writable:
                loop.remove_writer(self._socket)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _now_ns(self) -> int:
        return ns_from_instant(self._config.clock.now())


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task and see it end: a socket must not be closed under a pending read."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _parsed(line: bytes) -> SubscriptionLine | WireError:
    """A subscription, or what is wrong with it: that is said once the session has started."""
    try:
        return parse_subscription(line)
    except WireError as error:
        return error


def _rest_of_record(outgoing: Outgoing, position: int) -> Outgoing | None:
    """What is missing of the record in which a position lies; None when it lies between records."""
    start = 0
    for run in outgoing.runs:
        if position < run.end:
            done = (position - start) % run.record_size
            if done == 0:
                return None
            rest = run.record_size - done
            data = outgoing.data[position : position + rest]
            return Outgoing(data, (Run(rest, run.schema, rest),))
        start = run.end
    return None

"""One live client, from greeting to FIN."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from budget_guard.clock import Clock, ns_from_instant
from budget_guard.sandbox.live.feed import INVALID_SUBSCRIPTION, FatalSubscription, Feed, Terms
from budget_guard.sandbox.live.firehose import Firehose
from budget_guard.sandbox.live.outgoing import Outgoing, Squeeze
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
# Bytes of subscription lines that may wait to be taken: some hundred thousand symbols.
WAITING_MAX = 16 * 2**20


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
            # Data that is there already is read without a pause: who never stops sending would keep everyone waiting.
            await asyncio.sleep(0)
        line, _, self._rest = self._rest.partition(b"\n")
        return line


class Pace:
    """Lets through so many a second, and says how long the next has to wait; None lets everything through."""

    def __init__(self, clock: Clock, per_s: int | None) -> None:
        self._clock = clock
        self._taken: deque[float] | None = None if per_s is None else deque(maxlen=max(1, per_s))

    def wait_s(self) -> float:
        """How long until the next may come; 0 or less when it may come now."""
        if self._taken is None or len(self._taken) != self._taken.maxlen:
            return 0.0
        return self._taken[0] + 1.0 - self._clock.monotonic_s()

    def take(self) -> None:
        """One has come."""
        if self._taken is not None:
            self._taken.append(self._clock.monotonic_s())


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
        self._pending: deque[bytes] = deque()
        self._waiting = 0  # bytes of lines that have come and are not taken yet
        self._unfinished: SubscriptionLine | None = None
        self._pace = Pace(server.config.clock, server.config.limits.subscriptions_per_s)
        self._last_sent_s = 0.0
        self._headed = False  # whether the DBN header has been sent

    def end(self, why: str) -> None:
        """Stop sending new records from now on; the first reason is the one that is kept."""
        self._outlet.end(why)

    @property
    def held(self) -> bool:
        """Whether a fault holds it back until the clock moves on."""
        return self._outlet.held

    @property
    def silent(self) -> bool:
        """Whether a fault lets nothing at all be sent, not even heartbeats."""
        return self._outlet.link is not None and self._outlet.link.silent

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
        except Exception as error:  # noqa: BLE001 - a defect ends one session, and is heard of
            self.end(f"failed: {type(error).__name__}: {error}")
            context = {"message": "a live session failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
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
            if self._server.turns_away(login):
                return None
            self._admit(login)
        except WireError as error:
            await loop.sock_sendall(self._socket, rejected(str(error)))
            return None
        self.dataset = login.dataset
        self._outlet.line = self._server.bill.open("live", login.key, login.dataset)
        self._outlet.line.ts_out = login.ts_out
        self._outlet.link = self._server.link(login)
        self._outlet.squeeze = Squeeze() if login.compressed else None
        await self._welcome(login)
        return login

    async def _welcome(self, login: Login) -> None:
        """Answer the login; a fault may add to the answer, or let the DBN header follow in the same segment."""
        glued = self._server.faults.take("glue_reply", login.dataset, login.key)
        reply = accepted(self._server.next_session_id())
        self._outlet.reply(self._server.altered_reply(reply, login), glued=glued is not None)
        if glued is not None and glued.fault.args["early"]:
            self._headed = True
            await self._send(self._make_feed(login).metadata(self._now_ns()))

    def _admit(self, login: Login) -> None:
        dataset = login.dataset
        self._server.check_login(login)
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
            self._waiting += len(line)
            if self._waiting > WAITING_MAX:
                raise WireError("Too many subscriptions at once")
            before.append(_parsed(line))
        self._waiting = 0
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
                self._pending.append(line)
                self._waiting += len(line)
                self._outlet.wake()
                if self._waiting > WAITING_MAX:
                    raise WireError("Too many subscriptions at once")
            self.end("closed by the client")
        except WireError as error:
            self.end(f"protocol error: {error}")
        except OSError as error:
            self.end(f"lost: {error.strerror or error}")

    async def _stream(self, login: Login, before: Sequence[SubscriptionLine | WireError]) -> None:
        feed = self._make_feed(login)
        asked = [line for line in before if isinstance(line, SubscriptionLine)]
        if not self._headed:
            await self._send(feed.metadata(self._now_ns(), asked))
        for one in asked:
            self._put_in_force(one.schema)
        try:
            for line in before:
                while (wait_s := self._pace.wait_s()) > 0 and self._outlet.ending is None:
                    await self._outlet.pause(wait_s)
                await self._subscribe(feed, line, started=False)
            if self._unfinished is not None:
                await self._subscribe_whole(feed, self._unfinished, started=False)
            feed.begin(self._now_ns())
            await self._pump(feed, login)
        except FatalSubscription as error:
            await self._send(feed.error(self._now_ns(), str(error), error.code))
            self.end(f"refused: {error}")

    def _make_feed(self, login: Login) -> Feed:
        config = self._config
        terms = Terms(
            ts_out=login.ts_out,
            skips=login.skips,
            replay_limit_s=config.replay_limit_s,
            replay_by_event_time=config.replay_by_event_time,
            remap_continuous=config.remap_continuous,
            slow_reader_s=config.slow_reader_s,
            slot_ns=config.slot_ns,
        )
        offered = frozenset(self._server.account.schemas(login.dataset))
        return Feed(self._server.market, login.dataset, offered, terms)

    async def _send(self, outgoing: Outgoing) -> bool:
        """Returns whether any of it was to be sent: a fault may leave it out. What was made ready is stamped now."""
        line = self._outlet.line
        if line is not None and line.ts_out:
            outgoing = outgoing.stamped(self._now_ns())
        begun_s = self._config.clock.monotonic_s()
        sent = await self._outlet.send(outgoing)
        if sent:
            # Who has read it may have moved the clock on before this is reached: it was sent when it began to be.
            self._last_sent_s = self._config.clock.monotonic_s() if self._outlet.blocked else begun_s
        return sent

    async def _subscribe(self, feed: Feed, line: SubscriptionLine | WireError, *, started: bool) -> None:
        """Take a line: a subscription, or a part of one with more symbols than fit on a line."""
        self._pace.take()
        if isinstance(line, WireError):
            raise FatalSubscription(str(line), INVALID_SUBSCRIPTION)
        try:
            whole = line if self._unfinished is None else self._unfinished.continued(line)
        except WireError as error:
            raise FatalSubscription(str(error), INVALID_SUBSCRIPTION) from None
        if line.is_last:
            await self._subscribe_whole(feed, whole, started=started)
        else:
            self._unfinished = whole

    async def _subscribe_whole(self, feed: Feed, line: SubscriptionLine, *, started: bool) -> None:
        assert self._outlet.line is not None
        self._unfinished = None
        # Many symbols take long to resolve, and the first ones a calendar: beside the event loop.
        answer = await asyncio.to_thread(feed.subscribe, line, self._now_ns(), started=started)
        self._put_in_force(line.schema)
        await self._send(answer)

    def _put_in_force(self, schema: str) -> None:
        """Tell the bill a schema's price. What was asked for before the start is in force from the first byte on."""
        line, account = self._outlet.line, self._server.account
        assert line is not None
        if schema in account.schemas(line.dataset):
            line.subscribe(schema, account.live_price(line.dataset, schema))

    async def _pump(self, feed: Feed, login: Login) -> None:
        clock = self._config.clock
        slot_ns = self._config.slot_ns
        interval_s = self._config.heartbeat_interval_s or login.heartbeat_s
        hose, generation = None, -1
        waited = False  # whether the client has been waited for since it was last sent everything
        while self._outlet.ending is None:
            while self._pending and self._pace.wait_s() <= 0:
                await self._subscribe(feed, self._take_line(), started=True)
            if feed.generation != generation:
                hose, generation = await self._firehose(feed, login), feed.generation
            now_ns = self._now_ns()
            for notice in feed.slow(now_ns) if waited else ():
                await self._send(notice)
            outgoing = (
                feed.due(now_ns) if feed.is_quick(now_ns) else await asyncio.to_thread(feed.due, now_ns)
            )
            if outgoing is None:
                waited = False
                for notice in feed.replays_done(now_ns):
                    await self._send(notice)
                self.current_ns = now_ns
                if hose is not None and not self._outlet.withholding:
                    outgoing = hose.pour(now_ns)
                elif clock.monotonic_s() - self._last_sent_s >= interval_s:
                    outgoing = feed.heartbeat(now_ns)
            if outgoing is None:
                await self._outlet.pause((slot_ns - now_ns % slot_ns) / 10**9)
            else:
                await self._send(outgoing)
                waited = waited or self._outlet.blocked
                # Not quite: whoever moves the clock waits until it has been seen that there is nothing more.
                self.current_ns = max(self.current_ns or 0, feed.handed_ns - 1)

    def _take_line(self) -> SubscriptionLine | WireError:
        line = self._pending.popleft()
        self._waiting -= len(line)
        return _parsed(line)

    async def _firehose(self, feed: Feed, login: Login) -> Firehose | None:
        if self._config.rate != 0:
            return None
        blocks = await asyncio.to_thread(feed.blocks, self._now_ns())
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

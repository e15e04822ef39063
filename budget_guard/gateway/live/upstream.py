"""The relay's connection to the vendor's live gateway."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

from budget_guard.addresses import is_loopback
from budget_guard.errors import VendorError, VendorUnavailable
from budget_guard.gateway.wire.lines import (
    LineError,
    LineReader,
    challenge_response,
    format_line,
    parse_fields,
)
from budget_guard.gateway.wire.refusals import logon_error
from budget_guard.gateway.wire.scrub import Scrubber
from budget_guard.gateway.wire.subscription import Logon, Subscription
from budget_guard.guard.connection import connection_allowance_bytes

READ_BYTES = 128 * 1024
RECEIVE_BUFFER_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 10.0
LIVE_PORT = 13000
CLIENT_NAME = "budget-guard"
# A gateway sends nothing between its answer to the logon and the start; what comes all the same is kept, so far.
EARLY_BYTES_MAX = 1 << 20

_CLOSED_AT_ONCE = (
    "without a greeting: so it does while it restarts, "
    "and to more than 5 new connections a second of one address"
)

# Why reading may stand still: each holder lets go for itself.
Pause = Literal["money", "client"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the vendor's live gateway is; `host` None: the vendor's own host for each dataset."""

    host: str | None = None
    port: int = LIVE_PORT

    def host_for(self, dataset: str) -> str:
        return self.host or f"{dataset.lower().replace('.', '-')}.lsg.databento.com"

    @property
    def is_loopback(self) -> bool:
        return self.host is not None and is_loopback(self.host)


def receive_buffer_bytes(endpoint: Endpoint) -> int:
    """The most that the kernel may have taken from the vendor and the relay not yet read.

    On the loopback the buffer is fixed, and small. Over a network it must be free to grow with the distance:
    there the kernel's own bound counts.
    """
    if endpoint.is_loopback:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            return probe.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    try:
        return int(Path("/proc/sys/net/ipv4/tcp_rmem").read_text().split()[2])
    except (OSError, ValueError, IndexError):
        return 8 << 20


def ending_allowance_bytes(endpoint: Endpoint) -> int:
    """What may still arrive between the decision to stop and the vendor's last byte."""
    return connection_allowance_bytes(receive_buffer_bytes(endpoint), READ_BYTES)


_reading = threading.local()


def _read_buffer() -> memoryview:
    """What all connections of a thread read into: each read is copied before there is another."""
    if not hasattr(_reading, "buffer"):
        _reading.buffer = memoryview(bytearray(READ_BYTES))
    buffer: memoryview = _reading.buffer
    return buffer


class UpstreamListener(Protocol):
    def upstream_data(self, data: bytes, *, filled: bool = False) -> None:
        """Bytes of the DBN stream, as they came; `filled`: as many as the read might take, so more may be waiting."""

    def room_bytes(self) -> int | None:
        """The most that the next read may take, at least 1; None for no bound."""


class Upstream(asyncio.BufferedProtocol):
    """One TCP connection to the gateway: it logs on by itself, then hands every byte to its listener.

    `ended` completes with True when the vendor ended the stream cleanly, so that every byte it sent was read,
    and with False when the connection broke or was aborted.
    """

    def __init__(self, listener: UpstreamListener, key: str, logon: Logon) -> None:
        loop = asyncio.get_running_loop()
        self._listener = listener
        self._key = key
        self._scrubber = Scrubber(key)
        self._logon = logon
        self._reader = LineReader()
        self._view = _read_buffer()
        self._room = READ_BYTES  # of the read that comes next
        self._transport: asyncio.Transport | None = None
        self._saw_eof = False
        self._sent_eof = False
        self._logged_on = False
        self._started = False
        self._greeted = False
        self._early = bytearray()
        self._paused: set[Pause] = set()
        self.logged_on: asyncio.Future[str] = loop.create_future()
        # Who gave up waiting for it does not want its exception any more.
        self.logged_on.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.ended: asyncio.Future[bool] = loop.create_future()

    # --- what the relay does with it ----------------------------------------------------------------------

    def subscribe(self, subscription: Subscription, start_ns: int | None) -> None:
        """Send a subscription line; `start_ns` stands in place of the client's own start."""
        self._write(format_line(subscription.fields(start_ns)))

    def start(self) -> None:
        """Ask for the data: from here on bytes are billed, and handed to the listener."""
        self._write(b"start_session=0\n")
        self._started = True
        if self._early:
            early, self._early = bytes(self._early), bytearray()
            self._listener.upstream_data(early)

    def finish(self) -> None:
        """Half-close: the vendor flushes what it has sent and ends; reading goes on until then."""
        if self._transport is not None and not self._sent_eof and not self._transport.is_closing():
            self._sent_eof = True
            self._paused.clear()
            self._transport.resume_reading()
            try:
                self._transport.write_eof()
            except OSError:
                # It was reset while nothing was read, and nobody had noticed.
                self.abort()

    def abort(self) -> None:
        """Break the connection at once: bytes may be billed that nobody will see."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self, why: Pause) -> None:
        """Read nothing until `resume` was called for every reason to pause. A connection that ends is read on."""
        if self._transport is not None and not self._sent_eof and not self._transport.is_closing():
            self._paused.add(why)
            self._transport.pause_reading()

    def resume(self, why: Pause) -> None:
        """One reason less to pause."""
        self._paused.discard(why)
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    @property
    def paused(self) -> bool:
        """Whether nothing can be heard of the vendor because nothing is read."""
        return bool(self._paused)

    # --- asyncio.BufferedProtocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Room for one read, cut to what may still be taken: no read goes past what is granted."""
        room = self._listener.room_bytes() if self._started else None
        if room is None or room >= READ_BYTES:
            self._room = READ_BYTES
            return self._view
        self._room = room
        return self._view[:room]

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._view[:nbytes])
        if self._started:
            self._listener.upstream_data(data, filled=nbytes == self._room)
        elif self._logged_on:
            self._keep_early(data)
        else:
            self._log_on(data)

    def eof_received(self) -> bool:
        """Whoever ended first, this ends the other direction too: False lets the transport close itself."""
        self._saw_eof = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.logged_on.done():
            self.logged_on.set_exception(
                VendorUnavailable(
                    f"the live gateway closed the connection during logon ({exc or 'no reason given'})",
                    advice="it is tried again" if self._greeted else _CLOSED_AT_ONCE,
                )
            )
        if not self.ended.done():
            self.ended.set_result(self._saw_eof and exc is None)

    # --- logging on ---------------------------------------------------------------------------------------

    def _log_on(self, data: bytes) -> None:
        self._greeted = True
        self._reader.receive(data)
        try:
            while not self._logged_on and (line := self._reader.next_line()) is not None:
                self._answer(parse_fields(line))
        except LineError as error:
            self._fail(
                VendorUnavailable(
                    f"the live gateway said something unreadable: {self._scrubber.text(str(error))}",
                    advice="try later",
                )
            )
            return
        if self._logged_on:
            self._keep_early(self._reader.rest())

    def _keep_early(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > EARLY_BYTES_MAX:
            self.abort()

    def _answer(self, fields: dict[str, str]) -> None:
        if "cram" in fields:
            logon: dict[str, str | int] = {
                "auth": challenge_response(fields["cram"], self._key),
                "dataset": self._logon.dataset,
                "encoding": "dbn",
                "ts_out": int(self._logon.ts_out),
                "compression": "none",
                "heartbeat_interval_s": self._logon.heartbeat_interval_s,
            }
            if self._logon.slow_reader_behavior is not None:
                logon["slow_reader_behavior"] = self._logon.slow_reader_behavior
            logon["client"] = CLIENT_NAME
            self._write(format_line(logon))
        elif fields.get("success") == "1":
            self._logged_on = True
            self.logged_on.set_result(fields.get("session_id", ""))
        elif fields.get("success") == "0":
            said = self._scrubber.text(fields.get("error", "no reason given"))
            self._fail(logon_error(said, self._logon.dataset))

    def _fail(self, error: VendorError) -> None:
        if not self.logged_on.done():
            self.logged_on.set_exception(error)
        self.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


async def connect(endpoint: Endpoint, key: str, logon: Logon, listener: UpstreamListener) -> Upstream:
    """Connect and log on. Raises VendorError; nothing has been billed when it does."""
    loop = asyncio.get_running_loop()
    host = endpoint.host_for(logon.dataset)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            transport, upstream = await loop.create_connection(
                lambda: Upstream(listener, key, logon), host, endpoint.port
            )
            if endpoint.is_loopback:
                connected: socket.socket = transport.get_extra_info("socket")
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            try:
                await asyncio.shield(upstream.logged_on)
            except BaseException:
                upstream.abort()
                raise
    except TimeoutError as error:
        raise VendorUnavailable(
            f"no logon at {host}:{endpoint.port} within {CONNECT_TIMEOUT_S:.0f} s", advice="it is tried again"
        ) from error
    except OSError as error:
        raise VendorUnavailable(
            f"no connection to {host}:{endpoint.port}: {error}", advice="it is tried again"
        ) from error
    return upstream


async def hang_up(calling: asyncio.Task[Upstream] | None) -> None:
    """Leave a call to the vendor that is not wanted any more, whatever has become of it."""
    if calling is not None:
        calling.cancel()
        for answer in await asyncio.gather(calling, return_exceptions=True):
            if isinstance(answer, Upstream):
                answer.abort()

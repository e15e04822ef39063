"""The relay's side of a client's connection: lines in, bytes out, and how fast the client takes them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import cast

import zstandard

from budget_guard.gateway.wire.lines import LINE_MAX_BYTES, LineError, LineReader

# Bytes that may wait for a slow client before the vendor's connection is no longer read; the kernel keeps some MiB too.
WRITE_BUFFER_BYTES = 256 * 1024
# How long a client may take to close its side after the goodbye.
LINGER_S = 1.0
# How long it may take what still waits for it then.
LEAVING_S = 60.0
# Lines that may wait to be read: more than a session may have. A client that floods is not listened to any more.
LINES_MAX = 4096
# Bytes of lines that may wait: a stranger has one line to say.
STRANGER_BYTES_MAX = 2 * LINE_MAX_BYTES
WAITING_BYTES_MAX = 8 << 20
# A client that takes nothing for so long is given up: meanwhile it costs a connection of the vendor's, and a lease.
STALLED_S = 600.0
# A client whose machine is gone is noticed after about a minute when there is nothing to send to it.
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
_TLS_HANDSHAKE = b"\x16\x03"


class ClientGone(Exception):
    """The client closed its connection, or never said what it should have."""


class Downstream(asyncio.Protocol):
    """One client. `next_line` hands out its lines; `write` sends, compressed when the client asked for it."""

    def __init__(self, on_connected: Callable[[Downstream], None]) -> None:
        self._on_connected = on_connected
        self._reader = LineReader()
        self._lines: asyncio.Queue[str | LineError | None] = asyncio.Queue()
        self._waiting_bytes = 0
        self._waiting_bytes_max = STRANGER_BYTES_MAX
        self._first = True
        self._deaf = False
        self._stalled: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self.address = ""
        self._compressor: zstandard.ZstdCompressionObj | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_gone: Callable[[], None] = lambda: None
        self.on_writable: Callable[[bool], None] = lambda _writable: None

    async def next_line(self) -> str:
        """The client's next line. Raises LineError for one that cannot be read, ClientGone at the end."""
        line = await self._lines.get()
        if line is None:
            raise ClientGone
        if isinstance(line, LineError):
            raise line
        self._waiting_bytes -= len(line)
        return line

    def trust(self) -> None:
        """It has shown a token: it may say more."""
        self._waiting_bytes_max = WAITING_BYTES_MAX

    def compress(self) -> None:
        """From here on everything is one zstd stream, flushed with every write."""
        self._compressor = zstandard.ZstdCompressor(level=1).compressobj()

    def write(self, data: bytes) -> None:
        """Send; silently dropped once the client has gone."""
        if self._transport is None or self._transport.is_closing() or not data:
            return
        if self._compressor is not None:
            data = self._compressor.compress(data) + self._compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        self._transport.write(data)

    async def leave(self) -> None:
        """Send what is left, and close when the client has: closing on its unread words would reset the goodbye away.

        A client that does not close in time is still sent what waits for it.
        """
        self._deaf = True
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._compressor is not None:
            transport.write(self._compressor.flush())
            self._compressor = None
        if not self.gone.done():
            with contextlib.suppress(OSError):  # it may have been reset a moment ago
                transport.write_eof()
                await asyncio.wait({self.gone}, timeout=LINGER_S)
        transport.close()
        if transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(LEAVING_S, transport.abort)

    @property
    def leaving(self) -> bool:
        """Whether it is being closed already."""
        return self._transport is None or self._transport.is_closing()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if peer else ""
        _keep_alive(transport.get_extra_info("socket"))
        self._on_connected(self)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        first, self._first = self._first, False
        self._reader.receive(data)
        try:
            if first and data.startswith(_TLS_HANDSHAKE):
                raise LineError("this port speaks the live protocol without TLS: encrypt it with a tunnel")
            while (line := self._reader.next_line()) is not None:
                self._lines.put_nowait(line)
                self._waiting_bytes += len(line)
                if self._lines.qsize() > LINES_MAX:
                    raise LineError(f"more than {LINES_MAX} lines at once")
                if self._waiting_bytes > self._waiting_bytes_max:
                    raise LineError(f"more than {self._waiting_bytes_max} bytes of lines at once")
        except LineError as error:
            # Nobody knows where the next line begins.
            self._deaf = True
            self._reader.rest()
            self._lines.put_nowait(error)

    def eof_received(self) -> bool:
        """The client wants no more, but may still read what is on its way: its connection stays open for that."""
        self._leave()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_stalled()
        self._leave()

    def pause_writing(self) -> None:
        self._cancel_stalled()
        self._stalled = asyncio.get_running_loop().call_later(STALLED_S, self.abort)
        self.on_writable(False)

    def resume_writing(self) -> None:
        self._cancel_stalled()
        self.on_writable(True)

    def _cancel_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _leave(self) -> None:
        self._lines.put_nowait(None)
        if not self.gone.done():
            self.gone.set_result(None)
            self.on_gone()


def _keep_alive(connected: socket.socket | None) -> None:
    """Let the system find out that the other machine is gone."""
    if connected is None or connected.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        option = getattr(socket, name, None)  # not every system has each
        if option is not None:
            connected.setsockopt(socket.IPPROTO_TCP, option, value)

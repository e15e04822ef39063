"""The way out of a live connection: what the kernel's `send()` takes is billed as it is taken.

The socket is non-blocking and written to directly. A transport's `write()` would only say what was queued.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import replace

from budget_guard.sandbox.billing.bill import BillLine
from budget_guard.sandbox.live.outgoing import Outgoing, Run

FINISH_TIMEOUT_S = 1.0

# One call of send(): large enough to be cheap, small enough that other connections get their turn.
_SEND_MAX = 256 * 1024


class Outlet:
    """Writes to one client until the session is to end; `ending` then says why."""

    def __init__(self, connection: socket.socket) -> None:
        self.ending: str | None = None
        self.line: BillLine | None = None
        self.blocked = False  # whether the last send had to wait for the client to read
        self._socket = connection
        self._waiter: asyncio.Future[None] | None = None
        self._unfinished: Outgoing | None = None

    def end(self, why: str) -> None:
        """Stop sending new records from now on; the first reason is the one that is kept."""
        if self.ending is None:
            self.ending = why
        self.wake()

    def reset(self) -> None:
        """Make the coming close a reset."""
        self.ending = "reset by the sandbox"
        with contextlib.suppress(OSError):  # it may have ended by itself a moment ago
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def send(self, outgoing: Outgoing) -> None:
        """Hand a buffer to the kernel, and bill what it takes as it takes it, until the session is to end."""
        if self.ending is not None:
            return
        position, run = 0, 0
        self.blocked = False
        while position < len(outgoing.data) and self.ending is None:
            try:
                taken = self._socket.send(outgoing.data[position : position + _SEND_MAX])
            except BlockingIOError:
                self.blocked = True
                await self.pause(None, writable=True)
                continue
            run = self._account(outgoing, position, position + taken, run)
            position += taken
            await asyncio.sleep(0)
        self._unfinished = _rest_of_record(outgoing, position)

    async def finish_record(self) -> None:
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
                        await self.pause(None, writable=True)
                        continue
                    self._account(rest, position, position + taken, 0)
                    position += taken

    def _account(self, outgoing: Outgoing, start: int, end: int, run: int) -> int:
        """Bill `[start, end)` of a buffer; `run` is the run in which `start` lies. Returns that of `end`."""
        assert self.line is not None
        if outgoing.whole:
            # Any of its bytes may let the client decode any of its records: billed with the first of them.
            start, end = 0, outgoing.size if start == 0 else 0
        while run < len(outgoing.runs):
            here = outgoing.runs[run]
            self.line.add(here.schema, min(end, here.end) - start)
            if end < here.end:
                break
            start = here.end
            run += 1
            if start == end:
                break
        return run

    async def pause(self, timeout_s: float | None, *, writable: bool = False) -> None:
        """Wait for the time, for room in the socket, or for something to happen; whichever comes first."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, self.wake)
        if writable:
            loop.add_writer(self._socket, self.wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
            if writable:
                loop.remove_writer(self._socket)

    def wake(self) -> None:
        """End the pause, if there is one."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _rest_of_record(outgoing: Outgoing, position: int) -> Outgoing | None:
    """What is missing of the record in which a position lies; None when it lies between records."""
    if outgoing.whole:
        cut = 0 < position < len(outgoing.data)
        return replace(outgoing, data=outgoing.data[position:], runs=()) if cut else None
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

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
from budget_guard.sandbox.faults.link import Link
from budget_guard.sandbox.live.outgoing import Outgoing, Run, Squeeze

FINISH_TIMEOUT_S = 1.0

# One call of send(): large enough to be cheap, small enough that other connections get their turn.
_SEND_MAX = 256 * 1024

# How often a clock is looked at that a fault waits for: it may be one that only moves when told to.
_LOOK_S = 0.005


class Outlet:
    """Writes to one client until the session is to end; `ending` then says why.

    `line` and `link`, the bill's line and what goes wrong, come with the login; `squeeze`, if the client asked for
    compression, before the DBN header.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.ending: str | None = None
        self.line: BillLine | None = None
        self.held = False  # whether a fault lets nothing through until the clock moves on
        self.link: Link | None = None
        self.squeeze: Squeeze | None = None
        self.blocked = False  # whether the last send had to wait for the client to read
        self._socket = connection
        self._waiter: asyncio.Future[None] | None = None
        self._unfinished: Outgoing | None = None
        self._farewell: Outgoing | None = None
        self._corked = False

    @property
    def withholding(self) -> bool:
        """Whether market data is not let through."""
        return self.link is not None and self.link.withholding

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

    def reply(self, line: bytes, *, glued: bool) -> None:
        """The answer to the login; `glued`, it leaves with what is sent next, or 0.2 s later by itself."""
        self._corked = glued
        # A new connection's buffer has room for a line.
        self._socket.send(line, socket.MSG_MORE if glued else 0)

    async def send(self, outgoing: Outgoing) -> bool:
        """Hand a buffer to the kernel, and bill what it takes as it takes it, until the session is to end.

        Returns whether any of it was to be sent: a fault may leave it out.
        """
        assert self.link is not None
        self._look()
        if self.ending is not None:
            return False
        shaped = outgoing if self.link.idle else self.link.altered(outgoing)
        if shaped is None:
            return False
        if self.squeeze is not None:
            shaped = self.squeeze(shaped)
        self.blocked = False
        self.link.begin(shaped)
        position = await self._write(shaped)
        self.link.at(position)
        self._unfinished = _rest_of_record(shaped, position)
        return True

    async def _write(self, outgoing: Outgoing) -> int:
        """Returns how much was written before the session was to end: all, if it was not."""
        assert self.link is not None and self.line is not None
        # The header of a glued reply waits for the first record, and all three leave together.
        flags = socket.MSG_MORE if self._corked else 0
        self._corked = False
        position, run = 0, 0
        while position < len(outgoing.data) and self.ending is None:
            most = _SEND_MAX if self.link.idle else await self._room(position)
            if self.ending is not None:
                break
            self._intend(outgoing, position, most)
            try:
                taken = self._socket.send(outgoing.data[position : position + most], flags)
            except BlockingIOError:
                self.line.intend(0)
                self.blocked = True
                await self.pause(None if self.link.idle else _LOOK_S, writable=True)
                continue
            run = self._account(outgoing, position, position + taken, run)
            position += taken
            if not self.link.idle:
                self.link.at(position)
                self.link.wrote(taken)
                self._look()
            await asyncio.sleep(0)
        return position

    async def _room(self, position: int) -> int:
        """How many bytes a fault lets through now; waits until there are any, or the session is to end."""
        assert self.link is not None
        clock_s = self.link.now_s
        due_s = clock_s() + self.link.delay_s
        while self.ending is None:
            most = 0 if self.link.silent or clock_s() < due_s else self.link.room(position, _SEND_MAX)
            self.held = not most
            if most:
                self.link.let_through()
                return most
            self.link.hold_back(due_s)
            await self.pause(_LOOK_S)
        self.link.let_through()
        self.held = False
        return 0

    def _look(self) -> None:
        """Let what is due strike. Raises ConnectionResetError when that is a reset."""
        if self.link is None or self.link.idle or self.ending is not None:
            return
        struck = self.link.look()
        if struck is None:
            return
        if struck.fault.do == "reset":
            self.reset()
            raise ConnectionResetError("reset by the sandbox")
        self._farewell = self.link.last_words(struck)
        self.end("ended by a fault" if self._farewell is None else "ended by an error record")

    async def finish_record(self) -> None:
        """Complete the record that was cut by the end, so that the client reads whole ones; then say last words."""
        last = [self._unfinished]
        if self._farewell is not None:
            last.append(self._farewell if self.squeeze is None else self.squeeze(self._farewell))
        if self.link is not None and self.link.silent:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_TIMEOUT_S):
                for outgoing in last:
                    if outgoing is not None:
                        await self._finish(outgoing)

    async def _finish(self, rest: Outgoing) -> None:
        assert self.line is not None
        position = 0
        while position < len(rest.data):
            self._intend(rest, position, len(rest.data))
            try:
                taken = self._socket.send(rest.data[position:])
            except BlockingIOError:
                self.line.intend(0)
                await self.pause(None, writable=True)
                continue
            self._account(rest, position, position + taken, 0)
            position += taken

    def _intend(self, outgoing: Outgoing, position: int, most: int) -> None:
        """Tell the bill what is about to be handed over: a kill of this process may come before it is counted."""
        assert self.line is not None
        if outgoing.whole:
            self.line.intend(0 if position else outgoing.size)
        else:
            self.line.intend(min(most, len(outgoing.data) - position))

    def _account(self, outgoing: Outgoing, start: int, end: int, run: int) -> int:
        """Bill `[start, end)` of a buffer; `run` is the run in which `start` lies. Returns that of `end`."""
        assert self.line is not None
        if outgoing.whole:
            # Any of its bytes may let the client decode any of its records: billed with the first of them.
            start, end = 0, outgoing.size if start == 0 else 0
        while run < len(outgoing.runs):
            here = outgoing.runs[run]
            begin = outgoing.runs[run - 1].end if run else 0
            self.line.count(
                here.schema, here.kind, here.record_size, start - begin, min(end, here.end) - begin
            )
            if end < here.end:
                break
            start = here.end
            run += 1
            if start == end:
                break
        self.line.intend(0)
        return run

    async def pause(self, timeout_s: float | None, *, writable: bool = False) -> None:
        """Wait for the time, for room in the socket, or for something to happen; whichever comes first."""
        before = self.ending
        self._look()
        if self.ending != before:
            return
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
            return Outgoing(data, (Run(rest, run.schema, rest, run.kind),))
        start = run.end
    return None

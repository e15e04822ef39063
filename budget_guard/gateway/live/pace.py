"""How fast connections to the vendor may follow each other, of this process and of others on this machine."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
from collections import deque
from contextlib import suppress
from pathlib import Path

from budget_guard.clock import uptime_ns

# The vendor closes connections at once beyond five new ones in a second from one address.
CONNECTIONS = 5
# A second, and what the network may add to or take from the distance between two of them.
SECOND_NS = 1_100_000_000
_TIMES = struct.Struct(f"<{CONNECTIONS}Q")


class Pacer:
    """Gives out turns to connect, first come, first served.

    With a `file`, programs that share it share its turns; one that cannot be used leaves a pace of the process's own.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._turns: deque[int] = deque(maxlen=CONNECTIONS)
        self._waiting = asyncio.Lock()

    async def turn(self) -> None:
        """Wait until another connection may be opened; at once if fewer were opened lately."""
        async with self._waiting:
            wait_ns = self._take(uptime_ns())
            while wait_ns > 0:
                await asyncio.sleep(wait_ns / 1e9)
                wait_ns = self._take(uptime_ns())

    def _take(self, now_ns: int) -> int:
        """Take a turn at an instant, or say for how long there is none."""
        wait_ns = _wait_ns(self._turns, now_ns)
        if wait_ns <= 0 and self._file is not None:
            with suppress(OSError):
                wait_ns = _take_shared(self._file, now_ns)
        if wait_ns <= 0:
            self._turns.append(now_ns)
        return wait_ns


def _wait_ns(turns: deque[int], now_ns: int) -> int:
    if len(turns) < CONNECTIONS or turns[0] > now_ns:
        return 0
    return turns[0] + SECOND_NS - now_ns


def _take_shared(file: Path, now_ns: int) -> int:
    """The same among programs of this machine. Raises OSError, also while another one looks."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        written = os.pread(descriptor, _TIMES.size, 0)
        times = _TIMES.unpack(written) if len(written) == _TIMES.size else ()
        # Times ahead of now are of an earlier run of the machine.
        turns = deque(sorted(at for at in times if 0 < at <= now_ns), maxlen=CONNECTIONS)
        wait_ns = _wait_ns(turns, now_ns)
        if wait_ns <= 0:
            turns.append(now_ns)
            padded = [0] * (CONNECTIONS - len(turns)) + list(turns)
            os.pwrite(descriptor, _TIMES.pack(*padded), 0)
        return wait_ns
    finally:
        os.close(descriptor)

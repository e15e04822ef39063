"""What a program has been sent and has not taken yet, as the kernel knows it (Linux)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_TABLE = Path("/proc/net/tcp")


def unread_bytes(port: int) -> int:
    """Bytes on their way from a local server's port to its clients; 0 where the kernel does not say."""
    try:
        lines = _TABLE.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(queued_bytes(lines[1:], port))


def queued_bytes(lines: Iterable[str], port: int) -> Iterable[int]:
    """What each socket of a connection with the port has queued, of the lines of `/proc/net/tcp`.

    At the server's end that is what was not delivered, at the other what was not read.
    """
    end = f":{port:04X}"
    for line in lines:
        fields = line.split()
        local, remote, (sending, _, receiving) = fields[1], fields[2], fields[4].partition(":")
        if local.endswith(end):
            yield int(sending, 16)
        elif remote.endswith(end):
            yield int(receiving, 16)

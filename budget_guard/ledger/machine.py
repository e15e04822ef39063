"""Which machine this is, and which of its runs: a meter file outlives its process, but not a crash of the machine."""

from __future__ import annotations

import socket
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def host_name() -> str:
    """This host's name, as holds carry it."""
    return socket.gethostname()


@cache
def boot_id() -> str:
    """An id that changes when the machine starts; `""` where the system has none (macOS): then nothing proves it."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""

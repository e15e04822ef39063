"""What a program leaves behind when it ends: processes that it has started, and that would go on beside its successor.

Linux only. This process becomes the parent of what the program orphans, and so can tell it from all else that runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")


class Leftovers:
    """Adopts the orphans of this process's children, from now on. Elsewhere than on Linux there are none to see."""

    def __init__(self) -> None:
        self._adopts = _adopt_orphans()
        # A shell that became this process by `exec` may have had children of its own.
        self._others = _children() if self._adopts else set()

    def reap(self, own: int | None) -> None:
        """Wait for adopted processes that have ended; `own` is the child that somebody else waits for."""
        with contextlib.suppress(ChildProcessError):
            while self._adopts:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_pid == own:
                    return
                os.waitpid(ended.si_pid, 0)

    def alive(self) -> set[int]:
        """What is left, while no child of one's own runs."""
        self.reap(None)
        return _children() - self._others if self._adopts else set()

    def send(self, number: int) -> None:
        """A signal for each of them."""
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _adopt_orphans() -> bool:
    if sys.platform != "linux":
        return False
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def _children() -> set[int]:
    me = os.getpid()
    return {int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit() and _parent(entry) == me}


def _parent(entry: Path) -> int | None:
    try:
        # The name in the second field may hold anything, so the fields are counted from its end.
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None

"""The program under `run`: its environment, its signals, its end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from budget_guard.gateway.host import GatewayHost

HOOK_DIR = Path(__file__).parent / "hook"
_PR_SET_DUMPABLE = 4
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def child_environment(environ: Mapping[str, str], host: GatewayHost, stream: str | None) -> dict[str, str]:
    """The environment of a guarded program: the token where the key was, and the way to the gateway."""
    path = os.pathsep.join(filter(None, [str(HOOK_DIR), environ.get("PYTHONPATH", "")]))
    return {
        **environ,
        "DATABENTO_API_KEY": host.token(stream),
        "BUDGET_GUARD_RELAY": f"127.0.0.1:{host.live_port}",
        "BUDGET_GUARD_HTTP": host.http_url,
        "PYTHONPATH": path,
    }


def hide_own_environment() -> None:
    """Keep other processes of this user from reading this one's memory and /proc/PID/environ (Linux).

    Root can read them all the same.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def run_child(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a program to its end, hand signals on to it, and return its exit code (128 + n for a signal n).

    Raises OSError when it cannot be started.
    """
    with subprocess.Popen(command, env=dict(environment)) as child, _forwarding_signals(child):
        code = child.wait()
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _forwarding_signals(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """While it lasts, the program hears what this process is told; Ctrl-C reaches it from the terminal anyway."""

    def forward(number: int, _frame: FrameType | None) -> None:
        if child.poll() is None and not (number == signal.SIGINT and sys.stdin.isatty()):
            child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

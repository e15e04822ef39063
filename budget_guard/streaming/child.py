"""The program under `run`: its environment, its signals, its end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Protocol

HOOK_DIR = Path(__file__).parent / "hook"
_PR_SET_DUMPABLE = 4
# Everything that would end this process and can be caught.
_FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
# A text shorter than this is no key, and would be found in places that have nothing to do with it.
_KEY_LENGTH_MIN = 12


class Gateway(Protocol):
    """What a guarded program is pointed at: a `GatewayHost`."""

    live_port: int
    http_url: str

    def token(self, stream: str | None = None) -> str: ...


def child_environment(
    environ: Mapping[str, str], gateway: Gateway, stream: str | None, *, key: str
) -> dict[str, str]:
    """The environment of a guarded program: the token wherever the key was, and the way to the gateway."""
    token = gateway.token(stream)
    path = os.pathsep.join(filter(None, [str(HOOK_DIR), environ.get("PYTHONPATH", "")]))
    return {
        **{name: without_key(value, key, token) for name, value in environ.items()},
        **{name: without_password(environ[name]) for name in ("BUDGET_GUARD_LEDGER",) if name in environ},
        "DATABENTO_API_KEY": token,
        "BUDGET_GUARD_RELAY": f"127.0.0.1:{gateway.live_port}",
        "BUDGET_GUARD_HTTP": gateway.http_url,
        "PYTHONPATH": path,
    }


def without_key(text: str, key: str, token: str) -> str:
    """A text of the program's environment or command line with the token wherever the key stands in it."""
    return text.replace(key, token) if len(key) >= _KEY_LENGTH_MIN else text


def without_password(url: str) -> str:
    """A ledger's URL without the password in it: the program has no business with what it may use."""
    url = re.sub(r"^([^:/]+://[^:/@]*):[^@]*@", r"\1@", url)
    return re.sub(r"(?<=[?&])password=[^&]*&?", "", url).rstrip("?&")


def hide_own_environment() -> None:
    """Keep other processes of this user from reading this one's memory and /proc/PID/environ (Linux).

    Root can read them all the same.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


class Forwarding:
    """Signals on their way to the program: what comes before it has started waits for it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._waiting: list[int] = []

    def attach(self, child: subprocess.Popen[bytes]) -> None:
        """Hand everything on to this program, what has come already first."""
        self._child = child
        for number in self._waiting:
            child.send_signal(number)

    def hear(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler. What the terminal sends reaches the program by itself."""
        if number in _FROM_TERMINAL and _in_foreground():
            return
        if self._child is None:
            self._waiting.append(number)
        elif self._child.poll() is None:
            self._child.send_signal(number)


@contextlib.contextmanager
def forwarded_signals() -> Iterator[Forwarding]:
    """While it lasts, signals go to the program and do not end this process: it has connections to settle.

    A signal that is ignored (as under `nohup`) stays ignored.
    """
    forwarding = Forwarding()
    numbers = [number for number in _FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, forwarding.hear) for number in numbers}
    try:
        yield forwarding
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def run_child(command: Sequence[str], environment: Mapping[str, str], signals: Forwarding) -> int:
    """Run a program to its end and return its exit code (128 + n for a signal n).

    Raises OSError when it cannot be started.
    """
    with subprocess.Popen(command, env=dict(environment)) as child:
        signals.attach(child)
        code = child.wait()
    return code if code >= 0 else 128 - code


def _in_foreground() -> bool:
    """Whether this process is in the group that a terminal's Ctrl-C goes to; the program is in the same."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)

"""The program under `run`: its environment, its signals, its end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Protocol

HOOK_DIR = Path(__file__).parent / "hook"
_PR_SET_DUMPABLE = 4
_PR_SET_PDEATHSIG = 1
# What Ctrl-C and Ctrl-\ send to everything in the foreground.
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
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
        if number in FROM_TERMINAL and in_foreground():
            return
        if self._child is None:
            self._waiting.append(number)
        elif self._child.poll() is None:
            self._child.send_signal(number)


class Child:
    """A program that has been started, with everything that signals to it need.

    It ends with this process where the system can see to that (Linux), however this process ends. It stays in this
    process's group, so that what the terminal sends reaches it by itself.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it, from the main thread: on Linux it ends with the thread that started it. Raises OSError."""
        self._process = subprocess.Popen(command, env=dict(environment), preexec_fn=_end_with_parent())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, 128 + n for a signal n; None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    @property
    def leads_group(self) -> bool:
        """Whether it has made a process group of its own, as shells with job control and daemons do."""
        try:
            return os.getpgid(self.pid) == self.pid
        except ProcessLookupError:
            return False

    def send(self, number: int) -> None:
        """Send a signal: to its whole group where it leads one."""
        if self._process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.leads_group:
                os.killpg(self.pid, number)
            else:
                self._process.send_signal(number)

    def wait(self, seconds: float | None = None) -> int:
        """Its exit code, waited for. Raises subprocess.TimeoutExpired."""
        code = self._process.wait(seconds)
        return code if code >= 0 else 128 - code


def _end_with_parent() -> Callable[[], None] | None:
    """What makes a program that is being started be killed when this process dies; None where nothing does.

    It runs between fork and exec: everything that it needs is looked up before.
    """
    if sys.platform != "linux":
        return None
    prctl, parent, getppid, leave = ctypes.CDLL(None).prctl, os.getpid(), os.getppid, os._exit

    def end_with_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if getppid() != parent:  # it died before it could be asked
            leave(128 + signal.SIGKILL)

    return end_with_parent


def in_foreground() -> bool:
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

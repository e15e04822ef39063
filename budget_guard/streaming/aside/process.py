"""A gateway in a process of its own, as the program sees it that owns it.

In a thread of the program the relay would share the interpreter lock with the program's own work: each of its steps
would wait for the program, and the program for it. And what a killed program had running is settled at once.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import Pipe, spawn
from multiprocessing.connection import Connection
from pathlib import Path

from budget_guard.errors import SettingsError
from budget_guard.policy.model import Policy
from budget_guard.settings import Settings
from budget_guard.streaming.aside.messages import Close, Failed, Order, Ready, Said
from budget_guard.streaming.child import without_key

log = logging.getLogger(__name__)

MODULE = "budget_guard.streaming.aside"
# The process bounds its own ending; this is longer.
END_TIMEOUT_S = 60.0


class GatewayAside:
    """A running gateway: where it listens, and the tokens that it takes."""

    def __init__(
        self, process: subprocess.Popen[bytes], connection: Connection, policy: Policy, ready: Ready
    ) -> None:
        self._process = process
        self._connection = connection
        self._ready = ready
        self._closing = False
        self._lock = threading.Lock()
        self.policy = policy
        # Nobody needs to wait for it: a program that ends closes the gateway first.
        self._listener = threading.Thread(target=self._listen, name="budget-guard", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """The process that it runs in."""
        return self._process.pid

    @property
    def live_port(self) -> int:
        return self._ready.live_port

    @property
    def http_url(self) -> str:
        return self._ready.http_url

    def token(self, stream: str | None = None) -> str:
        """The token of one stream, or one that any stream of the policy accepts."""
        return self._ready.tokens[stream]

    @property
    def alive(self) -> bool:
        """Whether it still runs: somebody may have killed it."""
        return self._listener.is_alive()

    def close(self) -> None:
        """End and settle every connection, and wait until that is done. Safe to call twice."""
        with self._lock:
            self._closing = True
            with suppress(OSError):
                self._connection.send(Close())
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            log.error("the gateway's process did not end in time; what it used is settled when it does")
        self._listener.join(1.0)

    def forget(self) -> None:
        """In a forked child: leave the line to the parent, so that it breaks when that is gone."""
        with suppress(OSError):
            self._connection.close()

    def _listen(self) -> None:
        """Say what the gateway says, until it ends."""
        with suppress(EOFError, OSError):
            while True:
                message = self._connection.recv()
                if isinstance(message, Said):
                    message.log()
        self._connection.close()
        if not self._closing:
            log.error(
                "the gateway's process %d has ended unexpectedly: its connections are lost, "
                "and what they used is settled when the next gateway starts",
                self.pid,
            )


def start_aside(policy: Policy, settings: Settings) -> GatewayAside:
    """Start a gateway for a policy in a process of its own, and wait until it listens.

    Raises what opening it raised there, and SettingsError where no process can be started.
    """
    ours, theirs = Pipe()
    try:
        with theirs:
            process = _start_process(theirs, settings)
    except BaseException:
        ours.close()
        raise
    try:
        level = logging.getLogger("budget_guard").getEffectiveLevel()
        with suppress(OSError):  # it has ended already: that is seen next
            ours.send(Order(policy, settings, level, os.getpid()))
        ready = _await_ready(ours, process)
    except Exception:
        ours.close()
        process.wait(END_TIMEOUT_S)
        raise
    except BaseException:
        # Somebody does not want to wait: it ends by itself when the line has.
        ours.close()
        raise
    return GatewayAside(process, ours, policy, ready)


def _start_process(line: Connection, settings: Settings) -> subprocess.Popen[bytes]:
    if getattr(sys, "frozen", False):
        raise SettingsError(
            "the guard starts a Python process beside the program, and a frozen program has no Python: "
            "start it with `budget-guard run`"
        )
    python = os.fsdecode(spawn.get_executable() or "")
    command = [python, "-P", "-m", MODULE, str(line.fileno())]
    try:
        return subprocess.Popen(
            command,
            env=environment(os.environ, settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[line.fileno()],
        )
    except OSError as error:
        raise SettingsError(
            f"the guard cannot start a Python process beside the program: {python!r}: {error.strerror or error}; "
            "multiprocessing.set_executable() says which Python to use"
        ) from error


def environment(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The environment of a gateway's process: the program's, with its way to modules and without what is secret."""
    key = settings.key or ""
    kept = {
        name: without_key(value, key, "")
        for name, value in environ.items()
        if name not in ("DATABENTO_API_KEY", "BUDGET_GUARD_LEDGER")  # a password may stand in the second
    }
    path = [str(Path(entry).absolute()) for entry in sys.path]
    return kept | {"PYTHONPATH": os.pathsep.join(path)}


def _await_ready(line: Connection, process: subprocess.Popen[bytes]) -> Ready:
    while True:
        try:
            message = line.recv()
        except (EOFError, OSError):
            code = process.wait(END_TIMEOUT_S)
            raise SettingsError(
                f"the gateway's own process ended with {code} before it listened; what it said is on stderr"
            ) from None
        if isinstance(message, Ready):
            return message
        if isinstance(message, Failed):
            raise message.error()
        if isinstance(message, Said):
            message.log()

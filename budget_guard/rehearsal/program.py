"""The user's program: started at a window's opening, ended at the latest some time after its close."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import IO

from budget_guard.streaming.child import Forwarding, without_key

# What would make the program reach past the rehearsal, or take its simulated instants for the machine's.
_NOT_FOR_PROGRAMS = (
    "BUDGET_GUARD_NOW",
    "BUDGET_GUARD_LEDGER",
    "BUDGET_GUARD_LIVE_GATEWAY",
    "BUDGET_GUARD_HISTORICAL_GATEWAY",
)
_TERMINATE_S = 5.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Interrupts(Forwarding):
    """Signals that end a rehearsal: counted, and handed on to the program that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def hear(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        super().hear(number, frame)


@contextlib.contextmanager
def counted_interrupts() -> Iterator[Interrupts]:
    """While it lasts, signals do not end this process: it has connections to settle and a report to write.

    A signal that is ignored (as under `nohup`) stays ignored.
    """
    interrupts = Interrupts()
    numbers = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupts.hear) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def rehearsal_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's environment without the real key, wherever it stands, and without what concerns real spending."""
    key = environ.get("DATABENTO_API_KEY", "")
    kept = {name: value for name, value in environ.items() if name not in _NOT_FOR_PROGRAMS}
    return {name: without_key(value, key, "a-rehearsal-has-no-key") for name, value in kept.items()}


class Program:
    """One run of the user's program."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], stdout: IO[str] | None
    ) -> None:
        """Start it. Raises OSError when it cannot be."""
        self._process = subprocess.Popen(command, env=dict(environment), stdout=stdout)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self._process

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """Its exit code, 128 + n for a signal n; None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def end(self) -> None:
        """Ask it to end, and make it end when it does not."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(_TERMINATE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def wait(self, seconds: float) -> None:
        """Wait for its end, or for so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)


def pause(seconds: float) -> None:
    """Let the others work."""
    time.sleep(seconds)

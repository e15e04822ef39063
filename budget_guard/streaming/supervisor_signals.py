"""What a supervisor hears while it runs: signals for its child, signals to end, and that a child has ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType

from budget_guard.streaming.child import FROM_TERMINAL, Child, in_foreground

# These ask for the end. Only SIGTERM presses for it: the child has some time, and is killed then.
ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
_FORWARDED = (*ENDING, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)


class Interrupted(BaseException):
    """Somebody asked for the end while something was done that cannot be waited for otherwise."""


class Signals:
    """Signals on their way to the child. What asks for the end when no child runs is not kept for the next one."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._later: list[int] = []
        self._raising = False
        self._bell: socket.socket | None = None
        self.before_pause: Callable[[], None] = lambda: None
        self.ending: list[int] = []  # that asked for the end, in order
        self.insisted = False  # Ctrl-C, after the end had been asked for

    @property
    def asked(self) -> int | None:
        """The first signal that asked for the end."""
        return self.ending[0] if self.ending else None

    @property
    def pressing(self) -> bool:
        """Whether the child may be made to end when it does not."""
        return signal.SIGTERM in self.ending

    def attach(self, child: Child) -> None:
        """Hand everything on to this child, first what came before it: no child is started after a request to end."""
        self._child = child
        later, self._later = self._later, []
        for number in (*later, *self.ending):
            child.send(number)

    def hear(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        if number in ENDING:
            self.insisted = self.insisted or (number == signal.SIGINT and bool(self.ending))
            self.ending.append(number)
            if self._raising:
                raise Interrupted
        self._hand_on(number)

    def pause(self, number: int, _frame: FrameType | None) -> None:
        """Ctrl-Z: stop with the child, and leave the terminal tidy meanwhile."""
        self.before_pause()
        self._hand_on(number)
        signal.signal(number, signal.SIG_DFL)
        try:
            os.kill(os.getpid(), number)  # goes on here when it is continued
        finally:
            signal.signal(number, self.pause)

    def wait(self, seconds: float) -> None:
        """Wait so long, or until there is something to look at. While signals are `heard`."""
        bell = self._bell
        assert bell is not None
        ready, _, _ = select.select([bell], [], [], max(seconds, 0.0))
        if ready:
            with contextlib.suppress(BlockingIOError):
                while bell.recv(4096):
                    pass

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """While it lasts, a request to end raises Interrupted: for what takes long and no child hears of."""
        if self.ending:
            raise Interrupted
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def _hand_on(self, number: int) -> None:
        child = self._child
        if child is None or child.code is not None:
            if number not in ENDING and number not in (signal.SIGTSTP, signal.SIGCONT):
                self._later.append(number)
        elif number not in (*FROM_TERMINAL, signal.SIGTSTP) or child.leads_group or not in_foreground():
            child.send(number)

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """While it lasts, signals do not end this process: it has connections to settle.

        A signal that is ignored (as under `nohup`) stays ignored.
        """
        handlers: dict[int, Callable[[int, FrameType | None], None]] = dict.fromkeys(_FORWARDED, self.hear)
        handlers[signal.SIGTSTP] = self.pause
        taken = {n: h for n, h in handlers.items() if signal.getsignal(n) is not signal.SIG_IGN}
        taken |= {signal.SIGCHLD: _ring, signal.SIGWINCH: _ring}
        bell, ringer = socket.socketpair()
        with bell, ringer:
            for end in (bell, ringer):
                end.setblocking(False)
            self._bell = bell
            before = {number: signal.signal(number, handler) for number, handler in taken.items()}
            woken = signal.set_wakeup_fd(ringer.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                signal.set_wakeup_fd(woken)
                for number, handler in before.items():
                    signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _ring(_number: int, _frame: FrameType | None) -> None:
    """The wake-up alone matters: a child has ended, or the terminal has another size."""

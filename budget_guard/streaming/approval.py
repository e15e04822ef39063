"""Asking a person, on the terminal that a program runs on, whether a dear request may be made."""

from __future__ import annotations

import os
import select
import termios
import threading
from pathlib import Path

from budget_guard.guard.quote import Quote

_TERMINAL = Path("/dev/tty")
# The official client gives up after 100 s: an answer after that would buy what nobody waits for any more.
ANSWER_WITHIN_S = 60.0
_one_at_a_time = threading.Lock()


def ask_on_terminal(quote: Quote) -> bool:
    """True when someone at the terminal says yes within a minute.

    False for any other answer, for none, for a program in the background, and where there is no terminal.
    """
    with _one_at_a_time:
        try:
            terminal = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return _ask(terminal, _question(quote))
        except OSError:
            return False
        finally:
            os.close(terminal)


def _question(quote: Quote) -> str:
    wanted = quote.range
    return (
        f"\nbudget-guard: {wanted.schema} of {wanted.dataset}, {wanted.start_utc:%Y-%m-%d %H:%M} to "
        f"{wanted.end_utc:%Y-%m-%d %H:%M} UTC, is {quote.text()}. Buy it? [y/N] "
    )


def _ask(terminal: int, question: str) -> bool:
    """Ask and read one line. Raises OSError when the terminal goes away."""
    if os.tcgetpgrp(terminal) != os.getpgrp():
        return False  # reading would stop a background program, and with it everything that it guards
    # What was typed before the question is no answer to it.
    termios.tcflush(terminal, termios.TCIFLUSH)
    os.write(terminal, question.encode())
    readable, _, _ = select.select([terminal], [], [], ANSWER_WITHIN_S)
    if not readable:
        os.write(terminal, b"no answer: not bought\n")
        return False
    return os.read(terminal, 1024).strip().lower() in (b"y", b"yes")

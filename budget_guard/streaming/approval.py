"""Asking a person, on the terminal that a program runs on, whether a dear request may be made."""

from __future__ import annotations

import threading
from pathlib import Path

from budget_guard.guard.quote import Quote

_TERMINAL = Path("/dev/tty")
_one_at_a_time = threading.Lock()


def ask_on_terminal(quote: Quote) -> bool:
    """True when someone at the terminal says yes; False for anything else, and where there is no terminal."""
    wanted = quote.range
    question = (
        f"\nbudget-guard: {wanted.schema} of {wanted.dataset}, {wanted.start_utc:%Y-%m-%d %H:%M} to "
        f"{wanted.end_utc:%Y-%m-%d %H:%M} UTC, is {quote.text()}. Buy it? [y/N] "
    )
    with _one_at_a_time:
        try:
            with _TERMINAL.open("r") as answers, _TERMINAL.open("w") as questions:
                questions.write(question)
                questions.flush()
                return answers.readline().strip().lower() in ("y", "yes")
        except OSError:
            return False

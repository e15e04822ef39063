"""Keeps the key where it is needed: out of other processes' sight, of core dumps, and of the log."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
from typing import TextIO

from budget_guard.gateway.wire.scrub import Scrubber
from budget_guard.streaming.child import hide_own_environment
from budget_guard.wording import printable


def hide_process() -> None:
    """No other process of this user may read this one's memory and environment (Linux), and no core is dumped.

    Root can read them all the same.
    """
    hide_own_environment()
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def forget_key_in_environment() -> None:
    """What this process starts from here on does not inherit the key."""
    os.environ.pop("DATABENTO_API_KEY", None)


class _Scrubbed(logging.Formatter):
    """Formats as usual, tracebacks too; takes the key out of the whole, and what could move a terminal's cursor."""

    def __init__(self, form: str, scrubber: Scrubber) -> None:
        super().__init__(form)
        self._scrubber = scrubber

    def format(self, record: logging.LogRecord) -> str:
        return printable(self._scrubber.text(super().format(record)))


def log_without_key(
    stream: TextIO, key: str | None, *, level: int = logging.WARNING, form: str = "budget-guard: %(message)s"
) -> None:
    """Log to a stream, whatever the message without the key."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Scrubbed(form, Scrubber(key or "")))
    logging.basicConfig(level=level, handlers=[handler])

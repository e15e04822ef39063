"""What a program and the process of its gateway tell each other: pickles, over a pair of sockets of their own."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from budget_guard.errors import BudgetGuardError
from budget_guard.policy.model import Policy
from budget_guard.settings import Settings


@dataclass(frozen=True, slots=True)
class Order:
    """The program's first word: open a gateway for this policy. The key is in the settings, and travels here only.

    `log_level` is the least that the program's logging would take.
    """

    policy: Policy
    settings: Settings
    log_level: int
    program_pid: int


class Close:
    """The program's last word: end and settle everything. The end of the line says the same."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The gateway listens. `tokens` has one for each stream, and one for any stream under None."""

    live_port: int
    http_url: str
    tokens: Mapping[str | None, str]


@dataclass(frozen=True, slots=True)
class Failed:
    """The gateway could not be opened: an exception, in parts that can be sent whatever its constructor takes."""

    kind: type[BaseException]
    args: tuple[Any, ...]
    state: Mapping[str, Any]

    @classmethod
    def of(cls, error: BaseException) -> Failed:
        """What is no error of the guard's own brings its traceback along."""
        if not isinstance(error, BudgetGuardError):
            error.add_note("in the gateway's own process:\n" + "".join(traceback.format_exception(error)))
        failed = cls(type(error), error.args, dict(error.__dict__))
        try:
            pickle.loads(pickle.dumps(failed))
        except Exception:  # noqa: BLE001 - whatever an exception carries
            return cls(RuntimeError, (f"{type(error).__name__}: {error}",), {})
        return failed

    def error(self) -> BaseException:
        """The exception as it was, without its traceback."""
        error = self.kind.__new__(self.kind, *self.args)
        error.__dict__.update(self.state)
        return error


@dataclass(frozen=True, slots=True)
class Said:
    """A line for the program's log."""

    logger: str
    level: int
    text: str
    created_s: float

    def log(self) -> None:
        """Hand it to the program's own logging, as if it had been said there."""
        logger = logging.getLogger(self.logger)
        if logger.isEnabledFor(self.level):
            record = logger.makeRecord(self.logger, self.level, "", 0, self.text, (), None)
            record.created = self.created_s
            logger.handle(record)

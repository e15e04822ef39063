"""What a supervisor says: one line for each thing that it does of its own accord."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from datetime import datetime

from budget_guard.clock import instant_text
from budget_guard.policy.model import Fallback
from budget_guard.streaming.fallback import Cause
from budget_guard.streaming.supervisor_windows import Opening

_CAUSES = {
    "money": "the money is out",
    "vendor": "the vendor refuses",
    "unreachable": "the vendor is out of reach",
}


class Speech:
    """Says it through `say`; `local` writes an instant in the policy's own time."""

    def __init__(self, say: Callable[[str], None], local: Callable[[datetime], str], policy: str) -> None:
        self._say = say
        self._local = local
        self._policy = policy

    def outside(self, opening: Opening | None) -> None:
        if opening is None:
            self._say(
                "no stream of the policy has a window that is open or known to open: nothing was started"
            )
        else:
            self._say(
                f"outside every window; stream {opening.stream} opens next at {self._when(opening.at_utc)}"
            )

    def history_is_free(self) -> None:
        self._say("windows are for live data: a stream with mode: historical lets a program run at any time")

    def between(self, opening: Opening | None) -> None:
        """The program has ended with the window of a stream, while another stream's is open."""
        if opening is None:
            self._say("the window is over, and no other is known to open")
        else:
            self._say(
                f"the window is over; stream {opening.stream} opens next at {self._when(opening.at_utc)}"
            )

    def started(self, command: Sequence[str], *, again: bool) -> None:
        self._say(f"{shlex.join(command)} runs {'again ' if again else ''}behind policy {self._policy}")

    def crashed(self, code: int, lasted_s: float, pause_s: float, used: int, per_hour: int) -> None:
        self._say(
            f"it failed with exit code {code} after {span_text(lasted_s)}, and is started again in "
            f"{pause_s:.1f} s ({used} of {per_hour} restarts in an hour)"
        )

    def used_up(self, code: int, per_hour: int) -> None:
        times = "once" if per_hour == 1 else f"{per_hour} times"
        self._say(
            f"it failed with exit code {code} after it was started again {times} in an hour: that is the limit"
        )

    def left_behind(self, count: int) -> None:
        what = "a process was" if count == 1 else f"{count} processes were"
        self._say(f"{what} left behind by what ran before, to be ended first")

    def closing(self, fallback: Fallback | None, *, streaming: bool) -> None:
        what = "the program" if fallback is None else f"fallback {fallback.name}"
        self._say(f"the window has closed: {what} {'has to end' if streaming else 'is ended'}")

    def killed(self, fallback: Fallback | None, grace_s: float) -> None:
        what = "the program" if fallback is None else f"fallback {fallback.name}"
        self._say(f"{what} did not end within {span_text(grace_s)} of SIGTERM, and was killed (SIGKILL)")

    def replaced(self, fallback: Fallback, cause: Cause | None) -> None:
        why = "" if cause is None else f"{cause_text(cause)}: "
        self._say(f"{why}fallback {fallback.name} runs instead ({shlex.join(fallback.run)})")
        if cause is not None:
            self._say(self._looks_text(cause))

    def next_fallback(self, fallback: Fallback, before: Fallback, code: int) -> None:
        """The next one, or the same again."""
        what = "is started again" if fallback == before else f"fallback {fallback.name} runs instead"
        self._say(f"fallback {before.name} ended with exit code {code}; {what} ({shlex.join(fallback.run)})")

    def no_fallback(self, fallback: Fallback, error: OSError) -> None:
        self._say(f"fallback {fallback.name} cannot be run: {fallback.run[0]}: {error.strerror or error}")

    def returning(self, fallback: Fallback) -> None:
        self._say(f"the cause is over: fallback {fallback.name} is ended, and the program runs again")

    def held(self, cause: Cause | None) -> None:
        if cause is not None:
            self._say(f"{cause_text(cause)}: nothing runs until that is over")
            self._say(self._looks_text(cause))

    def in_vain(self, pause_s: float) -> None:
        """Money was found for the program, and was not enough for what it asked for."""
        self._say(
            "it came back in vain, for more than there is: it is not started again until something is approved, "
            f"a new period begins, or {span_text(pause_s)} have passed"
        )

    def _looks_text(self, cause: Cause) -> str:
        if cause.kind != "money":
            return "the vendor is asked again, at growing intervals, by a logon that costs nothing"
        if cause.retry_at_utc is None:
            return "it is looked at again every few minutes, for approvals"
        return f"it is looked at again at {self._when(cause.retry_at_utc)}, and until then for approvals"

    def _when(self, at: datetime) -> str:
        return f"{instant_text(at)} ({self._local(at)})"


def cause_text(cause: Cause) -> str:
    """`the money is out (limit_reached: ...)`."""
    return f"{_CAUSES[cause.kind]} ({cause.text.splitlines()[0]})"


def span_text(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 1:
        return f"{max(seconds, 0.0):.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} days"


def tally_text(started: int, restarted: int, replaced: dict[str, int]) -> str:
    """How often the program was started, restarted and replaced."""
    text = f"the program was started {_times(started)}" if started else "the program was never started"
    if restarted:
        text += f", {restarted} of these after a crash"
    names = ", ".join(f"{name} {_times(count)}" for name, count in replaced.items())
    return f"{text}; instead of it ran: {names}" if names else text


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")

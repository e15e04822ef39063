"""The golden table of sessions: how it is written, for the test that compares it and for whoever renews it.

`python -m tests.markets.tables` writes the files anew. Each line is then to be held against the exchanges' calendars:
one line per run of sessions with the same hours and offset, one per weekday without a session.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path

from budget_guard.markets.model import Session
from budget_guard.markets.sessions import closed_weekdays, sessions
from budget_guard.markets.table import MARKETS
from budget_guard.policy.model import SessionKind

FIRST, LAST = date(2026, 11, 22), date(2027, 12, 31)
KINDS: tuple[SessionKind, ...] = ("regular", "extended", "full")
FOLDER = Path(__file__).parent


def golden_path(market: str) -> Path:
    return FOLDER / f"golden_{market}.txt"


def golden_text(market: str) -> str:
    """Every session and every closed weekday of a market, kind by kind."""
    lines = [f"{market}, session labels {FIRST} to {LAST}, {MARKETS[market].timezone}", ""]
    for kind in KINDS:
        found = sessions(market, kind, FIRST, LAST)
        lines += [f"{kind}: {len(found)} sessions", *_session_lines(market, found), ""]
    lines += ["weekdays without a session"]
    lines += [f"  {day:%a} {day}  {why}" for day, why in closed_weekdays(market, FIRST, LAST)]
    return "\n".join(lines) + "\n"


def _session_lines(market: str, found: Sequence[Session]) -> Iterator[str]:
    for (hours, notes, _), group in groupby(_with_run(market, found), key=lambda item: item[:3]):
        run = [session for *_, session in group]
        first, last = run[0].label, run[-1].label
        span = f"{first:%a} {first}" if first == last else f"{first:%a} {first} .. {last:%a} {last}"
        yield f"  {span:<32} {len(run):>3} x  {hours}{'  ' if notes else ''}{'; '.join(notes)}"


def _with_run(market: str, found: Sequence[Session]) -> Iterator[tuple[str, tuple[str, ...], int, Session]]:
    """Each session with its hours, its notes and the number of its run: a weekday left out starts a new run."""
    run, before = 0, None
    for session in found:
        if before is not None and _weekdays_between(before, session.label):
            run += 1
        before = session.label
        yield _hours(market, session), session.notes, run, session


def _weekdays_between(first: date, last: date) -> bool:
    return any((first + timedelta(days=n)).weekday() < 5 for n in range(1, (last - first).days))


def _hours(market: str, session: Session) -> str:
    zone = MARKETS[market].zone
    opened, closed = session.open_utc.astimezone(zone), session.close_utc.astimezone(zone)
    day_before = " the day before" if opened.date() < session.label else ""
    return (
        f"{opened:%H:%M %Z}{day_before} to {closed:%H:%M %Z}"
        f"  ({session.open_utc:%H:%M}-{session.close_utc:%H:%M} UTC)"
    )


if __name__ == "__main__":
    for name in MARKETS:
        golden_path(name).write_text(golden_text(name), encoding="utf-8")

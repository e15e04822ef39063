"""The golden tables of sessions: how they are written, for the test that compares them and for whoever renews them.

`python -m tests.markets.tables` writes the files anew, and the tables of docs/markets.md. Each line is then to be held
against the exchanges' calendars: one line per run of sessions with the same hours and offset, one per closed weekday.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, time, timedelta
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


DOCS = FOLDER.parents[1] / "docs" / "markets.md"
_END = "<!-- end -->"


def docs_text(page: str) -> str:
    """The page with the special days of each market as they are now, between its markers."""
    for name in MARKETS:
        start = f"<!-- special days: {name} -->\n"
        head, rest = page.split(start)
        page = f"{head}{start}{_special_days(name)}{_END}{rest.split(_END, 1)[1]}"
    return page


def _special_days(market: str) -> str:
    usual = MARKETS[market].zone_label
    lines = [f"| label | day | close, {usual} | library | grade | source |", "|---|---|---|---|---|---|"]
    for row in MARKETS[market].special_days:
        close = _close(row.close)
        shown = f"**{close}**" if row.corrects else close
        lines.append(
            f"| {row.label} | {row.name} | {shown} | {_close(row.library)} | {row.grade} | {row.source} |"
        )
    return "\n".join(lines) + "\n"


def _close(at: time | None) -> str:
    return "closed" if at is None else f"{at:%H:%M}"


if __name__ == "__main__":
    for name in MARKETS:
        golden_path(name).write_text(golden_text(name), encoding="utf-8")
    DOCS.write_text(docs_text(DOCS.read_text(encoding="utf-8")), encoding="utf-8")

"""The golden tables of sessions, and the tables of docs/markets.md: how they are written.

`python -m tests.markets.tables` writes them anew, for the tests that compare them. Each line of a golden table is then
to be held against the exchanges' calendars: one line per run of sessions with the same hours and offset, one per
closed weekday.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, time, timedelta
from itertools import groupby
from pathlib import Path

from budget_guard.markets.absent import ABSENT_DATASETS, ABSENT_MARKETS
from budget_guard.markets.market import KINDS, Market
from budget_guard.markets.model import Session
from budget_guard.markets.sessions import closed_weekdays, sessions
from budget_guard.markets.special_days import SpecialDay
from budget_guard.markets.table import MARKETS
from budget_guard.policy.model import SessionKind
from budget_guard.render.tables import markdown_table

FIRST, LAST = date(2026, 11, 22), date(2027, 12, 31)
FOLDER = Path(__file__).parent
DOCS = FOLDER.parents[1] / "docs" / "markets.md"
_END = "<!-- end -->"


def golden_path(market: str) -> Path:
    return FOLDER / f"golden_{market}.txt"


def golden_text(market: str) -> str:
    """Every session and every closed weekday of a market, kind by kind; kinds with the same sessions together."""
    known = MARKETS[market]
    last = min(LAST, known.checked_through)
    lines = [f"{market}, session labels {FIRST} to {last}, {known.timezone}", ""]
    kinds: dict[tuple[Session, ...], list[SessionKind]] = {}
    for kind in KINDS:
        if kind in known.hours:
            kinds.setdefault(tuple(sessions(market, kind, FIRST, last)), []).append(kind)
    for found, alike in kinds.items():
        lines += [f"{' and '.join(alike)}: {len(found)} sessions", *_session_lines(market, found), ""]
    lines += [f"{kind}: not known ({why})" for kind, why in known.missing.items()]
    lines += [""] if known.missing else []
    lines += ["weekdays without a session"]
    lines += [f"  {day:%a} {day}  {why}" for day, why in closed_weekdays(market, FIRST, last)]
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
    halts = "".join(
        f", halt {halt.start_utc.astimezone(zone):%H:%M}-{halt.end_utc.astimezone(zone):%H:%M}"
        for halt in session.halts
    )
    return (
        f"{opened:%H:%M %Z}{day_before} to {closed:%H:%M %Z}{halts}"
        f"  ({session.open_utc:%H:%M}-{session.close_utc:%H:%M} UTC)"
    )


def docs_text(page: str) -> str:
    """The page with its tables as they are now, between their markers."""
    page = _between(page, "markets", _markets())
    page = _between(page, "hours", _hours_and_worth())
    page = _between(page, "absent", _absent())
    return _between(page, "special days", "".join(_special_days(market) for market in MARKETS.values()))


def _between(page: str, name: str, text: str) -> str:
    start = f"<!-- {name} -->\n"
    head, rest = page.split(start)
    return f"{head}{start}{text}{_END}{rest.split(_END, 1)[1]}"


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    return "\n".join(markdown_table(head, rows)) + "\n"


def _markets() -> str:
    head = ("market", "for", "default of", "library calendar", "checked")
    return _table(
        head,
        (
            (
                f"`{market.name}`",
                market.what + (f"; {market.remark}" if market.remark else ""),
                _datasets(market),
                f"`{market.calendar}`",
                f"{market.checked_from} to {market.checked_through}",
            )
            for market in MARKETS.values()
        ),
    )


def _datasets(market: Market) -> str:
    if len(market.datasets) > 3:
        return f"{len(market.datasets)} US equity datasets: `{'`, `'.join(market.datasets)}`"
    return ", ".join(f"`{dataset}`" for dataset in market.datasets) or "-"


def _hours_and_worth() -> str:
    def rows() -> Iterator[Sequence[str]]:
        for market in MARKETS.values():
            worth: dict[tuple[str, str, str], list[str]] = {}
            for kind in KINDS:
                if kind in market.hours:
                    hours = market.hours[kind]
                    worth.setdefault((_clock(market, kind), hours.grade, hours.source), []).append(kind)
                else:
                    worth.setdefault(("not known", "", market.missing[kind]), []).append(kind)
            for (shown, grade, source), kinds in worth.items():
                yield f"`{market.name}`", ", ".join(kinds), shown, grade, source

    return _table(("market", "session", "hours", "grade", "source, or why not"), rows())


def _clock(market: Market, kind: SessionKind) -> str:
    hours = market.hours[kind]
    halts = [halt for halt in market.halts if hours.open_day_before or hours.open < halt.start]
    rest = "".join(f", halt {halt.start:%H:%M}-{halt.end:%H:%M}" for halt in halts)
    early = "" if hours.after_early is None else f"; {hours.after_early:%H:%M} after an early close"
    return f"{hours} {market.zone_label}{rest}{early}"


def _absent() -> str:
    named = (*ABSENT_DATASETS.items(), *ABSENT_MARKETS.items())
    return _table(("asked for", "answer"), ((f"`{name}`", why) for name, why in named))


def _special_days(market: Market) -> str:
    """One row for all days of a market that are alike, in order of the first."""
    alike: dict[tuple[str, str, str, str], list[SpecialDay]] = {}
    for day in market.special_days:
        late = "" if day.opens is None else f"from {day.opens:%H:%M} "
        key = (late + _close(day.close), _close(day.library), day.grade, day.source)
        alike.setdefault(key, []).append(day)
    rows = (
        (
            ", ".join(f"{day.label} {day.name}" for day in days),
            f"**{close}**" if days[0].corrects else close,
            library,
            grade,
            source,
        )
        for (close, library, grade, source), days in alike.items()
    )
    head = ("days", f"close, {market.zone_label}", "library", "grade", "source")
    return f"\n### {market.name}\n\n{_table(head, iter(rows))}"


def _close(at: time | None) -> str:
    return "closed" if at is None else f"{at:%H:%M}"


if __name__ == "__main__":
    for name in MARKETS:
        golden_path(name).write_text(golden_text(name), encoding="utf-8")
    DOCS.write_text(docs_text(DOCS.read_text(encoding="utf-8")), encoding="utf-8")

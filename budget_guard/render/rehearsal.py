"""A rehearsal as a table for a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from rich import box
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from budget_guard.money import decimal_text, size_text, usd_text
from budget_guard.rehearsal.model import (
    FaultUse,
    LimitUse,
    ProgramRun,
    Refused,
    Rehearsal,
    Use,
    percent,
)
from budget_guard.render.sections import Section, markdown_section
from budget_guard.render.tables import UNKNOWN, markdown_list, nano_text

_VERDICTS = {
    "fits": "fits: no limit was reached, and none would be at this rate",
    "over": "over: a limit was reached, or would be at this rate",
}


# So many stretches without a connection are named.
_SPANS_MAX = 5


def render_json(rehearsal: Rehearsal) -> str:
    """The stable JSON shape as text with a final newline."""
    return json.dumps(rehearsal.as_json(), indent=2) + "\n"


def render_rehearsal(rehearsal: Rehearsal) -> RenderableType:
    """The rehearsal for a terminal."""
    parts: list[RenderableType] = [Text(_title(rehearsal), style="bold"), Text(_subtitle(rehearsal)), ""]
    for section in _sections(rehearsal):
        parts += [Text(section.title, style="bold"), _table(section), ""]
    style = {"fits": "green", "over": "bold red"}.get(rehearsal.verdict, "yellow")
    parts += [Text(line, style="bold red") for line in _missed_lines(rehearsal)]
    parts += [Text(_promise(rehearsal)), Text(_verdict(rehearsal), style=style)]
    return Lines(*parts, *(Text(f"* {note}", style="dim") for note in _all_notes(rehearsal)))


def render_markdown(rehearsal: Rehearsal) -> str:
    """The rehearsal as a Markdown page."""
    lines = [f"# {_title(rehearsal)}", "", f"{_subtitle(rehearsal)}", ""]
    for section in _sections(rehearsal):
        lines += markdown_section(section)
    lines += ["## Verdict", "", *(f"**{line}**\n" for line in _missed_lines(rehearsal))]
    lines += [_promise(rehearsal), "", _verdict(rehearsal), ""]
    lines += [*markdown_list(_all_notes(rehearsal)), ""]
    return "\n".join(lines[:-1]) + "\n"


def _all_notes(rehearsal: Rehearsal) -> tuple[str, ...]:
    return (*rehearsal.notes, *_held_notes(rehearsal))


def _title(rehearsal: Rehearsal) -> str:
    first, last = rehearsal.sessions[0], rehearsal.sessions[-1]
    days = f"{first}" if first == last else f"{first} to {last}"
    return f"{rehearsal.policy}: rehearsal of {days}"


def _subtitle(rehearsal: Rehearsal) -> str:
    count = len(rehearsal.sessions)
    of_planned = "" if count == rehearsal.planned else f" of {rehearsal.planned} planned"
    stopped = ", interrupted" if rehearsal.interrupted else ""
    return (
        f"{count} {'session' if count == 1 else 'sessions'}{of_planned}{stopped}, {rehearsal.source} data"
        f"{f' (seed {rehearsal.seed})' if rehearsal.is_synthetic else ''}, played in {rehearsal.took_s:.0f} s"
    )


def _sections(rehearsal: Rehearsal) -> Iterator[Section]:
    """Every table that has something to say, in order."""
    head = ("session", "stream", "connected", "of", "conns", "size", "ledger", "bill", "records", "missed")
    rows = [_use_cells(use) for use in rehearsal.uses]
    rows.append(_total_cells(rehearsal))
    yield Section("by session and stream", head, tuple(rows), range(2, len(head)))
    if rehearsal.refused:
        rows = [_refused_cells(row) for row in rehearsal.refused]
        yield Section(
            "refused and cut (UTC)",
            ("session", "what", "stream", "reason", "times", "first", "why"),
            tuple(rows),
            range(4, 5),
        )
    if rehearsal.gaps:
        rows = [
            (gap.stream, _when(gap.start_utc), _when(gap.end_utc), gap.mended or "open", gap.note)
            for gap in rehearsal.gaps
        ]
        yield Section("gaps (UTC)", ("stream", "from", "to", "mended", ""), tuple(rows), range(0))
    if rehearsal.faults:
        rows = [_fault_cells(fault) for fault in rehearsal.faults]
        yield Section("faults (UTC)", ("fault", "from", "struck", "first", "last"), tuple(rows), range(2, 3))
    rows = [_run_cells(run) for run in rehearsal.runs]
    yield Section(
        "the program (UTC)", ("session", "from", "to", "exit code", "ended", ""), tuple(rows), range(3, 4)
    )
    rows = [_limit_cells(limit, at_least=rehearsal.is_lower_bound) for limit in rehearsal.limits]
    yield Section(
        f"limits, and {rehearsal.month} with {rehearsal.month_sessions} such sessions",
        ("budget", "period", "most used", "limit", "reached (UTC)", "month at this rate"),
        tuple(rows),
        range(2, 4),
    )


def _use_cells(use: Use) -> tuple[str, ...]:
    live = use.mode == "live"
    return (
        use.session.isoformat(),
        use.stream if live else f"{use.stream} (history)",
        _hours(use.connected_s) if live else "",
        _hours(use.open_s) if live else "",
        str(use.connections),
        size_text(use.size_bytes),
        nano_text(use.spent_nano_usd),
        "-" if use.bill_nano_usd is None else nano_text(use.bill_nano_usd),
        "" if use.delivered is None else f"{use.delivered:,}",
        "" if use.missed is None else f"{use.missed:,}",
    )


def _total_cells(rehearsal: Rehearsal) -> tuple[str, ...]:
    uses = rehearsal.uses
    return (
        "total",
        "",
        _hours(sum(use.connected_s for use in uses)),
        _hours(sum(use.open_s for use in uses)),
        str(sum(use.connections for use in uses)),
        size_text(sum(use.size_bytes for use in uses)),
        nano_text(rehearsal.spent_nano_usd),
        nano_text(rehearsal.bill_nano_usd),
        f"{sum(use.delivered or 0 for use in uses):,}",
        f"{sum(use.missed or 0 for use in uses):,}",
    )


def _refused_cells(row: Refused) -> tuple[str, ...]:
    return (
        row.session.isoformat(),
        row.kind if row.kind != "vendor" else "by the vendor",
        row.stream or "-",
        row.code,
        str(row.count),
        f"{row.first_utc:%H:%M:%S}",
        row.text,
    )


def _run_cells(run: ProgramRun) -> tuple[str, ...]:
    remark = "" if run.connected else "never connected"
    return (
        run.session.isoformat(),
        _when(run.start_utc),
        _when(run.end_utc),
        "-" if run.code is None else str(run.code),
        run.ended,
        remark or ("the clock went on without it" if run.waited else ""),
    )


def _fault_cells(fault: FaultUse) -> tuple[str, ...]:
    words = " ".join(f"{word}={value}" for word, value in fault.words.items() if word not in ("do", "at"))
    return (
        f"{fault.words['do']} {words}".strip(),
        _when(fault.at_utc),
        str(fault.struck) if fault.struck else "NEVER",
        "" if fault.first_utc is None else _when(fault.first_utc),
        "" if fault.last_utc is None else _when(fault.last_utc),
    )


def _limit_cells(limit: LimitUse, *, at_least: bool) -> tuple[str, ...]:
    share = ""
    if limit.limit:
        share = f" ({100 * limit.most / limit.limit:.0f}%)"
    return (
        limit.budget,
        limit.period,
        _amount(limit.unit, limit.most) + share,
        "unlimited" if limit.limit is None else _amount(limit.unit, limit.limit),
        "" if limit.reached_utc is None else _when(limit.reached_utc),
        ""
        if limit.projected is None
        else f"{'at least ' if at_least else ''}{_amount(limit.unit, limit.projected)}",
    )


def _amount(unit: str, amount: Decimal) -> str:
    if unit == "usd":
        return usd_text(amount)
    if unit == "hours":
        return _hours(round(amount * 3600))
    places = Decimal(1) if unit == "connections" else Decimal("0.01")
    return f"{decimal_text(amount.quantize(places))} {'GiB' if unit == 'gib' else unit}"


def _verdict(rehearsal: Rehearsal) -> str:
    verdict = rehearsal.verdict
    if verdict == "unknown":
        return f"unknown: {'; '.join(rehearsal.doubts)}"
    return _VERDICTS[verdict]


def _missed_lines(rehearsal: Rehearsal) -> Iterator[str]:
    """How much of each stream was missed, and from when to when as far as that is known."""
    for row in rehearsal.missed:
        away = [absence for absence in rehearsal.absences if absence.stream == row.stream]
        spans = [f"{_when(one.start_utc)} to {_when(one.end_utc)}" for one in away[:_SPANS_MAX]]
        more = f" and {len(away) - _SPANS_MAX} times more" if len(away) > _SPANS_MAX else ""
        where = f"; not connected {', '.join(spans)}{more}" if away else "; all of it while it was connected"
        yield (
            f"MISSED: {percent(row.share)} of {row.stream}, {row.missed:,} of the {row.there:,} records that the "
            f"market had in the windows{where}"
        )
    unseen = sum(not fault.struck for fault in rehearsal.faults)
    if unseen:
        yield f"{unseen} of {len(rehearsal.faults)} faults never struck: nothing is said about them here"


def _held_notes(rehearsal: Rehearsal) -> Iterator[str]:
    """What is never spent, so that a connection can end: here, and where the vendor is further away."""
    for held in rehearsal.holdbacks:
        if held.network_nano_usd:
            yield (
                f"each connection of {held.stream} holds {nano_text(held.nano_usd)} ({size_text(held.size_bytes)}) for "
                f"its own ending, so a limit is reached that much before it is used up; over a network from this "
                f"machine {nano_text(held.network_nano_usd)} ({size_text(held.network_bytes)}): a limit below that "
                f"would not even start there"
            )


def _promise(rehearsal: Rehearsal) -> str:
    bill, ledger = usd_text_of(rehearsal.bill_nano_usd), usd_text_of(rehearsal.spent_nano_usd)
    if rehearsal.unpriced_bytes:
        return f"bill {UNKNOWN}: {rehearsal.unpriced_bytes:,} bytes have no known price; ledger {ledger}"
    return f"the sandbox's bill {bill} <= ledger {ledger}: {'holds' if rehearsal.holds else 'DOES NOT HOLD'}"


def usd_text_of(nano_usd: int) -> str:
    """Nano-dollars with six places: bill and ledger differ in the last ones."""
    return usd_text(Decimal(nano_usd) / 10**9, 6)


def _hours(seconds: int) -> str:
    minutes = (seconds + 30) // 60
    return f"{minutes // 60} h {minutes % 60:02d}"


def _when(instant: datetime) -> str:
    return f"{instant:%m-%d %H:%M:%S}"


def _table(section: Section) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, name in enumerate(section.head):
        justified = number in section.right
        table.add_column(
            name,
            justify="right" if justified else "left",
            overflow="fold",
            no_wrap=justified,
        )
    for row in section.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table

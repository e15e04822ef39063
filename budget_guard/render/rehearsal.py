"""A rehearsal as a table for a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from rich import box
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from budget_guard.money import decimal_text, size_text, usd_text
from budget_guard.rehearsal.model import LimitUse, ProgramRun, Refused, Rehearsal, Use
from budget_guard.render.tables import UNKNOWN, markdown_table, nano_text

_VERDICTS = {
    "fits": "fits: no limit was reached, and none would be at this rate",
    "over": "over: a limit was reached, or would be at this rate",
    "unknown": "unknown: no data was delivered",
}


@dataclass(frozen=True, slots=True)
class _Section:
    """One table: its title, its head, its rows; columns from `right` are aligned to the right."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: range


def render_json(rehearsal: Rehearsal) -> str:
    """The stable JSON shape as text with a final newline."""
    return json.dumps(rehearsal.as_json(), indent=2) + "\n"


def render_rehearsal(rehearsal: Rehearsal) -> RenderableType:
    """The rehearsal for a terminal."""
    parts: list[RenderableType] = [Text(_title(rehearsal), style="bold"), Text(_subtitle(rehearsal)), ""]
    for section in _sections(rehearsal):
        parts += [Text(section.title, style="bold"), _table(section), ""]
    style = {"fits": "green", "over": "bold red"}.get(rehearsal.verdict, "yellow")
    parts += [Text(_promise(rehearsal)), Text(_VERDICTS[rehearsal.verdict], style=style)]
    return Lines(*parts, *(Text(f"* {note}", style="dim") for note in rehearsal.notes))


def render_markdown(rehearsal: Rehearsal) -> str:
    """The rehearsal as a Markdown page."""
    lines = [f"# {_title(rehearsal)}", "", f"{_subtitle(rehearsal)}", ""]
    for section in _sections(rehearsal):
        lines += [f"## {section.title[0].upper()}{section.title[1:]}", ""]
        lines += [*markdown_table(section.head, section.rows, right=section.right), ""]
    lines += ["## Verdict", "", _promise(rehearsal), "", _VERDICTS[rehearsal.verdict], ""]
    lines += [*(f"- {note}" for note in rehearsal.notes), *([""] if rehearsal.notes else [])]
    return "\n".join(lines[:-1]) + "\n"


def _title(rehearsal: Rehearsal) -> str:
    first, last = rehearsal.sessions[0], rehearsal.sessions[-1]
    days = f"{first}" if first == last else f"{first} to {last}"
    return f"{rehearsal.policy}: rehearsal of {days}"


def _subtitle(rehearsal: Rehearsal) -> str:
    count = len(rehearsal.sessions)
    of_planned = "" if count == rehearsal.planned else f" of {rehearsal.planned} planned"
    stopped = ", interrupted" if rehearsal.interrupted else ""
    return (
        f"{count} {'session' if count == 1 else 'sessions'}{of_planned}{stopped}, {rehearsal.source} data "
        f"(seed {rehearsal.seed}), played in {rehearsal.took_s:.0f} s"
    )


def _sections(rehearsal: Rehearsal) -> Iterator[_Section]:
    """Every table that has something to say, in order."""
    head = ("session", "stream", "connected", "of", "conns", "size", "ledger", "bill", "records", "missed")
    rows = [_use_cells(use) for use in rehearsal.uses]
    rows.append(_total_cells(rehearsal))
    yield _Section("by session and stream", head, tuple(rows), range(2, len(head)))
    if rehearsal.refused:
        rows = [_refused_cells(row) for row in rehearsal.refused]
        yield _Section(
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
        yield _Section("gaps (UTC)", ("stream", "from", "to", "mended", ""), tuple(rows), range(0))
    rows = [_run_cells(run) for run in rehearsal.runs]
    yield _Section(
        "the program (UTC)", ("session", "from", "to", "exit code", "ended", ""), tuple(rows), range(3, 4)
    )
    rows = [_limit_cells(limit) for limit in rehearsal.limits]
    yield _Section(
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


def _limit_cells(limit: LimitUse) -> tuple[str, ...]:
    share = ""
    if limit.limit:
        share = f" ({100 * limit.most / limit.limit:.0f}%)"
    return (
        limit.budget,
        limit.period,
        _amount(limit.unit, limit.most) + share,
        "unlimited" if limit.limit is None else _amount(limit.unit, limit.limit),
        "" if limit.reached_utc is None else _when(limit.reached_utc),
        "" if limit.projected is None else _amount(limit.unit, limit.projected),
    )


def _amount(unit: str, amount: Decimal) -> str:
    if unit == "usd":
        return usd_text(amount)
    places = Decimal(1) if unit == "connections" else Decimal("0.01")
    return f"{decimal_text(amount.quantize(places))} {unit}"


def _promise(rehearsal: Rehearsal) -> str:
    bill, ledger = usd_text_of(rehearsal.bill_nano_usd), usd_text_of(rehearsal.spent_nano_usd)
    if rehearsal.unpriced_bytes:
        return f"bill {UNKNOWN}: {rehearsal.unpriced_bytes:,} bytes have no known price; ledger {ledger}"
    return f"the sandbox's bill {bill} <= ledger {ledger}: {'holds' if rehearsal.holds else 'DOES NOT HOLD'}"


def usd_text_of(nano_usd: int) -> str:
    """Nano-dollars with six places: bill and ledger differ in the last ones."""
    return usd_text(Decimal(nano_usd) / 10**9, 6)


def _hours(seconds: int) -> str:
    minutes = seconds // 60
    return f"{minutes // 60} h {minutes % 60:02d}"


def _when(instant: datetime) -> str:
    return f"{instant:%m-%d %H:%M:%S}"


def _table(section: _Section) -> Table:
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

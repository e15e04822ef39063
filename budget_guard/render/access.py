"""What a key may use, as a table for a terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from budget_guard.clock import instant_text
from budget_guard.money import decimal_text, usd_text
from budget_guard.planning.model import (
    AccessProblem,
    AccessReport,
    AccessState,
    AccessStep,
    AccessVerdict,
    DatasetAccess,
    SchemaRange,
)
from budget_guard.render.tables import UNKNOWN, Footnotes, age_text, notes_table

_STYLES: dict[AccessVerdict, str] = {
    "granted": "bold green",
    "refused": "bold red",
    "unknown": "bold yellow",
}
_SENTENCES: dict[AccessVerdict, str] = {
    "granted": "everything that the policy needs is there",
    "refused": "the vendor refuses something that the policy needs",
    "unknown": "something that the policy needs could not be found out",
}
_REFUSED = {
    "not_entitled": "no licence",
    "sessions_full": "all connections in use",
    "payment_required": "unpaid",
    "key_rejected": "key rejected",
}
_MANY = 3

HEAD = ("dataset", "live", "history", "policy", "")


def access_json(report: AccessReport) -> dict[str, Any]:
    """The report in its stable JSON shape."""
    return {
        "policy": report.policy,
        "at_utc": instant_text(report.at_utc),
        "source": report.source,
        "verdict": report.verdict,
        "datasets": [_dataset_json(row) for row in report.datasets],
        "notes": list(report.notes),
    }


def render_json(report: AccessReport) -> str:
    """`access_json` as text with a final newline."""
    return json.dumps(access_json(report), indent=2) + "\n"


def _dataset_json(row: DatasetAccess) -> dict[str, Any]:
    return {
        "dataset": row.dataset,
        "live": {
            "access": row.live,
            "needed_by": list(row.needs_live),
            "problem": _problem_json(row.live_problem),
        },
        "historical": {
            "access": row.history,
            "needed_by": list(row.needs_history),
            "problem": _problem_json(row.history_problem),
            "ranges": [
                {
                    "schema": one.schema,
                    "start_utc": instant_text(one.start_utc),
                    "end_utc": instant_text(one.end_utc),
                }
                for one in row.ranges
            ],
        },
        "billing": None if row.billing is None else {"live": row.billing, "plan": row.plan},
        "steps": [_step_json(step) for step in row.steps],
    }


def _problem_json(problem: AccessProblem | None) -> dict[str, str] | None:
    if problem is None:
        return None
    return {"code": problem.code, "message": problem.message, "advice": problem.advice}


def _step_json(step: AccessStep) -> dict[str, str | None]:
    return {
        "text": step.text,
        "usd_per_month": None if step.cost_usd is None else decimal_text(step.cost_usd),
    }


def render_access(report: AccessReport) -> RenderableType:
    """The report for a terminal, readable from 80 columns on."""
    notes = Footnotes()
    parts: list[RenderableType] = [
        Text(f"{report.policy or 'every dataset known here'}: what this key may use", style="bold")
    ]
    if report.policy is not None:
        verdict = Text.assemble((report.verdict, _STYLES[report.verdict]), f": {_SENTENCES[report.verdict]}")
        parts.append(verdict)
    parts += [Text(f"from {report.source}", style="dim"), "", _datasets_table(report, notes)]
    steps = [
        (row.dataset if number == 0 else "", step)
        for row in report.datasets
        for number, step in enumerate(row.steps)
    ]
    if steps:
        parts += ["", _steps_table(steps)]
    remarks = [("*", text) for text in report.notes]
    marks = [(str(number), text) for number, text in notes.lines()]
    if remarks or marks:
        parts += ["", notes_table([*remarks, *marks])]
    return Group(*parts)


def _datasets_table(report: AccessReport, notes: Footnotes) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in HEAD:
        table.add_column(title, overflow="fold")
    for row in report.datasets:
        problems = [problem for problem in (row.live_problem, row.history_problem) if problem is not None]
        cells = (
            row.dataset,
            _state_text(row.live, row.live_problem, "licensed"),
            _history_text(row, report.at_utc),
            _policy_text(row),
            notes.cite(*(f"{problem.code}: {problem.message}" for problem in problems)),
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _state_text(state: AccessState, problem: AccessProblem | None, granted: str) -> str:
    if problem is None:
        return granted
    return UNKNOWN if state == "unknown" else _REFUSED.get(problem.code, "refused")


def _history_text(row: DatasetAccess, now: datetime) -> str:
    if not row.ranges:
        return _state_text(row.history, row.history_problem, "nothing")
    groups: dict[tuple[datetime, datetime], list[SchemaRange]] = {}
    for one in row.ranges:
        groups.setdefault((one.start_utc, one.end_utc), []).append(one)
    return "\n".join(
        f"{_schemas_text(found, row.ranges)}{start:%Y-%m-%d} to {end:%Y-%m-%d %H:%M}, {age_text(end, now)}"
        for (start, end), found in groups.items()
    )


def _schemas_text(found: Sequence[SchemaRange], ranges: Sequence[SchemaRange]) -> str:
    if len(found) == len(ranges):
        return ""
    names = [one.schema for one in found]
    return f"{', '.join(names)}: " if len(names) <= _MANY else f"{len(names)} others: "


def _policy_text(row: DatasetAccess) -> str:
    if row.billing is None:
        return ""
    lines = [row.billing if row.plan is None else f"{row.billing}, {row.plan} plan"]
    lines += [f"live: {', '.join(row.needs_live)}"] if row.needs_live else []
    lines += [f"history: {', '.join(row.needs_history)}"] if row.needs_history else []
    return "\n".join(lines)


def _steps_table(steps: Sequence[tuple[str, AccessStep]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("dataset", no_wrap=True)
    table.add_column("what to do, or to know", overflow="fold")
    table.add_column("a month", justify="right", no_wrap=True)
    for dataset, step in steps:
        cost = "" if step.cost_usd is None else usd_text(step.cost_usd)
        table.add_row(Text(dataset), Text(step.text), Text(cost))
    return table

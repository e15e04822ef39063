"""A plan as a table for a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from budget_guard.clock import instant_or_null, instant_text
from budget_guard.money import GIB, NANO, decimal_text, nano_exact_text, usd_text
from budget_guard.planning.model import (
    Cost,
    LimitRow,
    Plan,
    Quantiles,
    StreamPlan,
    Unknown,
    Verdict,
    WayDown,
    window_hours,
)
from budget_guard.policy.model import Unit
from budget_guard.render.tables import (
    UNKNOWN,
    Footnotes,
    age_text,
    date_or_null,
    exact_text,
    gib_exact_text,
    markdown_list,
    markdown_table,
    nano_text,
    notes_table,
    rounded,
)

_STYLES: dict[Verdict, str] = {
    "fits": "bold green",
    "tight": "bold yellow",
    "over": "bold red",
    "unknown": "bold red",
}
_SENTENCES: dict[Verdict, str] = {
    "fits": "no limit of the month is exceeded, not at p90 either",
    "tight": "no limit of the month is exceeded at p50, but one is at p90",
    "over": "a limit of the month is exceeded at p50",
    "unknown": "a figure is missing, so nobody can say",
}

_FIRST_COLUMN = 22
# From this width on, everything stands side by side.
_WIDE = 98

STREAM_HEAD = ("stream", "data", "windows", "hours", "GiB p50", "p90", "USD/GiB", "cost p50", "p90", "")
_NARROW_HEAD = ("stream", "windows\nhours", "GiB p50\np90", "USD/GiB", "cost p50\np90", "")
LIMIT_HEAD = ("budget", "limit", "uses p50", "p90", "within")
WAY_HEAD = ("instead", "cost p50", "p90", "saves", "")


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan in its stable JSON shape; what is unknown is null, with reasons beside it."""
    return {
        "policy": plan.policy,
        "month": plan.month,
        "generated_utc": instant_text(plan.generated_utc),
        "source": plan.source,
        "streams": [_stream_json(stream) for stream in plan.streams],
        "fixed_usd": None if plan.fixed_usd is None else decimal_text(plan.fixed_usd),
        "fixed": [
            {
                "datasets": list(line.datasets),
                "plan": line.plan,
                "fee_usd": None if line.fee_usd is None else decimal_text(line.fee_usd),
                "license_usd": decimal_text(line.license_usd),
                "source": line.source,
            }
            for line in plan.fixed
        ],
        "total_usd": _cost_json(plan.total),
        "budgets": [_limit_json(row) for row in plan.budgets],
        "verdict": plan.verdict,
        "ways_down": [_way_json(way) for way in plan.ways_down],
        "notes": list(plan.notes),
    }


def render_json(plan: Plan) -> str:
    """`plan_json` as text with a final newline."""
    return json.dumps(plan_json(plan), indent=2) + "\n"


def _stream_json(stream: StreamPlan) -> dict[str, Any]:
    windows = stream.windows
    size = None if stream.forecast is None else stream.forecast.size_bytes
    return {
        "name": stream.name,
        "dataset": stream.dataset,
        "schema": stream.schema,
        "mode": stream.mode,
        "windows": {
            "count": None if windows is None else len(windows),
            "hours": None if windows is None else exact_text(_hours(stream)),
        },
        "gib": _size_json(size),
        "size_source": None if stream.forecast is None else stream.forecast.source,
        "size_grade": None if stream.forecast is None else stream.forecast.grade,
        "size_asked_utc": None if stream.forecast is None else instant_or_null(stream.forecast.asked_utc),
        "unit_price_usd": None if stream.price is None else decimal_text(stream.price.usd_per_gib),
        "price_source": None if stream.price is None else stream.price.source,
        "price_read_utc": None if stream.price is None else instant_or_null(stream.price.read_utc),
        "price_as_of": None if stream.price is None else date_or_null(stream.price.as_of),
        "cost_usd": _cost_json(stream.cost),
        "unknown": _unknown_json(stream.unknown),
        "notes": list(stream.notes),
    }


def _limit_json(row: LimitRow) -> dict[str, Any]:
    used = row.used
    return {
        "name": row.budget,
        "period": row.period,
        "unit": row.unit,
        "limit": None if row.limit is None else decimal_text(row.limit),
        "p_within": None if row.p_within is None else decimal_text(row.p_within),
        "used": {
            "p50": None if used is None else _amount_exact(used.p50, row.unit),
            "p90": None if used is None else _amount_exact(used.p90, row.unit),
        },
        "unknown": _unknown_json(row.unknown),
    }


def _way_json(way: WayDown) -> dict[str, Any]:
    return {
        "stream": way.stream,
        "way": way.way,
        "text": way.text,
        "gib": _size_json(way.size_bytes),
        "unit_price_usd": decimal_text(way.price.usd_per_gib),
        "price_source": way.price.source,
        "cost_usd": _cost_json(way.cost),
        "saves_usd": _cost_json(way.saves),
        "notes": list(way.notes),
    }


def _unknown_json(reasons: Sequence[Unknown]) -> list[dict[str, str]]:
    return [{"code": reason.code, "message": reason.message} for reason in reasons]


def _size_json(size: Quantiles | None) -> dict[str, str | None]:
    if size is None:
        return {"p50": None, "p90": None}
    return {"p50": gib_exact_text(size.p50), "p90": gib_exact_text(size.p90)}


def _cost_json(cost: Cost | None) -> dict[str, str | None]:
    if cost is None:
        return {"p50": None, "p90": None}
    return {"p50": nano_exact_text(cost.p50), "p90": nano_exact_text(cost.p90)}


def _amount_exact(amount: Fraction, unit: Unit) -> str:
    if unit == "usd":
        nano_usd = amount * NANO
        return nano_exact_text(-(-nano_usd.numerator // nano_usd.denominator))
    return gib_exact_text(amount * GIB) if unit == "gib" else exact_text(amount)


def _hours(stream: StreamPlan) -> Fraction:
    return sum((window_hours(window) for window in stream.windows or ()), Fraction(0))


def _source(kind: str, source: str, asked_utc: datetime | None, now: datetime) -> str:
    """Where a figure comes from, and how old the vendor's answer is: `price: ... (asked 3 h ago)`."""
    age = "" if asked_utc is None else f" (asked {age_text(asked_utc, now)})"
    return f"{kind}: {source}{age}"


def _stream_cells(stream: StreamPlan, notes: Footnotes, now: datetime) -> tuple[str, ...]:
    windows, forecast, price, cost = stream.windows, stream.forecast, stream.price, stream.cost
    sources = ["" if price is None else _source("price", price.source, price.read_utc, now)]
    sources += [] if forecast is None else [_source("size", forecast.source, forecast.asked_utc, now)]
    sources += [f"{reason.code}: {reason.message}" for reason in stream.unknown]
    size = None if forecast is None else forecast.size_bytes
    return (
        stream.name,
        f"{stream.dataset} {stream.schema}" + (" (historical)" if stream.mode == "historical" else ""),
        UNKNOWN if windows is None else str(len(windows)),
        UNKNOWN if windows is None else rounded(_hours(stream)),
        UNKNOWN if size is None else rounded(size.p50 / GIB),
        UNKNOWN if size is None else rounded(size.p90 / GIB),
        UNKNOWN if price is None else decimal_text(price.usd_per_gib),
        UNKNOWN if cost is None else nano_text(cost.p50),
        UNKNOWN if cost is None else nano_text(cost.p90),
        notes.cite(*sources, *stream.notes),
    )


def _total_cells(plan: Plan, notes: Footnotes) -> list[tuple[str, ...]]:
    """The rows below the streams: each fee, then the total, in the streams' columns."""
    rows: list[tuple[str, ...]] = []
    for line in plan.fixed:
        text = UNKNOWN if line.fee_usd is None else usd_text(line.fee_usd + line.license_usd)
        licence = f" + licence {usd_text(line.license_usd)}" if line.license_usd else ""
        mark = notes.cite(f"fee: {line.source}")
        rows.append(
            (f"{line.plan} plan", ", ".join(line.datasets) + licence, "", "", "", "", "", text, text, mark)
        )
    total = plan.total
    p50 = UNKNOWN if total is None else nano_text(total.p50)
    p90 = UNKNOWN if total is None else nano_text(total.p90)
    rows.append(("total", "", "", "", "", "", "", p50, p90, ""))
    return rows


def _limit_cells(row: LimitRow) -> tuple[str, ...]:
    limit = "unlimited" if row.limit is None else _amount_text(Fraction(row.limit), row.unit)
    used = row.used
    return (
        row.budget,
        f"{limit} a {row.period}" if row.period != "total" else f"{limit} in total",
        UNKNOWN if used is None else _used_text(used.p50, row.unit),
        UNKNOWN if used is None else _used_text(used.p90, row.unit),
        _within(row),
    )


def _within(row: LimitRow) -> str:
    if row.limit is None:
        return "no limit"
    if row.p_within is None:
        return UNKNOWN
    return f"p >= {decimal_text(row.p_within)}" if row.p_within > 0 else "p < 0.5: no"


def _amount_text(amount: Fraction, unit: Unit) -> str:
    if unit == "usd":
        return f"${rounded(amount)}"
    if unit == "connections":
        return f"{rounded(amount, 0)} connections"
    return f"{rounded(amount)} {'GiB' if unit == 'gib' else 'h'}"


def _used_text(amount: Fraction, unit: Unit) -> str:
    """An amount next to its limit, which has the unit."""
    return rounded(amount, 0) if unit == "connections" else _amount_text(amount, unit).split(" ")[0]


def _way_cells(way: WayDown, notes: Footnotes, now: datetime) -> tuple[str, ...]:
    return (
        f"{way.stream}: {way.text}",
        nano_text(way.cost.p50),
        nano_text(way.cost.p90),
        nano_text(way.saves.p50),
        notes.cite(_source("price", way.price.source, way.price.read_utc, now), *way.notes),
    )


def render_plan(plan: Plan) -> RenderableType:
    """The plan for a terminal, readable from 80 columns on: a narrow one has p90 below p50 instead of beside it."""
    return _PlanView(plan)


@dataclass(frozen=True, slots=True)
class _PlanView:
    plan: Plan

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Group(*_parts(self.plan, narrow=options.max_width < _WIDE))


def _parts(plan: Plan, *, narrow: bool) -> list[RenderableType]:
    notes = Footnotes()
    parts: list[RenderableType] = [
        Text(f"{plan.policy}: plan of {plan.month}", style="bold"),
        Text.assemble((plan.verdict, _STYLES[plan.verdict]), f": {_SENTENCES[plan.verdict]}"),
        Text(f"from {plan.source}", style="dim"),
        "",
        _streams_table(plan, notes, narrow=narrow),
        "",
        _table(LIMIT_HEAD, [_limit_cells(row) for row in plan.budgets], right=range(2, 4)),
    ]
    if plan.ways_down:
        ways = [_way_cells(way, notes, plan.generated_utc) for way in plan.ways_down]
        parts += ["", Text("ways down", style="bold"), _table(WAY_HEAD, ways, right=range(1, 4))]
    remarks = [("*", text) for text in plan.notes]
    marks = [(str(number), text) for number, text in notes.lines()]
    if remarks or marks:
        parts += ["", notes_table([*remarks, *marks])]
    return parts


def _streams_table(plan: Plan, notes: Footnotes, *, narrow: bool) -> Table:
    fold = _narrow if narrow else _two_lines
    head = _NARROW_HEAD if narrow else (STREAM_HEAD[0], *STREAM_HEAD[2:])
    rows = [fold(_stream_cells(stream, notes, plan.generated_utc)) for stream in plan.streams]
    table = _table(head, rows, right=range(1, len(head) - 1))
    table.add_section()
    for row in _total_cells(plan, notes):
        table.add_row(*fold(row), style="bold" if row[0] == "total" else None)
    return table


def _narrow(cells: Sequence[str]) -> tuple[str, ...]:
    """What stands side by side on a wide screen, one above the other: windows and hours, p50 and p90."""
    name, data, windows, hours, gib50, gib90, price, cost50, cost90, mark = cells
    return (
        f"{name}\n{data}" if data else name,
        f"{windows}\n{hours}",
        f"{gib50}\n{gib90}",
        price,
        f"{cost50}\n{cost90}",
        mark,
    )


def _two_lines(cells: Sequence[str]) -> tuple[str, ...]:
    """The first two cells, one above the other: a terminal is narrow."""
    first, second, *rest = cells
    return (f"{first}\n{second}" if second else first, *rest)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: range) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, title in enumerate(head):
        aligned = index in right
        table.add_column(
            title,
            justify="right" if aligned else "left",
            no_wrap=aligned,
            min_width=_FIRST_COLUMN if index == 0 else None,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def render_markdown(plan: Plan) -> str:
    """The plan as a Markdown page."""
    notes = Footnotes()
    rows = [_stream_cells(stream, notes, plan.generated_utc) for stream in plan.streams] + _total_cells(
        plan, notes
    )
    lines = [
        f"# {plan.policy}: plan of {plan.month}",
        "",
        f"**{plan.verdict}**: {_SENTENCES[plan.verdict]}.",
        "",
        f"Made at {instant_text(plan.generated_utc)} from {plan.source}.",
        "",
        *markdown_table((*STREAM_HEAD[:-1], "notes"), rows, right=range(2, 9)),
        "",
        "## Budgets",
        "",
        *markdown_table(LIMIT_HEAD, [_limit_cells(row) for row in plan.budgets], right=range(2, 4)),
    ]
    if plan.ways_down:
        ways = [_way_cells(way, notes, plan.generated_utc) for way in plan.ways_down]
        lines += ["", "## Ways down", "", *markdown_table((*WAY_HEAD[:-1], "notes"), ways, right=range(1, 4))]
    lines += ["", "## Notes", ""]
    lines += markdown_list(plan.notes)
    lines += markdown_list(f"({number}) {text}" for number, text in notes.lines())
    return "\n".join(lines) + "\n"

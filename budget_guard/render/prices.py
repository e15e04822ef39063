"""Prices and plans as a table for a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from budget_guard.clock import instant_or_null, instant_text
from budget_guard.money import decimal_text, usd_text
from budget_guard.planning.model import PlanTerms, PriceReport, PriceRow, UnitPrice
from budget_guard.render.tables import (
    UNKNOWN,
    Footnotes,
    age_text,
    date_or_null,
    markdown_list,
    markdown_table,
    notes_table,
)

PRICE_HEAD = ("data", "live", "from", "historical", "from", "")
PLAN_HEAD = ("plan", "a month", "licences", "history from", "")


def prices_json(report: PriceReport) -> dict[str, Any]:
    """The report in its stable JSON shape; what is unknown is null, with a reason beside it."""
    return {
        "policy": report.policy,
        "at_utc": instant_text(report.at_utc),
        "source": report.source,
        "prices": [_row_json(row) for row in report.rows],
        "plans": [_plan_json(plan) for plan in report.plans],
        "notes": list(report.notes),
    }


def render_json(report: PriceReport) -> str:
    """`prices_json` as text with a final newline."""
    return json.dumps(prices_json(report), indent=2) + "\n"


def _row_json(row: PriceRow) -> dict[str, Any]:
    unknown = dict.fromkeys(("usd_per_gib", "kind", "grade", "source", "as_of", "read_utc"))
    return {
        "dataset": row.dataset,
        "schema": row.schema,
        "mode": row.mode,
        **(unknown if row.price is None else _price_json(row.price)),
        "included_from_utc": instant_or_null(row.included_from_utc),
        "used_by": list(row.used_by),
        "unknown": None
        if row.unknown is None
        else {"code": row.unknown.code, "message": row.unknown.message},
        "lost": [_price_json(price) for price in row.lost],
    }


def _price_json(price: UnitPrice) -> dict[str, Any]:
    return {
        "usd_per_gib": decimal_text(price.usd_per_gib),
        "kind": price.kind,
        "grade": price.grade,
        "source": price.source,
        "as_of": date_or_null(price.as_of),
        "read_utc": instant_or_null(price.read_utc),
    }


def _plan_json(plan: PlanTerms) -> dict[str, Any]:
    return {
        "datasets": list(plan.datasets),
        "plan": plan.plan,
        "fee_usd": None if plan.fee_usd is None else decimal_text(plan.fee_usd),
        "fee_since": date_or_null(plan.fee_since),
        "license_usd": None if plan.license_usd is None else decimal_text(plan.license_usd),
        "history": [
            {
                "level": reach.level,
                "schemas": list(reach.schemas),
                "reach": reach.text,
                "from_utc": instant_text(reach.from_utc),
            }
            for reach in plan.history
        ],
        "source": plan.source,
        "notes": list(plan.notes),
    }


# --- cells ------------------------------------------------------------------------------------------------


def _price_cells(report: PriceReport, notes: Footnotes) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Dataset, schema, and the other cells: one row for both modes of a schema."""
    for (dataset, schema), rows in groupby(report.rows, key=lambda row: (row.dataset, row.schema)):
        modes = {row.mode: row for row in rows}
        cells: list[str] = []
        remarks: list[str] = []
        for mode in ("live", "historical"):
            row = modes.get(mode)
            cells += ("", "") if row is None else (_price_text(row), _short_source(row, report.at_utc))
            remarks += [] if row is None else _remarks(row, every=report.policy is not None)
        yield dataset, schema, (*cells, notes.cite(*remarks))


def _price_text(row: PriceRow) -> str:
    return UNKNOWN if row.price is None else _usd(row.price)


def _usd(price: UnitPrice) -> str:
    """A price in columns: all of its digits, and at least the cents."""
    text = decimal_text(price.usd_per_gib)
    whole, _, cents = text.partition(".")
    return f"{whole}.{cents:0<2}"


def _short_source(row: PriceRow, now: datetime) -> str:
    price = row.price
    if price is None:
        return ""
    if price.kind == "vendor":
        return "account" if price.read_utc is None else f"account, {age_text(price.read_utc, now)}"
    if price.kind == "sheet":
        return f"sheet, {price.as_of}"
    return "policy" if price.kind == "override" else "plan"


def _remarks(row: PriceRow, *, every: bool) -> list[str]:
    """The sentences behind a price: its source, what a plan includes, and what it won over (or what differs)."""
    remarks = [] if row.price is None else [row.price.source]
    if row.unknown is not None:
        remarks.append(f"{row.unknown.code}: {row.unknown.message}")
    if row.included_from_utc is not None:
        remarks.append(
            f"$0 from {row.included_from_utc:%Y-%m-%d} on: a plan includes it; the price is of what is older"
        )
    winner = None if row.price is None else row.price.usd_per_gib
    lost = [price for price in row.lost if every or price.usd_per_gib != winner]
    remarks += [f"instead of {_usd(price)}: {price.source}" for price in lost]
    return remarks


def _plan_cells(plan: PlanTerms, notes: Footnotes) -> tuple[str, ...]:
    since = "" if plan.fee_since is None else f" since {plan.fee_since}"
    return (
        f"{plan.plan} ({', '.join(plan.datasets)})",
        UNKNOWN if plan.fee_usd is None else f"{usd_text(plan.fee_usd)}{since}",
        "" if plan.license_usd is None else usd_text(plan.license_usd),
        "; ".join(f"{reach.level} {reach.from_utc:%Y-%m-%d}" for reach in plan.history) or UNKNOWN,
        notes.cite(plan.source, *plan.notes),
    )


def _levels(report: PriceReport) -> list[str]:
    """Which schemas the levels are, and how far back they reach, once."""
    return list(
        dict.fromkeys(
            f"{reach.level}, {reach.text} back: {', '.join(reach.schemas)}"
            for plan in report.plans
            for reach in plan.history
        )
    )


def _title(report: PriceReport) -> str:
    return f"{report.policy or 'everything known'}: prices in USD per GiB"


# --- pages ------------------------------------------------------------------------------------------------


def render_prices(report: PriceReport) -> RenderableType:
    """The report for a terminal, readable from 80 columns on."""
    notes = Footnotes()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, title in enumerate(PRICE_HEAD):
        table.add_column(title, justify="right" if index in (1, 3) else "left", no_wrap=index in (1, 3))
    for dataset, rows in groupby(_price_cells(report, notes), key=lambda row: row[0]):
        table.add_row(Text(dataset, style="bold"))
        for _, schema, cells in rows:
            table.add_row(*(Text(cell) for cell in (f"  {schema}", *cells)))
        table.add_section()
    parts: list[RenderableType] = [
        Text(_title(report), style="bold"),
        Text(f"from {report.source}", style="dim"),
        "",
        table,
    ]
    if report.plans:
        plans = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for title in PLAN_HEAD:
            plans.add_column(title, overflow="fold")
        for plan in report.plans:
            first, fee, licence, history, mark = _plan_cells(plan, notes)
            lines = (first.replace(" (", "\n("), fee.replace(" since", "\nsince"), licence)
            plans.add_row(*(Text(cell) for cell in (*lines, history.replace("; ", "\n"), mark)))
        parts += ["", plans]
    remarks = [("*", text) for text in (*_levels(report), *report.notes)]
    parts += ["", notes_table([*remarks, *((str(number), text) for number, text in notes.lines())])]
    return Group(*parts)


def render_markdown(report: PriceReport) -> str:
    """The report as a Markdown page."""
    notes = Footnotes()
    rows = [(f"{dataset} {schema}", *cells) for dataset, schema, cells in _price_cells(report, notes)]
    lines = [
        f"# {_title(report)}",
        "",
        f"At {instant_text(report.at_utc)}, from {report.source}.",
        "",
        *markdown_table((*PRICE_HEAD[:-1], "notes"), rows, right=(1, 3)),
    ]
    if report.plans:
        plans: Sequence[tuple[str, ...]] = [_plan_cells(plan, notes) for plan in report.plans]
        lines += ["", "## Plans", "", *markdown_table((*PLAN_HEAD[:-1], "notes"), plans)]
    lines += ["", "## Notes", ""]
    lines += markdown_list((*_levels(report), *report.notes))
    lines += markdown_list(f"({number}) {text}" for number, text in notes.lines())
    return "\n".join(lines) + "\n"

"""A bill for people: a small table, as the sandbox prints at its end and `GET /bill?format=text` gives."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from budget_guard.money import size_text, usd_text

# Wide enough for every column; a terminal that is narrower folds.
_WIDTH = 100


def bill_table(bill: Mapping[str, Any]) -> Table:
    """What was billed, by usage; of a bill's JSON."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("month", "key", "dataset", "mode", "schema"):
        table.add_column(name)
    for name in ("size", "cost"):
        table.add_column(name, justify="right")
    rows = sorted(bill["by_usage"], key=lambda row: (row["month"], row["key"], row["dataset"], row["mode"]))
    for row in rows:
        cost = "unknown" if row["cost_usd"] is None else usd_text(Decimal(row["cost_usd"]))
        table.add_row(
            row["month"],
            row["key"],
            row["dataset"],
            row["mode"],
            row["schema"],
            size_text(row["bytes"]),
            cost,
        )
    table.add_section()
    table.add_row("total", "", "", "", "", size_text(bill["bytes"]), usd_text(Decimal(bill["cost_usd"])))
    return table


def bill_notes(bill: Mapping[str, Any]) -> Iterator[str]:
    """What the table does not say: what credits pay, what a plan includes, what is not known or not counted."""
    for month in bill["months"]:
        if Decimal(month["credit_usd"]):
            credit, due = (usd_text(Decimal(month[name])) for name in ("credit_usd", "due_usd"))
            yield f"{month['month']}: {credit} paid by credits, {due} due"
    if bill["list_cost_usd"] != bill["cost_usd"]:
        yield f"at list prices: {usd_text(Decimal(bill['list_cost_usd']))}"
    if bill["unpriced_bytes"]:
        yield f"no price is known for {bill['unpriced_bytes']:,} bytes: they are not in the cost"
    if bill["uncertain_bytes"]:
        yield (
            f"up to {bill['uncertain_bytes']:,} bytes more, {usd_text(Decimal(bill['uncertain_cost_usd']))}, "
            "may have left before a sandbox was killed"
        )
    if bill["excluded_bytes"]:
        yield f"{bill['excluded_bytes']:,} bytes were sent and, by its billing rules, not billed"


def print_bill(console: Console, bill: Mapping[str, Any]) -> None:
    """The table and its notes; nothing but a line when nothing was billed."""
    if bill["by_usage"]:
        console.print(bill_table(bill))
    else:
        console.print("nothing was billed", highlight=False)
    for note in bill_notes(bill):
        console.print(note, highlight=False, markup=False)


def bill_as_text(bill: Mapping[str, Any]) -> str:
    """The same as plain text."""
    text = io.StringIO()
    print_bill(Console(file=text, width=_WIDTH, color_system=None), bill)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"

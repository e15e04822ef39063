"""The gaps of live streams for a terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from budget_guard.backfill.model import GapList, GapRow
from budget_guard.money import decimal_text
from budget_guard.render.tables import nano_text

# As much of an id as tells gaps apart; `--gap` takes how one begins.
ID_LENGTH = 8
_LINE = 80
# Between two columns.
_SPACE = 2
_STYLES = {"open": "yellow", "replayed": "dim", "filled": "green"}


def render_json(gaps: GapList) -> str:
    """The stable JSON shape as text with a final newline."""
    return json.dumps(gaps.as_json(), indent=2) + "\n"


def render_gaps(gaps: GapList) -> RenderableType:
    """Every gap with its bounds in UTC, its length, how it stands, and the price of filling it; for 80 columns."""
    month = "" if gaps.month is None else f" that began in {gaps.month}"
    if not gaps.rows:
        return Text(f"no gaps of account {gaps.account}{month}")
    return Group(Text(f"gaps of account {gaps.account}{month}, in UTC", style="bold"), _table(gaps.rows))


def _table(rows: Sequence[GapRow]) -> Table:
    """Where a line would be too long, each date stands above its time; then the streams' names are folded."""
    heads = ("gap", "stream", "from", "to", "length", "state", "price")
    cells = [_cells(row, between=" ") for row in rows]
    widest = (max(map(len, column)) for column in zip(heads, *cells, strict=True))
    if sum(width + _SPACE for width in widest) > _LINE:
        cells = [_cells(row, between="\n") for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for head in heads:
        right = head in ("length", "price")
        table.add_column(
            head, no_wrap=head != "stream", overflow="fold", justify="right" if right else "left"
        )
    for row, texts in zip(rows, cells, strict=True):
        styled = (Text(text, style=_STYLES[row.state] if text == row.state else "") for text in texts)
        table.add_row(*styled)
    return table


def _cells(row: GapRow, *, between: str) -> tuple[str, ...]:
    """A gap's texts, with this between a date and its time."""
    gap, other_day = row.gap, row.gap.end_utc.date() != row.gap.start_utc.date()
    full = f"%Y-%m-%d{between}%H:%M:%S"
    return (
        gap.id[:ID_LENGTH],
        f"{gap.stream} {gap.schema}",
        gap.start_utc.strftime(full),
        gap.end_utc.strftime(full if other_day else "%H:%M:%S"),
        span_text(row.length),
        row.state,
        _price_text(row),
    )


def _price_text(row: GapRow) -> str:
    if row.kept is not None:
        return "bought"
    if row.price is None:
        return "-"
    return nano_text(row.price.cost_nano_usd)


def remarks(gaps: GapList) -> Iterator[str]:
    """What is worth saying of single gaps, and what all of them cost; a line each, however long."""
    if gaps.note:
        yield gaps.note
    for row in gaps.rows:
        short = row.gap.id[:ID_LENGTH]
        if row.trouble:
            yield f"{short}: {row.trouble}"
        elif row.kept is not None:
            yield f"{short}: {row.kept} is there already, and only has to be checked"
        elif row.state == "filled":
            yield f"{short}: {row.gap.mended}"
    fillable = [row for row in gaps.rows if row.cost_nano_usd is not None]
    if fillable:
        count = f"{len(fillable)} gap{'s' if len(fillable) > 1 else ''}"
        yield f"to fill {count} costs {nano_text(gaps.total_nano_usd)}, as quoted by the vendor now"


def span_text(span: timedelta) -> str:
    """`8.9 ms`, `12.5 s`, `3 min 20 s`, `2 h 5 min`; nothing that is left out is a minute long."""
    seconds = span.total_seconds()
    if round(seconds, 3) < 1:
        return f"{decimal_text(Decimal(f'{seconds * 1000:.3g}'))} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"

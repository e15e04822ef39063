"""What was bought of the past, for a terminal and for other programs."""

from __future__ import annotations

import json
from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from budget_guard.guard.bought import HistoryReport, KeptFile, form_of
from budget_guard.ledger.model import Purchase
from budget_guard.money import size_text, usd_from_nano, usd_text

_STATES = {
    "asked": ("not known yet", "yellow"),
    "bought": ("bought", "green"),
    "lost": ("broke off", "red"),
    "refused": ("never sold", "dim"),
}
_SYMBOLS_SHOWN = 3


def render_history(report: HistoryReport) -> RenderableType:
    """The purchases, the kept answers, and the price of the range that was asked about."""
    parts: list[RenderableType] = [_purchases(report)]
    if report.kept:
        parts += [Text(), _kept(report.kept)]
    if report.quote is not None:
        wanted = report.quote.range
        text = (
            f"{wanted.schema} of {_symbols(list(wanted.symbols))}, {_span(wanted.start_utc, wanted.end_utc)}: "
            f"{report.quote.text()}"
        )
        parts += [Text(), Text(text)]
    return Group(*parts)


def render_json(report: HistoryReport) -> str:
    """The whole report."""
    return json.dumps(report.as_json(), indent=2) + "\n"


def _purchases(report: HistoryReport) -> RenderableType:
    if not report.purchases:
        return Text(f"Nothing was bought of the past by account {report.account} yet.", style="dim")
    table = Table(
        box=box.SIMPLE_HEAD, title=f"Bought of the past by account {report.account}", title_justify="left"
    )
    for name in ("asked for", "data", "symbols", "range (UTC)", "as"):
        table.add_column(name)
    table.add_column("price", justify="right")
    for purchase in report.purchases:
        state, style = _STATES.get(purchase.state, (purchase.state, ""))
        table.add_row(
            f"{purchase.asked_utc:%Y-%m-%d}",
            f"{purchase.dataset}\n{purchase.schema}",
            _symbols(json.loads(purchase.symbols)),
            f"{purchase.start_utc:%Y-%m-%d %H:%M} to\n{purchase.end_utc:%Y-%m-%d %H:%M}",
            Text.assemble(f"{_kind(purchase)}\n", (state, style)),
            f"{usd_text(usd_from_nano(purchase.cost_nano_usd))}\n{size_text(purchase.size_bytes)}",
        )
    return table


def _kept(kept: tuple[KeptFile, ...]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, title="Kept, and given again for nothing", title_justify="left")
    for name in ("since (UTC)", "data", "symbols", "file"):
        table.add_column(name, overflow="fold")
    table.add_column("size", justify="right")
    for one in kept:
        form = json.loads(one.form)
        table.add_row(
            f"{one.stored_utc:%Y-%m-%d %H:%M}",
            f"{form.get('dataset')} {form.get('schema')}",
            _symbols(form.get("symbols") or []),
            one.path,
            size_text(one.size_bytes),
        )
    return table


def _kind(purchase: Purchase) -> str:
    form = form_of(purchase)
    limit = form.get("limit")
    text = purchase.job_id or purchase.kind
    return text if limit is None else f"{text}, first {limit:,} records"


def _symbols(symbols: list[str]) -> str:
    shown = ", ".join(symbols[:_SYMBOLS_SHOWN])
    more = len(symbols) - _SYMBOLS_SHOWN
    return shown if more <= 0 else f"{shown} and {more} more"


def _span(start: datetime, end: datetime) -> str:
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"

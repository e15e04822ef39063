"""The status for a terminal."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from rich import box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from budget_guard.guard.lease import count_text
from budget_guard.guard.status import BudgetState, ConnectionState, Status, StreamState


def render_status(status: Status, timezone: str) -> RenderableType:
    """Budgets with what is left, running connections, and each stream's window in local time."""
    zone = ZoneInfo(timezone)
    parts: list[RenderableType] = [
        Text(f"{status.at_utc.astimezone(zone):%a %Y-%m-%d %H:%M:%S} {timezone}", style="bold"),
        _budgets(status),
        _streams(status, zone),
    ]
    if status.connections:
        parts.append(_connections(status, zone))
    else:
        parts.append(Text("No connection or request is running.", style="dim"))
    return Group(*parts)


def _budgets(status: Status) -> Table:
    table = Table(box=box.SIMPLE, title="Budgets", title_justify="left", pad_edge=False)
    for name, justify in (("budget", "left"), ("period", "left"), ("", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name in ("spent", "held", "left", "limit"):
        table.add_column(name, justify="right")
    table.add_column("note")
    for budget in status.budgets:
        table.add_row(*_budget_cells(budget, status.exhaustion(budget)))
    return table


def _budget_cells(budget: BudgetState, lasts: timedelta | None) -> list[RenderableType]:
    unit = budget.key.unit
    left, limit = budget.available, budget.limit
    used = budget.settled + budget.held
    bar: RenderableType = "" if not limit else ProgressBar(total=limit, completed=min(used, limit), width=16)
    note = Text()
    if budget.frozen:
        note = Text("frozen: over the limit", style="bold red")
    elif lasts is not None:
        note = Text(f"lasts {_span(lasts)} at this rate")
    return [
        budget.key.budget,
        budget.key.period,
        bar,
        count_text(unit, budget.settled),
        count_text(unit, budget.held) if budget.held else "-",
        "unlimited" if left is None else count_text(unit, left),
        "unlimited" if limit is None else count_text(unit, limit),
        note,
    ]


def _streams(status: Status, zone: ZoneInfo) -> Table:
    table = Table(box=box.SIMPLE, title="Streams", title_justify="left", pad_edge=False)
    for name in ("stream", "window", "next opening"):
        table.add_column(name)
    for stream in status.streams:
        table.add_row(stream.name, _window_text(stream, zone), _when(stream.next_open_utc, zone))
    return table


def _window_text(stream: StreamState, zone: ZoneInfo) -> Text:
    if stream.problem is not None:
        return Text(f"unknown: {stream.problem}", style="red")
    if not stream.open:
        return Text("closed", style="dim")
    until = "always" if stream.closes_utc is None else f"until {_when(stream.closes_utc, zone)}"
    return Text(f"open {until}", style="green")


def _connections(status: Status, zone: ZoneInfo) -> Table:
    table = Table(box=box.SIMPLE, title="Running", title_justify="left", pad_edge=False)
    for name in ("stream", "what", "since", "host"):
        table.add_column(name)
    for name in ("spent", "held", "per hour"):
        table.add_column(name, justify="right")
    for connection in status.connections:
        table.add_row(*_connection_cells(connection, zone))
    return table


def _connection_cells(connection: ConnectionState, zone: ZoneInfo) -> list[str]:
    terms = connection.hold.terms
    settled, held, rate = connection.settled_nano_usd, connection.held_nano_usd, connection.usd_per_hour
    return [
        terms.stream or "-",
        f"{terms.mode} {terms.schema} of {terms.dataset}",
        _when(terms.opened_utc, zone),
        terms.host,
        "-" if settled is None else count_text("usd", settled),
        "-" if held is None else count_text("usd", held),
        "-" if rate is None else f"${rate:,.4f}",
    ]


def _when(instant: datetime | None, zone: ZoneInfo) -> str:
    return "-" if instant is None else f"{instant.astimezone(zone):%a %m-%d %H:%M}"


def _span(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} days"

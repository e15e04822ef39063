"""The status for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from budget_guard.guard.lease import count_text
from budget_guard.guard.status import BudgetState, ConnectionState, Status, StreamState
from budget_guard.money import size_text, usd_text


def render_status(status: Status, timezone: str, ledger: str) -> RenderableType:
    """Budgets with what is left, running connections, and each stream's window in local time; for 80 columns."""
    zone = ZoneInfo(timezone)
    parts: list[RenderableType] = [
        Text(f"{status.at_utc.astimezone(zone):%a %Y-%m-%d %H:%M:%S} {timezone}", style="bold"),
        Text(f"ledger: {ledger}", style="dim"),
        _budgets(status),
        *_remarks(status, zone),
        _streams(status, zone),
        *_slots(status),
        *_breakers(status, zone),
    ]
    if status.connections:
        parts.append(_connections(status, zone))
    else:
        parts.append(Text("No connection or request is running.", style="dim"))
    return Group(*parts)


def _budgets(status: Status) -> Table:
    table = _table("Budgets", ("budget", "period"), ("spent", "held", "left", "limit"), ("",))
    for budget in status.budgets:
        table.add_row(*_budget_cells(budget, status.exhaustion(budget)))
    return table


def _budget_cells(budget: BudgetState, lasts: timedelta | None) -> list[RenderableType]:
    unit = budget.key.unit
    left, limit = budget.available, budget.limit
    return [
        budget.key.budget,
        budget.key.period,
        _amount(unit, budget.settled),
        _amount(unit, budget.held) if budget.held else "-",
        "unlimited" if left is None else _amount(unit, left),
        "unlimited" if limit is None else _limit_text(unit, limit, budget.approved),
        _budget_note(budget, lasts),
    ]


def _budget_note(budget: BudgetState, lasts: timedelta | None) -> Text:
    if budget.frozen:
        return Text("frozen: over the limit", style="bold red")
    if lasts is not None:
        return Text(f"lasts {_span(lasts)}")
    share = 100 * (budget.settled + budget.held) // budget.limit if budget.limit else 0
    return Text(f"{share}%", style="dim")


def _limit_text(unit: str, limit: int, approved: int) -> str:
    """The policy's limit, and what is approved on top of it."""
    if not approved:
        return _amount(unit, limit)
    return f"{_amount(unit, limit - approved)} + {_amount(unit, approved)}"


def _remarks(status: Status, zone: ZoneInfo) -> Iterator[Text]:
    """What is approved, until when and by whom; what went past a limit, since when and by which hold."""
    approvals = dict.fromkeys(approval for budget in status.budgets for approval in budget.approvals)
    for approval in approvals:
        yield Text(
            f"approved: {approval.budget}, {_amount(approval.unit, approval.amount)} until "
            f"{_when(approval.until_utc, zone, year=True)}, by {approval.name}: {approval.reason}"
        )
    for budget in status.budgets:
        for overrun in budget.overruns:
            past, limit = (_amount(overrun.unit, count) for count in (overrun.past, overrun.limit_amount))
            note = f" ({overrun.note})" if overrun.note else ""
            yield Text(
                f"{'frozen' if budget.frozen else 'was past its limit'}: {overrun.budget} {overrun.period} since "
                f"{_when(overrun.at_utc, zone)}, {past} past {limit} by hold {overrun.hold_id}{note}",
                style="red" if budget.frozen else "",
            )
        if budget.frozen and not budget.overruns:
            yield Text(
                f"frozen: {budget.key.budget} {budget.key.period}: nothing on record went past it, so its limit was "
                "lowered, or an approval has ended",
                style="red",
            )


def _amount(unit: str, count: int) -> str:
    """Short enough for a column: connections are numbers, hours `1.5 h`."""
    text = count_text(unit, count)
    return (
        text.split(" ")[0] if unit == "connections" else text.replace(" hours", " h").replace(" hour", " h")
    )


def _table(
    title: str, texts: tuple[str, ...], figures: tuple[str, ...], notes: tuple[str, ...] = ()
) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    for name in notes:
        table.add_column(name, overflow="fold")
    return table


def _streams(status: Status, zone: ZoneInfo) -> Table:
    table = _table("Streams", ("stream", "window", "next opening"), ())
    for stream in status.streams:
        table.add_row(stream.name, _window_text(stream, zone), _when(stream.next_open_utc, zone))
    return table


def _slots(status: Status) -> Iterator[Text]:
    """A line for each dataset with connections open."""
    for slot in status.slots:
        if slot.taken:
            most = "" if slot.most is None else f", and the vendor allows {slot.most} at once"
            are = "connection is" if slot.taken == 1 else "connections are"
            yield Text(f"{slot.dataset}: {slot.taken} live {are} open{most}")


def _breakers(status: Status, zone: ZoneInfo) -> Iterator[Text]:
    """A line for each refusal of the vendor's that every program believes."""
    for breaker in status.breakers:
        yield Text(
            f"the vendor refuses {breaker.dataset or 'every dataset'} {breaker.mode} since "
            f"{_when(breaker.opened_utc, zone)} ({breaker.code}): {breaker.message}; it is asked again after "
            f"{_when(breaker.until_utc, zone)}, or once budget-guard access finds that it accepts",
            style="red",
        )


def _window_text(stream: StreamState, zone: ZoneInfo) -> Text:
    if stream.problem is not None:
        return Text(f"unknown: {stream.problem}", style="red")
    if not stream.open:
        return Text("closed", style="dim")
    until = "always" if stream.closes_utc is None else f"until {_when(stream.closes_utc, zone)}"
    return Text(f"open {until}", style="green")


def _connections(status: Status, zone: ZoneInfo) -> Table:
    table = _table("Running", ("stream", "what", "host", "since"), ("so far", "spent", "held", "per hour"))
    for connection in status.connections:
        table.add_row(*_connection_cells(connection, zone))
    return table


def _connection_cells(connection: ConnectionState, zone: ZoneInfo) -> list[RenderableType]:
    terms = connection.hold.terms
    settled, held, rate = connection.settled_nano_usd, connection.held_nano_usd, connection.usd_per_hour
    name = Text(terms.stream or "-")
    if connection.unproved is not None:
        name.append(" (nothing proves that it runs)", style="red")
    elif connection.silent is not None:
        name.append(f" (not heard of for {_span(connection.silent)})", style="red")
    return [
        name,
        f"{terms.mode} {terms.schema}",
        Text(terms.host),
        _when(terms.opened_utc, zone),
        "-" if connection.size_bytes is None else size_text(connection.size_bytes),
        "-" if settled is None else count_text("usd", settled),
        "-" if held is None else count_text("usd", held),
        "-" if rate is None else usd_text(rate),
    ]


def _when(instant: datetime | None, zone: ZoneInfo, *, year: bool = False) -> str:
    if instant is None:
        return "-"
    return instant.astimezone(zone).strftime("%a %Y-%m-%d %H:%M" if year else "%a %m-%d %H:%M")


def _span(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    if minutes < 1:
        return f"{int(span.total_seconds())} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} days"

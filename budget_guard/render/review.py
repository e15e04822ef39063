"""A review as a table for a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from rich import box
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from budget_guard.clock import instant_text
from budget_guard.ledger.amounts import amount_from_count
from budget_guard.ledger.model import Approval
from budget_guard.ledger.model import Overrun as Recorded
from budget_guard.money import GIB, usd_text
from budget_guard.render.sections import Section, markdown_section
from budget_guard.render.tables import UNKNOWN, markdown_list, nano_text, rounded
from budget_guard.reviewing.model import Group, Overrun, RefusedGroup, Review, Spent

_SPENT_HEAD = ("settled", "held", "assumed", "GiB", "uses")


def render_json(review: Review) -> str:
    """The stable JSON shape as text with a final newline."""
    return json.dumps(review.as_json(), indent=2) + "\n"


def render_review(review: Review) -> RenderableType:
    """The review for a terminal."""
    parts: list[RenderableType] = [
        Text(f"{review.policy}: review of {review.month} (account {review.account})", style="bold"),
        Text(f"as of {instant_text(review.generated_utc)}", style="dim"),
        "",
    ]
    for section in _sections(review):
        if section.title:
            parts.append(Text(section.title, style="bold"))
        parts += [_table(section), ""]
    parts += [Text(f"* {note}") for note in review.notes]
    return Lines(*parts)


def render_markdown(review: Review) -> str:
    """The review as a Markdown page."""
    lines = [
        f"# {review.policy}: review of {review.month}",
        "",
        f"Account {review.account}, as of {instant_text(review.generated_utc)}.",
        "",
    ]
    for section in _sections(review):
        lines += markdown_section(section)
    if review.notes:
        lines += ["## Notes", "", *markdown_list(review.notes), ""]
    return "\n".join(lines[:-1]) + "\n"


def _sections(review: Review) -> Iterator[Section]:
    """Every table that has something to say, in order."""
    yield Section("", ("total", "USD"), tuple(_total_rows(review)), range(1, 2))
    if review.spent.uses:
        yield _spent_section("by stream", ("stream",), review.by_stream)
        yield _spent_section("by day (UTC, of its start)", ("day",), review.by_day)
        yield _spent_section("by schema", ("dataset", "schema", "mode"), review.by_schema)
    if review.refusals:
        rows = tuple(_refused_cells(group) for group in review.refusals)
        yield Section("refused", ("reason", "stream", "times", "saved", "unpriced"), rows, range(2, 5))
    if review.overruns:
        rows = tuple(_overrun_cells(overrun) for overrun in review.overruns)
        yield Section("limits passed", ("budget", "limit", "settled", "held", "over"), rows, range(2, 5))
    causes = tuple(_cause_cells(cause) for overrun in review.overruns for cause in overrun.causes)
    if causes:
        yield Section("passed by (UTC)", ("at", "hold", "budget", "past", ""), causes, range(3, 4))
    if review.approvals:
        rows = tuple(_approval_cells(approval) for approval in review.approvals)
        head = ("budget", "approved", "from", "until", "by", "")
        yield Section("approvals (UTC)", head, rows, range(1, 2))
    if review.gaps:
        rows = tuple(
            (
                gap.stream,
                _time_text(gap.start_utc),
                _time_text(gap.end_utc),
                gap.mended or "open",
                gap.note,
            )
            for gap in review.gaps
        )
        yield Section("gaps (UTC)", ("stream", "from", "to", "mended", ""), rows, range(0))


def _total_rows(review: Review) -> Iterator[tuple[str, str]]:
    spent = review.spent
    yield "settled", nano_text(spent.settled_nano_usd)
    if spent.residual_nano_usd:
        yield "  of it assumed", nano_text(spent.residual_nano_usd)
    if spent.held_nano_usd:
        yield "held by what is running", nano_text(spent.held_nano_usd)
    for fee in review.fixed:
        amount = None if fee.fee_usd is None else fee.fee_usd + fee.license_usd
        yield f"{fee.plan} plan, {', '.join(fee.datasets)}", _amount(amount)
    if review.fixed:
        yield "settled and fixed", _amount(review.total_usd)
    against = review.against
    for name, figure in (
        ("planned (p50)", against.plan_usd),
        ("budget, for what is used", against.budget_usd),
        ("the vendor's record", against.vendor_usd),
    ):
        if figure is not None:
            yield name, _amount(figure)
    if review.refused:
        yield f"saved by {_times(review.refused, 'refusal')}", _saved(review)


def _saved(review: Review) -> str:
    if review.refused == review.refused_unpriced:
        return UNKNOWN
    return f"{'at least ' if review.refused_unpriced else ''}{_amount(review.saved_usd)}"


def _spent_section(title: str, names: Sequence[str], groups: Sequence[Group]) -> Section:
    rows = [(*(text or "-" for _, text in group.labels), *_spent_cells(group.spent)) for group in groups]
    head = (*names, *_SPENT_HEAD)
    return Section(title, head, tuple(rows), range(len(names), len(head)))


def _spent_cells(spent: Spent) -> tuple[str, ...]:
    return (
        nano_text(spent.settled_nano_usd),
        nano_text(spent.held_nano_usd) if spent.held_nano_usd else "",
        nano_text(spent.residual_nano_usd) if spent.residual_nano_usd else "",
        rounded(Fraction(spent.size_bytes, GIB)),
        str(spent.uses),
    )


def _refused_cells(group: RefusedGroup) -> tuple[str, ...]:
    known = group.count > group.unpriced
    return (
        group.code,
        group.stream or "-",
        str(group.count),
        nano_text(group.saved_nano_usd) if known else UNKNOWN,
        str(group.unpriced) if group.unpriced else "",
    )


def _overrun_cells(overrun: Overrun) -> tuple[str, ...]:
    amounts = (overrun.limit, overrun.settled, overrun.held, overrun.over)
    limit, settled, held, over = (_unit_text(amount, overrun.unit) for amount in amounts)
    if overrun.approved:
        limit = f"{limit} ({_unit_text(overrun.approved, overrun.unit)} of it approved)"
    since = overrun.period_start_utc.date()
    period = "in total" if overrun.period == "total" else f"a {overrun.period}, from {since}"
    return overrun.budget, f"{limit} {period}", settled, held, over


def _cause_cells(cause: Recorded) -> tuple[str, ...]:
    past = _unit_text(amount_from_count(cause.unit, cause.past), cause.unit)
    return _time_text(cause.at_utc), cause.hold_id, f"{cause.budget} {cause.period}", past, cause.note


def _approval_cells(approval: Approval) -> tuple[str, ...]:
    amount = _unit_text(amount_from_count(approval.unit, approval.amount), approval.unit)
    times = (_time_text(approval.from_utc), _time_text(approval.until_utc))
    return approval.budget, amount, *times, approval.name, approval.reason


def _unit_text(amount: Decimal, unit: str) -> str:
    if unit == "usd":
        return usd_text(amount)
    if unit == "connections":
        return rounded(Fraction(amount), 0)
    return f"{rounded(Fraction(amount))} {'GiB' if unit == 'gib' else 'h'}"


def _time_text(instant: datetime) -> str:
    """An instant for people, to the second; the column says that it is UTC."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _amount(amount: Decimal | None) -> str:
    return UNKNOWN if amount is None else usd_text(amount)


def _times(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _table(section: Section) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, title in enumerate(section.head):
        table.add_column(title, justify="right" if index in section.right else "left")
    for row in section.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table

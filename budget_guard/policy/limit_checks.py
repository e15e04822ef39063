"""Notes about limits: those that refuse everything, and those that another one never lets anybody reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from budget_guard.money import decimal_text
from budget_guard.policy.model import Budget, Limit, Match, PeriodName
from budget_guard.policy.problems import Problem
from budget_guard.policy.written import Written

# Each limit is compared with every other; beyond this many it would take longer than it is worth.
COMPARED_MAX = 300

# The shorter period first: how many of them can touch one of the longer. A UTC month touches 32 local days and six
# weeks; there is at most one session a day.
_TOUCHING: dict[tuple[PeriodName, PeriodName], int] = {
    ("day", "week"): 7,
    ("day", "month"): 32,
    ("week", "month"): 6,
    ("session", "week"): 8,
    ("session", "month"): 33,
}
_INSIDE: frozenset[tuple[PeriodName, PeriodName]] = frozenset(_TOUCHING) | {
    ("session", "total"),
    ("day", "total"),
    ("week", "total"),
    ("month", "total"),
}


@dataclass(frozen=True, slots=True)
class _Row:
    """One limit with an amount, where it stands, and what counts against it."""

    index: int
    inherited: bool
    budget: Budget
    limit: Limit
    amount: Decimal

    def text(self) -> str:
        return (
            f"{_amount_text(self.limit)} a {self.limit.period}"
            if self.limit.period != "total"
            else (f"{_amount_text(self.limit)} in total")
        )


def _amount_text(limit: Limit) -> str:
    """`200 USD`, `400 connections`; `unlimited`."""
    if limit.amount is None:
        return "unlimited"
    unit = {"usd": "USD", "gib": "GiB"}.get(limit.unit, limit.unit)
    if limit.amount == 1:
        unit = {"hours": "hour", "connections": "connection"}.get(unit, unit)
    return f"{decimal_text(limit.amount)} {unit}"


def _zero_limits(written: Written) -> Iterator[Problem]:
    for index, budget in written.own_budgets:
        for limit in budget.limits:
            if limit.amount == 0:
                place = written.place_of("budgets", index, limit.period, limit.unit)
                message = f"a limit of 0 refuses everything that budget '{budget.name}' matches"
                yield Problem(place, message, "note")


def _alerts_without_limit(written: Written) -> Iterator[Problem]:
    for index, budget in written.own_budgets:
        if budget.alerts and all(limit.amount is None for limit in budget.limits):
            message = f"these alerts never come: budget '{budget.name}' is unlimited, and they are shares of a limit"
            yield Problem(written.place_of("budgets", index, "alerts"), message, "note")


def _unreachable(written: Written) -> Iterator[Problem]:
    rows = [
        _Row(index, number < written.inherited, budget, limit, limit.amount)
        for number, (index, budget) in enumerate(written.budgets)
        for limit in budget.limits
        if limit.amount
    ]
    if len(rows) > COMPARED_MAX:
        return
    for number, row in enumerate(rows):
        if row.inherited:
            continue
        for other_number, other in enumerate(rows):
            why = _why_unreachable(row, other, equal_counts=other_number < number)
            if why is not None:
                place = written.place_of("budgets", row.index, row.limit.period, row.limit.unit)
                yield Problem(place, f"this limit of {row.text()} is never reached: {why}", "note")
                break


def _why_unreachable(row: _Row, other: _Row, *, equal_counts: bool) -> str | None:
    """Why `other` always ends first what counts against `row`; None if it need not.

    Two limits that are worth the same end together: then only the one that stands later is told of.
    """
    if (
        row is other
        or row.limit.unit != other.limit.unit
        or not _counts_all(other.budget.match, row.budget.match)
    ):
        return None
    if row.budget is not other.budget and row.budget.name == other.budget.name:
        return None  # two definitions of one budget are a problem of their own
    whose = "" if row.budget is other.budget else f" of budget '{other.budget.name}'"
    periods = (row.limit.period, other.limit.period)
    if periods[0] == periods[1] or periods in _INSIDE:
        if other.amount < row.amount or (other.amount == row.amount and (equal_counts or periods in _INSIDE)):
            return f"the {other.limit.period} limit{whose} of {_amount_text(other.limit)} ends it first"
        return None
    touching = _TOUCHING.get((periods[1], periods[0]))
    if touching is None or touching * other.amount > row.amount:
        return None
    most = decimal_text(touching * other.amount)
    return f"{touching} {other.limit.period}s at {_amount_text(other.limit)}{whose} come to {most}"


def _counts_all(wide: Match, narrow: Match) -> bool:
    """Whether all that counts against the narrow match counts against the wide one."""
    pairs = ((getattr(wide, key), getattr(narrow, key)) for key in ("stream", "dataset", "schema", "mode"))
    return all(not allowed or (asked and asked <= allowed) for allowed, asked in pairs)


LIMIT_RULES: tuple[Callable[[Written], Iterator[Problem]], ...] = (
    _zero_limits,
    _alerts_without_limit,
    _unreachable,
)

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


@dataclass(frozen=True, slots=True)
class _Row:
    """One limit with an amount, where it stands, and what counts against it."""

    index: int
    inherited: bool
    budget: Budget
    limit: Limit
    amount: Decimal

    def text(self) -> str:
        """`200 USD a month`."""
        period = self.limit.period
        return f"{_amount_text(self.limit)} {'in total' if period == 'total' else f'a {period}'}"

    def is_bounded_by(self, other: _Row) -> bool:
        """Whether all that counts against this limit counts, in the same unit and by the same clock, against another.

        Two definitions of one budget are a problem of their own.
        """
        by_day = {self.limit.period, other.limit.period} <= {"day", "week"}
        return (
            self.limit is not other.limit
            and self.limit.unit == other.limit.unit
            and (self.budget is other.budget or self.budget.name != other.budget.name)
            and _counts_all(other.budget.match, self.budget.match)
            and not (by_day and self.budget.timezone != other.budget.timezone)
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
        bounds = [other for other in enumerate(rows) if not row.inherited and row.is_bounded_by(other[1])]
        said = (_why_unreachable(row, other, stands_first=index < number) for index, other in bounds)
        why = next((text for text in said if text is not None), None)
        if why is not None:
            place = written.place_of("budgets", row.index, row.limit.period, row.limit.unit)
            yield Problem(place, f"this limit of {row.text()} is {why}", "note")


def _why_unreachable(row: _Row, other: _Row, *, stands_first: bool) -> str | None:
    """Why `other`, which counts all that `row` does, ends it first; None if it need not.

    Of two equal limits of one period only the one that stands later is told of.
    """
    period, longer = row.limit.period, other.limit.period
    whose = "" if row.budget is other.budget else f" of budget '{other.budget.name}'"
    ends = f"the {longer} limit{whose} of {_amount_text(other.limit)} ends it first"
    if period == longer:
        smaller = other.amount < row.amount or (other.amount == row.amount and stands_first)
        return f"never reached: {ends}" if smaller else None
    if longer == "total" or (period, longer) in _TOUCHING:
        if other.amount > row.amount:
            return None
        # Where a session or a day can lie in two of the longer periods, it has the limits of both.
        inside = longer == "total" or (period, longer) == ("day", "week")
        return f"never reached: {ends}" if inside else f"not reached within one {longer}: {ends}"
    touching = _TOUCHING.get((longer, period))
    if touching is None or touching * other.amount > row.amount:
        return None
    most = decimal_text(touching * other.amount)
    return f"never reached: {touching} {longer}s at {_amount_text(other.limit)}{whose} come to {most}"


def _counts_all(wide: Match, narrow: Match) -> bool:
    """Whether all that counts against the narrow match counts against the wide one."""
    pairs = ((getattr(wide, key), getattr(narrow, key)) for key in ("stream", "dataset", "schema", "mode"))
    return all(not allowed or (asked and asked <= allowed) for allowed, asked in pairs)


LIMIT_RULES: tuple[Callable[[Written], Iterator[Problem]], ...] = (
    _zero_limits,
    _alerts_without_limit,
    _unreachable,
)

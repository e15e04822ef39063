"""The limits that a month went past: what settlements recorded, and what the balances say, as one list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from budget_guard.guard.periods import period_bounds
from budget_guard.ledger.amounts import amount_from_count, count_from_amount
from budget_guard.ledger.model import Approval, Balance, BalanceKey
from budget_guard.ledger.model import Overrun as Recorded
from budget_guard.policy.model import Budget, Limit, PeriodName, Policy
from budget_guard.reviewing.model import Overrun

# A policy's limits with their budgets, by budget, period and unit.
_Limits = Mapping[tuple[str, str, str], tuple[Budget, Limit]]


def find_overruns(
    policy: Policy,
    balances: Mapping[BalanceKey, Balance],
    approvals: Sequence[Approval],
    recorded: Iterable[Recorded],
    *,
    since_utc: datetime,
) -> tuple[Overrun, ...]:
    """Each balance that passed its limit once, in the order in which the periods began.

    A balance passed it when a settlement recorded so, or when it is above the limit with the most that was approved
    at any one time of its period: what was spent under an approval is none, though that has ended since.
    `recorded` are those of the periods in question, also of budgets that this policy does not have; what was
    recorded before `since_utc` counts only while the balance is still above its limit.
    """
    limits: _Limits = {
        (budget.name, limit.period, limit.unit): (budget, limit)
        for budget in policy.budgets
        for limit in budget.limits
    }
    causes: dict[BalanceKey, list[Recorded]] = {}
    for overrun in recorded:
        causes.setdefault(overrun.key, []).append(overrun)
    keys = sorted({*balances, *causes}, key=lambda key: (key.period_start_utc, key))
    found = (
        _overrun(key, limits, balances.get(key, Balance()), approvals, tuple(causes.get(key, ())), since_utc)
        for key in keys
    )
    return tuple(overrun for overrun in found if overrun is not None)


def _overrun(
    key: BalanceKey,
    limits: _Limits,
    balance: Balance,
    approvals: Sequence[Approval],
    causes: tuple[Recorded, ...],
    since_utc: datetime,
) -> Overrun | None:
    known = limits.get((key.budget, key.period, key.unit))
    written = None if known is None or known[1].amount is None else known[1].amount
    if written is None:
        if not causes:
            return None
        # Another policy's limit, or one that is gone by now: as it was then.
        limit, approved = causes[-1].limit_amount, 0
        amount = amount_from_count(key.unit, limit)
    else:
        assert known is not None
        approved = most_approved(approvals, key, _period_end(key, known[0]))
        limit = count_from_amount(key.unit, written) + approved
        amount = written + amount_from_count(key.unit, approved)
    over = balance.settled + balance.held - limit
    if over <= 0:
        causes = tuple(cause for cause in causes if cause.at_utc >= since_utc)
        over = sum(cause.past for cause in causes)
        if not causes:
            return None
    return Overrun(
        key.budget,
        key.period,
        key.period_start_utc,
        key.unit,
        amount,
        amount_from_count(key.unit, balance.settled),
        amount_from_count(key.unit, balance.held),
        amount_from_count(key.unit, over),
        amount_from_count(key.unit, approved),
        causes,
    )


def most_approved(approvals: Sequence[Approval], key: BalanceKey, end_utc: datetime) -> int:
    """The most that was approved for a balance at any one time of its period."""
    own = [approval for approval in approvals if (approval.budget, approval.unit) == (key.budget, key.unit)]
    return max(_sums(own, key.period_start_utc, end_utc), default=0)


def _sums(approvals: Sequence[Approval], start_utc: datetime, end_utc: datetime) -> Iterator[int]:
    """What was approved in all at each instant of a period at which more came into force."""
    for approval in approvals:
        at = max(approval.from_utc, start_utc)
        if at < min(approval.until_utc, end_utc):
            yield sum(other.amount for other in approvals if other.from_utc <= at < other.until_utc)


def _period_end(key: BalanceKey, budget: Budget) -> datetime:
    """When a balance's period ended; of a session, which only its calendar knows, no later than a day on."""
    period: PeriodName
    for period in ("total", "month", "week", "day"):
        if key.period == period:
            return period_bounds(period, key.period_start_utc, budget.timezone, None).end_utc
    return key.period_start_utc + timedelta(days=1)

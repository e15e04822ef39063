"""The period that an instant belongs to, and the balances that spending at that instant counts against."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import cast
from zoneinfo import ZoneInfo

from budget_guard.clock import EPOCH, month_bounds, month_of
from budget_guard.ledger.amounts import amount_from_count, count_from_amount
from budget_guard.ledger.model import Approval, BalanceKey
from budget_guard.markets.model import Interval
from budget_guard.policy.model import Budget, Limit, PeriodName, Unit

FOREVER = datetime(9999, 12, 31, tzinfo=UTC)

# What people have approved on top of limits, at the moment of the call: see `with_approvals`.
Approve = Callable[[tuple["BudgetLimit", ...]], tuple["BudgetLimit", ...]]

# The exchange session that an instant belongs to, as a half-open interval.
SessionAt = Callable[[datetime], Interval]


@dataclass(frozen=True, slots=True)
class BudgetLimit:
    """One limit of one budget, as the ledger counts it. `limit` None is unlimited.

    `written` is the amount that the policy says: 0.01 GiB is no whole number of bytes. `approved` is how much of
    `limit` was added by approvals that are in force.
    """

    key: BalanceKey
    limit: int | None
    period_end_utc: datetime
    written: Decimal | None = None
    approved: int = 0

    @property
    def amount(self) -> Decimal | None:
        """The limit in the unit that people write."""
        if self.limit is None or self.written is not None:
            return self.written
        return amount_from_count(self.unit, self.limit)

    @property
    def unit(self) -> Unit:
        # Keys are made below, from a Limit's own unit.
        return cast(Unit, self.key.unit)


def period_bounds(period: PeriodName, at: datetime, timezone: str, session_at: SessionAt | None) -> Interval:
    """The period around an instant: months in UTC, days and ISO weeks in `timezone`, sessions by the exchange.

    Raises ValueError for a session without a market to ask.
    """
    if period == "total":
        return Interval(EPOCH, FOREVER)
    if period == "month":
        return Interval(*month_bounds(month_of(at)))
    if period == "session":
        if session_at is None:
            raise ValueError("a session limit needs a market")
        return session_at(at)
    zone = ZoneInfo(timezone)
    first = at.astimezone(zone).date()
    days = 1
    if period == "week":
        first -= timedelta(days=first.weekday())
        days = 7
    last = first + timedelta(days=days)
    midnights = (datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC) for day in (first, last))
    return Interval(*midnights)


def budget_limits(
    account: str, budgets: tuple[Budget, ...], at: datetime, session_at: SessionAt | None
) -> tuple[BudgetLimit, ...]:
    """Every limit of the budgets with the balance it counts against at an instant, in file order."""
    return tuple(
        limit_at(account, budget, limit, at, session_at) for budget in budgets for limit in budget.limits
    )


class LimitsInPeriod:
    """The limits that one kind of spending counts against, worked out once for as long as no period of theirs ends.

    Safe to use from several threads.
    """

    def __init__(self, account: str, budgets: tuple[Budget, ...], session_at: SessionAt | None) -> None:
        self._account = account
        self._budgets = budgets
        self._session_at = session_at
        self._known: tuple[Interval, tuple[BudgetLimit, ...]] | None = None

    def at(self, at: datetime) -> tuple[BudgetLimit, ...]:
        """Every limit with the balance it counts against at an instant, in file order."""
        known = self._known
        if known is None or at not in known[0]:
            limits = budget_limits(self._account, self._budgets, at, self._session_at)
            known = self._known = (_shared_span(limits), limits)
        return known[1]


def _shared_span(limits: tuple[BudgetLimit, ...]) -> Interval:
    """When all of these limits count against these balances."""
    return Interval(
        max((limit.key.period_start_utc for limit in limits), default=EPOCH),
        min((limit.period_end_utc for limit in limits), default=FOREVER),
    )


def limit_at(
    account: str, budget: Budget, limit: Limit, at: datetime, session_at: SessionAt | None
) -> BudgetLimit:
    """One limit with the balance it counts against at an instant."""
    bounds = period_bounds(limit.period, at, budget.timezone, session_at)
    key = BalanceKey(account, budget.name, limit.period, bounds.start_utc, limit.unit)
    amount = None if limit.amount is None else count_from_amount(limit.unit, limit.amount)
    return BudgetLimit(key, amount, bounds.end_utc, limit.amount)


def with_approvals(
    limits: tuple[BudgetLimit, ...], approvals: Iterable[Approval], at: datetime
) -> tuple[BudgetLimit, ...]:
    """The limits with what is approved for their budgets, in their unit, at an instant; unlimited ones stay so."""
    added: dict[tuple[str, str], int] = {}
    for approval in approvals:
        if approval.from_utc <= at < approval.until_utc:
            place = (approval.budget, approval.unit)
            added[place] = added.get(place, 0) + approval.amount
    if not added:
        return limits
    return tuple(_raised(limit, added.get((limit.key.budget, limit.unit), 0)) for limit in limits)


def _raised(limit: BudgetLimit, more: int) -> BudgetLimit:
    if limit.limit is None or more == 0:
        return limit
    written = None if limit.written is None else limit.written + amount_from_count(limit.unit, more)
    return replace(limit, limit=limit.limit + more, written=written, approved=limit.approved + more)

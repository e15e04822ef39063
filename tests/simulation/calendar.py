"""The auditor's own idea of periods and limits: short, slow and written apart from the guard's."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_DOWN, Decimal
from zoneinfo import ZoneInfo

from budget_guard.policy.model import Budget
from tests.simulation.books import Key
from tests.simulation.schedule import Setting

SESSION_HOUR = 22  # sessions follow each other at this hour, UTC
_SCALES = {"usd": 10**9, "gib": 2**30, "hours": 3_600_000, "connections": 1}


def micros(instant: datetime) -> int:
    gone = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (gone.days * 86_400 + gone.seconds) * 1_000_000 + gone.microseconds


def instant(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def session_start(at: datetime) -> datetime:
    start = datetime.combine(at.date(), time(SESSION_HOUR), UTC)
    return start if start <= at else start - timedelta(days=1)


def period_start(period: str, zone: str, at: datetime) -> datetime:
    if period == "total":
        return datetime(1970, 1, 1, tzinfo=UTC)
    if period == "month":
        return datetime(at.year, at.month, 1, tzinfo=UTC)
    if period == "session":
        return session_start(at)
    day = at.astimezone(ZoneInfo(zone)).date()
    if period == "week":
        while day.isoweekday() != 1:
            day -= timedelta(days=1)
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)


def matching(setting: Setting, policy: str, stream: str, mode: str) -> list[Budget]:
    """The budgets that spending counts against."""
    found = []
    owner = next(each for each in setting.policies if each.name == policy)
    what = owner.streams[stream]
    for budget in owner.budgets:
        wanted = (
            (budget.match.stream, stream),
            (budget.match.dataset, what.dataset),
            (budget.match.schema, what.schema),
            (budget.match.mode, mode),
        )
        if all(not names or name in names for names, name in wanted):
            found.append(budget)
    return found


def keys_at(setting: Setting, policy: str, stream: str, mode: str, at: datetime) -> set[Key]:
    """The balances that a hold opened at an instant has to claim."""
    return {
        (budget.name, limit.period, micros(period_start(limit.period, budget.timezone, at)), limit.unit)
        for budget in matching(setting, policy, stream, mode)
        for limit in budget.limits
    }


def limit_of(setting: Setting, key: Key) -> int | None:
    """A limit as an integer of its unit, cut down; None without one."""
    budget, period, _, unit = key
    for limit in setting.budgets[budget].limits:
        if (limit.period, limit.unit) == (period, unit):
            if limit.amount is None:
                return None
            return int((limit.amount * _SCALES[unit]).quantize(Decimal(1), ROUND_DOWN))
    raise AssertionError(f"no such limit: {key}")

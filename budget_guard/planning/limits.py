"""A plan against its budgets. Pure.

A month's use is compared with month limits (and, as a lower bound of it, with total limits); session, day and week
limits with the largest session, day or week of the month. A window counts on the day on which it closes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from budget_guard.markets.model import Window
from budget_guard.money import GIB
from budget_guard.planning.fixed import fixed_total_usd, lines_within
from budget_guard.planning.model import (
    FixedLine,
    LimitRow,
    Quantiles,
    StreamPlan,
    Unknown,
    Verdict,
    window_hours,
)
from budget_guard.policy.model import Budget, Limit, PeriodName, Policy, Unit

_ZERO = Quantiles(Fraction(0), Fraction(0))
_AT_P90, _AT_P50, _NOT_AT_P50, _UNLIMITED = Decimal("0.9"), Decimal("0.5"), Decimal(0), Decimal(1)
# The limits that a plan is judged by. What one session or day may use is a brake, not a bill.
_JUDGED: frozenset[PeriodName] = frozenset({"month", "total"})

Use = tuple[Window, Quantiles]


def limit_rows(
    policy: Policy, streams: Sequence[StreamPlan], fixed: Sequence[FixedLine]
) -> tuple[LimitRow, ...]:
    """One row per limit, in file order."""
    return tuple(
        _row(policy, budget, limit, streams, fixed) for budget in policy.budgets for limit in budget.limits
    )


def _row(
    policy: Policy,
    budget: Budget,
    limit: Limit,
    streams: Sequence[StreamPlan],
    fixed: Sequence[FixedLine],
) -> LimitRow:
    matched = [
        stream
        for stream in streams
        if budget.match.covers(
            stream=stream.name, dataset=stream.dataset, schema=stream.schema, mode=stream.mode
        )
    ]
    unknown = [reason for stream in matched for reason in _why_unknown(stream, limit.unit)]
    used: Quantiles | None = None
    if not unknown:
        uses = [use for stream in matched for use in _uses(stream, limit.unit)]
        used = _largest(uses, _group_of(limit.period, budget.timezone))
        if limit.unit == "usd" and limit.period in _JUDGED:
            fees = fixed_total_usd(lines_within(budget, fixed, policy.streams.values()))
            if fees is None:
                used = None
                unknown = [Unknown("price_unknown", "a plan's fee is not known")]
            else:
                used = Quantiles(used.p50 + Fraction(fees), used.p90 + Fraction(fees))
    p_within = _UNLIMITED if limit.amount is None else None
    if limit.amount is not None and used is not None:
        p_within = p_within_limit(used, limit.amount)
    return LimitRow(
        budget.name, limit.period, limit.unit, limit.amount, used, p_within, tuple(dict.fromkeys(unknown))
    )


def p_within_limit(used: Quantiles, limit: Decimal) -> Decimal:
    """A lower bound of the probability that a use stays within a limit: 0.9, 0.5 or 0."""
    amount = Fraction(limit)
    if used.p90 <= amount:
        return _AT_P90
    return _AT_P50 if used.p50 <= amount else _NOT_AT_P50


def _why_unknown(stream: StreamPlan, unit: Unit) -> tuple[Unknown, ...]:
    if unit == "usd":
        missing = stream.cost is None
    elif unit == "gib":
        missing = stream.forecast is None
    else:
        missing = stream.windows is None
    return stream.unknown if missing else ()


def _uses(stream: StreamPlan, unit: Unit) -> list[Use]:
    """What each window uses, in a unit. One connection per window is the least there can be."""
    if unit in ("hours", "connections"):
        windows = stream.windows or ()
        return [
            (window, _both(window_hours(window) if unit == "hours" else Fraction(1))) for window in windows
        ]
    if stream.forecast is None:
        return []
    factor = Fraction(1, GIB)
    billed = stream.forecast.windows
    if unit == "usd":
        assert stream.price is not None
        factor *= Fraction(stream.price.usd_per_gib)
        billed = tuple(sized for sized in billed if not sized.included)
    return [
        (sized.window, Quantiles(sized.size_bytes.p50 * factor, sized.size_bytes.p90 * factor))
        for sized in billed
    ]


def _both(amount: Fraction) -> Quantiles:
    return Quantiles(amount, amount)


def _group_of(period: PeriodName, timezone: str) -> Callable[[Window], Hashable]:
    zone = ZoneInfo(timezone)

    def closing_day(window: Window) -> Hashable:
        return (window.close_utc - timedelta(microseconds=1)).astimezone(zone).date()

    def closing_week(window: Window) -> Hashable:
        return (window.close_utc - timedelta(microseconds=1)).astimezone(zone).isocalendar()[:2]

    if period == "session":
        return lambda window: window.session
    if period == "day":
        return closing_day
    return closing_week if period == "week" else lambda window: None


def _largest(uses: Iterable[Use], group_of: Callable[[Window], Hashable]) -> Quantiles:
    groups: dict[Hashable, Quantiles] = defaultdict(lambda: _ZERO)
    for window, used in uses:
        group = group_of(window)
        sum_so_far = groups[group]
        groups[group] = Quantiles(sum_so_far.p50 + used.p50, sum_so_far.p90 + used.p90)
    return Quantiles(
        max((used.p50 for used in groups.values()), default=Fraction(0)),
        max((used.p90 for used in groups.values()), default=Fraction(0)),
    )


def verdict_of(total_known: bool, rows: Iterable[LimitRow]) -> Verdict:
    """`unknown` if the total or a judged limit is, `over` if one is exceeded at p50, `tight` at p90, else `fits`."""
    judged = [row for row in rows if row.period in _JUDGED]
    if not total_known or any(row.p_within is None for row in judged):
        return "unknown"
    least = min((row.p_within for row in judged if row.p_within is not None), default=_UNLIMITED)
    if least < _AT_P50:
        return "over"
    return "tight" if least < _AT_P90 else "fits"


def braking(rows: Iterable[LimitRow]) -> list[LimitRow]:
    """Session, day and week limits that will cut a stream at p50: the plan may fit, but not run as planned."""
    return [row for row in rows if row.period not in _JUDGED and row.p_within == _NOT_AT_P50]

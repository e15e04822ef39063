"""A plan as values. Sizes are exact fractions of bytes, money is integer nano-dollars, None is unknown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from budget_guard.decisions import Code
from budget_guard.markets.model import Window
from budget_guard.policy.model import Mode, PeriodName, Unit
from budget_guard.pricing.model import UnitPrice

Verdict = Literal["fits", "tight", "over", "unknown"]
Grade = Literal["user", "sampled", "profile", "arithmetic"]
Way = Literal["regular_hours", "next_day_historical", "cheaper_schema"]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why a figure is not known, and what would make it known."""

    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class Quantiles:
    """What is reached in half of all cases, and in nine of ten."""

    p50: Fraction
    p90: Fraction


@dataclass(frozen=True, slots=True)
class SizedWindow:
    """A window and the bytes that it is expected to carry."""

    window: Window
    size_bytes: Quantiles


def window_hours(window: Window) -> Fraction:
    """A window's length in hours, exactly."""
    return Fraction((window.close_utc - window.open_utc) // timedelta(microseconds=1), 3_600_000_000)


@dataclass(frozen=True, slots=True)
class Forecast:
    """A month's windows with their sizes. `source` is a sentence for people."""

    windows: tuple[SizedWindow, ...]
    grade: Grade
    source: str
    notes: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> Quantiles:
        """The month: the sums of the windows' quantiles, which overstates the spread of the sum."""
        return Quantiles(
            sum((sized.size_bytes.p50 for sized in self.windows), Fraction(0)),
            sum((sized.size_bytes.p90 for sized in self.windows), Fraction(0)),
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """Nano-dollars in half of all cases, and in nine of ten."""

    p50: int
    p90: int


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """One stream's month. `windows`, `forecast`, `price` and `cost` are None where unknown; `unknown` says why."""

    name: str
    dataset: str
    schema: str
    mode: Mode
    windows: tuple[Window, ...] | None
    forecast: Forecast | None
    price: UnitPrice | None
    cost: Cost | None
    unknown: tuple[Unknown, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FixedLine:
    """A plan's monthly fee and the licences on top of it. `fee_usd` None is unknown."""

    datasets: tuple[str, ...]
    plan: str
    fee_usd: Decimal | None
    license_usd: Decimal
    source: str


@dataclass(frozen=True, slots=True)
class LimitRow:
    """One limit against the plan. `used` is the month, or the largest session, day or week, in the limit's unit."""

    budget: str
    period: PeriodName
    unit: Unit
    limit: Decimal | None  # None was written `unlimited`
    used: Quantiles | None
    p_within: Decimal | None  # a lower bound
    unknown: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class WayDown:
    """Another way to have a stream's data, and what it costs instead."""

    stream: str
    way: Way
    text: str
    size_bytes: Quantiles
    price: UnitPrice
    cost: Cost
    saves: Cost
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A billing month before it is spent."""

    policy: str
    month: str
    generated_utc: datetime
    source: str
    timezone: str
    streams: tuple[StreamPlan, ...]
    fixed: tuple[FixedLine, ...]
    fixed_usd: Decimal | None
    total: Cost | None  # fixed and streams, nano-dollars
    budgets: tuple[LimitRow, ...]
    verdict: Verdict
    ways_down: tuple[WayDown, ...] = ()
    notes: tuple[str, ...] = ()

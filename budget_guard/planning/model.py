"""A plan as values. Sizes are exact fractions of bytes, money is integer nano-dollars, None is unknown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from budget_guard.decisions import Code
from budget_guard.markets.model import Window
from budget_guard.policy.model import Mode, PeriodName, Unit
from budget_guard.pricing.model import UnitPrice as UnitPrice  # part of what a report says

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
    """A window and the bytes that it is expected to carry; `included`: in a plan, at no further cost."""

    window: Window
    size_bytes: Quantiles
    included: bool = False


def window_hours(window: Window) -> Fraction:
    """A window's length in hours, exactly."""
    return Fraction((window.close_utc - window.open_utc) // timedelta(microseconds=1), 3_600_000_000)


@dataclass(frozen=True, slots=True)
class Forecast:
    """A month's windows with their sizes. `source` is a sentence for people, `asked_utc` the vendor's oldest answer."""

    windows: tuple[SizedWindow, ...]
    grade: Grade
    source: str
    notes: tuple[str, ...] = ()
    asked_utc: datetime | None = None

    @property
    def size_bytes(self) -> Quantiles:
        """The month: the sums of the windows' quantiles, which overstates the spread of the sum."""
        return _sum(self.windows)

    @property
    def billed_bytes(self) -> Quantiles:
        """The same without the windows that a plan includes."""
        return _sum(sized for sized in self.windows if not sized.included)


def _sum(windows: Iterable[SizedWindow]) -> Quantiles:
    p50 = p90 = Fraction(0)
    for sized in windows:
        p50 += sized.size_bytes.p50
        p90 += sized.size_bytes.p90
    return Quantiles(p50, p90)


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


@dataclass(frozen=True, slots=True)
class PriceRow:
    """The price of one schema in one mode: what applies, and what it won over. None is unknown; `unknown` says why.

    From `included_from_utc` on, a plan of the account includes the history at no further cost. `used_by` are streams.
    """

    dataset: str
    schema: str
    mode: Mode
    price: UnitPrice | None
    lost: tuple[UnitPrice, ...]
    included_from_utc: datetime | None = None
    used_by: tuple[str, ...] = ()
    unknown: Unknown | None = None


@dataclass(frozen=True, slots=True)
class ReachRow:
    """How far back a plan includes some schemas, in the vendor's words and as an instant."""

    level: str
    schemas: tuple[str, ...]
    text: str
    from_utc: datetime


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """One plan: its fee on a day, what it includes, and licences. `license_usd` None: the policy does not use it."""

    datasets: tuple[str, ...]
    plan: str
    fee_usd: Decimal | None
    fee_since: date | None
    license_usd: Decimal | None
    history: tuple[ReachRow, ...]
    source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PriceReport:
    """Every price of a policy, or of everything that is known; `policy` None is the latter."""

    policy: str | None
    at_utc: datetime
    source: str
    rows: tuple[PriceRow, ...]
    plans: tuple[PlanTerms, ...]
    notes: tuple[str, ...] = ()


AccessState = Literal["granted", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class AccessProblem:
    """Why something may not be used, or could not be found out. `code` is a reason's, or `vendor_unavailable`."""

    code: str
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class SchemaRange:
    """What may be bought of a schema's history, half-open."""

    schema: str
    start_utc: datetime
    end_utc: datetime


@dataclass(frozen=True, slots=True)
class AccessStep:
    """Something to do about an access, or to know; what it costs by the month, where it costs and is known."""

    text: str
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class DatasetAccess:
    """What a key may use of one dataset, and which streams of the policy need it."""

    dataset: str
    needs_live: tuple[str, ...]
    needs_history: tuple[str, ...]
    history: AccessState
    ranges: tuple[SchemaRange, ...]
    history_problem: AccessProblem | None
    live: AccessState
    live_problem: AccessProblem | None
    billing: str | None  # as the policy says: metered, flat, none; None without a policy
    plan: str | None
    steps: tuple[AccessStep, ...] = ()


AccessVerdict = Literal["granted", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class AccessReport:
    """What a key may use, next to what a policy needs. `policy` None: nothing is needed, everything is shown."""

    policy: str | None
    at_utc: datetime
    source: str
    datasets: tuple[DatasetAccess, ...]
    verdict: AccessVerdict
    notes: tuple[str, ...] = ()

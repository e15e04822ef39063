"""A vendor and policies for planning tests: no network, every request written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from budget_guard.errors import VendorError
from budget_guard.money import GIB
from budget_guard.planning.asking import AvailableRange
from budget_guard.policy.model import (
    Account,
    Budget,
    Limit,
    LiveBilling,
    Match,
    PeriodName,
    Policy,
    SessionClause,
    Stream,
    Unit,
)
from budget_guard.pricing.model import DataRange
from budget_guard.vendor.answers import DatasetRange

GLBX = "GLBX.MDP3"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

# The regular sessions of NQ in November 2026 at a price of the sheet: what most tests plan.
REGULAR = SessionClause("regular")
FULL = SessionClause("full")


def stream(name: str = "nq-mbo", **changes: object) -> Stream:
    terms: dict[str, object] = {
        "name": name,
        "dataset": GLBX,
        "schema": "mbo",
        "symbols": ("NQ.v.0",),
        "stype_in": "continuous",
        "windows": (REGULAR,),
    }
    return Stream(**{**terms, **changes})  # type: ignore[arg-type]


def limit(amount: str | None, period: PeriodName = "month", unit: Unit = "usd") -> Limit:
    return Limit(period, unit, None if amount is None else Decimal(amount))


def budget(
    *limits: Limit, name: str = "account", match: Match | None = None, timezone: str = "UTC"
) -> Budget:
    return Budget(name, limits, match or Match(), (), timezone)


def policy(
    *streams: Stream,
    budgets: Sequence[Budget] = (),
    billing: Mapping[str, LiveBilling] | None = None,
    prices: Mapping[tuple[str, str, str], Decimal] | None = None,
) -> Policy:
    account = Account("desk", billing or {}, prices or {})  # type: ignore[arg-type]
    return Policy(
        "test",
        "America/New_York",
        account,
        tuple(budgets) or (budget(limit("200")),),
        {one.name: one for one in streams},
    )


def always_gib(data_range: DataRange) -> int:
    return GIB


@dataclass
class FakeVendor:
    """A vendor whose sizes are a function of the range; `refusals` maps a call to the error it raises."""

    size_of: Callable[[DataRange], int] = always_gib
    prices: Mapping[str, Mapping[str, Decimal]] = field(default_factory=dict)
    start_utc: datetime = datetime(2010, 6, 6, tzinfo=UTC)
    end_utc: datetime = NOW
    refusals: dict[str, VendorError] = field(default_factory=dict)
    sized: list[DataRange] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    gateway: str = "http://127.0.0.1:1"
    asked_utc: datetime | None = None

    def fetch_unit_prices(self, dataset: str) -> Mapping[str, Mapping[str, Decimal]]:
        self._call("fetch_unit_prices")
        return self.prices

    def unit_prices_read_utc(self, dataset: str) -> datetime | None:
        return self.asked_utc

    def size_asked_utc(self, data_range: DataRange) -> datetime | None:
        return self.asked_utc

    def fetch_dataset_range(self, dataset: str) -> AvailableRange:
        self._call("fetch_dataset_range")
        return DatasetRange(self.start_utc, self.end_utc)

    def fetch_billable_sizes(
        self, ranges: Sequence[DataRange], progress: Callable[[], None] | None = None
    ) -> list[int]:
        self._call("fetch_billable_sizes")
        self.sized += ranges
        for _ in ranges:
            if progress is not None:
                progress()
        return [self.size_of(one) for one in ranges]

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.refusals:
            raise self.refusals[name]

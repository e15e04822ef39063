"""Policies, windows and ledgers that the guard's tests are written with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from budget_guard.clock import ManualClock
from budget_guard.errors import CalendarUnknown
from budget_guard.guard.guard import Guard
from budget_guard.guard.periods import BudgetLimit
from budget_guard.guard.request import Request, whole_stream
from budget_guard.ledger.model import BalanceKey, Ledger
from budget_guard.markets.model import Interval
from budget_guard.policy.model import (
    Account,
    Budget,
    HistoricalRules,
    Limit,
    LiveBilling,
    Match,
    Mode,
    PeriodName,
    Policy,
    Stream,
    Unit,
)
from budget_guard.pricing.model import DataRange, UnitPrice

NOW = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
MONTH_START = datetime(2026, 11, 1, tzinfo=UTC)
MONTH_END = datetime(2026, 12, 1, tzinfo=UTC)
PRICE = Decimal("2.16")
OPEN = Interval(NOW - timedelta(hours=1), NOW + timedelta(hours=5))
KNOWN = Interval(NOW - timedelta(days=40), NOW + timedelta(days=40))
SESSION = Interval(NOW - timedelta(hours=16), NOW + timedelta(hours=8))
# What a connection keeps free for its ending in these tests.
ALLOWANCE = 512 * 1024

STREAM = Stream("nq-mbo", "GLBX.MDP3", "mbo", ("NQ.v.0", "ES.v.0"), "continuous")
LIVE = whole_stream(STREAM)
HISTORY = replace(LIVE, mode="historical")


def limit(period: PeriodName, unit: Unit, amount: int | str | None) -> Limit:
    return Limit(period, unit, None if amount is None else Decimal(amount))


def budget(name: str, *limits: Limit, match: Match | None = None, timezone: str = "UTC") -> Budget:
    return Budget(name, limits, match or Match(), timezone=timezone)


ACCOUNT = budget("account", limit("month", "usd", 200))


def policy(*budgets: Budget, streams: tuple[Stream, ...] = (STREAM,), **changes: object) -> Policy:
    """A policy of one account, `desk`; without budgets it has 200 USD a month."""
    made = Policy(
        "nq-futures",
        "America/New_York",
        Account("desk"),
        budgets or (ACCOUNT,),
        {stream.name: stream for stream in streams},
        HistoricalRules(),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def not_bought_live() -> Account:
    return Account("desk", billing={"GLBX.MDP3": LiveBilling("none")})


def counted(
    unit: Unit, amount: int | None, name: str = "account", period: PeriodName = "month"
) -> BudgetLimit:
    """A limit as the ledger counts it: `amount` in nano-USD, bytes, milliseconds or connections."""
    return BudgetLimit(BalanceKey("desk", name, period, MONTH_START, unit), amount, MONTH_END)


def data_range(schema: str = "mbo") -> DataRange:
    start = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
    return DataRange("GLBX.MDP3", schema, ("NQ.v.0",), "continuous", start, start + timedelta(hours=1))


@dataclass(slots=True)
class OneWindow:
    """Windows of which one is known; outside `known` nothing is."""

    window: Interval = OPEN
    known: Interval = KNOWN
    session: Interval = SESSION

    def covering(self, at: datetime) -> Interval | None:
        self._require_known(at)
        return self.window if at in self.window else None

    def next_open(self, at: datetime) -> datetime | None:
        self._require_known(at)
        return self.window.start_utc if at < self.window.start_utc else None

    def session_interval(self, at: datetime) -> Interval:
        self._require_known(at)
        return self.session

    def _require_known(self, at: datetime) -> None:
        if at not in self.known:
            raise CalendarUnknown(f"nobody has checked the calendar for {at}")


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by mode; what is not in it is unknown."""

    usd: Mapping[str, Decimal | None] = field(
        default_factory=lambda: {"live": PRICE, "historical": Decimal("1.80")}
    )

    def price(self, dataset: str, schema: str, mode: Mode) -> UnitPrice | None:
        found = self.usd.get(mode)
        return None if found is None else UnitPrice(found, "vendor", "the account's list")

    def price_whole(self, data_range: DataRange, at: datetime) -> UnitPrice | None:
        return self.price(data_range.dataset, data_range.schema, "historical")


@dataclass(slots=True)
class Desk:
    """A guard over a ledger, with everything around it in the test's hand."""

    ledger: Ledger
    meter_dir: Path
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    windows: Callable[[Stream], OneWindow] = lambda _: OneWindow()
    prices: PriceTable = PriceTable()

    def guard(self, guarded: Policy | None = None) -> Guard:
        return Guard(
            guarded or policy(),
            ledger=self.ledger,
            clock=self.clock,
            prices=self.prices,
            windows=self.windows,
            meter_dir=self.meter_dir,
            host="desk-1",
        )


def always(_: Stream) -> OneWindow:
    """Windows that are open as long as anything is known."""
    return OneWindow(window=KNOWN)


def only_symbols(*symbols: str) -> Request:
    return replace(LIVE, symbols=symbols)

"""How long a decision takes in memory: everything that `Guard.decide_live` does but reading the ledger.

The policy has 20 budgets, each with one limit, all of which match, and 50 streams, a third of which are for the schema
that is asked for; the one that covers the request is the last.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from benchmarks.grants import NOW, PRICE_USD
from benchmarks.workers import Tally, tally, timed
from budget_guard.clock import RehearsalClock
from budget_guard.guard.guard import Guard
from budget_guard.guard.request import Request, whole_stream
from budget_guard.ledger.model import Balance, BalanceKey, Ledger
from budget_guard.markets.model import Interval
from budget_guard.policy.model import Account, Budget, Limit, Mode, PeriodName, Policy, Stream, Unit
from budget_guard.pricing.model import DataRange, UnitPrice

BUDGETS, STREAMS = 20, 50
ALLOWANCE_BYTES = 5 * 2**20
_PERIODS: tuple[PeriodName, ...] = ("session", "day", "week", "month", "total")
_UNITS: tuple[Unit, ...] = ("usd", "gib", "hours", "connections")
_SCHEMAS = ("trades", "mbp-1", "mbo")
_SESSION = Interval(NOW - timedelta(hours=16), NOW + timedelta(hours=7))


class ReadAlready:
    """A ledger whose balances are in memory by the time that they are asked for."""

    def __init__(self) -> None:
        self._balances: dict[BalanceKey, Balance] = {}

    def balances(self, keys: Any) -> dict[BalanceKey, Balance]:
        # Filled before anything is measured: after that this costs nothing.
        if not self._balances:
            self._balances = {key: Balance(100, 100, 2) for key in keys}
        return self._balances

    def approvals(self, account: str, at_utc: Any = None) -> list[Any]:
        return []


class _Open:
    def covering(self, at: Any) -> Interval:
        return _SESSION

    def next_open(self, at: Any) -> None:
        return None

    def session_interval(self, at: Any) -> Interval:
        return _SESSION


class _Prices:
    def price(self, dataset: str, schema: str, mode: Mode) -> UnitPrice:
        return UnitPrice(PRICE_USD, "override", "the policy's override")

    def price_whole(self, data_range: DataRange, at: Any) -> UnitPrice:
        return self.price(data_range.dataset, data_range.schema, "historical")


def rules() -> Policy:
    budgets = tuple(
        Budget(
            f"budget-{number}",
            (Limit(_PERIODS[number % 5], _UNITS[number // 5], Decimal(1000)),),
            timezone="America/New_York",
        )
        for number in range(BUDGETS)
    )
    streams = [
        Stream(f"stream-{n}", "GLBX.MDP3", _SCHEMAS[(n + 1) % 3], (f"S{n}.v.0", "NQ.v.0"), "continuous")
        for n in range(STREAMS)
    ]
    return Policy(
        "many", "America/New_York", Account("desk"), budgets, {stream.name: stream for stream in streams}
    )


def guard_and_request() -> tuple[Guard, Request]:
    policy = rules()
    guard = Guard(
        policy,
        ledger=cast(Ledger, ReadAlready()),
        clock=RehearsalClock(NOW),
        prices=_Prices(),
        windows=lambda stream: _Open(),
        meter_dir=Path("never-written"),
        host="desk-1",
    )
    return guard, whole_stream(policy.streams[f"stream-{STREAMS - 1}"])


def measure(seconds: float) -> Tally:
    """Decisions, one after another. Raises RuntimeError when the request is not let through."""
    guard, request = guard_and_request()
    decision = guard.decide_live(request, allowance_bytes=ALLOWANCE_BYTES)
    if not decision.allowed:
        raise RuntimeError(f"the benchmark's own request was refused: {decision.reasons[0].message}")

    def decide() -> None:
        guard.decide_live(request, allowance_bytes=ALLOWANCE_BYTES)

    return tally(timed(decide, seconds), seconds)

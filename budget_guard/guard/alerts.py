"""Shares of limits that were passed: each is told once for its budget, limit and period, over all of a process."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from threading import Lock

from budget_guard.guard.lease import count_text, span_text
from budget_guard.guard.periods import BudgetLimit
from budget_guard.ledger.model import BalanceKey, Balances, Overrun, Overruns
from budget_guard.money import decimal_text
from budget_guard.policy.model import Budget

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alert:
    """A share of a limit that was passed. `to_clients`: the policy wants the clients of live connections to hear it."""

    key: BalanceKey
    text: str
    to_clients: bool


class Alerts:
    """Looks at what is spent whenever a renewal or a settlement has shown it. Safe to use from several threads.

    What was passed already when a budget's period was first looked at is not told again: a program that is started
    anew says nothing that was said before it.
    """

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self._budgets = {budget.name: budget for budget in budgets if budget.alerts}
        self._passed: dict[BalanceKey, int] = {}
        self._lock = Lock()
        self.told: list[Alert] = []  # only ever grows

    def look(self, limits: Sequence[BudgetLimit], spent: Mapping[BalanceKey, int]) -> None:
        """What is settled of some limits now, by everybody together."""
        if not self._budgets:
            return
        for limit in limits:
            budget = self._budgets.get(limit.key.budget)
            if budget is not None and limit.limit and limit.key in spent:
                self._look_at(budget, limit, limit.limit, spent[limit.key])

    def look_after(self, limits: Sequence[BudgetLimit], balances: Balances) -> None:
        """The same, from balances."""
        self.look(limits, {key: balance.settled for key, balance in balances.items()})

    def _look_at(self, budget: Budget, limit: BudgetLimit, most: int, spent: int) -> None:
        shares = sorted(budget.alerts)
        passed = sum(spent >= share * most for share in shares)
        with self._lock:
            before = self._passed.get(limit.key)
            self._passed[limit.key] = max(passed, before or 0)
            if before is None or passed <= before:
                return
            alert = Alert(
                limit.key, _text(limit, shares[passed - 1], spent, most), "client" in budget.alerts_to
            )
            self.told.append(alert)
        if "log" in budget.alerts_to:
            log.warning("%s", alert.text)


def seen_by(balances: list[Balances], overruns: Overruns) -> Overruns:
    """The same overruns; what they were worked out from is kept in a list."""

    def find(after: Balances) -> Sequence[Overrun]:
        balances.append(after)
        return overruns(after)

    return find


def _text(limit: BudgetLimit, share: Decimal, spent: int, most: int) -> str:
    unit = limit.key.unit
    return (
        f"budget {limit.key.budget} has passed {decimal_text(share * 100)}% of its limit: "
        f"{count_text(unit, spent)} of {count_text(unit, most)} {span_text(limit.key.period)}"
    )

"""What a settlement took past a limit: recorded with it, whatever the reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from budget_guard.guard.periods import BudgetLimit
from budget_guard.ledger.model import BalanceKey, Balances, Overrun, Overruns


def overruns_of(
    hold_id: str,
    limits: tuple[BudgetLimit, ...],
    granted: Mapping[BalanceKey, int],
    settled: Mapping[BalanceKey, int],
    at_utc: datetime,
    note: str,
) -> Overruns:
    """For `Ledger.settle`: the overruns of a hold that used more than it was granted, where that broke a limit."""

    def find(balances: Balances) -> list[Overrun]:
        found: list[Overrun] = []
        for limit in limits:
            if limit.limit is None:
                continue
            key = limit.key
            beyond = settled.get(key, 0) - granted.get(key, 0)
            past = min(beyond, balances[key].settled + balances[key].held - limit.limit)
            if past > 0:
                found.append(
                    Overrun(
                        id=f"{hold_id}:over:{len(found) + 1}",
                        hold_id=hold_id,
                        account=key.account,
                        budget=key.budget,
                        period=key.period,
                        period_start_utc=key.period_start_utc,
                        unit=key.unit,
                        limit_amount=limit.limit,
                        past=past,
                        at_utc=at_utc,
                        note=note,
                    )
                )
        return found

    return find

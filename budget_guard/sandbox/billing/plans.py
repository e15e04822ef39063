"""What a flat plan makes of a list price, and what credits pay of a bill. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from budget_guard.money import decimal_text
from budget_guard.sandbox.billing.amounts import EXACT, ZERO, Price, total_of
from budget_guard.sandbox.config import Credit, FlatPlan

Mode = Literal["live", "historical"]


def price_under(
    plan: FlatPlan | None,
    mode: Mode,
    schema: str,
    list_usd_per_gib: Decimal | None,
    asked_utc: datetime,
    history_start: datetime | None = None,
) -> Price:
    """What a byte costs: nothing where the plan includes it, otherwise the list price.

    History is included when all of it lies within the plan's last days, counted in whole days back from the instant
    of the request. How the vendor bills a request that reaches beyond them is not published: here it costs the list
    price whole, its included part too, which is the dearer way. A request whose start is not known costs it as well.
    """
    if plan is None:
        included = False
    elif mode == "live":
        included = plan.live
    else:
        days = plan.history_days.get(schema)
        included = days is not None and history_start is not None
        if days is not None and history_start is not None:
            included = history_start >= asked_utc - timedelta(days=days)
    return Price(ZERO if included else list_usd_per_gib, list_usd_per_gib)


@dataclass(slots=True)
class PaidCredit:
    """A credit and what it has paid so far, by month."""

    credit: Credit
    used_usd: dict[str, Decimal]

    @property
    def left_usd(self) -> Decimal:
        return EXACT.subtract(self.credit.amount_usd, total_of(self.used_usd.values()))

    def pays(self, mode: str, day: date) -> bool:
        credit = self.credit
        return credit.covers in (mode, "all") and (credit.expires is None or day <= credit.expires)

    def as_json(self) -> dict[str, Any]:
        credit = self.credit
        return {
            "amount_usd": decimal_text(credit.amount_usd),
            "expires": None if credit.expires is None else credit.expires.isoformat(),
            "covers": credit.covers,
            "used_usd": {month: decimal_text(used) for month, used in sorted(self.used_usd.items())},
            "left_usd": decimal_text(self.left_usd),
        }


def paid_by(credits: Sequence[Credit], costs: Mapping[tuple[date, str], Decimal]) -> list[PaidCredit]:
    """What each credit pays of the costs of (UTC day, mode), day by day; the one that expires first pays first."""
    found = [PaidCredit(credit, {}) for credit in credits]
    # Of two that expire together the narrower one first: the other may still serve where it cannot.
    in_order = sorted(found, key=lambda paid: (paid.credit.expires or date.max, paid.credit.covers == "all"))
    for (day, mode), cost in sorted(costs.items()):
        due = cost
        month = day.strftime("%Y-%m")
        for paid in in_order:
            part = min(due, paid.left_usd) if paid.pays(mode, day) else ZERO
            if part > 0:
                paid.used_usd[month] = EXACT.add(paid.used_usd.get(month, ZERO), part)
                due = EXACT.subtract(due, part)
    return found

"""A month in a ledger, as the tests of the review write it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from budget_guard.ledger.model import BalanceKey, Ledger
from budget_guard.policy.model import Account, Budget, Limit, LiveBilling, Match, Policy, Stream
from tests.ledger.samples import OPENED, USD, claiming, entry, terms

CENT = 10_000_000
NOW = datetime(2026, 12, 3, 12, tzinfo=UTC)
USD_MONTH = Limit("month", "usd", Decimal(200))
USD_DAY = Limit("day", "usd", Decimal(15))


def policy(**changes: Any) -> Policy:
    """One metered stream under an account-wide budget of $200 a month and $15 a day."""
    values: dict[str, Any] = {
        "name": "nq-futures",
        "timezone": "America/New_York",
        "account": Account("desk"),
        "budgets": (Budget("account", (USD_MONTH, USD_DAY)),),
        "streams": {"nq-mbo": Stream("nq-mbo", "GLBX.MDP3", "mbo", ("NQ.v.0",), "continuous")},
    }
    return Policy(**{**values, **changes})


def flat(plan: str, license_usd: str = "36.50") -> Account:
    return Account("desk", {"GLBX.MDP3": LiveBilling("flat", plan, Decimal(license_usd))})


def spend(
    ledger: Ledger, hold_id: str, cents: int, *, residual_cents: int = 0, days: int = 0, **what: Any
) -> None:
    """Open, activate and settle a hold that cost so much, so many days after the samples' own."""
    started = OPENED + timedelta(days=days)
    total = (cents + residual_cents) * CENT
    ledger.open_hold(terms(hold_id, opened_utc=started, **what), [USD], claiming({USD: (0, total)}))
    ledger.activate(hold_id)
    amounts = {"cost_nano_usd": cents * CENT, "residual_nano_usd": residual_cents * CENT}
    row = entry(
        hold_id,
        f"{hold_id}:1",
        started_utc=started,
        ended_utc=started + timedelta(hours=12),
        **amounts,
        **what,
    )
    ledger.settle(hold_id, {USD: total}, [row])


def run(ledger: Ledger, hold_id: str, claims: dict[BalanceKey, tuple[int, int]], **what: Any) -> None:
    """A hold that is still open."""
    ledger.open_hold(
        terms(hold_id, **what), list(claims), claiming({key: (0, held) for key, (_, held) in claims.items()})
    )
    ledger.activate(hold_id)
    ledger.restate(hold_id, 1, list(claims), claiming(claims))


def matching(budget: Budget, **match: str) -> Budget:
    return replace(budget, match=Match(**{name: frozenset({value}) for name, value in match.items()}))

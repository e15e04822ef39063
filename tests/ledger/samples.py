"""Values that the ledger's tests are written with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from budget_guard.ledger.model import (
    Balance,
    BalanceKey,
    Balances,
    Breaker,
    Claim,
    Decide,
    Entry,
    Gap,
    HoldTerms,
    Ledger,
    Posting,
    Purchase,
    Refusal,
)

MONTH_START = datetime(2026, 11, 1, tzinfo=UTC)
OPENED = datetime(2026, 11, 23, 14, 30, 0, 123456, tzinfo=UTC)
PRICE = Decimal("2.16")


def key(budget: str = "account", unit: str = "usd", period: str = "month") -> BalanceKey:
    return BalanceKey("desk", budget, period, MONTH_START, unit)


USD = key()


def terms(hold_id: str = "h1", **changes: Any) -> HoldTerms:
    values: dict[str, Any] = {
        "id": hold_id,
        "account": "desk",
        "stream": "nq-mbo",
        "dataset": "GLBX.MDP3",
        "schema": "mbo",
        "mode": "live",
        "connection_id": "c1",
        "month": "2026-11",
        "unit_price_usd": PRICE,
        "price_source": "the policy's override",
        "residual_bytes_max": 5 * 2**20,
        "host": "desk-1",
        "meter": f"{hold_id}.meter",
        "opened_utc": OPENED,
    }
    return HoldTerms(**{**values, **changes})


def entry(hold_id: str = "h1", entry_id: str = "h1:1", **changes: Any) -> Entry:
    values: dict[str, Any] = {
        "id": entry_id,
        "hold_id": hold_id,
        "account": "desk",
        "stream": "nq-mbo",
        "dataset": "GLBX.MDP3",
        "schema": "mbo",
        "mode": "live",
        "month": "2026-11",
        "started_utc": OPENED,
        "ended_utc": OPENED.replace(hour=21),
        "size_bytes": 2**30,
        "control_bytes": 320,
        "unit_price_usd": PRICE,
        "price_source": "the policy's override",
        "cost_nano_usd": 2_160_000_000,
        "residual_bytes": 0,
        "residual_nano_usd": 0,
        "ending": "exact",
    }
    return Entry(**{**values, **changes})


def refusal(refusal_id: str = "r1", **changes: Any) -> Refusal:
    values: dict[str, Any] = {
        "id": refusal_id,
        "at_utc": OPENED,
        "account": "desk",
        "stream": None,
        "dataset": "GLBX.MDP3",
        "schema": "mbo",
        "mode": "historical",
        "code": "would_exceed",
        "decision": '{"verdict": "deny"}',
    }
    return Refusal(**{**values, **changes})


def gap(gap_id: str = "g1", **changes: Any) -> Gap:
    values: dict[str, Any] = {
        "id": gap_id,
        "account": "desk",
        "stream": "nq-mbo",
        "dataset": "GLBX.MDP3",
        "schema": "mbo",
        "start_utc": OPENED,
        "end_utc": OPENED.replace(minute=31),
        "mended": "",
        "note": "reset by the vendor",
    }
    return Gap(**{**values, **changes})


def breaker(breaker_id: str = "b1", **changes: Any) -> Breaker:
    values: dict[str, Any] = {
        "id": breaker_id,
        "account": "desk",
        "dataset": "GLBX.MDP3",
        "mode": "live",
        "key_id": "k1",
        "code": "not_entitled",
        "message": "a live data license is required",
        "opened_utc": OPENED,
        "until_utc": OPENED.replace(minute=31),
    }
    return Breaker(**{**values, **changes})


def purchase(purchase_id: str = "p1", **changes: Any) -> Purchase:
    values: dict[str, Any] = {
        "id": purchase_id,
        "account": "desk",
        "stream": "nq-mbo",
        "dataset": "GLBX.MDP3",
        "schema": "mbo",
        "stype_in": "continuous",
        "symbols": '["NQ.v.0"]',
        "start_utc": OPENED.replace(day=20),
        "end_utc": OPENED.replace(day=21),
        "form": "{}",
        "kind": "batch",
        "job_id": "",
        "state": "asked",
        "size_bytes": 0,
        "cost_nano_usd": 0,
        "asked_utc": OPENED,
    }
    return Purchase(**{**values, **changes})


def claiming(amounts: Mapping[BalanceKey, tuple[int, int]]) -> Decide:
    """A decision that claims `(settled, held)` whatever the balances are."""
    return lambda balances: Posting(tuple(Claim(key, *pair) for key, pair in amounts.items()))


def no(balances: Balances) -> Posting:
    """A decision that writes nothing."""
    return Posting(None)


def within(limit: int, settled: int, held: int, own_settled: int = 0) -> Decide:
    """A decision that claims on USD when that fits below a limit, and otherwise writes nothing."""

    def decide(balances: Balances) -> Posting:
        balance = balances[USD]
        taken = balance.settled - own_settled + balance.held
        return Posting((Claim(USD, settled, held),) if taken + settled + held <= limit else None)

    return decide


def usd(ledger: Ledger) -> Balance:
    return ledger.balances([USD])[USD]

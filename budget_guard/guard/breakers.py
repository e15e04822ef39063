"""Which of the vendor's refusals for good are believed at an instant."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from budget_guard.clock import instant_text
from budget_guard.ledger.model import Breaker, Ledger

# A clock may have been set back: what was opened later than this from now is not believed.
CLOCK_SLACK = timedelta(minutes=1)


def is_believed(breaker: Breaker, at: datetime) -> bool:
    """Whether the vendor is not asked again yet."""
    return breaker.opened_utc <= at + CLOCK_SLACK and breaker.until_utc > at


def open_breakers(ledger: Ledger, account: str, at: datetime) -> list[Breaker]:
    """The breakers of an account that are believed at an instant. Raises LedgerError."""
    return [one for one in ledger.breakers(account, at) if is_believed(one, at)]


def breaker_json(breaker: Breaker) -> dict[str, Any]:
    """Its stable JSON shape; without a dataset it is about all of them."""
    return {
        "dataset": breaker.dataset or None,
        "mode": breaker.mode,
        "key_id": breaker.key_id,
        "code": breaker.code,
        "message": breaker.message,
        "opened_utc": instant_text(breaker.opened_utc),
        "until_utc": instant_text(breaker.until_utc),
    }

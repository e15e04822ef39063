"""A cost-aware subscription planner and budget guard for Databento.

Names are imported when they are first used: reading a policy does not pay for the vendor's client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from budget_guard.errors import BudgetGuardError, LedgerError, PolicyError, Refused, VendorError

if TYPE_CHECKING:
    from budget_guard.api import plan, review
    from budget_guard.guard.guard import Guard
    from budget_guard.loading import load_policy
    from budget_guard.streaming.mounts import Historical, Live

_HOMES = {
    "Guard": "budget_guard.guard.guard",
    "Historical": "budget_guard.streaming.mounts",
    "Live": "budget_guard.streaming.mounts",
    "load_policy": "budget_guard.loading",
    "plan": "budget_guard.api",
    "review": "budget_guard.api",
}

__all__ = [
    "BudgetGuardError",
    "Guard",
    "Historical",
    "LedgerError",
    "Live",
    "PolicyError",
    "Refused",
    "VendorError",
    "load_policy",
    "plan",
    "review",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'budget_guard' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

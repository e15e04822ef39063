"""A local Databento: to test a program against, in any language, and to judge whatever stands before it.

Names are imported when they are first used. `budget_guard.sandbox.fixture` is a pytest plugin that starts one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from budget_guard.sandbox.config import Credit, FlatPlan, Limits, Rights, SandboxConfig
    from budget_guard.sandbox.faults.model import Fault
    from budget_guard.sandbox.faults.scenario import bundled_scenarios, load_scenario
    from budget_guard.sandbox.prices import DatasetPrices
    from budget_guard.sandbox.server import Sandbox, running_sandbox

_HOMES = {
    "Credit": "config",
    "DatasetPrices": "prices",
    "Fault": "faults.model",
    "FlatPlan": "config",
    "Limits": "config",
    "Rights": "config",
    "Sandbox": "server",
    "SandboxConfig": "config",
    "bundled_scenarios": "faults.scenario",
    "load_scenario": "faults.scenario",
    "running_sandbox": "server",
}

__all__ = [
    "Credit",
    "DatasetPrices",
    "Fault",
    "FlatPlan",
    "Limits",
    "Rights",
    "Sandbox",
    "SandboxConfig",
    "bundled_scenarios",
    "load_scenario",
    "running_sandbox",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'budget_guard.sandbox' has no attribute {name!r}")
    return getattr(importlib.import_module(f"budget_guard.sandbox.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

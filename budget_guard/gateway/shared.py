"""What all connections of one relay have in common."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

from budget_guard.gateway.outcome import Outcome, Standing
from budget_guard.gateway.upstream import Endpoint
from budget_guard.guard.guard import Guard


@dataclass(frozen=True, slots=True)
class Shared:
    """`tokens` maps each guard token to the stream it is bound to, or None for any stream of the policy.

    `executor` runs what blocks: the ledger, the calendar.
    """

    guard: Guard
    endpoint: Endpoint
    key: str
    tokens: Mapping[str, str | None]
    executor: Executor
    allowance_bytes: int
    outcome: Outcome = field(default_factory=Outcome)
    standing: Standing = field(default_factory=Standing)

"""What all connections of one relay have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

from budget_guard.gateway.breakers import Breakers
from budget_guard.gateway.keyring import Keyring
from budget_guard.gateway.live.pace import Pacer
from budget_guard.gateway.live.upstream import Endpoint
from budget_guard.gateway.outcome import Outcome, Standing
from budget_guard.gateway.visitors import Visitors
from budget_guard.gateway.wire.scrub import Scrubber
from budget_guard.guard.guard import Guard

T = TypeVar("T")

# Connections that the kernel keeps until they are taken, and that are taken at once: with those that are served fewer
# than a process may have open. One that finds no place is tried again only after a second, then after two and four
# more, and clients give up.
LISTEN_BACKLOG = 256


@dataclass(frozen=True, slots=True)
class Shared:
    """`keyring` knows who may come in, and for which stream; `scrubber` takes the key out of the vendor's texts.

    `executor` runs what blocks for moments: the ledger, the calendar. `look_every_s`: how often a connection looks at
    the clock; None for as often as is right where time runs as it does. `without_ledger`: the connections that cannot
    reach the ledger just now. `breakers` are the vendor's refusals for good, `pacer` gives out turns to connect to it.
    """

    guard: Guard
    endpoint: Endpoint
    key: str = field(repr=False)
    keyring: Keyring
    visitors: Visitors
    scrubber: Scrubber
    breakers: Breakers
    pacer: Pacer
    executor: Executor
    allowance_bytes: int
    outcome: Outcome = field(default_factory=Outcome)
    standing: Standing = field(default_factory=Standing)
    look_every_s: float | None = None
    without_ledger: set[str] = field(default_factory=set)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Run what blocks beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, call)

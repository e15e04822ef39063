"""A plan against a local Databento, through the real client and the real calendars."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from budget_guard.clock import ManualClock
from budget_guard.planning.model import Plan
from budget_guard.planning.plan import plan
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.server import Sandbox, running_sandbox
from budget_guard.vendor.cache import MetadataCache
from budget_guard.vendor.client import VendorClient
from tests.planning.desk import policy, stream

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(SandboxConfig(clock=ManualClock(NOW), limits=Limits.none())) as running:
        yield running


class CountingClient(VendorClient):
    """A client that counts what it really asks."""

    requests = 0

    def _attempt(self, *arguments):  # type: ignore[no-untyped-def]
        CountingClient.requests += 1
        return super()._attempt(*arguments)


def sampled(sandbox: Sandbox, cache_path: Path, clock: ManualClock) -> tuple[Plan, int]:
    """A plan, and how many requests it took."""
    cache = MetadataCache(cache_path)
    before = CountingClient.requests
    client = CountingClient(sandbox.key, sandbox.http_url, cache=cache, clock=clock, sleep=clock.advance)
    try:
        result = plan(policy(stream()), "2026-11", now=NOW, vendor=client)
    finally:
        cache.close()
    return result, CountingClient.requests - before


def test_a_second_plan_asks_for_no_size_again(sandbox: Sandbox, tmp_path: Path) -> None:
    """Twenty samples the first time (two shapes), none the second, and the same figures."""
    clock = ManualClock(NOW)
    first, asked = sampled(sandbox, tmp_path / "metadata.sqlite", clock)
    again, asked_again = sampled(sandbox, tmp_path / "metadata.sqlite", clock)
    assert first.verdict == "fits"
    assert first.total is not None
    assert 0 < first.total.p50 <= first.total.p90
    assert asked == 22
    assert asked_again == 0
    assert again == first

"""The data path by itself: when it has heard of what, by the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from budget_guard.clock import ManualClock
from budget_guard.gateway.live.counting import Counting
from budget_guard.gateway.live.pump import Pump
from budget_guard.gateway.live.voice import Voice
from tests.gateway.fake_gateway import metadata, order


class SlowClient:
    """Time goes by while it is written to."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def write(self, data: bytes) -> None:
        self._clock.advance(6)


class Parts(Counting):
    """Counts nothing."""

    def count(self, *_: Any, **__: Any) -> None:
        pass


def test_the_vendor_was_heard_when_the_read_came() -> None:
    """Not when the client had it: it may have taken its time, or moved a clock on."""
    clock = ManualClock(datetime(2026, 11, 24, 15, tzinfo=UTC))
    client: Any = SlowClient(clock)
    pump = Pump(None, client, Voice(client, clock), clock)  # type: ignore[arg-type]
    pump.attach(None, Parts())  # type: ignore[arg-type]
    pump.upstream_data(metadata())
    before_s = clock.monotonic_s()
    pump.upstream_data(order(1))
    assert clock.monotonic_s() == before_s + 6
    assert (pump.last_heard_s, pump.level_s, pump.current_s) == (before_s,) * 3

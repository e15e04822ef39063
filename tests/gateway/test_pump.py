"""The data path by itself: when it has heard of what, by the clock, and whether more may be waiting."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from budget_guard.clock import ManualClock
from budget_guard.gateway.live.counting import Counting
from budget_guard.gateway.live.pump import Pump
from budget_guard.gateway.live.upstream import READ_BYTES, Upstream
from budget_guard.gateway.live.voice import Voice
from tests.gateway.fake_gateway import metadata, order


class SlowClient:
    """Time goes by while it is written to."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def write(self, data: bytes) -> None:
        self._clock.advance(6)


class Parts(Counting):
    """Counts nothing, and notes which reads took all that they might."""

    def __init__(self) -> None:
        super().__init__()
        self.filled: list[bool] = []

    def count(self, *_: Any, filled: bool = False) -> None:
        self.filled.append(filled)


@dataclass
class Listener:
    """Gives each read so much room."""

    room: int | None
    filled: list[bool] = field(default_factory=list)

    def room_bytes(self) -> int | None:
        return self.room

    def upstream_data(self, data: bytes, *, filled: bool = False) -> None:
        self.filled.append(filled)


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


@pytest.mark.parametrize("room", [None, 100, READ_BYTES, 2 * READ_BYTES])
def test_a_read_that_takes_all_that_it_might_says_so(room: int | None) -> None:
    listener = Listener(room)

    async def read() -> None:
        upstream = Upstream(listener, "db-key", None)  # type: ignore[arg-type]
        upstream.start()
        for less in (0, 1):
            upstream.buffer_updated(len(upstream.get_buffer(-1)) - less)

    asyncio.run(read())
    assert listener.filled == [True, False]


def test_what_a_read_says_of_more_behind_it_is_counted_with_it() -> None:
    clock = ManualClock(datetime(2026, 11, 24, 15, tzinfo=UTC))
    client: Any = SlowClient(clock)
    parts, pump = Parts(), Pump(None, client, Voice(client, clock), clock)  # type: ignore[arg-type]
    pump.attach(None, parts)  # type: ignore[arg-type]
    pump.upstream_data(metadata())
    pump.upstream_data(order(1), filled=True)
    assert parts.filled == [False, True]

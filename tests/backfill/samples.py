"""A desk whose stream missed a few seconds, and what fills them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from budget_guard.backfill.door import DoorBroke, HistoricalDoor
from budget_guard.backfill.filling import Filler
from budget_guard.clock import RehearsalClock
from budget_guard.ledger.model import Gap
from budget_guard.policy.model import Policy
from budget_guard.pricing.model import DataRange
from tests.gateway.desk import ACCOUNT, GLBX, NOW, Desk, policy, running_desk

START = NOW - timedelta(hours=1)


def missed(**changes: Any) -> Gap:
    """Twelve seconds of NQ's orders, an hour ago."""
    values: dict[str, Any] = {
        "id": "3f2a9c11d0e84b7f",
        "account": ACCOUNT,
        "stream": "nq",
        "dataset": GLBX,
        "schema": "mbo",
        "start_utc": START,
        "end_utc": START + timedelta(seconds=12),
        "mended": "",
        "note": "ended by the vendor",
    }
    return Gap(**{**values, **changes})


@contextmanager
def desk_that_missed(folder: Path, gap: Gap, rules: Policy | None = None, **sandbox: Any) -> Iterator[Desk]:
    # A clock that runs: questions about metadata are asked at a pace, and would wait for one that stands still.
    with running_desk(folder, rules, clock=RehearsalClock(NOW), **sandbox) as desk:
        desk.books.record_gap(gap)
        yield desk


def real_door(desk: Desk) -> HistoricalDoor:
    return HistoricalDoor(desk.gateway.host.http_url, desk.token, timeout_s=20)


def filler(desk: Desk, folder: Path, door: HistoricalDoor | None = None) -> Filler:
    guard = desk.gateway.opened.guard
    return Filler(guard.policy, desk.books, door or real_door(desk), folder)


class Tampered(HistoricalDoor):
    """A door that gives what a test says instead of the vendor's own answers."""

    def __init__(
        self,
        desk: Desk,
        *,
        count: Callable[[int], int] = lambda count: count,
        buy: Callable[[Callable[[bytes], object]], None] | None = None,
    ) -> None:
        super().__init__(desk.gateway.host.http_url, desk.token, timeout_s=20)
        self._count, self._buy = count, buy
        self.bought = 0

    def record_count(self, wanted: DataRange) -> int:
        return self._count(super().record_count(wanted))

    def buy(self, wanted: DataRange, write: Callable[[bytes], object]) -> None:
        self.bought += 1
        if self._buy is not None:
            self._buy(write)
        else:
            super().buy(wanted, write)


def broken_off(write: Callable[[bytes], object]) -> None:
    write(b"half of it")
    raise DoorBroke("the answer broke off")


__all__ = [
    "START",
    "Tampered",
    "broken_off",
    "desk_that_missed",
    "filler",
    "missed",
    "policy",
    "real_door",
]

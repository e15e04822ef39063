"""The vendor never sees more than five new connections a second, whoever opens them."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path

import pytest

from budget_guard.gateway.live import pace
from budget_guard.gateway.live.pace import CONNECTIONS, Pacer

SECOND_NS = 1_100_000_000


@pytest.fixture(autouse=True)
def vendors_second(monkeypatch: pytest.MonkeyPatch, short_waits: None) -> None:
    monkeypatch.setattr(pace, "SECOND_NS", SECOND_NS)


def taken(pacers: list[Pacer], tries: range) -> list[int]:
    """When turns were given, to whoever asked in turn at these instants."""
    return [now_ns for n, now_ns in enumerate(tries) if pacers[n % len(pacers)]._take(now_ns) <= 0]


def most_within_a_second(turns: list[int]) -> int:
    return max(sum(at <= other < at + 10**9 for other in turns) for at in turns)


@pytest.mark.parametrize("shared", [False, True])
def test_no_second_has_more_than_five(tmp_path: Path, shared: bool) -> None:
    file = tmp_path / "pace" if shared else None
    pacers = [Pacer(file) for _ in range(3 if shared else 1)]
    turns = taken(pacers, range(10**12, 10**12 + 20 * 10**9, 10**7))
    assert most_within_a_second(turns) == CONNECTIONS
    assert len(turns) > 80  # and none is kept waiting for nothing


def test_the_first_turns_are_given_at_once(tmp_path: Path) -> None:
    assert taken([Pacer(tmp_path / "pace")], range(10**12, 10**12 + 5)) == list(range(10**12, 10**12 + 5))


def test_a_file_of_an_earlier_run_of_the_machine_keeps_nobody_waiting(tmp_path: Path) -> None:
    file = tmp_path / "pace"
    taken([Pacer(file)], range(10**15, 10**15 + 5))
    assert len(taken([Pacer(file)], range(10**12, 10**12 + 5))) == 5


def test_a_file_that_is_in_use_or_cannot_be_used_leaves_a_pace_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "pace"
    with file.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert len(taken([Pacer(file)], range(10**12, 10**12 + 9))) == CONNECTIONS
    assert len(taken([Pacer(tmp_path / "no" / "folder")], range(10**12, 10**12 + 9))) == CONNECTIONS


def test_who_waits_gets_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SECOND_NS", 50_000_000)

    async def all_of_them() -> None:
        pacer = Pacer()
        await asyncio.gather(*(pacer.turn() for _ in range(12)))

    asyncio.run(asyncio.wait_for(all_of_them(), 10))

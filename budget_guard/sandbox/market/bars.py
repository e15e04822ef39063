"""Bars: every one is made of the same seconds, so that bars of seconds add up to those of minutes, hours and days.

A second's low is its best bid, its high its best ask: its trades lie between. Its volume is its share of four
contracts for each trade that the ordinary market has in its minute, and one more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from budget_guard.sandbox.market.contracts import contract
from budget_guard.sandbox.market.paths import asks_between
from budget_guard.sandbox.market.runs import SECOND_NS, Rows, Run, Scene
from budget_guard.sandbox.market.seeds import Int64s, mix_many, seed_of
from budget_guard.sandbox.market.sessions import Session, sessions_between
from budget_guard.sandbox.market.shapes import calendar_of_group, open_hours

_PER_TRADE = 4


@dataclass(frozen=True, slots=True)
class Bars:
    """Open, high, low and close (1e-9 USD) and volume of consecutive bars."""

    open: Int64s
    high: Int64s
    low: Int64s
    close: Int64s
    volume: Int64s


def fill_bars(rows: Rows, run: Run, step_ns: int) -> None:
    """The bars that begin at the run's stamps."""
    found = bars_of(run.scene, run.stamps, step_ns)
    for name in ("open", "high", "low", "close", "volume"):
        rows[name] = getattr(found, name)


def bars_of(scene: Scene, starts: Int64s, step_ns: int) -> Bars:
    """The bars of a contract that begin at given instants, each with at least one open second."""
    first_ns, end_ns = int(starts[0]), int(starts[-1]) + step_ns
    pieces = [
        _seconds(scene, session, first_ns, end_ns)
        for session in sessions_between(calendar_of_group(scene.contract.product.group), first_ns, end_ns)
    ]
    seconds, asks, volumes = (np.concatenate([piece[field] for piece in pieces]) for field in range(3))
    ends = np.flatnonzero(np.append(np.diff(seconds // (step_ns // SECOND_NS)), 1))
    begins = np.concatenate([[0], ends[:-1] + 1])
    tick = scene.contract.product.tick
    return Bars(
        asks[begins] - tick * _at_bid(scene, "open", seconds[begins]),
        np.maximum.reduceat(asks, begins),
        np.minimum.reduceat(asks, begins) - tick,
        asks[ends] - tick * _at_bid(scene, "close", seconds[ends]),
        np.add.reduceat(volumes, begins),
    )


def session_so_far(scene: Scene, instants: Int64s) -> Bars:
    """The one bar of the scene's session from its first second up to each instant, which is after that."""
    seconds, asks, volumes = _seconds(scene, scene.session, scene.session.start_ns, scene.session.end_ns)
    at = np.searchsorted(seconds, instants // SECOND_NS, side="left") - 1
    tick = scene.contract.product.tick
    opened = asks[:1] - tick * _at_bid(scene, "open", seconds[:1])
    return Bars(
        np.repeat(opened, len(at)),
        np.maximum.accumulate(asks)[at],
        np.minimum.accumulate(asks)[at] - tick,
        asks[at] - tick * _at_bid(scene, "close", seconds[at]),
        np.cumsum(volumes)[at],
    )


def _at_bid(scene: Scene, which: str, seconds: Int64s) -> Int64s:
    """0 or 1 for each second: whether its first, or last, trade is at the bid."""
    seed = seed_of(scene.seed, scene.dataset, scene.contract.instrument_id, which)
    return (mix_many(seed, seconds) & np.uint64(1)).astype(np.int64)


def _seconds(scene: Scene, session: Session, first_ns: int, end_ns: int) -> tuple[Int64s, Int64s, Int64s]:
    """The open seconds of a session within an interval, with their best asks and volumes."""
    seconds, minutes, within = _open_seconds(scene.contract.product.group, session, first_ns, end_ns)
    if not len(seconds):
        return seconds, seconds, seconds
    # A contract's level belongs to the session, and a UTC day has hours of two.
    one = contract(scene.contract.product, scene.contract.rank, session.label)
    first = int(seconds[0])
    asks = asks_between(scene.seed, one, first, int(seconds[-1]) + 1)
    if len(asks) > len(seconds):  # a pause lies between them
        asks = asks[seconds - first]
    share = (np.diff(scene.trades_by_minute(session)) * _PER_TRADE)[minutes]
    volumes: Int64s = (within + 1) * share // 60 - within * share // 60 + 1
    return seconds, asks, volumes


@lru_cache(maxsize=8)
def _open_seconds(group: str, session: Session, first_ns: int, end_ns: int) -> tuple[Int64s, Int64s, Int64s]:
    """A group's open seconds, the minute of the session that each is in, and its place in it."""
    runs = [
        np.arange(max(start, first_ns) // SECOND_NS, min(end, end_ns) // SECOND_NS)
        for start, end in open_hours(group, session)
        if start < end_ns and end > first_ns
    ]
    seconds = np.concatenate([np.array([], dtype=np.int64), *runs])
    minutes, within = np.divmod(seconds - session.start_ns // SECOND_NS, 60)
    return seconds, minutes, within

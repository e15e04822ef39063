"""Trades, quotes and samples of quotes: what follows from the path of a product's price.

A trade happens at the best bid or ask of its second; tbbo and tcbbo are the same trades with that quote beside them.
"""

from __future__ import annotations

import numpy as np

from budget_guard.sandbox.market.runs import F_LAST, Rows, Run
from budget_guard.sandbox.market.seeds import Int64s, cut

# How often each book action comes, of 64: assumed.
_ACTIONS = np.array([b"A"] * 29 + [b"C"] * 27 + [b"M"] * 6 + [b"T"] * 2)


def fill_trades(rows: Rows, run: Run) -> None:
    """Trades; the side is the aggressor's."""
    _fill_event(rows, run)
    buys = cut(run.bits, 17, 1)
    rows["action"] = b"T"
    rows["side"] = np.array([b"A", b"B"])[buys]
    rows["price"] = run.asks - run.scene.contract.product.tick * (1 - buys)
    # One to eight mostly, sometimes ten times that.
    rows["size"] = (1 + cut(run.bits, 14, 3)) * np.where(cut(run.bits, 18, 6) == 0, 10, 1)


def fill_quoted_trades(rows: Rows, run: Run) -> None:
    """Trades with the best bid and ask before them."""
    fill_trades(rows, run)
    _fill_levels(rows, run, 1)


def fill_book(rows: Rows, run: Run) -> None:
    """Changes of a book's levels, each with the levels after it."""
    _fill_event(rows, run)
    tick = run.scene.contract.product.tick
    levels = 10 if "bid_px_09" in (rows.dtype.names or ()) else 1
    bids = cut(run.bits, 17, 1)
    depth = cut(run.bits, 24, 4) % levels
    actions = _ACTIONS[cut(run.bits, 18, 6)]
    traded = actions == b"T"
    depth[traded] = 0
    away = tick * depth
    rows["action"] = actions
    rows["side"] = np.array([b"A", b"B"])[np.where(traded, 1 - bids, bids)]
    rows["price"] = np.where(bids == 1, run.asks - tick - away, run.asks + away)
    rows["size"] = 1 + cut(run.bits, 14, 3)
    if "depth" in (rows.dtype.names or ()):
        rows["depth"] = depth
    _fill_levels(rows, run, levels)


def fill_sampled(rows: Rows, run: Run) -> None:
    """The best bid and ask at each step, and the last trade before it."""
    buys = cut(run.bits, 17, 1)
    rows["ts_event"] = run.stamps - 1 - cut(run.bits, 0, 29)
    rows["flags"] = F_LAST
    rows["side"] = np.array([b"A", b"B"])[buys]
    rows["price"] = run.asks - run.scene.contract.product.tick * (1 - buys)
    rows["size"] = 1 + cut(run.bits, 14, 3)
    if "sequence" in (rows.dtype.names or ()):
        rows["sequence"] = _sequence(run)
    _fill_levels(rows, run, 1)


def fill_delay(rows: Rows, run: Run) -> None:
    """The exchange's own time lies 2 to 18 microseconds before the capture's."""
    rows["ts_event"] = run.stamps - 2000 - cut(run.bits, 0, 14)


def _fill_event(rows: Rows, run: Run) -> None:
    fill_delay(rows, run)
    rows["flags"] = F_LAST
    rows["ts_in_delta"] = 1000 + cut(run.bits, 0, 10)
    if "sequence" in (rows.dtype.names or ()):
        rows["sequence"] = _sequence(run)


def _sequence(run: Run) -> Int64s:
    numbers: Int64s = (run.indexes + 1) & 0xFFFF_FFFF
    return numbers


def _fill_levels(rows: Rows, run: Run, levels: int) -> None:
    names = rows.dtype.names or ()
    tick = run.scene.contract.product.tick
    for level in range(levels):
        rows[f"bid_px_{level:02d}"] = run.asks - tick * (level + 1)
        rows[f"ask_px_{level:02d}"] = run.asks + tick * level
        rows[f"bid_sz_{level:02d}"] = 1 + level + cut(run.bits, 20, 6)
        rows[f"ask_sz_{level:02d}"] = 1 + level + cut(run.bits, 26, 6)
        if f"bid_ct_{level:02d}" in names:
            rows[f"bid_ct_{level:02d}"] = rows[f"ask_ct_{level:02d}"] = 1 + level
        if f"bid_pb_{level:02d}" in names:
            publisher = run.scene.publisher_id
            rows[f"bid_pb_{level:02d}"] = rows[f"ask_pb_{level:02d}"] = publisher

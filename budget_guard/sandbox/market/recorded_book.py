"""An instrument's order book at an instant, from its recorded mbo records.

The book is only known from a clear or a snapshot on; what came before the file cannot be told.
"""

from __future__ import annotations

import numpy as np

from budget_guard.sandbox.market.model import NoSnapshot
from budget_guard.sandbox.market.recorded_table import Table
from budget_guard.sandbox.market.records import F_LAST, F_SNAPSHOT, Int64s, Rows

_CHUNK_ROWS = 2**19
_NO_PRICE = 2**63 - 1


class Book:
    """One instrument's book. It goes on from the last instant asked for when asked for a later one."""

    def __init__(self, table: Table, instrument_id: int) -> None:
        self._table = table
        self._instrument_id = instrument_id
        self._done = 0
        self._orders: Rows = table.rows[:0].copy()

    def at(self, at_ns: int) -> Rows:
        """The orders that rest before an instant, oldest first after a clear, as a snapshot marks them.

        Raises NoSnapshot when the records do not begin with a whole book.
        """
        count = self._table.count_before(self._instrument_id, at_ns)
        if not count:
            return self._orders[:0]
        self._check(self._rows(0, 1))
        if count < self._done:
            self._done, self._orders = 0, self._orders[:0]
        for low in range(self._done, count, _CHUNK_ROWS):
            self._take(self._rows(low, min(low + _CHUNK_ROWS, count)))
        self._done = count
        return self._as_snapshot(self._rows(count - 1, count), at_ns)

    def _rows(self, low: int, high: int) -> Rows:
        return self._table.rows_of(self._instrument_id, low, high)

    def _check(self, first: Rows) -> None:
        if first["action"][0] != b"R" and not int(first["flags"][0]) & F_SNAPSHOT:
            raise NoSnapshot(
                f"the recorded mbo of instrument {self._instrument_id} begins with neither a clear nor a "
                f"snapshot, so its book is not known"
            )

    def _take(self, rows: Rows) -> None:
        clears = np.flatnonzero(rows["action"] == b"R")
        if len(clears):
            self._orders = self._orders[:0]
            rows = rows[clears[-1] + 1 :]
        rows = rows[np.isin(rows["action"], (b"A", b"C", b"M"))]
        self._orders = resting(np.concatenate([self._orders, rows]))

    def _as_snapshot(self, last: Rows, at_ns: int) -> Rows:
        clear = last.copy()
        clear["action"], clear["side"], clear["order_id"], clear["size"] = b"R", b"N", 0, 0
        clear["price"] = _NO_PRICE
        rows = np.concatenate([clear, self._orders])
        rows["ts_recv"] = at_ns
        rows["flags"] = F_SNAPSHOT
        rows["flags"][-1] = F_SNAPSHOT | F_LAST
        return rows


def resting(rows: Rows) -> Rows:
    """What is left of orders after adds, cancels and modifications: an add for each, by priority.

    A cancel takes its size away. A modification sets price and size; a new price, or more size, costs an order its
    place in the queue, as the vendor's documentation of mbo says.
    """
    by_order = np.argsort(rows["order_id"], kind="stable")
    mine = rows[by_order]
    size: Int64s = mine["size"].astype(np.int64)
    cancels = mine["action"] == b"C"
    taken = np.cumsum(np.where(cancels, size, 0))
    sets = np.flatnonzero(~cancels)
    if not len(sets):
        return rows[:0]
    owner = mine["order_id"][sets]
    follows = np.append(False, owner[1:] == owner[:-1])
    before = np.append(0, sets[:-1])
    left_before = size[before] - (taken[sets] - taken[before])
    keeps = follows & (mine["price"][sets] == mine["price"][before]) & (size[sets] <= left_before)
    # The place in the queue is that of the last setting that did not keep the one before it.
    queued = sets[np.maximum.accumulate(np.where(keeps, 0, np.arange(len(sets))))]
    last = np.flatnonzero(np.append(owner[1:] != owner[:-1], True))
    ends = np.append(np.flatnonzero(np.diff(mine["order_id"]) != 0), len(mine) - 1)
    end_of = ends[np.searchsorted(mine["order_id"][ends], owner[last])]
    left = size[sets[last]] - (taken[end_of] - taken[sets[last]])
    alive = left > 0
    found = mine[sets[last]][alive]
    found["size"] = left[alive]
    found["action"] = b"A"
    order: Rows = found[np.argsort(by_order[queued[last][alive]], kind="stable")]
    return order

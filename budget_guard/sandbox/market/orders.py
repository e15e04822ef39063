"""The order flow of mbo: every order is added once and changed, filled or cancelled only while it rests.

A session is a Clear, the Adds of an opening book, and then blocks that run through one template of actions: what a
record does, and to which order, follows from its place, so any record is made from its index alone.

Prices hang on the best ask of the second in which a block begins. Near orders stand on it; far ones so deep that they
do not cross in the next block either, whose best ask is known as well. Hence bids are below asks, always.

A trade is one event of three records, Trade, Fill and Cancel, with one timestamp; F_LAST ends each event. Sequences
number the records of a session, so that a reader can see whether one is missing.
"""

from __future__ import annotations

import databento_dbn as dbn
import numpy as np

from budget_guard.sandbox.market.paths import asks_at
from budget_guard.sandbox.market.runs import F_LAST, F_SNAPSHOT, Rows, Run
from budget_guard.sandbox.market.seeds import Int64s, cut, mix_many
from budget_guard.sandbox.market.sessions import ALWAYS
from budget_guard.sandbox.market.tapes import TickTape
from budget_guard.sandbox.market.template import (
    ABOVE_BOTH,
    AT_ASK,
    BELOW_BOTH,
    BLOCK,
    OPENING,
    template,
)


class OrderTape:
    """A tick tape whose records of one event share the first one's timestamp."""

    def __init__(self, ticks: TickTape) -> None:
        self.ticks = ticks
        self.total = ticks.total

    def index_at(self, instant_ns: int) -> int:
        index = self.ticks.index_at(instant_ns)
        if OPENING < index < self.total:
            # The event that has begun is over: its other records have the same timestamp.
            tail = template().tail
            place = (index - OPENING) % BLOCK
            while tail[place] and index < self.total:
                index, place = index + 1, (place + 1) % BLOCK
        return index

    def stamps(self, first: int, last: int) -> Int64s:
        # An event may have begun up to two records before; blocks begin with an event.
        begin = max(0, first - 2)
        stamps = self.ticks.stamps(begin, last)
        indexes = np.arange(begin, last)
        inside = indexes >= OPENING
        tails = np.where(inside, template().tail[(indexes - OPENING) % BLOCK], 0)
        heads = np.maximum(np.arange(len(stamps)) - tails, 0)
        result: Int64s = stamps[heads][first - begin :]
        return result


def fill_orders(rows: Rows, run: Run) -> None:
    """The records of a run of an `OrderTape`."""
    steps = template()
    tape = run.tape
    assert isinstance(tape, OrderTape)
    tick = run.scene.contract.product.tick
    blocks, places = np.divmod(run.indexes - OPENING, BLOCK)
    opening = run.first < OPENING
    if opening:
        blocks = np.maximum(blocks, -1)
        # The opening book is what a block before the first one would have left.
        numbers = np.clip(run.indexes - 1, 0, len(steps.far) - 1)
        places = np.where(blocks < 0, steps.far[numbers], places)
    back = steps.back[places]
    born, born_block = steps.born[places], blocks - back
    born_index = OPENING + born_block * BLOCK + born
    if run.first < OPENING + BLOCK:
        born_index = np.where(born_block < 0, 1 + steps.far_number[born], born_index)
    changed, offset = steps.changed[places], steps.offset[places]
    if opening:
        of_far = steps.far_changed[steps.far_number[born]]
        side_step = np.where(steps.order_side[places] == b"A", 1, -1)
        offset = np.where(blocks < 0, offset + side_step * of_far, offset)
        changed = np.where(blocks < 0, of_far, changed)
    anchors = _anchors(run, tape.ticks, int(blocks[0]) - 1, int(blocks[-1]) + 1)
    rows["price"] = anchors[born_block - (int(blocks[0]) - 1), steps.anchor[places]] + tick * offset
    sizes = mix_many(run.scene.own ^ 0xA5A5, born_index)
    rows["size"] = 1 + np.where(changed == 1, cut(sizes, 8, 3), cut(sizes, 0, 4) & cut(sizes, 16, 4))
    rows["order_id"] = _order_base(run) + born_index
    rows["action"] = steps.action[places]
    rows["side"] = steps.order_side[places]
    rows["flags"] = np.where(steps.ends_event[places], F_LAST, 0)
    rows["sequence"] = (run.indexes + 1) & 0xFFFF_FFFF
    rows["ts_event"] = run.stamps - 2000 - (run.stamps & 0x3FFF)
    rows["ts_in_delta"] = 1000 + (run.stamps & 0x3FF)
    _mark(rows, run, opening)


def _mark(rows: Rows, run: Run, opening: bool) -> None:
    """What is told by its action or its place in the session: trades, the Clear, the session's last record."""
    trades = rows["action"] == b"T"
    rows["order_id"][trades] = 0
    # A trade's side is the aggressor's, a fill's the resting order's.
    rows["side"][trades] = np.where(rows["side"][trades] == b"A", b"B", b"A")
    if opening and run.first == 0:
        rows["action"][0] = b"R"
        rows["side"][0] = b"N"
        rows["price"][0] = dbn.UNDEF_PRICE
        rows["size"][0] = rows["order_id"][0] = 0
    if run.last == run.tape.total:
        rows["flags"][-1] = F_LAST


def _order_base(run: Run) -> int:
    """Order ids begin with the session's number: those of two sessions of one contract never meet."""
    session = run.scene.session
    return (session.label.toordinal() + (2**20 if session.calendar == ALWAYS else 0)) << 40


def _anchors(run: Run, ticks: TickTape, first: int, last: int) -> Int64s:
    """What the prices of the orders of blocks `[first, last]` hang on, a row for each block."""
    starts = np.clip(OPENING + BLOCK * np.arange(first, last + 2), 0, ticks.total - 1)
    asks = asks_at(run.scene.seed, run.scene.contract, ticks.stamps_at(starts))
    anchors = np.empty((len(asks) - 1, 3), dtype=np.int64)
    anchors[:, AT_ASK] = asks[:-1]
    anchors[:, BELOW_BOTH] = np.minimum(asks[:-1], asks[1:])
    anchors[:, ABOVE_BOTH] = np.maximum(asks[:-1], asks[1:])
    return anchors


def book_window(index: int) -> int:
    """From which record on the orders that rest after `index` records were added."""
    block = (index - 1 - OPENING) // BLOCK
    return max(0, OPENING + (block - 1) * BLOCK)


def resting_orders(rows: Rows) -> Rows:
    """The orders that rest after some records, each as its Add, in the order in which they were added."""
    book: dict[int, np.void] = {}
    for row in rows:
        number = int(row["order_id"])
        if row["action"] == b"A" or (row["action"] == b"M" and number in book):
            book[number] = row
        elif row["action"] == b"C":
            book.pop(number, None)
        elif row["action"] == b"R":
            book.clear()
    return np.array(list(book.values()), dtype=rows.dtype)


def snapshot_rows(clear: Rows, resting: Rows, at_ns: int) -> Rows:
    """A Clear and an Add for each resting order, marked as a snapshot; `clear` is a session's first record."""
    rows = np.concatenate([clear, resting])
    rows["action"][1:] = b"A"
    rows["flags"] = F_SNAPSHOT
    rows["flags"][-1] = F_SNAPSHOT | F_LAST
    rows["ts_recv"] = at_ns
    rows["ts_event"][0] = at_ns
    return rows

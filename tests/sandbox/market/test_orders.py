"""The order flow: an ordinary book builder runs over it without a word."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.market.model import Selection
from budget_guard.sandbox.market.sessions import MINUTE_NS, Session, session_on
from budget_guard.sandbox.market.synthetic import Market
from tests.sandbox.market.book import F_LAST, F_SNAPSHOT, Book

MBO = Selection("GLBX.MDP3", "mbo", ("NQ.v.0",), "continuous")
MARKET = Market(0, {("mbo", "NQ"): 4000})
BUSY = Market(0, rate=2000)


def session(label: date = date(2026, 11, 18)) -> Session:
    found = session_on("cme", label)
    assert found is not None
    return found


def rows_of(market: Market, start_ns: int, end_ns: int, selection: Selection = MBO) -> np.ndarray:
    return np.concatenate([part.rows for part in market.parts(selection, start_ns, end_ns)])


WHOLE = rows_of(MARKET, session().start_ns, session().end_ns)


def test_a_book_built_over_a_whole_session_is_never_crossed_nor_surprised() -> None:
    """Every change, fill and cancel names an order that rests; every trade is at the best price."""
    book = Book()
    for record in WHOLE:
        book.take(record)
    assert book.cleared == 1
    assert book.trades > 0.02 * len(WHOLE)
    assert 60 < book.widest < 400
    assert sum(book.best(side) is not None for side in "AB") == 2


def test_a_session_starts_with_a_clear() -> None:
    """The first record of every session empties the book; no other one does."""
    assert WHOLE["action"][0] == b"R"
    assert (WHOLE["action"] == b"R").sum() == 1


def test_order_ids_are_added_once() -> None:
    """No two adds have the same id, over sessions of several days and contracts."""
    selection = Selection("GLBX.MDP3", "mbo", ("NQ.v.0", "ES.v.0"), "continuous")
    market = Market(0, {("mbo", "NQ"): 3000, ("mbo", "ES"): 3000})
    for part_of in ("NQ", "ES"):
        one = Selection("GLBX.MDP3", "mbo", (f"{part_of}.v.0",), "continuous")
        rows = rows_of(market, session().start_ns, session().end_ns + 2 * 1440 * MINUTE_NS, one)
        ids = rows["order_id"][rows["action"] == b"A"]
        assert len(np.unique(ids)) == len(ids) > 2000
    assert market.count(selection, session().start_ns, session().end_ns) > 0


def test_a_trade_is_one_event() -> None:
    """Trade, fill and cancel share their timestamps; only the cancel ends the event."""
    at = np.flatnonzero(WHOLE["action"] == b"T")
    at = at[at + 2 < len(WHOLE)]
    assert len(at) > 50
    for name in ("ts_recv", "ts_event", "price", "size"):
        assert np.array_equal(WHOLE[name][at], WHOLE[name][at + 2])
        assert np.array_equal(WHOLE[name][at], WHOLE[name][at + 1])
    assert set(WHOLE["action"][at + 1]) == {b"F"} and set(WHOLE["action"][at + 2]) == {b"C"}
    assert not (WHOLE["flags"][at] & F_LAST).any() and not (WHOLE["flags"][at + 1] & F_LAST).any()
    assert (WHOLE["flags"][at + 2] & F_LAST).all()
    assert np.all(WHOLE["side"][at] != WHOLE["side"][at + 1])
    assert set(WHOLE["order_id"][at]) == {0}


def test_sequences_and_times_never_go_back() -> None:
    """Records are in the order of their time of receipt, and numbered in it."""
    assert np.all(np.diff(WHOLE["ts_recv"].astype(np.int64)) >= 0)
    assert WHOLE["sequence"].tolist() == list(range(1, len(WHOLE) + 1))


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 700))
@settings(max_examples=80)
def test_any_record_is_made_from_its_index(first: int, length: int) -> None:
    """A slice of a session, cut anywhere, has the bytes that the whole has there."""
    (stream,) = MARKET.streams(MBO, session().label)
    last = min(first + length, len(WHOLE))
    assert MARKET.rows(stream, session(), first, last).tobytes() == WHOLE[first:last].tobytes()


@given(st.integers(0, len(WHOLE) - 1), st.integers(-1, 1))
@settings(max_examples=80)
def test_an_event_is_counted_whole(index: int, offset: int) -> None:
    """What comes before an instant is counted as what has an earlier timestamp, also amid an event."""
    instant = int(WHOLE["ts_recv"][index]) + offset
    before = int((WHOLE["ts_recv"].astype(np.int64) < instant).sum())
    assert MARKET.count(MBO, session().start_ns, instant) == before


@given(st.integers(0, len(WHOLE)), st.integers(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_snapshot_is_the_book_at_its_instant(index: int, offset: int) -> None:
    """Whoever starts from a snapshot has the orders of a reader from the session's start, and goes on with them."""
    at_ns = int(WHOLE["ts_recv"][index]) + offset if index < len(WHOLE) else session().end_ns - 1
    whole, late = Book(), Book()
    rest = [record for record in WHOLE if record["ts_recv"] >= at_ns]
    for record in WHOLE[: len(WHOLE) - len(rest)]:
        whole.take(record)
    (part,) = MARKET.snapshot(MBO, at_ns)
    assert part.rows["action"][0] == b"R" and set(part.rows["action"][1:]) <= {b"A"}
    assert set(part.rows["flags"][:-1]) <= {F_SNAPSHOT}
    assert part.rows["flags"][-1] == F_SNAPSHOT | F_LAST
    for record in part.rows:
        late.take(record)
    assert late.orders == whole.orders
    for record in rest[:300]:
        late.take(record)


def test_a_closed_market_has_no_snapshot() -> None:
    """At the weekend there is no book."""
    assert MARKET.snapshot(MBO, ns_from_instant(datetime(2026, 11, 21, 12, tzinfo=UTC))) == []


def test_a_market_at_a_rate_is_a_book_too() -> None:
    """From the minute of its start on, and again at every midnight, the book is cleared and built anew."""
    since = ns_from_instant(datetime(2026, 11, 18, 23, 59, tzinfo=UTC))
    market = Market(0, rate=100, since_ns=since)
    book = Book()
    for record in rows_of(market, since, since + 3 * MINUTE_NS):
        book.take(record)
    assert book.cleared == 2
    assert book.trades > 100


def test_a_firehose_block_is_a_book() -> None:
    """A block starts with a Clear, so it can be sent again and again."""
    (part,) = BUSY.blocks(MBO, session().start_ns, 3000)
    book = Book()
    for record in part.rows:
        book.take(record)
    assert book.cleared == 1


@pytest.mark.parametrize("total", [1, 2, 80, 81, 82, 120, 337, 338, 339])
def test_a_short_session_is_a_whole_one(total: int) -> None:
    """However few records a session has, it begins with a Clear and its last record ends an event."""
    market = Market(0, rate=1)
    (stream,) = market.streams(MBO, date(2026, 11, 18))
    day = next(market.sessions("GLBX.MDP3", "mbo", session().end_ns - 1, session().end_ns))
    short = Session(day.calendar, day.label, day.start_ns, day.start_ns + MINUTE_NS * -(-total // 60))
    book = Book()
    rows = market.rows(stream, short, 0, market.total(stream, short))
    for record in rows:
        book.take(record)
    assert rows["flags"][-1] == F_LAST

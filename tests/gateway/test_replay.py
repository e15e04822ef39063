"""After a loss, a replay and the tail together give every record exactly once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.gateway.live.replay import TAIL_BYTES, Deduplicator, Tail
from budget_guard.gateway.wire.framer import ts_index
from tests.gateway.fake_gateway import error, order, replay_completed
from tests.gateway.versions import in_version

MAPPING = bytes([44, 0x16]) + bytes(174)


def sent(record: bytes, when: int, *, ts_out: bool) -> bytes:
    """A record as it is sent: with ts_out it ends differently each time."""
    return in_version(record, ts_out=True)[:-8] + when.to_bytes(8, "little") if ts_out else record


# Few timestamps and few values: bursts of one instant, with records that are equal to the byte.
market = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), min_size=1, max_size=30).map(
    lambda rows: [order(1000 + stamp, value) for stamp, value in sorted(rows, key=lambda row: row[0])]
)


@given(market, st.data(), st.booleans())
def test_every_record_comes_once_and_in_order_wherever_the_break_is(
    records: list[bytes], data: st.DataObject, ts_out: bool
) -> None:
    broken_at = data.draw(st.integers(1, len(records)))
    piece = data.draw(st.integers(1, 7))
    tail = Tail()
    before = [sent(record, 1, ts_out=ts_out) for record in records[:broken_at]]
    for start in range(0, len(before), piece):
        part = before[start : start + piece]
        tail.remember(b"".join(part), ts_index(part[-1], 0))
    assert tail.last_ts_ns is not None
    dedup = Deduplicator(tail.last_ts_ns, tail.at_last_ts(), ts_out=ts_out)
    # The vendor replays from the last timestamp on: everything of that instant, and everything after.
    again = [sent(one, 2, ts_out=ts_out) for one in records if ts_index(one, 0) >= tail.last_ts_ns]
    after = b"".join(
        dedup.filter(b"".join(again[start : start + piece])) for start in range(0, len(again), piece)
    )
    size = 64 if ts_out else 56
    got = before + [after[at : at + size] for at in range(0, len(after), size)]
    assert [one[:56] for one in got] == [sent(one, 1, ts_out=ts_out)[:56] for one in records]


def test_a_replay_that_begins_too_early_repeats_nothing() -> None:
    records = [order(stamp, stamp) for stamp in range(1, 20)]
    dedup = Deduplicator(10, Tail().at_last_ts(), ts_out=False)
    assert dedup.filter(b"".join(records)) == b"".join(records[9:])


def test_a_later_timestamp_does_not_end_the_search_for_repetitions() -> None:
    """Another subscription's replay may still be on its way."""
    tail = Tail()
    tail.remember(order(10, 1), 10)
    dedup = Deduplicator(10, tail.at_last_ts(), ts_out=False)
    assert dedup.filter(order(11, 2)) == order(11, 2)
    assert dedup.filter(order(9, 3) + order(12, 4)) == order(12, 4)


def test_mappings_pass_and_what_was_meant_for_the_relay_does_not() -> None:
    dedup = Deduplicator(10, Tail().at_last_ts(), ts_out=False)
    assert dedup.filter(MAPPING + replay_completed() + error("aged out", 8) + MAPPING) == MAPPING * 2


def test_the_tail_forgets_what_is_old_but_never_its_last_piece() -> None:
    tail = Tail()
    big = b"".join(order(1, value) for value in range(TAIL_BYTES // 56 + 1))
    tail.remember(big, 1)
    assert len(tail.at_last_ts()) == len(big) // 56
    tail.remember(order(2, 1), 2)
    tail.remember(big.replace((1).to_bytes(8, "little"), (2).to_bytes(8, "little")), 2)
    assert tail._size < 2 * len(big) + 56


@pytest.mark.parametrize("stamp", [None, 5])
def test_the_last_timestamp_never_goes_back(stamp: int | None) -> None:
    tail = Tail()
    tail.remember(order(10, 1), 10)
    tail.remember(order(5, 1), stamp)
    assert tail.last_ts_ns == 10

"""DBN framing: the records are the same however the bytes come, and the offsets are those of the vendor's own types."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import databento_dbn as dbn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.gateway.wire.framer import (
    CONTROL_RTYPES,
    METADATA_MAX_BYTES,
    UNDEF_TIMESTAMP,
    Framed,
    Framer,
    FramingError,
    split_records,
    ts_index,
)
from tests.gateway.fake_gateway import metadata, order, replay_completed

HEADER = metadata()

# Every schema, and the type of its records.
TYPES: dict[str, Any] = {
    "mbo": dbn.MBOMsg,
    "mbp-1": dbn.MBP1Msg,
    "mbp-10": dbn.MBP10Msg,
    "tbbo": dbn.MBP1Msg,
    "trades": dbn.TradeMsg,
    "bbo-1s": dbn.BBOMsg,
    "bbo-1m": dbn.BBOMsg,
    "cmbp-1": dbn.CMBP1Msg,
    "cbbo-1s": dbn.CBBOMsg,
    "cbbo-1m": dbn.CBBOMsg,
    "tcbbo": dbn.CMBP1Msg,
    "ohlcv-1s": dbn.OHLCVMsg,
    "ohlcv-1m": dbn.OHLCVMsg,
    "ohlcv-1h": dbn.OHLCVMsg,
    "ohlcv-1d": dbn.OHLCVMsg,
    "ohlcv-eod": dbn.OHLCVMsg,
    "definition": dbn.InstrumentDefMsg,
    "statistics": dbn.StatMsg,
    "status": dbn.StatusMsg,
    "imbalance": dbn.ImbalanceMsg,
}

# Types that a live session may carry, with the lengths that they have; some of one type and several lengths.
LENGTHS = [
    (0xA0, 56),
    (0xA0, 64),
    (0x00, 48),
    (0x0A, 368),
    (0x17, 320),
    (0x16, 176),
    (0x13, 520),
    (0x15, 320),
]
shapes = st.lists(
    st.tuples(st.sampled_from(LENGTHS), st.integers(1, 40)), max_size=12
)  # runs: a shape and how often


def record(rtype: int, length: int, stamp: int) -> bytes:
    body = bytearray(length)
    body[0], body[1] = length // 4, rtype
    for offset in range(8, length - 7, 8):
        body[offset : offset + 8] = stamp.to_bytes(8, "little")
    return bytes(body)


def stream_of(runs: list[tuple[tuple[int, int], int]]) -> list[bytes]:
    shapes_in_order = [shape for shape, times in runs for _ in range(times)]
    return [record(rtype, length, stamp) for stamp, (rtype, length) in enumerate(shapes_in_order, 1)]


def feed(pieces: list[bytes]) -> Framed:
    """What a framer says of a stream in pieces, summed up."""
    framer, total = Framer(), Framed()
    records = []
    for piece in pieces:
        framed = framer.feed(piece)
        records.append(framed.records)
        assert split_records(framed.records) is not None
        assert sum(kind[0] * 4 * times for kind, times in framed.count_by_kind.items()) == len(framed.records)
        total.metadata = framed.metadata or total.metadata
        total.billable_bytes += framed.billable_bytes
        total.control_bytes += framed.control_bytes
        total.last_ts_ns = framed.last_ts_ns or total.last_ts_ns
        total.begun = framed.begun
        for kind, times in framed.count_by_kind.items():
            total.count_by_kind[kind] = total.count_by_kind.get(kind, 0) + times
    total.records = b"".join(records)
    return total


def expected(records: list[bytes], rest: bytes) -> Framed:
    """The same by the plainest of loops."""
    data = [one for one in records if one[1] not in CONTROL_RTYPES]
    return Framed(
        metadata=HEADER,
        records=b"".join(records),
        billable_bytes=sum(map(len, records)) + len(rest),
        control_bytes=sum(len(one) for one in records if one[1] in CONTROL_RTYPES),
        count_by_kind=Counter(one[:2] for one in records),
        last_ts_ns=ts_index(data[-1], 0) if data else None,
        begun=rest,
    )


@given(shapes, st.integers(0, 55), st.randoms(use_true_random=False))
def test_records_are_the_same_however_the_stream_is_cut(
    runs: list[tuple[tuple[int, int], int]], part: int, chance: random.Random
) -> None:
    records = stream_of(runs)
    rest = order(1)[:part]
    stream = HEADER + b"".join(records) + rest
    cuts = sorted(chance.randint(0, len(stream)) for _ in range(chance.randint(0, 8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert feed(pieces) == feed([stream]) == expected(records, rest)


@given(st.lists(shapes, max_size=8))
def test_records_are_the_same_where_every_read_ends_with_one(
    reads: list[list[tuple[tuple[int, int], int]]],
) -> None:
    records = stream_of([run for runs in reads for run in runs])
    rest = iter(records)
    pieces = [b"".join(next(rest) for _, times in runs for _ in range(times)) for runs in reads]
    assert feed([HEADER, *pieces]) == expected(records, b"")


@pytest.mark.parametrize(
    ("at", "value", "kinds"),
    [(0, 28, {b"\x0e\xa0": 2, b"\x1c\xa0": 1}), (1, 0x00, {b"\x0e\xa0": 3, b"\x0e\x00": 1})],
)
def test_a_record_of_another_kind_is_seen_in_a_read_like_the_last(
    at: int, value: int, kinds: dict[bytes, int]
) -> None:
    """Its length, or its type: whatever else is as in the read before."""
    sound = record(0xA0, 56, 1)
    other = bytearray(sound)
    other[at] = value
    framer = Framer()
    framer.feed(HEADER + sound * 4)
    assert framer.feed(sound + bytes(other) + sound * 2).count_by_kind == kinds


def test_a_read_that_looks_like_a_record_may_be_the_middle_of_two() -> None:
    one = bytearray(record(0xA0, 56, 1))
    one[8:10] = one[:2]
    framer = Framer()
    framer.feed(HEADER + record(0xA0, 56, 1) + one[:8])
    framed = framer.feed(bytes(one[8:] + one[:8]))
    assert (framed.records, framed.begun) == (bytes(one), bytes(one[:8]))


@given(st.lists(st.sampled_from(LENGTHS), max_size=120), st.integers(0, 55), st.integers(1, 4000))
def test_records_of_alternating_types_are_the_same_however_the_stream_is_cut(
    kinds: list[tuple[int, int]], part: int, piece: int
) -> None:
    records = stream_of([(kind, 1) for kind in kinds])
    rest = order(1)[:part]
    stream = HEADER + b"".join(records) + rest
    pieces = [stream[at : at + piece] for at in range(0, len(stream), piece)]
    assert feed(pieces) == feed([stream]) == expected(records, rest)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_record_shorter_than_its_header_is_an_error_among_alternating_ones_too(length: int) -> None:
    records = stream_of([(shape, 1) for shape in LENGTHS * 4])
    framer = Framer()
    framer.feed(HEADER)
    with pytest.raises(FramingError, match=f"a record of {length * 4} bytes"):
        framer.feed(b"".join(records) + bytes([length]) + b"\xa0" + bytes(60) + b"".join(records))


def test_more_kinds_of_records_than_are_remembered_are_framed_the_same() -> None:
    kinds = [(rtype, 16 + 4 * (rtype % 50)) for rtype in range(0x20, 0x90)] * 2
    records = stream_of([(kind, 1) for kind in kinds])
    assert feed([HEADER + b"".join(records)]) == expected(records, b"")


def test_a_stream_that_comes_byte_by_byte_is_framed_the_same() -> None:
    records, rest = stream_of([(shape, 2) for shape in LENGTHS]), order(1)[:17]
    stream = HEADER + b"".join(records) + rest
    assert feed([stream[at : at + 1] for at in range(len(stream))]) == expected(records, rest)


def test_long_runs_of_one_type_are_walked_to_their_end() -> None:
    """Runs are measured in bounded steps: none of the steps may be the last by accident."""
    for length in (15, 16, 17, 63, 64, 65, 79, 80, 81, 100_000):
        records = stream_of([((0xA0, 56), length), ((0x17, 320), 1), ((0xA0, 56), 1)])
        framed = feed([HEADER + b"".join(records)])
        assert framed.count_by_kind == {b"\x0e\xa0": length + 1, b"\x50\x17": 1}
        assert framed.last_ts_ns == length + 2


@pytest.mark.parametrize("schema", list(dbn.Schema.variants()))
def test_the_timestamp_is_where_the_vendors_own_type_has_it(schema: dbn.Schema) -> None:
    message = TYPES[str(schema)]
    fields = np.dtype(message._dtypes)
    name = "ts_recv" if "ts_recv" in (fields.names or ()) else "ts_event"
    row = np.zeros(1, dtype=fields)
    row["length"], row["rtype"] = fields.itemsize // 4, dbn.RType.from_schema(schema).__index__()
    row[name] = 1_700_000_000_000_000_123
    assert ts_index(row.tobytes(), 0) == 1_700_000_000_000_000_123
    framed = Framer()
    framed.feed(HEADER)
    assert framed.feed(row.tobytes()).last_ts_ns == 1_700_000_000_000_000_123


def test_a_record_without_a_timestamp_moves_nothing() -> None:
    framer = Framer()
    framer.feed(HEADER)
    assert framer.feed(order(UNDEF_TIMESTAMP)).last_ts_ns is None
    assert framer.feed(order(1)).last_ts_ns == 1
    assert framer.feed(order(UNDEF_TIMESTAMP)).last_ts_ns is None
    assert framer.feed(replay_completed()).last_ts_ns is None


def test_bytes_that_follow_the_header_are_billable_and_the_header_is_not() -> None:
    framed = Framer().feed(HEADER + order(5) + b"\x0e")
    assert (framed.metadata, framed.billable_bytes, framed.records) == (HEADER, 57, framed.records[:56])


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_record_shorter_than_its_own_header_is_an_error(length: int) -> None:
    framer = Framer()
    framer.feed(HEADER + order(1))
    with pytest.raises(FramingError, match=f"a record of {length * 4} bytes"):
        framer.feed(bytes([length]) + b"\xa0" + bytes(60))


@pytest.mark.parametrize("start", [b"HTTP/1.1", b"DBX", b"DX", b"\x00"])
def test_a_stream_that_does_not_start_as_dbn_is_an_error_at_once(start: bytes) -> None:
    with pytest.raises(FramingError, match="not DBN"):
        Framer().feed(start)


def test_a_header_that_claims_to_be_huge_is_an_error_and_not_collected() -> None:
    with pytest.raises(FramingError, match="a metadata header of"):
        Framer().feed(b"DBN\x03" + METADATA_MAX_BYTES.to_bytes(4, "little"))


def test_a_stream_could_end_only_between_records() -> None:
    framer = Framer()
    assert not framer.between_records
    framer.feed(HEADER[:-1])
    assert not framer.between_records
    framer.feed(HEADER[-1:])
    assert framer.between_records
    framer.feed(order(1)[:10])
    assert not framer.between_records
    framer.feed(order(1)[10:])
    assert framer.between_records


@pytest.mark.parametrize("cut", [1, 15, 55])
def test_splitting_wants_whole_records(cut: int) -> None:
    with pytest.raises(FramingError):
        split_records(order(1) + order(2)[:cut])


@given(shapes, st.integers(0, 55), st.integers(1, 5000))
def test_a_read_that_fits_ends_with_a_record_when_those_like_the_last_go_on(
    runs: list[tuple[tuple[int, int], int]], part: int, size: int
) -> None:
    """And is never longer than it may be, nor empty."""
    framer = Framer()
    framer.feed(HEADER + b"".join(stream_of([*runs, ((0xA0, 56), 1)])) + order(1)[:part])
    fitting = framer.fitting(size)
    assert 0 < fitting <= size
    if size >= 112:
        framer.feed((order(1) * (size // 56 + 2))[part : part + fitting])
        assert framer.between_records


def test_before_the_first_record_any_read_fits() -> None:
    framer = Framer()
    assert framer.fitting(100) == 100
    framer.feed(HEADER)
    assert framer.fitting(100) == 100

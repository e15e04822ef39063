"""The market model: any question about a range has one answer, however it is asked."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.market.model import Selection
from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.market.sessions import MINUTE_NS, session_on
from budget_guard.sandbox.market.synthetic import Market, TickTape
from budget_guard.sandbox.market.universe import Product

PRODUCT = Product("NQ", "future", 1000, 25_000 * 10**9, 25 * 10**7)
MARKET = Market(0)
MINUTES = st.lists(st.integers(0, 400), min_size=1, max_size=8)


def ns(text: str) -> int:
    return ns_from_instant(datetime.fromisoformat(text).replace(tzinfo=UTC))


def selection(schema: str = "mbo", *symbols: str, stype_in: str = "continuous") -> Selection:
    return Selection("GLBX.MDP3", schema, symbols or ("NQ.v.0",), stype_in)


def tape(counts: list[int], seed: int = 7) -> TickTape:
    return TickTape(seed, 10**18, np.concatenate([[0], np.cumsum(counts)]), PRODUCT)


@given(MINUTES, st.integers(0, 2**64 - 1), st.integers(-MINUTE_NS, 9 * MINUTE_NS))
@settings(max_examples=100)
def test_counting_agrees_with_making(counts: list[int], seed: int, offset: int) -> None:
    """The number of records before an instant is what making them all and looking would give."""
    made = tape(counts, seed)
    stamps = made.draw(0, made.total).stamps if made.total else np.array([], dtype=np.int64)
    instant = 10**18 + offset
    assert made.index_at(instant) == np.searchsorted(stamps, instant, side="left")


@given(MINUTES.filter(any), st.integers(0, 2**64 - 1), st.data())
@settings(max_examples=100)
def test_counting_is_exact_at_every_record(counts: list[int], seed: int, data: st.DataObject) -> None:
    """At a record's own instant it is not yet counted, a nanosecond later it is."""
    made = tape(counts, seed)
    stamps = made.draw(0, made.total).stamps
    place = data.draw(st.integers(0, made.total - 1))
    instant = int(stamps[place])
    assert made.index_at(instant) == np.searchsorted(stamps, instant, side="left")
    assert made.index_at(instant + 1) == np.searchsorted(stamps, instant, side="right")


@given(MINUTES.filter(any), st.data())
@settings(max_examples=60)
def test_a_part_is_a_slice_of_the_whole(counts: list[int], data: st.DataObject) -> None:
    """Making a few records gives the same ones as making all."""
    made = tape(counts)
    first = data.draw(st.integers(0, made.total - 1))
    last = data.draw(st.integers(first + 1, made.total))
    whole, part = made.draw(0, made.total), made.draw(first, last)
    assert np.array_equal(part.stamps, whole.stamps[first:last])
    assert np.array_equal(part.bits, whole.bits[first:last])
    assert np.array_equal(part.mids, whole.mids[first:last])


@pytest.mark.parametrize("schema", sorted(SPECS))
def test_records_are_as_many_as_counted_in_order_and_in_range(schema: str) -> None:
    """What is read from a range is what was counted, sorted, and none lies outside."""
    dataset, symbol = (
        ("OPRA.PILLAR", "SPY.OPT") if "c" in schema.split("-")[0][:1] else ("GLBX.MDP3", "NQ.FUT")
    )
    chosen = Selection(dataset, schema, (symbol,), "parent")
    start, end = ns("2026-11-18T14:59:30.000000123"), ns("2026-11-19T15:01:00.000456789")
    if SPECS[schema].kind == "tick":
        end = start + 150 * 10**9
    parts = MARKET.parts(chosen, start, end)
    assert sum(len(part.rows) for part in parts) == MARKET.count(chosen, start, end) > 0
    for part in parts:
        stamps = part.rows[SPECS[schema].index_field].astype(np.int64)
        assert np.all(np.diff(stamps) >= 0)
        assert start <= stamps[0] <= stamps[-1] < end


@given(st.integers(0, 5 * 86_400), st.integers(0, 5 * 86_400), st.integers(0, 5 * 86_400))
@settings(max_examples=60)
def test_counts_of_neighbouring_ranges_add_up(one: int, two: int, three: int) -> None:
    """Splitting a range anywhere changes nothing about how much is in it."""
    a, b, c = (ns("2026-11-18T00:00:00") + second * 10**9 for second in sorted((one, two, three)))
    chosen = selection("trades", "NQ.v.0", "ES.v.0")
    assert MARKET.count(chosen, a, b) + MARKET.count(chosen, b, c) == MARKET.count(chosen, a, c)


@given(st.integers(1, 2 * 10**9 - 1))
@settings(max_examples=40)
def test_how_a_range_is_read_changes_no_byte(offset: int) -> None:
    """Read in two parts, cut anywhere (midnight included), a range has the same records as read at once."""
    start = ns("2026-11-17T23:59:59")
    for schema in ("mbo", "ohlcv-1s"):
        whole = MARKET.parts(selection(schema), start, start + 2 * 10**9)
        halves = [
            part.rows.tobytes()
            for bounds in ((start, start + offset), (start + offset, start + 2 * 10**9))
            for part in MARKET.parts(selection(schema), *bounds)
        ]
        assert b"".join(halves) == whole[0].rows.tobytes()


def test_a_weekend_is_empty() -> None:
    """From Friday 17:00 to Sunday 18:00 New York time there is nothing."""
    assert MARKET.count(selection(), ns("2026-11-20T22:00:00"), ns("2026-11-22T23:00:00")) == 0
    assert MARKET.count(selection(), ns("2026-11-22T23:00:00"), ns("2026-11-22T23:05:00")) > 0


def test_a_seed_is_a_market() -> None:
    """The same seed gives the same records, another one gives others."""
    start, end = ns("2026-11-18T14:30:00"), ns("2026-11-18T14:30:05")
    one, same, other = (Market(seed).parts(selection(), start, end)[0].rows for seed in (3, 3, 4))
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()


def test_days_differ_around_the_ordinary_session() -> None:
    """A session's records lie between 67.5% and 137.5% of the ordinary volume, and not all on one figure."""
    totals = []
    for offset in range(30):
        session = session_on("cme", date(2026, 11, 2) + timedelta(days=offset))
        if session is not None:
            (stream,) = MARKET.streams(selection(), session.label)
            totals.append(MARKET.total(stream, session) / MARKET.ordinary_volume(stream))
    assert 0.675 <= min(totals) < 0.9 < 1.1 < max(totals) <= 1.375


def test_the_whole_dataset_weighs_what_was_reported() -> None:
    """An ordinary session of all GLBX.MDP3 mbo is about 15.9 GiB: the case behind a 720 dollar month."""
    streams = MARKET.streams(selection("mbo", "ALL_SYMBOLS"), date(2026, 11, 18))
    size = sum(MARKET.ordinary_volume(stream) for stream in streams) * SPECS["mbo"].size
    assert size / 2**30 == pytest.approx(15.9, rel=0.02)


def test_volumes_can_be_set() -> None:
    """A configured volume is the ordinary session's."""
    (stream,) = MARKET.streams(selection(), date(2026, 11, 18))
    assert Market(0, {("mbo", "NQ"): 1234}).ordinary_volume(stream) == 1234


def test_a_rate_is_kept_around_the_clock() -> None:
    """With a rate every minute has sixty times as many records, weekends too."""
    market = Market(0, rate=25)
    start = ns("2026-11-21T03:00:00")
    assert [
        market.count(selection(), start + m * MINUTE_NS, start + (m + 1) * MINUTE_NS) for m in range(3)
    ] == [1500] * 3

"""After a loss, a replay and what is remembered together give every record exactly once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.gateway.live.delivered import DISORDER_NS, TAIL_BYTES, Tail
from budget_guard.gateway.live.recovery import (
    MARGIN_MAX_NS,
    REACH_NS,
    SLACK_NS,
    comes_too_late,
    had_until_ns,
    replay_start_ns,
)
from budget_guard.gateway.live.replay import REPLAY_OVERDUE_NS, CatchUp, Replayed
from budget_guard.gateway.wire.framer import CONTROL_RTYPES, Framed, Framer, split_records, ts_index
from budget_guard.gateway.wire.shapes import SHAPES, replay_stamp
from tests.gateway.fake_gateway import NOW_NS, error, metadata, order, replay_completed
from tests.gateway.versions import in_version

MAPPING = bytes([44, 0x16]) + bytes(174)
SCHEMAS = ("mbo", "trades", "status", "bbo-1s")
MS = 10**6


def made(schema: str, ts_ns: int, value: int, *, instrument: int = 1, event_ns: int | None = None) -> bytes:
    """A record of a schema, long enough for its timestamp."""
    rtype = SHAPES[schema].rtype
    record = bytearray(order(ts_ns, value))
    record[1] = rtype
    record[4:8] = instrument.to_bytes(4, "little")
    record[8:16] = (ts_ns if event_ns is None else event_ns).to_bytes(8, "little")
    record[16:40] = bytes(24)
    record[48:56] = value.to_bytes(8, "little")
    for offset in (40, 32, 16):
        record[offset : offset + 8] = ts_ns.to_bytes(8, "little")
    return bytes(record)


def framed(records: list[bytes]) -> Framed:
    framer = Framer()
    framer.feed(metadata())
    return framer.feed(b"".join(records))


def remember(tail: Tail, records: list[bytes], piece: int = 3) -> None:
    for at in range(0, len(records), piece):
        one = framed(records[at : at + piece])
        tail.remember(one.records, one.rtypes, one.last_ts_ns)


def catch_up_from(tail: Tail, schemas: tuple[str, ...], *, ts_out: bool = False) -> CatchUp:
    positions = tail.positions(NOW_NS, ts_out=ts_out)
    replays = [
        Replayed(one, replay_start_ns(one, positions, NOW_NS, NOW_NS + 3600 * 10**9)) for one in schemas
    ]
    return CatchUp(replays, positions, NOW_NS, NOW_NS + 3600 * 10**9, ts_out=ts_out)


def take(catch_up: CatchUp, records: list[bytes], piece: int = 3) -> list[bytes]:
    new = []
    for at in range(0, len(records), piece):
        one = framed(records[at : at + piece])
        new += split_records(catch_up.take(one.records, one.rtypes, one.last_ts_ns, version=3))
    return new


def asked_for(market: list[bytes], catch_up: CatchUp) -> list[bytes]:
    """What the vendor replays of a market: by the exchange's time, where it does so."""
    starts = {SHAPES[one.schema].rtype: one.start_ns for one in catch_up.replays}
    return [one for one in market if replay_stamp(one, ts_index(one, 0)) >= starts[one[1]]]


def sent(record: bytes, when: int, *, ts_out: bool) -> bytes:
    """A record as it is sent: with ts_out it ends differently each time."""
    return in_version(record, ts_out=True)[:-8] + when.to_bytes(8, "little") if ts_out else record


def by_key(records: list[bytes]) -> dict[tuple[int, bytes], list[bytes]]:
    keyed = sorted(records, key=lambda one: (one[1], one[2:8]))
    return {key: list(group) for key, group in groupby(keyed, key=lambda one: (one[1], one[2:8]))}


# --- every record once, in order ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One record to be: few timestamps and values, so that many are equal to the byte."""

    schema: str
    instrument: int
    ts_ns: int
    late_ns: int
    value: int
    publishing_ns: int  # when it is sent, a little out of order between instruments


@st.composite
def markets(draw: st.DrawFn) -> list[bytes]:
    rows = draw(
        st.lists(
            st.builds(
                Row,
                st.sampled_from(SCHEMAS),
                st.integers(1, 3),
                st.integers(0, 12).map(lambda step: NOW_NS + step * 40 * MS),
                st.integers(0, 3).map(lambda step: step * 15 * MS),
                st.integers(1, 2),
                st.just(0),
            ),
            min_size=1,
            max_size=40,
        )
    )
    skew = {
        (schema, instrument): draw(st.integers(0, 100 * MS)) for schema in SCHEMAS for instrument in (1, 2, 3)
    }
    rows.sort(key=lambda row: (row.ts_ns + skew[row.schema, row.instrument], row.instrument))
    return [
        made(row.schema, row.ts_ns, row.value, instrument=row.instrument, event_ns=row.ts_ns - row.late_ns)
        for row in rows
    ]


@given(markets(), st.data(), st.booleans())
def test_every_record_comes_once_and_in_order_wherever_the_breaks_are(
    market: list[bytes], data: st.DataObject, ts_out: bool
) -> None:
    """Instruments and types in any order between them, equal timestamps, equal records, three sessions."""
    tail = Tail()
    got: list[bytes] = []
    until = data.draw(st.integers(0, len(market)))
    live = [sent(one, 1, ts_out=ts_out) for one in market[:until]]
    remember(tail, live, data.draw(st.integers(1, 7)))
    got += live
    for when in (2, 3):
        catch_up = catch_up_from(tail, SCHEMAS, ts_out=ts_out)
        until = data.draw(st.integers(until, len(market)))
        replayed = [sent(one, when, ts_out=ts_out) for one in asked_for(market[:until], catch_up)]
        new = take(catch_up, replayed, data.draw(st.integers(1, 7)))
        assert [catch_up.missing(one) for one in SCHEMAS] == [0, 0, 0, 0]
        remember(tail, new, 2)
        got += new
    assert by_key([one[:56] for one in got]) == by_key(
        [sent(one, 1, ts_out=ts_out)[:56] for one in market[:until]]
    )


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 2)), min_size=2, max_size=30), st.data())
def test_a_replay_that_breaks_off_between_two_subscriptions_is_taken_up_without_loss(
    rows: list[tuple[int, int]], data: st.DataObject
) -> None:
    """One subscription's replay may be over before the other's begins: the later timestamp says nothing."""
    both = [made("mbo", NOW_NS + at * MS, n, instrument=which) for n, (at, which) in enumerate(sorted(rows))]
    first, second = ([one for one in both if one[4] == which] for which in (1, 2))
    tail = Tail()
    broken_at = data.draw(st.integers(0, len(both)))
    remember(tail, both[:broken_at])
    catch_up = catch_up_from(tail, ("mbo", "mbo"))
    again = asked_for(first, catch_up) + asked_for(second, catch_up)
    seen = data.draw(st.integers(0, len(again)))
    got = both[:broken_at] + take(catch_up, again[:seen])
    once_more = CatchUp(catch_up.replays, catch_up.unfinished(), NOW_NS, NOW_NS + 3600 * 10**9)
    assert catch_up.unfinished_start_ns("mbo", {}) == catch_up.start_ns("mbo")
    got += take(once_more, asked_for(first, once_more) + asked_for(second, once_more))
    assert by_key(got) == by_key(both)


def test_what_was_stamped_before_and_captured_after_the_last_record_is_not_missed() -> None:
    """A replay that starts at the last record's own timestamp would leave it out."""
    had = [made("mbo", NOW_NS + n * MS, n, event_ns=NOW_NS + n * MS - 30 * MS) for n in range(100)]
    late = made("mbo", NOW_NS + 100 * MS, 4711, event_ns=NOW_NS + 60 * MS)
    tail = Tail()
    remember(tail, had)
    catch_up = catch_up_from(tail, ("mbo",))
    assert replay_stamp(late, 0) < NOW_NS + 99 * MS
    assert take(catch_up, asked_for([*had, late], catch_up)) == [late]


# --- what is not relied on ----------------------------------------------------------------------------------


def test_a_replay_that_begins_too_early_repeats_nothing() -> None:
    records = [order(NOW_NS + n, n) for n in range(20)]
    tail = Tail()
    remember(tail, records[:10])
    assert take(catch_up_from(tail, ("mbo",)), [order(NOW_NS - 5, 1), *records]) == records[10:]


def test_a_later_timestamp_does_not_end_the_search_for_repetitions() -> None:
    """Another subscription's replay may still be on its way."""
    tail = Tail()
    remember(tail, [order(NOW_NS + 10, 1)])
    catch_up = catch_up_from(tail, ("mbo", "mbo"))
    assert take(catch_up, [order(NOW_NS + 11, 2)]) == [order(NOW_NS + 11, 2)]
    assert take(catch_up, [order(NOW_NS + 9, 3), order(NOW_NS + 12, 4)]) == [order(NOW_NS + 12, 4)]


def test_mappings_pass_and_what_was_meant_for_the_relay_does_not() -> None:
    catch_up = catch_up_from(Tail(), ("mbo",))
    said = [MAPPING, replay_completed(), error("aged out", 8), MAPPING]
    assert take(catch_up, said, len(said)) == [MAPPING] * 2


def test_past_all_that_came_before_records_are_not_looked_at_one_by_one() -> None:
    """A replay of minutes is as fast as live data; only where the type is of one subscription is that safe."""
    tail = Tail()
    remember(tail, [order(NOW_NS, 1)])
    for schemas, looked in ((("mbo",), False), (("mbo", "mbo"), True)):
        catch_up = catch_up_from(tail, schemas)
        later = framed([order(NOW_NS + 2 * DISORDER_NS, 2)] * 3)
        assert catch_up.take(later.records, later.rtypes, later.last_ts_ns, version=3) == later.records
        assert (catch_up.positions[SHAPES["mbo"].rtype].last_ns > NOW_NS) == looked


# --- when it is over ----------------------------------------------------------------------------------------


def test_the_schema_that_a_notice_names_is_completed() -> None:
    catch_up = catch_up_from(Tail(), ("trades", "mbo", "mbo"))
    take(catch_up, [replay_completed()])  # "Finished mbo replay"
    assert catch_up.waiting == {"trades", "mbo"}
    take(catch_up, [replay_completed()])
    assert catch_up.waiting == {"trades"}
    take(catch_up, [replay_completed()])  # of something else, which nobody asked for: it counts all the same
    assert catch_up.waiting == frozenset()


def test_live_data_of_long_after_shows_that_nothing_is_replayed_any_more() -> None:
    catch_up = CatchUp([Replayed("mbo", NOW_NS)], {}, NOW_NS, NOW_NS + REPLAY_OVERDUE_NS)
    take(catch_up, [order(NOW_NS + REPLAY_OVERDUE_NS + 1, 1)])
    assert catch_up.waiting == frozenset()


def test_a_replay_that_does_not_repeat_what_was_sent_has_lost_something() -> None:
    """What the vendor has sent before must come again: if it does not, others may be missing too."""
    records = [order(NOW_NS + n * MS, n) for n in range(20)]
    tail = Tail()
    remember(tail, records[:10])
    catch_up = catch_up_from(tail, ("mbo",))
    assert take(catch_up, [records[2], *records[15:]]) == records[15:]
    assert catch_up.missing("mbo") == 9


# --- memory -------------------------------------------------------------------------------------------------


def test_the_tail_keeps_a_bounded_part_of_each_type() -> None:
    tail = Tail()
    block = [order(NOW_NS + n, n) for n in range(1000)]
    remember(tail, [made("status", NOW_NS, 1)])
    for second in range(60):
        moved = [order(NOW_NS + second * 10**9 + n, n) for n in range(1000)]
        remember(tail, moved, 1000)
    assert sum(tail._sizes.values()) < TAIL_BYTES + 2 * 56 * len(block)
    # Of what is rare, the last is known all the same.
    positions = tail.positions(NOW_NS, ts_out=False)
    assert positions[SHAPES["status"].rtype].last_ns == NOW_NS
    assert positions[SHAPES["mbo"].rtype].floor_ns > NOW_NS


def test_a_burst_of_one_instant_that_came_in_many_pieces_is_known_again() -> None:
    """The bars of all symbols share a timestamp."""
    bars = [made("ohlcv-1m", NOW_NS, 1, instrument=n) for n in range(2000)]
    tail = Tail()
    remember(tail, bars, 50)
    assert take(catch_up_from(tail, ("ohlcv-1m",)), bars) == []


@pytest.mark.parametrize("stamp", [None, 5])
def test_the_last_timestamp_never_goes_back(stamp: int | None) -> None:
    tail = Tail()
    tail.remember(order(10, 1), {0xA0}, 10)
    tail.remember(order(5, 1), {0xA0}, stamp)
    assert tail.last_ts_ns == 10


# --- where a replay starts ----------------------------------------------------------------------------------


def test_a_replay_starts_earlier_by_twice_the_longest_capture_seen_and_some() -> None:
    tail = Tail()
    remember(tail, [made("mbo", NOW_NS + 10**9, 1, event_ns=NOW_NS + 10**9 - 40 * MS)])
    positions = tail.positions(NOW_NS, ts_out=False)
    start_ns = replay_start_ns("mbo", positions, NOW_NS, NOW_NS + 2 * 10**9)
    assert start_ns == NOW_NS + 10**9 - 80 * MS - SLACK_NS
    assert not comes_too_late("mbo", positions)


def test_what_is_captured_hours_after_its_time_does_not_make_a_replay_of_hours() -> None:
    tail = Tail()
    remember(tail, [made("mbo", NOW_NS, 1, event_ns=NOW_NS - 3600 * 10**9)])
    positions = tail.positions(NOW_NS, ts_out=False)
    assert replay_start_ns("mbo", positions, NOW_NS, NOW_NS + 10**9) == NOW_NS - MARGIN_MAX_NS
    assert comes_too_late("mbo", positions)


def test_a_sampled_schema_is_asked_for_by_its_own_timestamps() -> None:
    """Its `ts_event` is that of the last trade, maybe hours ago."""
    tail = Tail()
    remember(tail, [made("bbo-1s", NOW_NS, 1, event_ns=NOW_NS - 3600 * 10**9)])
    positions = tail.positions(NOW_NS, ts_out=False)
    assert replay_start_ns("bbo-1s", positions, NOW_NS, NOW_NS + 10**9) == NOW_NS - SLACK_NS


def test_a_type_that_was_not_heard_for_long_starts_where_the_others_are() -> None:
    """Hours without a status are no reason to replay hours, and bars are not due before their interval is over."""
    tail = Tail()
    hour_ns = 3600 * 10**9
    remember(tail, [made("status", NOW_NS, 1), made("mbo", NOW_NS + hour_ns, 2)])
    positions = tail.positions(NOW_NS, ts_out=False)
    assert had_until_ns("mbo", positions, NOW_NS) == NOW_NS + hour_ns
    assert had_until_ns("status", positions, NOW_NS) == NOW_NS + hour_ns - 5 * 10**9
    assert had_until_ns("ohlcv-1m", positions, NOW_NS) == NOW_NS + hour_ns - 65 * 10**9


def test_no_replay_reaches_back_further_than_the_vendor_keeps_data_nor_into_the_future() -> None:
    later_ns = NOW_NS + 72 * 3600 * 10**9
    assert replay_start_ns("mbo", {}, NOW_NS, later_ns) == later_ns - REACH_NS
    assert replay_start_ns("mbo", {}, NOW_NS, NOW_NS - 10**9) == NOW_NS - 10**9


def test_every_schema_of_the_vendor_has_a_shape() -> None:
    import databento_dbn as dbn

    for schema in dbn.Schema.variants():
        assert SHAPES[str(schema)].rtype == dbn.RType.from_schema(schema).__index__()
    assert not CONTROL_RTYPES & {shape.rtype for shape in SHAPES.values()}
    assert Counter(shape.rtype for shape in SHAPES.values()).most_common(1) == [(0x01, 2)]

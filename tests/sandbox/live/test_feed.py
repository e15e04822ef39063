"""What a connection is sent, without a socket: replays and the seam to live data, rolls, intervals, slow readers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import databento_dbn as dbn
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.live.feed import SLOT_NS, FatalSubscription, Feed, Terms
from budget_guard.sandbox.live.outgoing import Outgoing, Squeeze, lay_out
from budget_guard.sandbox.live.wire import SubscriptionLine
from budget_guard.sandbox.market.model import Selection
from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.market.synthetic import Market
from tests.sandbox.live.tape_market import FRONT, NEXT, Stamps, TapeMarket

DATASET = "GLBX.MDP3"
SECOND_NS = 10**9
HOUR_NS = 3600 * SECOND_NS
NOW_NS = ns_from_instant(datetime(2026, 11, 24, 14, 40, tzinfo=UTC))  # a Tuesday
ACK, WARNING, DONE, END = 1, 2, 3, 4
SYSTEM, ERROR, MAPPING = 23, 21, 22
LAYERED = ("mbo", "trades", "mbp-1", "mbp-10", "bbo-1s", "ohlcv-1s", "statistics")


def line(
    schema: str = "mbo", symbols: str = "NQ.v.0", stype: str = "continuous", **fields: Any
) -> SubscriptionLine:
    values: dict[str, Any] = {"start_ns": None, "snapshot": False, "number": None, **fields}
    return SubscriptionLine(schema, stype, tuple(symbols.split(",")), **values)


def feed_of(market: TapeMarket, **terms: Any) -> Feed:
    return Feed(market, DATASET, frozenset(SPECS), Terms(**terms))


def records(buffers: Iterable[Outgoing]) -> list[bytes]:
    """The records of buffers, by their length bytes; the runs must tell the same story."""
    found = []
    for outgoing in buffers:
        at = 0
        for run in outgoing.runs:
            while at < run.end:
                size = outgoing.data[at] * 4
                assert size == run.record_size
                assert (run.schema is None) == (outgoing.data[at + 1] in (SYSTEM, ERROR, MAPPING))
                found.append(bytes(outgoing.data[at : at + size]))
                at += size
            assert at == run.end
        assert at == len(outgoing.data) == outgoing.size
    return found


def drain(feed: Feed, now_ns: int) -> list[bytes]:
    """Everything that is due by now, and what is owed after it."""
    due = iter(lambda: feed.due(now_ns), None)
    return records(due) + records(feed.replays_done(now_ns))


def data_of(found: Iterable[bytes]) -> list[bytes]:
    return [record for record in found if record[1] not in (SYSTEM, ERROR, MAPPING)]


def codes(found: Iterable[bytes]) -> list[int]:
    return [record[319] for record in found if record[1] == SYSTEM]


def decoded(found: Iterable[bytes], ts_out: bool = False) -> list[Any]:
    """As the vendor's own decoder reads them."""
    header = feed_of(TapeMarket({}), ts_out=ts_out).metadata(NOW_NS)
    decoder = dbn.DBNDecoder()
    decoder.write(bytes(header.data) + b"".join(found))
    return list(decoder.decode())[1:]


def stamps_near(now_ns: int) -> st.SearchStrategy[list[int]]:
    """Index timestamps around an instant, some of them on the edges of slots and some the same."""
    fine = st.integers(-3 * SECOND_NS, 2 * SECOND_NS)
    edges = st.integers(-300, 200).map(lambda slot: slot * SLOT_NS)
    return st.lists(fine | edges, max_size=60).map(
        lambda offsets: sorted(now_ns + offset for offset in offsets)
    )


@st.composite
def tapes(draw: st.DrawFn) -> Stamps:
    schemas = draw(st.lists(st.sampled_from(LAYERED), min_size=1, max_size=3, unique=True))
    return {schema: {one: draw(stamps_near(NOW_NS)) for one in (FRONT, NEXT)} for schema in schemas}


def published(
    market: TapeMarket, one: SubscriptionLine, start_ns: int, end_ns: int
) -> Iterator[tuple[int, bytes]]:
    """What a subscription's records are by history's account, with when they are published."""
    spec = SPECS[one.schema]
    selection = Selection(DATASET, one.schema, one.symbols, one.stype_in)
    for part in market.parts(selection, start_ns, end_ns - spec.lag_ns):
        for row in part.rows:
            yield int(row[spec.index_field]) + spec.lag_ns, row.tobytes()


@given(
    tapes(),
    st.integers(0, 3 * SECOND_NS),
    st.lists(st.integers(0, 400_000_000), max_size=6),
    st.sampled_from(["NQ.v.0", "NQ.FUT,NQ.v.0"]),
    st.booleans(),
    st.sampled_from([10, 5, 1]),
)
@settings(max_examples=100, deadline=None)
def test_a_replay_and_the_live_data_after_it_are_history(
    stamps: Stamps, back_ns: int, steps: list[int], symbols: str, overlapping: bool, slot_ms: int
) -> None:
    """From the replay's start to whenever one looks last, nothing is lost, doubled or out of order, in any schema."""
    market = TapeMarket(stamps)
    lines = [line(schema, symbols, "parent", start_ns=NOW_NS - back_ns) for schema in stamps]
    slot_ns = slot_ms * 10**6
    feed = feed_of(market, slot_ns=slot_ns)
    for one in lines + lines[:1] * overlapping:
        feed.subscribe(one, NOW_NS)
    feed.begin(NOW_NS)
    sent, now_ns = drain(feed, NOW_NS), NOW_NS
    for step in steps:
        now_ns += step
        sent += drain(feed, now_ns)
    end_ns = now_ns // slot_ns * slot_ns
    history = [row for one in lines for row in published(market, one, NOW_NS - back_ns, end_ns)]
    assert sorted(data_of(sent)) == sorted(data for _, data in history)
    when = {data: at for at, data in history}
    times = [when[data] for data in data_of(sent)]
    assert times == sorted(times)
    assert codes(sent).count(DONE) == len(lines) + overlapping


@given(tapes(), st.lists(st.integers(1, 900_000_000), min_size=1, max_size=6), st.booleans())
@settings(max_examples=100, deadline=None)
def test_records_of_any_sizes_are_framed(stamps: Stamps, steps: list[int], ts_out: bool) -> None:
    """Buffers that mix schemas are whole records, and the vendor's decoder reads as many as were sent."""
    feed = feed_of(TapeMarket(stamps), ts_out=ts_out)
    now_ns = NOW_NS - 3 * SECOND_NS
    sent = records(feed.subscribe(line(schema, "NQ.FUT", "parent"), now_ns) for schema in stamps)
    feed.begin(now_ns)
    for step in steps:
        now_ns += step
        sent += drain(feed, now_ns)
    read = decoded(sent, ts_out)
    assert [record.record_size() for record in read] == [len(record) for record in sent]
    assert not ts_out or all(NOW_NS - 3 * SECOND_NS <= record.ts_out <= now_ns for record in read)


@given(tapes())
@settings(max_examples=50, deadline=None)
def test_a_new_time_of_sending_changes_nothing_else(stamps: Stamps) -> None:
    feed = feed_of(TapeMarket(stamps), ts_out=True)
    made = [feed.subscribe(line(schema, "NQ.FUT", "parent"), NOW_NS) for schema in stamps]
    feed.begin(NOW_NS)
    made += iter(lambda: feed.due(NOW_NS + SECOND_NS), None)
    sent = records(one.stamped(NOW_NS + 2 * SECOND_NS) for one in made)
    assert [record[:-8] for record in sent] == [record[:-8] for record in records(made)]
    assert {record.ts_out for record in decoded(sent, ts_out=True)} == {NOW_NS + 2 * SECOND_NS}


@given(tapes(), st.lists(st.integers(1, 900_000_000), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_compressed_buffers_can_be_read_as_they_come(stamps: Stamps, steps: list[int]) -> None:
    """Every buffer is readable at once by who has those before, and bills what is in it, not what it weighs."""
    feed, squeeze = feed_of(TapeMarket(stamps)), Squeeze()
    unpack = zstandard.ZstdDecompressor().decompressobj()
    now_ns = NOW_NS - 3 * SECOND_NS
    buffers = [feed.metadata(now_ns), *(feed.subscribe(line(schema), now_ns) for schema in stamps)]
    feed.begin(now_ns)
    for step in steps:
        now_ns += step
        buffers += iter(lambda: feed.due(now_ns), None)  # noqa: B023
    for outgoing in buffers:
        packed = squeeze(outgoing)
        assert unpack.decompress(packed.data) == outgoing.data
        assert (packed.whole, packed.runs, packed.size) == (True, outgoing.runs, outgoing.size)


def test_a_later_subscription_joins_without_doubling_an_earlier_one() -> None:
    """The same contract asked for twice, under two names and at two times, is sent once."""
    stamps = [NOW_NS + n * SLOT_NS // 2 for n in range(400)]
    feed = feed_of(TapeMarket({"mbo": {FRONT: stamps}}))
    feed.subscribe(line("mbo", "NQZ6", "raw_symbol"), NOW_NS)
    feed.begin(NOW_NS)
    sent = drain(feed, NOW_NS + SECOND_NS // 2)
    feed.subscribe(line("mbo", "101", "instrument_id"), NOW_NS + SECOND_NS, started=True)
    sent += drain(feed, NOW_NS + 2 * SECOND_NS)
    assert [int.from_bytes(record[40:48], "little") for record in data_of(sent)] == stamps


def test_two_replays_of_one_schema_each_begin_where_they_ask() -> None:
    """The longer one has the records between their starts, neither has any twice, and both are said to be done."""
    stamps = list(range(NOW_NS - 100 * SECOND_NS, NOW_NS, SECOND_NS))
    feed = feed_of(TapeMarket({"trades": {FRONT: stamps, NEXT: stamps}}))
    feed.subscribe(line("trades", "NQZ6,NQH7", "raw_symbol", start_ns=NOW_NS - 50 * SECOND_NS), NOW_NS)
    feed.subscribe(line("trades", "NQZ6", "raw_symbol", start_ns=NOW_NS - 90 * SECOND_NS), NOW_NS)
    feed.begin(NOW_NS)
    sent = drain(feed, NOW_NS)
    assert len(data_of(sent)) == 90 + 50
    assert codes(sent) == [DONE, DONE]


# The tape's contract rolls at this midnight.
MIDNIGHT_NS = ns_from_instant(datetime(2026, 11, 25, tzinfo=UTC))
ROLL = date(2026, 11, 25)
ALL_NIGHT = [MIDNIGHT_NS + n * SECOND_NS for n in range(-30, 30)]


def rolling_feed(start_ns: int | None = None, **terms: Any) -> tuple[Feed, list[Any]]:
    """A continuous subscription ten seconds before midnight, and what it is answered."""
    market = TapeMarket({"trades": {FRONT: ALL_NIGHT, NEXT: ALL_NIGHT}}, roll=ROLL)
    feed = feed_of(market, **terms)
    now_ns = MIDNIGHT_NS - 10 * SECOND_NS if start_ns is None else MIDNIGHT_NS + 10 * SECOND_NS
    answer = decoded(records([feed.subscribe(line("trades", start_ns=start_ns), now_ns)]))
    feed.begin(now_ns)
    return feed, answer


@pytest.mark.parametrize("start_ns", [None, MIDNIGHT_NS - 10 * SECOND_NS])
def test_a_contract_that_rolls_is_mapped_anew_before_its_first_record(start_ns: int | None) -> None:
    """Live or in a replay: the old contract up to midnight, a mapping, the new one from then on."""
    feed, (_, mapping) = rolling_feed(start_ns)
    read = decoded(drain(feed, MIDNIGHT_NS + 10 * SECOND_NS))
    assert (mapping.stype_in_symbol, mapping.stype_out_symbol) == ("NQ.v.0", "NQZ6")
    assert (mapping.start_ts, mapping.end_ts) == (MIDNIGHT_NS - 24 * HOUR_NS, MIDNIGHT_NS)
    at = next(n for n, record in enumerate(read) if isinstance(record, dbn.SymbolMappingMsg))
    assert (read[at].stype_out_symbol, read[at].instrument_id) == ("NQH7", 102)
    assert (read[at].start_ts, read[at].end_ts) == (MIDNIGHT_NS, MIDNIGHT_NS + 24 * HOUR_NS)
    assert {record.instrument_id for record in read[:at]} == {101}
    assert {record.instrument_id for record in read[at:] if isinstance(record, dbn.TradeMsg)} == {102}
    assert [record.ts_recv for record in read if isinstance(record, dbn.TradeMsg)] == ALL_NIGHT[20:40]


def test_a_pinned_subscription_keeps_its_contract() -> None:
    """As the vendor documents continuous symbols: one mapping, one contract, whatever rolls."""
    feed, (_, mapping) = rolling_feed(remap_continuous=False)
    read = decoded(drain(feed, MIDNIGHT_NS + 10 * SECOND_NS))
    assert mapping.stype_out_symbol == "NQZ6"
    assert [(record.instrument_id, record.ts_recv) for record in read] == [
        (101, at) for at in ALL_NIGHT[20:40]
    ]


def test_a_mapping_that_holds_is_said_once() -> None:
    """A replay over midnight has one mapping from its first day's start to today's end."""
    market = TapeMarket({"trades": {FRONT: ALL_NIGHT}})
    feed = feed_of(market)
    now_ns = MIDNIGHT_NS + 10 * SECOND_NS
    one = line("trades", "NQZ6", "raw_symbol", start_ns=MIDNIGHT_NS - HOUR_NS)
    _, mapping = decoded(records([feed.subscribe(one, now_ns)]))
    feed.begin(now_ns)
    assert (mapping.start_ts, mapping.end_ts) == (MIDNIGHT_NS - 24 * HOUR_NS, MIDNIGHT_NS + 24 * HOUR_NS)
    assert not any(record[1] == MAPPING for record in drain(feed, now_ns))


@pytest.mark.parametrize(
    ("symbols", "stype", "pairs"),
    [
        ("NQ.FUT", "parent", [("NQ.FUT", "NQZ6"), ("NQ.FUT", "NQH7")]),
        ("NQ.v.0", "continuous", [("NQ.v.0", "NQZ6")]),
        ("NQZ6", "raw_symbol", [("NQZ6", "NQZ6")]),
        ("102", "instrument_id", [("102", "NQH7")]),
        ("ALL_SYMBOLS", "raw_symbol", [("NQZ6", "NQZ6"), ("NQH7", "NQH7")]),
    ],
)
def test_mappings_name_what_was_asked_for_and_the_contract(
    symbols: str, stype: str, pairs: list[tuple[str, str]]
) -> None:
    """One for each contract: in is the symbol as it was written, out the exchange's own name."""
    feed = feed_of(TapeMarket({}), ts_out=True)
    acknowledged, *mappings = decoded(
        records([feed.subscribe(line("mbo", symbols, stype, number=3), NOW_NS)]), True
    )
    assert acknowledged.msg == "Subscription request 3 for mbo data succeeded"
    assert [(one.stype_in_symbol, one.stype_out_symbol) for one in mappings] == pairs
    assert {record.ts_out for record in (acknowledged, *mappings)} == {NOW_NS}
    assert {str(one.stype_in) for one in mappings} == {stype}


@pytest.mark.parametrize(
    ("schema", "back_s", "ends"),
    [
        ("ohlcv-1s", 3, [-3, -2, -1]),
        ("bbo-1s", 2, [-2, -1]),
        ("ohlcv-1m", 120, [-120, -60]),
        ("trades", 120, []),
    ],
)
def test_every_interval_has_an_end(schema: str, back_s: int, ends: list[int]) -> None:
    """Sampled schemas say at each boundary that the interval's records have all been sent, even if there were none."""
    at = {"ohlcv-1s": NOW_NS - 3 * SECOND_NS, "bbo-1s": NOW_NS - 2 * SECOND_NS}.get(schema)
    market = TapeMarket({schema: {FRONT: [] if at is None else [at]}})
    feed = feed_of(market)
    for _ in range(2):
        feed.subscribe(line(schema, start_ns=NOW_NS - back_s * SECOND_NS), NOW_NS)
    feed.begin(NOW_NS)
    read = decoded(drain(feed, NOW_NS))
    marks = [record for record in read if getattr(record, "code", None) == dbn.SystemCode.END_OF_INTERVAL]
    assert [mark.ts_event for mark in marks] == [NOW_NS + end * SECOND_NS for end in ends]
    assert {mark.msg for mark in marks} == ({f"End of interval for {schema}"} if ends else set())
    if at is not None:
        place = next(n for n, record in enumerate(read) if not isinstance(record, dbn.SystemMsg))
        assert read[place + 1].ts_event == at + SPECS[schema].lag_ns


def test_a_snapshot_is_of_the_instant_where_live_data_begins() -> None:
    """The book first, then every record from that instant on, and none from before it."""
    stamps = [NOW_NS + n * SLOT_NS // 3 for n in range(-60, 60)]
    market = TapeMarket({"mbo": {FRONT: stamps}})
    feed = feed_of(market)
    feed.subscribe(line("mbo", snapshot=True), NOW_NS - SECOND_NS)
    begin_ns = NOW_NS + SLOT_NS // 2
    feed.begin(begin_ns)
    sent = data_of(drain(feed, NOW_NS + SECOND_NS))
    assert market.calls == [NOW_NS]
    times = [int.from_bytes(record[40:48], "little") for record in sent]
    assert times[:2] == [NOW_NS] * 2
    assert times[2:] == [at for at in stamps if at >= NOW_NS]


def test_a_snapshot_that_joins_waits_for_the_stream_to_come_to_it() -> None:
    """With another subscription still behind, what it sends of before does not follow the book."""
    stamps = [NOW_NS + n * SLOT_NS for n in range(300)]
    market = TapeMarket({"mbo": {FRONT: stamps}})
    feed = feed_of(market)
    feed.subscribe(line("mbo"), NOW_NS)
    feed.begin(NOW_NS)
    feed.subscribe(line("mbo", snapshot=True), NOW_NS + SECOND_NS, started=True)
    times = [
        int.from_bytes(record[40:48], "little") for record in data_of(drain(feed, NOW_NS + 2 * SECOND_NS))
    ]
    assert market.calls == [NOW_NS + SECOND_NS]
    assert times == sorted(times)
    assert times.count(NOW_NS + SECOND_NS) == 3


def test_a_slow_reader_is_warned_and_gets_everything() -> None:
    """Of mbo nothing is ever skipped; the warning comes once in the time that it takes to be slow."""
    stamps = list(range(NOW_NS, NOW_NS + 60 * SECOND_NS, SECOND_NS // 10))
    feed = feed_of(TapeMarket({"mbo": {FRONT: stamps}}))
    feed.subscribe(line("mbo"), NOW_NS)
    feed.begin(NOW_NS)
    assert feed.slow(NOW_NS + 4 * SECOND_NS) == []
    said = [decoded(records(feed.slow(NOW_NS + at * SECOND_NS))) for at in (6, 7, 12)]
    assert [len(one) for one in said] == [1, 0, 1]
    assert said[0][0].code == dbn.SystemCode.SLOW_READER_WARNING
    assert said[0][0].msg == "Warning: slow reading of mbo, 6.0 s behind"
    assert len(data_of(drain(feed, NOW_NS + 60 * SECOND_NS))) == len(stamps)
    assert feed.slow(NOW_NS + 60 * SECOND_NS) == []


@pytest.mark.parametrize("begins_ms", [0, 1234, 61_003])
def test_a_book_from_a_snapshot_and_what_follows_is_the_book(begins_ms: int) -> None:
    """Whoever begins with a snapshot has, some seconds later, the orders that a snapshot shows then."""
    market = Market(0, rate=2000, since_ns=NOW_NS)
    begin_ns, end_ns = NOW_NS + begins_ms * 10**6, NOW_NS + begins_ms * 10**6 + 3 * SECOND_NS
    feed = Feed(market, DATASET, frozenset(SPECS), Terms())
    feed.subscribe(line("mbo", snapshot=True), begin_ns)
    feed.begin(begin_ns)
    followed = book_of(decoded(drain(feed, end_ns)))
    at_ns = end_ns // SLOT_NS * SLOT_NS
    (part,) = market.snapshot(Selection(DATASET, "mbo", ("NQ.v.0",), "continuous"), at_ns)
    assert followed == book_of(decoded(records([lay_out([part], None)])))
    assert followed


def book_of(orders: Iterable[Any]) -> dict[int, tuple[int, int]]:
    """Price and size of each resting order, by the actions of its records."""
    book: dict[int, tuple[int, int]] = {}
    for order in orders:
        action = str(order.action)
        if action == "R":
            book.clear()
        elif action in ("A", "M"):
            book[order.order_id] = (order.price, order.size)
        elif action == "C":
            price, size = book[order.order_id]
            book[order.order_id] = (price, size - order.size)
            if book[order.order_id][1] == 0:
                del book[order.order_id]
    return book


@pytest.mark.parametrize("skips", [True, False])
def test_a_slow_reader_of_quotes_is_caught_up_unless_it_asked_for_warnings(skips: bool) -> None:
    """What was skipped is counted and dated, and live data goes on from there."""
    stamps = list(range(NOW_NS, NOW_NS + 60 * SECOND_NS, SECOND_NS // 10))
    feed = feed_of(TapeMarket({"mbp-1": {FRONT: stamps}}), skips=skips)
    feed.subscribe(line("mbp-1"), NOW_NS)
    feed.begin(NOW_NS)
    (notice,) = decoded(records(feed.slow(NOW_NS + 8 * SECOND_NS)))
    sent = data_of(drain(feed, NOW_NS + 9 * SECOND_NS))
    if skips:
        assert notice.code == dbn.ErrorCode.SKIPPED_RECORDS_AFTER_SLOW_READING
        assert notice.err == (
            "Slow client detected for mbp-1: skipped 80 records "
            "from 2026-11-24T14:40:00.000000000Z to 2026-11-24T14:40:08.000000000Z"
        )
        assert len(sent) == 10
    else:
        assert notice.code == dbn.SystemCode.SLOW_READER_WARNING
        assert len(sent) == 90


def test_only_what_holds_a_whole_state_is_skipped() -> None:
    """On a connection with quotes and orders, the orders all come; the quotes go on where live data is."""
    stamps = list(range(NOW_NS, NOW_NS + 60 * SECOND_NS, SECOND_NS // 10))
    feed = feed_of(TapeMarket({"mbp-1": {FRONT: stamps}, "mbo": {FRONT: stamps}}))
    feed.subscribe(line("mbp-1"), NOW_NS)
    feed.subscribe(line("mbo"), NOW_NS)
    feed.begin(NOW_NS)
    skipped, warned = decoded(records(feed.slow(NOW_NS + 8 * SECOND_NS)))
    assert "skipped 80 records" in skipped.err
    assert warned.msg.startswith("Warning: slow reading of mbo,")
    sizes = [len(record) for record in data_of(drain(feed, NOW_NS + 9 * SECOND_NS))]
    assert (sizes.count(56), sizes.count(80)) == (90, 10)


def test_a_replay_is_not_slow_reading() -> None:
    """However long it takes."""
    feed = feed_of(TapeMarket({"mbo": {FRONT: [NOW_NS]}}))
    feed.subscribe(line("mbo", start_ns=NOW_NS - HOUR_NS), NOW_NS)
    feed.begin(NOW_NS)
    assert feed.slow(NOW_NS + 10 * SECOND_NS) == []


WEEK_OPENS_NS = ns_from_instant(datetime(2026, 11, 22, 23, tzinfo=UTC))  # Sunday 18:00 in New York


@pytest.mark.parametrize(
    ("schema", "earliest_ns"),
    [("mbo", WEEK_OPENS_NS), ("definition", WEEK_OPENS_NS), ("trades", NOW_NS - 24 * HOUR_NS)],
)
def test_a_replay_reaches_back_a_day_and_orders_and_definitions_a_week(schema: str, earliest_ns: int) -> None:
    """`start=0` asks for all of it, one nanosecond more is refused, and the header says where it starts."""
    feed = feed_of(TapeMarket({schema: {FRONT: [earliest_ns - 1, earliest_ns, NOW_NS - 1]}}))
    everything = line(schema, start_ns=0)
    header = dbn.Metadata.decode(bytes(feed.metadata(NOW_NS, [line("mbo"), everything]).data))
    assert header.start == earliest_ns
    feed.subscribe(everything, NOW_NS)
    with pytest.raises(FatalSubscription, match="replay reaches back 24 h, to 2026-11-2") as caught:
        feed.subscribe(line(schema, start_ns=earliest_ns - 1), NOW_NS)
    assert caught.value.code.__index__() == 8
    feed.begin(NOW_NS)
    assert len(data_of(drain(feed, NOW_NS))) == 2


def test_the_week_opens_on_the_last_sunday_evening() -> None:
    """On a Sunday afternoon the week is still last week's, and summer time moves it in UTC."""
    feed = feed_of(TapeMarket({}))
    for now, opening in (
        (datetime(2026, 11, 22, 22, 59, tzinfo=UTC), datetime(2026, 11, 15, 23, tzinfo=UTC)),
        (datetime(2026, 7, 4, 12, tzinfo=UTC), datetime(2026, 6, 28, 22, tzinfo=UTC)),
    ):
        header = dbn.Metadata.decode(
            bytes(feed.metadata(ns_from_instant(now), [line("mbo", start_ns=0)]).data)
        )
        assert header.start == ns_from_instant(opening)


@pytest.mark.parametrize("by_event", [False, True])
def test_a_replay_may_start_by_the_exchanges_own_time(by_event: bool) -> None:
    """As the vendor documents: what the exchange stamped before the start is left out, though captured after it."""
    stamps = [NOW_NS - SECOND_NS + n * 10 for n in range(100)]
    feed = feed_of(TapeMarket({"mbo": {FRONT: stamps}}, delay_ns=500), replay_by_event_time=by_event)
    feed.subscribe(line("mbo", start_ns=stamps[0]), NOW_NS)
    feed.begin(NOW_NS)
    times = [int.from_bytes(record[40:48], "little") for record in data_of(drain(feed, NOW_NS))]
    assert times == (stamps[50:] if by_event else stamps)


def test_a_day_bar_is_published_when_the_day_is_over() -> None:
    """Not a slot before midnight, and with the end of its interval."""
    feed = feed_of(TapeMarket({"ohlcv-1d": {FRONT: [MIDNIGHT_NS - 24 * HOUR_NS]}}))
    feed.subscribe(line("ohlcv-1d"), MIDNIGHT_NS - SECOND_NS)
    feed.begin(MIDNIGHT_NS - SECOND_NS)
    assert drain(feed, MIDNIGHT_NS) == []
    bar, mark = decoded(drain(feed, MIDNIGHT_NS + SLOT_NS))
    assert (bar.ts_event, mark.ts_event) == (MIDNIGHT_NS - 24 * HOUR_NS, MIDNIGHT_NS)


def test_a_buffer_is_bounded_however_much_is_due() -> None:
    """Half a million records that are due at once are handed out a mebibyte or so at a time."""
    stamps = range(NOW_NS - 10 * SECOND_NS, NOW_NS, 20_000)
    feed = feed_of(TapeMarket({"mbo": {FRONT: stamps}}))
    feed.subscribe(line("mbo", start_ns=NOW_NS - 10 * SECOND_NS), NOW_NS)
    feed.begin(NOW_NS)
    sizes = [len(outgoing.data) for outgoing in iter(lambda: feed.due(NOW_NS), None)]
    assert sum(sizes) == 500_000 * 56
    assert max(sizes) <= 2**20


def test_a_mapping_comes_later_for_a_symbol_that_did_not_resolve() -> None:
    """The error is said once; when the symbol comes to stand for a contract, it is mapped and streams."""

    class Late(TapeMarket):
        def resolve(self, dataset: str, symbol: str, stype_in: str, day: date) -> Any:
            return (NEXT,) if day >= ROLL else ()

    feed = feed_of(Late({"trades": {NEXT: ALL_NIGHT}}))
    now_ns = MIDNIGHT_NS - 10 * SECOND_NS
    _, error = decoded(records([feed.subscribe(line("trades", "NEW", "raw_symbol"), now_ns)]))
    assert (error.err, error.code) == (
        "Failed to resolve symbol: NEW",
        dbn.ErrorCode.SYMBOL_RESOLUTION_FAILED,
    )
    feed.begin(now_ns)
    assert drain(feed, MIDNIGHT_NS - SECOND_NS) == []
    mapping, *trades = decoded(drain(feed, MIDNIGHT_NS + 10 * SECOND_NS))
    assert mapping.stype_out_symbol == "NQH7"
    assert len(trades) == 10


def test_a_week_of_quiet_is_read_in_few_steps() -> None:
    """Windows widen where there is little: a day and a half of nothing takes dozens of reads, not millions."""

    class Counted(TapeMarket):
        reads = 0

        def parts(self, selection: Selection, start_ns: int, end_ns: int) -> Any:
            self.reads += 1
            return super().parts(selection, start_ns, end_ns)

    market = Counted({"mbo": {FRONT: [NOW_NS - 1]}})
    feed = feed_of(market)
    feed.subscribe(line("mbo", start_ns=0), NOW_NS)
    feed.begin(NOW_NS)
    assert len(data_of(drain(feed, NOW_NS))) == 1
    assert market.reads < 200

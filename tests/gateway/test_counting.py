"""Whose each byte is: parts that can be told apart are counted apart, and nothing is counted twice or not at all."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace

import databento_dbn as dbn
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.gateway.live.counting import Counting, counted_alike, rtypes_of
from budget_guard.gateway.wire.framer import CONTROL_RTYPES, Framer
from budget_guard.gateway.wire.shapes import SHAPES
from budget_guard.policy.model import NotBilled
from tests.gateway.fake_gateway import metadata

SCHEMAS = sorted(SHAPES)


@dataclass(eq=False)
class Meter:
    """What a hold counts, and at what price."""

    price: Decimal
    size_bytes: int = 0
    control_bytes: int = 0
    reads: list[int] = field(default_factory=list)
    left: int | None = None
    left_out: int = 0
    beside_bytes: int = 0
    filled: list[bool] = field(default_factory=list)

    @property
    def terms(self) -> SimpleNamespace:
        return SimpleNamespace(unit_price_usd=self.price)

    @property
    def left_bytes(self) -> int | None:
        return self.left

    def count(
        self, size_bytes: int, control_bytes: int, now_ns: int, beside_bytes: int = 0, *, filled: bool = False
    ) -> None:
        assert size_bytes >= 0, "a count never goes back"
        self.size_bytes += size_bytes
        self.beside_bytes += beside_bytes
        self.control_bytes += control_bytes
        self.reads.append(now_ns)
        self.filled.append(filled)

    def leave_out(self, size_bytes: int) -> None:
        assert size_bytes >= 0
        self.left_out += size_bytes


def record(rtype: int, units: int) -> bytes:
    return bytes([units, rtype]) + bytes(units * 4 - 2)


def counting_of(parts: dict[frozenset[str], Meter], *not_billed: NotBilled, ts_out: bool = False) -> Counting:
    counting = Counting(not_billed, ts_out=ts_out)
    for schemas, meter in parts.items():
        counting.add(meter, rtypes_of(schemas))  # type: ignore[arg-type]
    return counting


def feed(counting: Counting, stream: bytes, cuts: list[int]) -> None:
    framer = Framer()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for number, (start, end) in enumerate(itertools.pairwise(edges)):
        framed = framer.feed(stream[start:end])
        counting.count(framed, number)
    counting.finish(len(edges))


records = st.lists(
    st.tuples(
        st.sampled_from([shape.rtype for shape in SHAPES.values()] + sorted(CONTROL_RTYPES) + [0x77]),
        st.integers(4, 100),
    ),
    max_size=40,
)
subscribed = st.lists(st.sampled_from(SCHEMAS), min_size=1, max_size=6, unique=True)
prices = st.lists(st.integers(0, 50).map(Decimal), min_size=6, max_size=6)
cuts = st.lists(st.integers(0, 10_000), max_size=12)


@given(subscribed, prices, records, cuts, st.integers(0, 30))
def test_the_parts_come_to_every_billed_byte_however_it_is_cut(
    schemas: list[str], prices: list[Decimal], rows: list[tuple[int, int]], cuts: list[int], tail: int
) -> None:
    parts = {group: Meter(price) for group, price in zip(counted_alike(schemas), prices, strict=False)}
    body = b"".join(record(*row) for row in rows)
    if rows:
        body += record(*rows[-1])[:tail]  # the vendor may end amid a record
    feed(counting_of(parts), metadata() + body, cuts)
    assert sum(meter.size_bytes for meter in parts.values()) == len(body)


@given(subscribed, prices, records, cuts)
def test_a_schema_is_counted_to_the_byte_and_the_rest_on_the_dearest(
    schemas: list[str], prices: list[Decimal], rows: list[tuple[int, int]], cuts: list[int]
) -> None:
    parts = {group: Meter(price) for group, price in zip(counted_alike(schemas), prices, strict=False)}
    feed(counting_of(parts), metadata() + b"".join(record(*row) for row in rows), cuts)
    known = set().union(*(rtypes_of(group) for group in parts))
    strange = sum(units * 4 for rtype, units in rows if rtype not in known)
    dearest = max(parts.values(), key=lambda meter: meter.price)
    for group, meter in parts.items():
        own = sum(units * 4 for rtype, units in rows if rtype in rtypes_of(group))
        assert meter.size_bytes == own + (strange if meter is dearest else 0)
    control = sum(units * 4 for rtype, units in rows if rtype in CONTROL_RTYPES)
    assert sum(meter.control_bytes for meter in parts.values()) == control == dearest.control_bytes


@given(subscribed, records, cuts, st.integers(0, 12))
def test_a_part_that_goes_on_with_another_hold_loses_nothing(
    schemas: list[str], rows: list[tuple[int, int]], cuts: list[int], at: int
) -> None:
    parts = {group: Meter(Decimal(1)) for group in counted_alike(schemas)}
    counting = counting_of(parts)
    body = b"".join(record(*row) for row in rows)
    stream, framer, after = metadata() + body, Framer(), Meter(Decimal(1))
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    group, first = next(iter(parts.items()))
    for number, (start, end) in enumerate(itertools.pairwise(edges)):
        if number == at:
            counting.swap(first, after, rtypes_of(group))  # type: ignore[arg-type]
        framed = framer.feed(stream[start:end])
        counting.count(framed, number)
    counting.finish(99)
    assert sum(meter.size_bytes for meter in (*parts.values(), after)) == len(body)


@given(records, cuts, st.integers(0, 12))
def test_a_part_that_joins_later_changes_nothing_of_what_was_counted(
    rows: list[tuple[int, int]], cuts: list[int], at: int
) -> None:
    first, late = Meter(Decimal(1)), Meter(Decimal(2))
    counting = counting_of({frozenset({"mbo"}): first})
    body = b"".join(record(*row) for row in rows)
    stream, framer = metadata() + body, Framer()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for number, (start, end) in enumerate(itertools.pairwise(edges)):
        if number == at:
            counting.add(late, rtypes_of({"trades"}))  # type: ignore[arg-type]
        framed = framer.feed(stream[start:end])
        counting.count(framed, number)
    counting.finish(99)
    assert first.size_bytes + late.size_bytes == len(body)


@given(
    subscribed,
    records.map(lambda rows: [(rtype, max(units, 6)) for rtype, units in rows]),
    cuts,
    st.sets(st.sampled_from(["control", "ts_out"])),
    st.booleans(),
    st.integers(2, 30),
)
def test_what_is_not_billed_is_left_out_to_the_byte_and_everything_else_is_counted(
    schemas: list[str],
    rows: list[tuple[int, int]],
    cuts: list[int],
    not_billed: set[NotBilled],
    ts_out: bool,
    tail: int,
) -> None:
    parts = {group: Meter(Decimal(1)) for group in counted_alike(schemas)}
    body = b"".join(record(*row) for row in rows)
    billed = 0
    cut = "ts_out" in not_billed and ts_out
    for rtype, units in rows:
        if not (rtype in CONTROL_RTYPES and "control" in not_billed):
            billed += units * 4 - 8 * cut
    if rows:
        rtype, units = rows[-1]
        begun = record(rtype, units)[:tail]
        whole = len(begun) == units * 4
        body += begun
        if not (rtype in CONTROL_RTYPES and "control" in not_billed):
            billed += min(len(begun), units * 4 - 8 * cut)
        assert whole or len(begun) == tail
    feed(counting_of(parts, *not_billed, ts_out=ts_out), metadata() + body, cuts)
    assert sum(meter.size_bytes for meter in parts.values()) == billed
    assert sum(meter.left_out for meter in parts.values()) == len(body) - billed


def test_every_part_knows_when_the_connection_was_read() -> None:
    """A part of which nothing came may have next to nothing on its way: the read says so."""
    parts = {frozenset({"mbo"}): Meter(Decimal(2)), frozenset({"trades"}): Meter(Decimal(3))}
    feed(counting_of(parts), metadata() + record(SHAPES["mbo"].rtype, 14), [])
    assert parts[frozenset({"trades"})].size_bytes == 0
    assert parts[frozenset({"trades"})].reads == parts[frozenset({"mbo"})].reads


def test_every_part_knows_whether_a_read_took_all_that_it_might() -> None:
    """What waits behind it may be of any of them; so it is after the last read too."""
    parts = {frozenset({"mbo"}): Meter(Decimal(2)), frozenset({"trades"}): Meter(Decimal(3))}
    counting, framer = counting_of(parts), Framer()
    counting.count(framer.feed(metadata() + record(SHAPES["mbo"].rtype, 14)), 1)
    counting.count(framer.feed(record(SHAPES["mbo"].rtype, 14)[:1]), 2, filled=True)
    counting.finish(3)
    assert parts[frozenset({"mbo"})].filled == [False, True]
    assert parts[frozenset({"trades"})].filled == [False, True, True]


def test_a_read_fits_into_the_smallest_of_what_is_left() -> None:
    parts = {frozenset({"mbo"}): Meter(Decimal(2)), frozenset({"trades"}): Meter(Decimal(3))}
    counting = counting_of(parts)
    assert counting.left_bytes is None
    parts[frozenset({"mbo"})].left, parts[frozenset({"trades"})].left = 500, 70
    assert counting.left_bytes == 70


@given(subscribed)
def test_schemas_are_one_part_only_where_a_record_type_is_shared(schemas: list[str]) -> None:
    groups = counted_alike(schemas)
    assert sorted(name for group in groups for name in group) == sorted(schemas)
    types = [rtypes_of(group) for group in groups]
    assert len(frozenset().union(*types)) == sum(len(one) for one in types) == len(groups)


def test_what_the_specification_says_of_shared_types() -> None:
    assert counted_alike(["mbp-1", "tbbo", "trades"]) == [frozenset({"mbp-1", "tbbo"}), frozenset({"trades"})]
    assert counted_alike(["mbo", "mbo-2", "trades"]) == [frozenset({"mbo", "mbo-2", "trades"})]
    for name, shape in SHAPES.items():
        assert dbn.RType.from_schema(dbn.Schema.from_str(name)).__index__() == shape.rtype


def test_each_part_knows_how_much_came_of_the_others() -> None:
    """What a broken connection leaves unread may be of any part: also of one of which nothing has come yet."""
    orders, trades = Meter(Decimal("2.16")), Meter(Decimal("33.6"))
    counting = counting_of({frozenset({"mbo"}): orders, frozenset({"trades"}): trades})
    feed(counting, metadata() + record(SHAPES["mbo"].rtype, 14) * 100, [1000, 3000])
    assert (orders.size_bytes, orders.beside_bytes) == (5600, 0)
    assert (trades.size_bytes, trades.beside_bytes) == (0, 5600)

"""What of a range was bought before and what is missing: together they are the range, and they do not overlap."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.guard.history import gaps_in, is_whole, missing_parts, overlaps
from budget_guard.ledger.model import Purchase
from budget_guard.pricing.model import DataRange
from tests.ledger.samples import purchase as sample

ORIGIN = datetime(2026, 11, 20, tzinfo=UTC)
NAMES = ("A", "B", "C", "D")
HOURS = 24


def at(hour: int) -> datetime:
    return ORIGIN + timedelta(hours=hour)


def asked(symbols: tuple[str, ...] = NAMES, start: int = 0, end: int = HOURS) -> DataRange:
    return DataRange("GLBX.MDP3", "mbo", symbols, "raw_symbol", at(start), at(end))


def bought(symbols: tuple[str, ...] = NAMES, start: int = 0, end: int = HOURS, **changes: Any) -> Purchase:
    terms: dict[str, Any] = {
        "symbols": json.dumps(list(symbols)),
        "stype_in": "raw_symbol",
        "start_utc": at(start),
        "end_utc": at(end),
        "form": json.dumps({"limit": None}),
        "state": "bought",
        **changes,
    }
    return sample(**terms)


Cell = tuple[str, int]


def cells(symbols: tuple[str, ...], start: datetime, end: datetime) -> list[Cell]:
    """Every symbol in every hour: what a range is made of."""
    hours = range((start - ORIGIN) // timedelta(hours=1), (end - ORIGIN) // timedelta(hours=1))
    return list(product(symbols, hours))


spans = st.tuples(st.integers(0, HOURS), st.integers(0, HOURS)).filter(lambda span: span[0] < span[1])
some_names = st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(tuple)


@given(some_names, spans, st.lists(st.tuples(some_names, spans), max_size=6))
def test_the_missing_parts_and_what_was_bought_are_the_whole_range_and_do_not_overlap(
    names: tuple[str, ...], span: tuple[int, int], before: list[tuple[tuple[str, ...], tuple[int, int]]]
) -> None:
    wanted = asked(names, *span)
    rows = [bought(some, *when) for some, when in before]
    missing = [
        cell
        for part in missing_parts(wanted, rows)
        for cell in cells(part.symbols, part.start_utc, part.end_utc)
    ]
    had = {cell for some, when in before for cell in cells(some, at(when[0]), at(when[1]))}
    assert len(missing) == len(set(missing))
    assert not had & set(missing)
    assert set(missing) | (had & set(cells(names, *map(at, span)))) == set(cells(names, *map(at, span)))


@given(spans, st.lists(spans, max_size=8))
def test_gaps_are_in_order_apart_and_never_empty(
    whole: tuple[int, int], parts: list[tuple[int, int]]
) -> None:
    gaps = gaps_in((at(whole[0]), at(whole[1])), [(at(a), at(b)) for a, b in parts])
    assert all(start < end for start, end in gaps)
    assert all(first[1] < second[0] for first, second in pairwise(gaps))


def test_nothing_is_missing_of_what_was_bought_whole() -> None:
    assert missing_parts(asked(), [bought()]) == ()


def test_symbols_that_miss_the_same_are_one_range() -> None:
    (part,) = missing_parts(asked(), [bought(start=3)])
    assert part == asked(end=3)
    parts = missing_parts(asked(), [bought(("A", "B"), end=6)])
    assert parts == (asked(("A", "B"), 6), asked(("C", "D")))


@pytest.mark.parametrize(
    "change",
    [
        {"state": "lost"},
        {"state": "asked"},
        {"state": "refused"},
        {"schema": "trades"},
        {"dataset": "XNAS.ITCH"},
        {"stype_in": "continuous"},
        {"form": json.dumps({"limit": 5})},
        {"form": "{}}"},
        {"start_utc": at(HOURS), "end_utc": at(HOURS + 1)},
        {"symbols": '["E"]'},
    ],
)
def test_what_gives_none_of_the_data_or_nobody_knows_how_much_covers_nothing(change: dict[str, Any]) -> None:
    row = replace(bought(), **change)
    assert not overlaps(row, asked())
    assert missing_parts(asked(), [row]) == (asked(),)


def test_the_whole_dataset_covers_symbols_of_every_kind() -> None:
    everything = bought(("ALL_SYMBOLS",), stype_in="continuous", end=6)
    assert missing_parts(asked(), [everything]) == (asked(start=6),)
    named = bought(NAMES)
    assert missing_parts(asked(("ALL_SYMBOLS",)), [named]) == (asked(("ALL_SYMBOLS",)),)


def test_a_request_without_a_limit_is_whole() -> None:
    assert is_whole(bought())
    assert not is_whole(bought(form=json.dumps({"limit": 1})))

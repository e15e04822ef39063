"""One function makes a range, for pricing and for requests alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.clock import EPOCH
from budget_guard.pricing.model import DataRange
from budget_guard.pricing.ranges import (
    MAX_SYMBOLS,
    aligned,
    canonical,
    halves,
    make_chunks,
    make_range,
)

START = datetime(2026, 11, 20, 14, 25, tzinfo=UTC)
END = datetime(2026, 11, 20, 21, 5, tzinfo=UTC)


def made(**changes: object) -> DataRange:
    terms: dict[str, object] = {
        "dataset": "GLBX.MDP3",
        "schema": "mbo",
        "symbols": ["NQ.v.0"],
        "stype_in": "continuous",
        "start_utc": START,
        "end_utc": END,
    }
    return make_range(**{**terms, **changes})  # type: ignore[arg-type]


def test_symbols_keep_the_callers_order_each_once() -> None:
    """What is requested is what the client wrote, without repetitions."""
    assert made(symbols=["NQ.v.0", " ES.v.0", "NQ.v.0"]).symbols == ("NQ.v.0", "ES.v.0")
    assert made(symbols="NQ.v.0,ES.v.0").symbols == ("NQ.v.0", "ES.v.0")


def test_equal_data_has_one_canonical_range() -> None:
    """Two orders of the same symbols are looked up under one name."""
    assert canonical(made(symbols=["A", "B"])) == canonical(made(symbols=["B", "A"]))


def test_instants_become_utc() -> None:
    """An instant in another zone is the same instant."""
    new_york = timezone(timedelta(hours=-5))
    assert made(start_utc=START.astimezone(new_york)) == made()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": "glbx"}, "GLBX.MDP3"),
        ({"schema": ""}, "schema"),
        ({"stype_in": "Raw Symbol"}, "symbology"),
        ({"symbols": []}, "ALL_SYMBOLS"),
        ({"symbols": ["A", ""]}, "empty symbol"),
        ({"symbols": ["ALL_SYMBOLS", "A"]}, "alone"),
        ({"symbols": [f"S{n}" for n in range(2001)]}, "2000"),
        ({"end_utc": START}, "not after"),
        ({"start_utc": START.replace(tzinfo=None)}, "time zone"),
    ],
)
def test_a_range_that_means_nothing_is_refused_in_words(changes: dict[str, object], words: str) -> None:
    """Each defect is named together with what would be right."""
    with pytest.raises(ValueError, match=words):
        made(**changes)


def test_sampling_widens_to_ten_minutes() -> None:
    """09:25 to 16:05 is measured as 09:20 to 16:10."""
    wide = aligned(made())
    assert (wide.start_utc, wide.end_utc) == (START - timedelta(minutes=5), END + timedelta(minutes=5))


def test_sampling_widens_definition_and_status_to_utc_days() -> None:
    """These two are kept by the day."""
    wide = aligned(made(schema="status"))
    assert wide.start_utc == datetime(2026, 11, 20, tzinfo=UTC)
    assert wide.end_utc == datetime(2026, 11, 21, tzinfo=UTC)


INSTANTS = st.timedeltas(timedelta(0), timedelta(days=40_000)).map(lambda since: EPOCH + since)


@settings(max_examples=100)
@given(
    INSTANTS, st.timedeltas(timedelta(microseconds=1), timedelta(days=3)), st.sampled_from(["mbo", "status"])
)
def test_widening_never_narrows_and_settles_at_once(start: datetime, length: timedelta, schema: str) -> None:
    """A widened range holds the original, by less than a step at each end, and widening it again changes nothing."""
    original = made(schema=schema, start_utc=start, end_utc=start + length)
    wide = aligned(original)
    step = timedelta(days=1) if schema == "status" else timedelta(minutes=10)
    assert wide.start_utc <= original.start_utc < wide.start_utc + step
    assert wide.end_utc - step < original.end_utc <= wide.end_utc
    assert aligned(wide) == wide


@settings(max_examples=50)
@given(st.integers(1, 7000))
def test_chunks_hold_every_symbol_once(count: int) -> None:
    """As few requests as the vendor's limit allows, over the same time, none of them empty."""
    symbols = [f"S{number}" for number in range(count)]
    chunks = make_chunks("GLBX.MDP3", "mbo", [*symbols, "S0"], "raw_symbol", START, END)
    assert [symbol for chunk in chunks for symbol in chunk.symbols] == symbols
    assert len(chunks) == -(-count // MAX_SYMBOLS)
    assert {(chunk.start_utc, chunk.end_utc) for chunk in chunks} == {(START, END)}


def test_a_few_symbols_are_one_chunk_equal_to_the_range() -> None:
    """Chunks are made by the one function that makes ranges."""
    assert make_chunks("GLBX.MDP3", "mbo", ["NQ.v.0"], "continuous", START, END) == (made(),)


@pytest.mark.parametrize("symbols", [[], ["ALL_SYMBOLS", *(f"S{n}" for n in range(2000))]])
def test_chunks_never_turn_into_the_whole_dataset(symbols: list[str]) -> None:
    """No symbols, or ALL_SYMBOLS among others, is refused as in a range."""
    with pytest.raises(ValueError, match="ALL_SYMBOLS"):
        make_chunks("GLBX.MDP3", "mbo", symbols, "raw_symbol", START, END)


@settings(max_examples=50)
@given(st.integers(2, 300))
def test_halves_make_up_the_range(count: int) -> None:
    """Neither is empty; one symbol cannot be halved."""
    whole = made(symbols=[f"S{number}" for number in range(count)])
    first, second = halves(whole)
    assert first.symbols + second.symbols == whole.symbols
    assert first.symbols
    assert second.symbols
    with pytest.raises(ValueError, match="one symbol"):
        halves(made())

"""Exact figures as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.money import GIB, nano_exact_text
from budget_guard.render.tables import (
    Footnotes,
    age_text,
    exact_text,
    gib_exact_text,
    markdown_table,
    rounded,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(Fraction(0), "0"), (Fraction(951, 2), "475.5"), (Fraction(1, 3), "0.333333"), (Fraction(100), "100")],
)
def test_a_figure_is_exact_where_it_can_be(value: Fraction, text: str) -> None:
    """A third of an hour has no decimal: six places; everything else has all of its own."""
    assert exact_text(value) == text


@settings(max_examples=100)
@given(st.integers(0, 2**50))
def test_every_number_of_bytes_is_exact_in_gib(size_bytes: int) -> None:
    """What is printed is what was counted."""
    assert Fraction(Decimal(gib_exact_text(Fraction(size_bytes)))) * GIB == size_bytes


def test_a_part_of_a_byte_counts_as_a_byte() -> None:
    """The figure never says less than there is; a user's own decimal stays as it was written."""
    assert Fraction(Decimal(gib_exact_text(Fraction(1, 3)))) * GIB == 1
    assert gib_exact_text(Fraction("15.9") * GIB) == "15.9"


def test_money_is_exact_to_the_nano_dollar() -> None:
    """Nine places, no exponent, no trailing zeros."""
    assert nano_exact_text(1) == "0.000000001"
    assert nano_exact_text(721_224_000_000) == "721.224"


@pytest.mark.parametrize(
    ("value", "text"),
    [(Fraction(0), "0.00"), (Fraction(12345, 10), "1,234.50"), (Fraction(1, 3000), "0.000333")],
)
def test_a_figure_for_people_is_never_rounded_to_nothing(value: Fraction, text: str) -> None:
    """Something small is shown as something small, not as zero."""
    assert rounded(value) == text


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=-5), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=59, seconds=59), "59 min ago"),
        (timedelta(hours=3, minutes=59), "3 h ago"),
        (timedelta(hours=47, minutes=59), "47 h ago"),
        (timedelta(days=2), "2 days ago"),
    ],
)
def test_an_age_is_never_more_than_it_was(age: timedelta, text: str) -> None:
    """Whole units, cut; a clock that is a little behind says now."""
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert age_text(now - age, now) == text


def test_footnotes_are_numbered_once() -> None:
    """The same sentence has the same number; runs are written short."""
    notes = Footnotes()
    assert notes.cite("a", "b", "c") == "1-3"
    assert notes.cite("c", "", "a") == "1,3"
    assert notes.lines() == [(1, "a"), (2, "b"), (3, "c")]


def test_a_markdown_cell_cannot_break_its_table() -> None:
    """A bar in a name is escaped."""
    assert markdown_table(["a", "b"], [["x|y", "1"]], right=[1]) == [
        "| a | b |",
        "| --- | ---: |",
        "| x\\|y | 1 |",
    ]

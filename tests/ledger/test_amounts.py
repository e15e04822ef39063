"""The ledger's integers and the amounts that people write: nothing is granted that was not written."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.ledger.amounts import amount_from_count, count_from_amount


@pytest.mark.parametrize(
    ("unit", "amount", "count"),
    [
        ("usd", "0.0000000019", 1),
        ("usd", "200", 200 * 10**9),
        ("gib", "0.0000000018", 1),
        ("gib", "60", 60 * 2**30),
        ("hours", "0.0000005", 1),
        ("hours", "8", 28_800_000),
        ("hours", "7.99999999999999999999999999999999999999", 28_799_999),
        ("connections", "2.9", 2),
        ("connections", "99999999999999999999999999999999.9", 99999999999999999999999999999999),
    ],
)
def test_a_part_of_the_smallest_unit_is_dropped_never_granted(unit: str, amount: str, count: int) -> None:
    assert count_from_amount(unit, Decimal(amount)) == count


@given(st.sampled_from(["usd", "gib", "hours", "connections"]), st.integers(0, 10**18))
def test_an_amount_says_which_count_it_came_from(unit: str, count: int) -> None:
    """Exact but for hours, whose thirds never end: those are rounded to nine places, which still tell the count."""
    amount = amount_from_count(unit, count)
    scale = {"usd": 10**9, "gib": 2**30, "hours": 3_600_000, "connections": 1}[unit]
    if unit == "hours":
        assert abs(amount * scale - count) < Decimal("0.01")
        exponent = amount.as_tuple().exponent
        assert isinstance(exponent, int) and exponent >= -9
    else:
        assert amount * scale == count


@given(st.sampled_from(["usd", "gib", "hours", "connections"]), st.decimals(0, 10**9, places=12))
def test_a_limit_is_never_granted_more_than_was_written(unit: str, amount: Decimal) -> None:
    count = count_from_amount(unit, amount)
    scale = {"usd": 10**9, "gib": 2**30, "hours": 3_600_000, "connections": 1}[unit]
    assert count <= amount * scale < count + 1

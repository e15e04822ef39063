"""Exact money: no rounding accumulates, none is against the vendor by a nano-dollar or more, no float gets in."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.money import (
    GIB,
    NANO,
    bytes_from_gib,
    bytes_within,
    cost_nano_usd,
    decimal_text,
    gib_from_bytes,
    nano_from_usd,
    parse_amount,
    size_text,
    usd_from_nano,
    usd_from_vendor,
    usd_text,
)

SIZES = st.integers(min_value=0, max_value=2**60)
NANOS = st.integers(min_value=0, max_value=10**18)
PRICES = st.decimals(min_value=Decimal("0.0001"), max_value=Decimal(1000), places=4)


def exact_cost(size_bytes: int, price: Decimal) -> Fraction:
    """The cost in nano-dollars without any rounding, worked out another way."""
    return Fraction(size_bytes) * Fraction(price) * NANO / GIB


@settings(max_examples=100)
@given(SIZES, PRICES)
def test_a_cost_is_rounded_up_by_less_than_one_nano_dollar(size: int, price: Decimal) -> None:
    assert 0 <= cost_nano_usd(size, price) - exact_cost(size, price) < 1


@settings(max_examples=100)
@given(st.lists(st.integers(min_value=0, max_value=2**40), max_size=30), PRICES, st.integers())
def test_a_cost_from_a_running_total_is_the_same_in_any_order_and_never_drifts(
    parts: list[int], price: Decimal, seed: int
) -> None:
    """Charging the difference of running totals ends at the cost of the sum, to the nano-dollar."""
    shuffled = list(parts)
    random.Random(seed).shuffle(shuffled)
    charged, total = 0, 0
    for part in shuffled:
        before = cost_nano_usd(total, price)
        total += part
        charged += cost_nano_usd(total, price) - before
    assert charged == cost_nano_usd(sum(parts), price)
    assert charged - exact_cost(sum(parts), price) < 1


@settings(max_examples=100)
@given(st.lists(st.integers(min_value=0, max_value=2**40), min_size=1, max_size=30), PRICES)
def test_the_rounded_parts_exceed_the_total_by_less_than_a_nano_dollar_each(
    parts: list[int], price: Decimal
) -> None:
    """Why costs are never added from rounded parts: the error grows with their number."""
    drift = sum(cost_nano_usd(part, price) for part in parts) - cost_nano_usd(sum(parts), price)
    assert 0 <= drift < len(parts)


@settings(max_examples=100)
@given(NANOS, PRICES)
def test_the_bytes_within_a_budget_are_exactly_the_most_that_it_pays(budget: int, price: Decimal) -> None:
    size = bytes_within(budget, price)
    assert size is not None
    assert cost_nano_usd(size, price) <= budget < cost_nano_usd(size + 1, price)


@settings(max_examples=100)
@given(SIZES, PRICES)
def test_what_a_size_costs_pays_for_that_size(size: int, price: Decimal) -> None:
    fits = bytes_within(cost_nano_usd(size, price), price)
    assert fits is not None
    assert fits >= size


def test_a_price_of_zero_fits_any_size_and_an_overdrawn_budget_none() -> None:
    assert bytes_within(0, Decimal(0)) is None
    assert cost_nano_usd(10**15, Decimal(0)) == 0
    assert bytes_within(-5, Decimal(1)) == 0


def test_the_vendor_s_documented_pair_of_size_and_cost_holds() -> None:
    """ESM2 trades, 2022-06-06 to 2022-06-10T12:10: its "GB" is 2**30 bytes, or this would not come out."""
    size, price = 99_219_648, Decimal(28)
    assert abs(exact_cost(size, price) / NANO - Fraction("2.587353944778")) < Fraction(1, 10**12)
    assert usd_from_nano(cost_nano_usd(size, price)) == Decimal("2.587353945")


@settings(max_examples=100)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_from_the_vendor_becomes_the_shortest_decimal_that_prints_like_it(value: float) -> None:
    assert usd_from_vendor(value) == Decimal(repr(value))
    assert float(usd_from_vendor(value)) == value


def test_a_float_is_not_taken_at_its_binary_value() -> None:
    assert usd_from_vendor(0.1) == Decimal("0.1")
    assert usd_from_vendor(2.16) == Decimal("2.16")
    assert usd_from_vendor("2.16") == Decimal("2.16")
    assert usd_from_vendor(3) == Decimal(3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), True, "abc", "NaN", None])
def test_what_is_no_amount_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match="not an amount of money"):
        usd_from_vendor(value)  # type: ignore[arg-type]


@settings(max_examples=100)
@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, min_value=Decimal(-(10**15)), max_value=Decimal(10**15)
    )
)
def test_decimal_text_is_plain_and_reads_back_equal(value: Decimal) -> None:
    text = decimal_text(value)
    assert Decimal(text) == value
    assert "E" not in text.upper()
    assert text != "-0"
    assert not ("." in text and text.endswith(("0", ".")))


def test_decimal_text_of_awkward_values() -> None:
    assert decimal_text(Decimal("1E+3")) == "1000"
    assert decimal_text(Decimal("100")) == "100"
    assert decimal_text(Decimal("-0.000")) == "0"
    assert decimal_text(Decimal("1E-9")) == "0.000000001"


@settings(max_examples=100)
@given(st.integers(min_value=-(10**24), max_value=10**24))
def test_nano_dollars_and_dollars_are_the_same_money(nano: int) -> None:
    assert nano_from_usd(usd_from_nano(nano)) == nano


@settings(max_examples=100)
@given(SIZES)
def test_bytes_and_gib_are_the_same_size(size: int) -> None:
    assert bytes_from_gib(gib_from_bytes(size)) == size
    assert Fraction(gib_from_bytes(size)) == Fraction(size, GIB)


def test_dollars_finer_than_a_nano_are_rounded_up() -> None:
    assert nano_from_usd(Decimal("0.0000000001")) == 1
    assert bytes_from_gib(Decimal("0.41")) == 440_234_148


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("200 USD", ("200", "USD")),
        ("$200", ("200", "")),
        ("  36.50USD ", ("36.50", "USD")),
        ("1,250,000.5 USD", ("1250000.5", "USD")),
        ("1_000", ("1000", "")),
        (".5 GiB", ("0.5", "GiB")),
    ],
)
def test_an_amount_is_a_number_and_its_unit(text: str, amount: tuple[str, str]) -> None:
    assert parse_amount(text) == (Decimal(amount[0]), amount[1])


@pytest.mark.parametrize(
    "text",
    ["", "USD", "-1 USD", "1,5 USD", "1,50,000 USD", "1e3 USD", "1. USD", "1__0", "1 USD a", "١ USD", "0x1"],
)
def test_what_is_no_amount_is_never_read_as_another(text: str) -> None:
    """A comma that does not part thousands may be a decimal comma: 1,5 must not become 15."""
    with pytest.raises(ValueError, match="not an amount"):
        parse_amount(text)


def test_amounts_for_people() -> None:
    assert usd_text(Decimal("1234.5")) == "$1,234.50"
    assert usd_text(Decimal("-3")) == "-$3.00"
    assert usd_text(Decimal("0.000012")) == "$0.000012"
    assert usd_text(Decimal(0)) == "$0.00"
    assert size_text(3 * GIB // 2) == "1.50 GiB"
    assert size_text(2048) == "2.00 KiB"
    assert size_text(5) == "5 B"

"""What requests that are counted as one cost, and against what they count."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from budget_guard.guard.coverage import Terms, join
from budget_guard.pricing.model import UnitPrice
from tests.guard.samples import NOW, OPEN, STREAM, counted

terms = st.builds(
    lambda number, price, budgets: Terms(
        NOW,
        replace(STREAM, name=f"s{number}", schema=f"schema-{number}"),
        OPEN,
        UnitPrice(Decimal(price) / 100, "vendor", "a list"),
        tuple(counted("usd", 10**9, name) for name in sorted(budgets)),
    ),
    st.integers(0, 5),
    st.integers(0, 5000),
    st.sets(st.sampled_from("abcd")),
)


@given(st.lists(terms, min_size=1, max_size=6))
def test_what_is_counted_as_one_is_never_cheaper_and_never_less_limited_than_any_of_it(
    parts: list[Terms],
) -> None:
    joint = join(parts)
    assert joint.main in parts
    for one in parts:
        assert joint.main.price.usd_per_gib >= one.price.usd_per_gib
        assert {limit.key for limit in one.limits} <= {limit.key for limit in joint.limits}
    keys = [limit.key for limit in joint.limits]
    assert len(keys) == len(set(keys)), "a budget that matches several of them counts their bytes once"
    assert set(keys) == {limit.key for one in parts for limit in one.limits}


@given(st.lists(terms, min_size=1, max_size=6))
def test_the_order_of_subscriptions_changes_no_price_and_no_budget(parts: list[Terms]) -> None:
    one, other = join(parts), join(parts[::-1])
    assert one.main.price == other.main.price
    assert {limit.key for limit in one.limits} == {limit.key for limit in other.limits}

"""A limit that is said never to be reached could as well not be there: spending without it is the same."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.policy.loading import parse_document

FIRST = date(2026, 10, 26)  # a Monday; two months' ends lie within the days below
DAYS = 80

AMOUNTS = st.integers(min_value=1, max_value=400)
LIMITS = st.dictionaries(st.sampled_from(["day", "week", "month", "total"]), AMOUNTS, min_size=2, max_size=4)
SPENDING = st.lists(st.integers(min_value=0, max_value=60), min_size=DAYS, max_size=DAYS)


def noted(limits: dict[str, int]) -> dict[str, str]:
    """The notes of a budget with these limits, by period."""
    written = "".join(f"    {period}: {amount} USD\n" for period, amount in limits.items())
    lines = [*limits]
    loaded = parse_document(
        f"version: 1\nname: x\nbudgets:\n  - name: all\n{written}"
        "streams: {a: {dataset: GLBX.MDP3, schema: mbo, symbols: ALL_SYMBOLS, windows: always}}\n",
        "p",
    )
    return {lines[problem.place.line - 5]: problem.message for problem in loaded.problems}


def period_of(period: str, day: date) -> tuple[str, object]:
    keys = {"day": day, "week": day.isocalendar()[:2], "month": (day.year, day.month), "total": None}
    return period, keys[period]


@settings(max_examples=100, deadline=None)
@given(LIMITS, SPENDING)
def test_a_limit_that_is_never_reached_refuses_nothing_that_the_others_let_through(
    limits: dict[str, int], spending: list[int]
) -> None:
    never = {period for period, text in noted(limits).items() if "never reached" in text}
    used: Counter[tuple[str, object]] = Counter()
    for number, wish in enumerate(spending):
        day = FIRST + timedelta(days=number)
        room = min(limits[period] - used[period_of(period, day)] for period in limits if period not in never)
        for period in limits:
            used[period_of(period, day)] += min(wish, room)
        for period in never:
            assert used[period_of(period, day)] <= limits[period]


def test_some_limit_of_a_budget_is_always_left_without_a_note() -> None:
    for day, month in ((5, 200), (200, 5), (7, 7)):
        assert len(noted({"day": day, "week": day, "month": month, "total": month})) < 4


def test_a_limit_is_told_against_what_ends_it() -> None:
    assert noted({"month": 200, "day": 5}) == {
        "month": "this limit of 200 USD a month is never reached: 32 days at 5 USD come to 160"
    }
    assert noted({"month": 200, "total": 200}) == {
        "month": "this limit of 200 USD a month is never reached: the total limit of 200 USD ends it first"
    }
    assert noted({"month": 200, "day": 200}) == {
        "day": "this limit of 200 USD a day is not reached within one month: the month limit of 200 USD ends it first"
    }
    assert noted({"month": 200, "day": 15}) == {}

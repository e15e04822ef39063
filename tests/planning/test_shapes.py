"""A session's bytes are spread by an assumed shape, never by hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.markets.model import Interval
from budget_guard.planning.shapes import SHAPES, session_share

CME = "cme-equity-index"


def et(day: int, hour: int, minute: int = 0) -> datetime:
    """An hour of New York in the winter of November 2026, in UTC."""
    return datetime(2026, 11, day, tzinfo=UTC) + timedelta(hours=hour + 5, minutes=minute)


ORDINARY = Interval(et(17, 18), et(18, 17))
EARLY = Interval(et(26, 18), et(27, 13, 15))


@pytest.mark.parametrize("name", SHAPES)
def test_the_shares_of_a_shape_make_a_whole(name: str) -> None:
    """Nothing of a session is lost or counted twice."""
    assert sum(share for _, _, share in SHAPES[name].parts) == 1


@pytest.mark.parametrize(
    ("start", "end", "percent"),
    [
        (et(18, 9, 30), et(18, 16), 73),
        (et(17, 18), et(18, 2), 8),
        (et(17, 22), et(18, 2), 4),
        (et(18, 2), et(18, 9, 30), 17),
        (et(18, 9, 30), et(18, 10), 10),
        (et(18, 16), et(18, 17), 2),
        (et(17, 18), et(18, 17), 100),
        (et(16, 0), et(20, 0), 100),
        (et(18, 17), et(18, 18), 0),
    ],
)
def test_a_part_of_an_ordinary_session_carries_its_share(
    start: datetime, end: datetime, percent: int
) -> None:
    """Regular hours are 28% of the time and 73% of the bytes."""
    assert session_share(CME, Interval(start, end), ORDINARY) == Fraction(percent, 100)


def test_the_whole_of_a_session_cut_short_is_a_full_session() -> None:
    """An upper bound: nobody knows how much less an early close carries."""
    assert session_share(CME, EARLY, EARLY) == 1


def test_a_part_of_a_session_cut_short_is_measured_against_its_own_hours() -> None:
    """09:30 to 13:00 of a session that ends at 13:15: 38.8 of 66.2 hundredths."""
    share = session_share(CME, Interval(et(27, 9, 30), et(27, 13)), EARLY)
    assert share == Fraction(388, 662) * Fraction(1)


def test_a_market_without_a_shape_has_whole_sessions_only() -> None:
    """A part of a session is unknown there, not a part of the hours."""
    assert session_share("elsewhere", ORDINARY, ORDINARY) == 1
    assert session_share("elsewhere", Interval(et(18, 9), et(18, 10)), ORDINARY) is None


def test_us_equities_in_regular_hours() -> None:
    """09:30 to 16:00 is 93% of a day of the equity feeds."""
    day = Interval(et(18, 4), et(18, 20))
    assert session_share("us-equities", Interval(et(18, 9, 30), et(18, 16)), day) == Fraction(93, 100)


def test_the_shape_follows_the_wall_clock_through_the_change_of_clocks() -> None:
    """In summer the same hours are other instants and the same share."""
    summer = date(2026, 7, 15)
    start = datetime(summer.year, summer.month, summer.day, 13, 30, tzinfo=UTC)
    full = Interval(start - timedelta(hours=15, minutes=30), start + timedelta(hours=7, minutes=30))
    assert session_share(CME, Interval(start, start + timedelta(hours=6.5)), full) == Fraction(73, 100)


@settings(max_examples=100)
@given(st.lists(st.integers(0, 23 * 60), min_size=2, max_size=6))
def test_parts_add_up(cuts: list[int]) -> None:
    """However a session is cut, its parts carry what the whole carries."""
    edges = sorted({0, 23 * 60, *cuts})
    instants = [ORDINARY.start_utc + timedelta(minutes=minutes) for minutes in edges]
    shares = [session_share(CME, Interval(start, end), ORDINARY) for start, end in pairwise(instants)]
    assert sum(share for share in shares if share is not None) == 1

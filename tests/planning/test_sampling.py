"""Which past windows stand for a coming one, and what their sizes say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, time, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.markets.model import Interval, Session, Window
from budget_guard.planning.sampling import (
    SAMPLES,
    WindowShape,
    ordinary_labels,
    quantiles,
    sample_spans,
    shape_of,
)

CHICAGO = ZoneInfo("America/Chicago")
REGULAR = WindowShape(0, time(8, 30), 0, time(15))
EARLY = WindowShape(0, time(8, 30), 0, time(12, 15))
FULL = WindowShape(-1, time(17), 0, time(16))
SHORT = WindowShape(-1, time(17), 0, time(12, 15))


def weekdays(first: date, count: int) -> list[date]:
    days = (first + timedelta(days=offset) for offset in range(2 * count + 7))
    return [day for day in days if day.weekday() < 5][:count]


def windows(shape: WindowShape, labels: Sequence[date]) -> list[Window]:
    return [Window("s", label, span.start_utc, span.end_utc) for label, span in spans(shape, labels)]


def sessions(shape: WindowShape, labels: Sequence[date]) -> list[Session]:
    return [Session(label, span.start_utc, span.end_utc) for label, span in spans(shape, labels)]


def spans(shape: WindowShape, labels: Sequence[date]) -> list[tuple[date, Interval]]:
    return [(label, shape.on(label, CHICAGO)) for label in labels]


PAST = weekdays(date(2026, 10, 5), 30)  # through the change of clocks on November 1


def chosen(
    wanted: WindowShape, own: Sequence[Window], full: Sequence[Session], fits: bool = True
) -> list[Interval]:
    return sample_spans({wanted}, own, full, lambda span: fits, CHICAGO)[wanted]


def test_a_shape_is_local_time_counted_from_the_label() -> None:
    """The same local hours are the same shape on both sides of a change of clocks."""
    assert {shape_of(window, CHICAGO) for window in windows(FULL, PAST)} == {FULL}
    assert len({window.open_utc.time() for window in windows(FULL, PAST)}) == 2


def test_recent_windows_of_the_same_shape_are_used() -> None:
    """The last ten of the stream's own."""
    found = chosen(REGULAR, windows(REGULAR, PAST), sessions(FULL, PAST))
    assert found == [span for _, span in spans(REGULAR, PAST[-SAMPLES:])]


def test_a_streams_own_weekdays_are_kept() -> None:
    """A stream that runs on Mondays is compared with Mondays."""
    mondays = [day for day in PAST if day.weekday() == 0]
    found = chosen(REGULAR, windows(REGULAR, mondays), sessions(FULL, PAST))
    assert found == [span for _, span in spans(REGULAR, mondays)]


def test_an_early_close_is_asked_of_ordinary_sessions_for_the_same_hours() -> None:
    """No recent session closed early: ordinary ones are asked for the hours until then."""
    found = chosen(EARLY, windows(REGULAR, PAST), sessions(FULL, PAST))
    assert found == [span for _, span in spans(EARLY, PAST[-SAMPLES:])]


def test_sessions_cut_short_do_not_stand_for_ordinary_ones() -> None:
    """A holiday's session is left out of the ordinary ones."""
    full = sessions(FULL, PAST[:-1]) + sessions(SHORT, PAST[-1:])
    assert ordinary_labels(full, CHICAGO) == PAST[:-1]
    assert chosen(EARLY, [], full)[-1] == EARLY.on(PAST[-2], CHICAGO)


def test_what_the_vendor_cannot_size_completely_is_not_asked() -> None:
    """Without a complete past there are no samples."""
    assert chosen(REGULAR, windows(REGULAR, PAST), sessions(FULL, PAST), fits=False) == []


def test_no_past_sessions_is_no_samples() -> None:
    """An empty past is an empty answer, not an error."""
    assert chosen(REGULAR, [], []) == []


@pytest.mark.parametrize(
    ("sizes", "p50", "p90"),
    [([7], 7, 7), ([1, 2], 1, 2), ([3, 1, 2], 2, 3), ([*range(10, 0, -1)], 5, 9), ([0, 0, 5], 0, 5)],
)
def test_quantiles_are_sizes_that_were_seen(sizes: list[int], p50: int, p90: int) -> None:
    """Nearest rank, from below for the median of an even number."""
    found = quantiles(sizes)
    assert (int(found.p50), int(found.p90)) == (p50, p90)


@settings(max_examples=100)
@given(st.lists(st.integers(0, 2**45), min_size=1, max_size=40), st.randoms())
def test_quantiles_are_ordered_and_do_not_depend_on_order(sizes: list[int], random: object) -> None:
    """p50 never exceeds p90; at least half and nine tenths of the sizes lie at or below them."""
    found = quantiles(sizes)
    shuffled = list(sizes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert quantiles(shuffled) == found
    assert found.p50 <= found.p90
    assert Fraction(sum(size <= found.p50 for size in sizes), len(sizes)) >= Fraction(1, 2)
    assert Fraction(sum(size <= found.p90 for size in sizes), len(sizes)) >= Fraction(9, 10)


def test_no_sizes_have_no_quantiles() -> None:
    """Nothing is not zero."""
    with pytest.raises(ValueError, match="no sizes"):
        quantiles([])

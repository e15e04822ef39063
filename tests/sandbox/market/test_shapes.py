"""How volume lies over sessions and days."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.market.model import Selection
from budget_guard.sandbox.market.seeds import Int64s
from budget_guard.sandbox.market.sessions import MINUTE_NS, Session, session_on
from budget_guard.sandbox.market.shapes import (
    SHAPES,
    base_weights,
    calendar_of_group,
    minute_weights,
    open_minutes,
    session_permille,
)
from budget_guard.sandbox.market.synthetic import Market

MARKET = Market(0)
SEED = 0


def session(calendar: str, label: date = date(2026, 11, 18)) -> Session:
    found = session_on(calendar, label)
    assert found is not None
    return found


def selection(*symbols: str, schema: str = "mbo") -> Selection:
    return Selection("GLBX.MDP3", schema, symbols, "continuous")


def by_minute(symbol: str, one: Session) -> Int64s:
    counts = [
        MARKET.count(selection(symbol), one.start_ns + m * MINUTE_NS, one.start_ns + (m + 1) * MINUTE_NS)
        for m in range(one.minutes)
    ]
    return np.array(counts)


@pytest.mark.parametrize("group", sorted(SHAPES))
def test_shapes_fill_their_sessions(group: str) -> None:
    """A shape has a weight for every minute of the session and adds up to 100%."""
    one = session(calendar_of_group(group))
    assert sum(minutes for minutes, _ in SHAPES[group]) == one.minutes
    assert sum(percent for _, percent in SHAPES[group]) == 100
    weights = minute_weights(SEED, "GLBX.MDP3", group, one, 1)
    for first, last in open_minutes(group, one.minutes):
        assert weights[first:last].min() > 0
    assert np.array_equal(weights > 0, base_weights(group, one.minutes) > 0)


def test_the_open_is_busy_and_the_night_is_quiet() -> None:
    """On average half an hour from 09:30 ET carries a tenth of an index session, eight hours of night 8%."""
    openings, nights = [], []
    for offset in range(5):
        counts = by_minute("NQ.v.0", session("cme", date(2026, 10, 5) + timedelta(days=offset)))
        openings.append(counts[930:960].sum() / counts.sum())
        nights.append(counts[:480].sum() / counts.sum())
    assert np.mean(openings) == pytest.approx(0.10, abs=0.03)
    assert np.mean(nights) == pytest.approx(0.08, abs=0.03)


def test_some_minutes_are_many_times_the_usual_and_products_share_them() -> None:
    """The busiest minute has several times its neighbours' records, in another product of the dataset too."""
    one = session("cme", date(2026, 11, 18))
    usual = base_weights("equity-index", one.minutes), base_weights("energy", one.minutes)
    bursts = [
        by_minute(symbol, one) / weights for symbol, weights in zip(("NQ.v.0", "CL.v.0"), usual, strict=True)
    ]
    for burst in bursts:
        assert burst.max() > 4 * np.median(burst)
    assert np.corrcoef(bursts[0], bursts[1])[0, 1] > 0.3


def test_busy_days_come_together() -> None:
    """Over a year the daily volumes of two groups rise and fall together, two products of one group even more so."""
    totals: dict[str, list[int]] = {"NQ.v.0": [], "ES.v.0": [], "CL.v.0": []}
    for offset in range(250):
        found = session_on("cme", date(2026, 1, 5) + timedelta(days=offset))
        if found is not None and found.minutes == 1380:
            for symbol, counts in totals.items():
                counts.append(MARKET.count(selection(symbol), found.start_ns, found.end_ns))
    nq, es, cl = totals.values()
    near, far = np.corrcoef(nq, es)[0, 1], np.corrcoef(nq, cl)[0, 1]
    assert 0.5 < far < near < 1


def test_a_short_day_has_less() -> None:
    """A session cut short has the share of the volume that its hours have on an ordinary day."""
    assert session_permille("equity-index", 1380) == 1000
    # To 12:15 CT: 8 + 17 + 10 of the hundred, and three hours and a quarter of five that carry 48.
    assert session_permille("equity-index", 1155) == pytest.approx(662, abs=2)
    # To 13:00 ET and after: 4 + 14 and three hours of five and a half, and 3.
    assert session_permille("us-equities", 780) == pytest.approx(548, abs=5)


def test_a_pause_has_no_records() -> None:
    """Grains do not trade between 07:45 and 08:30 CT."""
    counts = by_minute("ZC.v.0", session("cme"))
    assert counts[885:930].sum() == counts[:120].sum() == 0
    assert counts[120:885].min() > 0


def test_counting_a_month_of_everything_is_quick() -> None:
    """All of GLBX.MDP3 mbo over a month is counted in under half a second once it has been asked for."""
    chosen = Selection("GLBX.MDP3", "mbo", ("ALL_SYMBOLS",), "raw_symbol")
    bounds = [ns_from_instant(datetime(2026, month, 1, tzinfo=UTC)) for month in (10, 11)]
    count = MARKET.count(chosen, *bounds)
    begin = time.perf_counter()
    assert MARKET.count(chosen, *bounds) == count
    assert time.perf_counter() - begin < 0.5

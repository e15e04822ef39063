"""How far history reaches: for a key with a live licence, and for one without."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from budget_guard.clock import ManualClock, ns_from_instant
from budget_guard.sandbox.account import Account
from budget_guard.sandbox.config import DEFAULT_KEY, Rights, SandboxConfig
from budget_guard.sandbox.historical.errors import ApiError
from budget_guard.sandbox.historical.reach import Horizon, time_text

# A Friday, 10:37:30 in New York.
NOW = datetime(2026, 11, 20, 15, 37, 30, tzinfo=UTC)
UNLICENSED: dict[str, Any] = {"live_entitlements": frozenset[str]()}


def horizon(**fields: Any) -> Horizon:
    config = SandboxConfig(clock=ManualClock(NOW), **fields)
    return Horizon(config, Account(config))


def ns(*parts: int) -> int:
    return ns_from_instant(datetime(*parts, tzinfo=UTC))  # type: ignore[misc,arg-type]


def end_of(dataset: str, schema: str | None = None, **fields: Any) -> str:
    """The end of what may be asked for, to the second."""
    return time_text(horizon(**fields).of(DEFAULT_KEY, dataset, schema).end_ns)[:19]


@pytest.mark.parametrize(
    ("dataset", "end"),
    [
        ("GLBX.MDP3", "2026-11-20T07:37:30"),
        ("OPRA.PILLAR", "2026-11-19T15:37:30"),
        ("EQUS.MINI", "2026-11-20T05:00:00"),
        ("XNAS.ITCH", "2026-11-20T05:00:00"),
        ("XEUR.EOBI", "2026-11-19T15:37:30"),
    ],
)
def test_recent_data_is_held_back_without_a_live_licence(dataset: str, end: str) -> None:
    """CME's last 8 hours, the options' last 24, the stocks' day; with the licence nothing is."""
    assert end_of(dataset, **UNLICENSED) == end
    assert end_of(dataset) == "2026-11-20T15:37:30"
    assert end_of(dataset, **UNLICENSED, recency_wall=False) == "2026-11-20T15:37:30"


@pytest.mark.parametrize(
    ("schema", "end"),
    [
        ("mbo", "2026-11-20T15:37:30"),
        ("ohlcv-1m", "2026-11-20T15:37:00"),
        ("ohlcv-1h", "2026-11-20T15:00:00"),
        ("ohlcv-1d", "2026-11-20T00:00:00"),
    ],
)
def test_bars_reach_to_the_last_whole_one(schema: str, end: str) -> None:
    """An hour's bar is there when the hour is over, a day's at midnight UTC."""
    assert end_of("GLBX.MDP3", schema) == end
    assert end_of("GLBX.MDP3", schema, whole_bars=False) == "2026-11-20T15:37:30"


def test_the_wall_and_the_embargo_do_not_add_up() -> None:
    """Whichever is earlier ends the range, and bars are whole before it."""
    assert end_of("GLBX.MDP3", **UNLICENSED, embargo_s=3600) == "2026-11-20T07:37:30"
    assert end_of("GLBX.MDP3", **UNLICENSED, embargo_s=9 * 3600) == "2026-11-20T06:37:30"
    assert end_of("GLBX.MDP3", "ohlcv-1h", **UNLICENSED) == "2026-11-20T07:00:00"


def test_rights_are_each_keys_own() -> None:
    """Of two keys only the licensed one sees the last hours."""
    keys = (DEFAULT_KEY, "db-second")
    both = horizon(keys=keys, rights={"db-second": Rights(live=frozenset({"OPRA.PILLAR"}))})
    assert [time_text(both.of(key, "GLBX.MDP3").end_ns)[11:16] for key in keys] == ["15:37", "07:37"]


def test_cme_refuses_questions_beyond_the_wall_and_others_only_data() -> None:
    """As measured: 422 for a quote of CME's last hours; a quote of the options' is answered, their data is 403."""
    start, end = ns(2026, 11, 20, 7), ns(2026, 11, 20, 8)
    unlicensed = horizon(**UNLICENSED)
    with pytest.raises(ApiError) as cme:
        unlicensed.check(DEFAULT_KEY, "GLBX.MDP3", "mbo", start, end)
    assert (cme.value.status, cme.value.case) == (422, "dataset_unavailable_range")
    assert "Try again with an end time before 2026-11-20T07:37:30.000000000Z" in str(cme.value)
    assert cme.value.payload["available_end"] == "2026-11-20T07:37:30.000000000Z"
    unlicensed.check(DEFAULT_KEY, "OPRA.PILLAR", "trades", start, end)
    with pytest.raises(ApiError) as options:
        unlicensed.check_licence(DEFAULT_KEY, "OPRA.PILLAR", end)
    assert (options.value.status, options.value.case) == (403, "license_not_found_unauthorized")
    assert "data after 2026-11-19T15:37:30.000000000Z" in str(options.value)
    horizon().check_licence(DEFAULT_KEY, "OPRA.PILLAR", end)


def test_the_reported_end_is_the_first_instant_that_may_not_be_asked_for() -> None:
    """A range that ends on it is answered, a nanosecond more is refused: for licensed and unlicensed, each schema."""
    for fields in ({}, UNLICENSED):
        for schema in ("mbo", "ohlcv-1m", "ohlcv-1d"):
            seen = horizon(**fields)
            end = seen.of(DEFAULT_KEY, "GLBX.MDP3", schema).end_ns
            seen.check(DEFAULT_KEY, "GLBX.MDP3", schema, end - 1, end)
            if schema == "mbo" or not fields:
                with pytest.raises(ApiError):
                    seen.check(DEFAULT_KEY, "GLBX.MDP3", schema, end - 1, end + 1)


def test_refusals_say_what_would_be_available() -> None:
    """In a sentence to the digits that there are, and in the payload to the nanosecond."""
    with pytest.raises(ApiError) as caught:
        horizon().check(DEFAULT_KEY, "GLBX.MDP3", "mbo", ns(2026, 11, 19), ns(2026, 11, 21) + 167_605_900)
    assert str(caught.value) == (
        "The dataset GLBX.MDP3 has data available up to '2026-11-20 15:37:30+00:00'. The `end` in the query "
        "('2026-11-21 00:00:00.167605900+00:00') is after the available range. Try requesting with an earlier `end`."
    )
    assert caught.value.payload == {
        "dataset": "GLBX.MDP3",
        "start": "2026-11-19T00:00:00.000000000Z",
        "end": "2026-11-21T00:00:00.167605900Z",
        "available_start": "2010-06-06T00:00:00.000000000Z",
        "available_end": "2026-11-20T15:37:30.000000000Z",
    }


def test_symbols_can_be_resolved_through_today() -> None:
    """To the end of today with a licence; CME's without one to the wall; from the dataset's first day on."""
    day = 86_400 * 10**9
    today = ns(2026, 11, 20)
    horizon().check_days(DEFAULT_KEY, "GLBX.MDP3", today, today + day)
    unlicensed = horizon(**UNLICENSED)
    unlicensed.check_days(DEFAULT_KEY, "GLBX.MDP3", today - day, today)
    unlicensed.check_days(DEFAULT_KEY, "OPRA.PILLAR", today, today + day)
    refused = [(horizon(), today + day), (unlicensed, today)]
    for seen, start in refused:
        with pytest.raises(ApiError) as caught:
            seen.check_days(DEFAULT_KEY, "GLBX.MDP3", start, start + day)
        assert caught.value.case == "dataset_unavailable_range"
    with pytest.raises(ApiError) as caught:
        horizon().check_days(DEFAULT_KEY, "GLBX.MDP3", ns(2010, 6, 5), today)
    assert caught.value.case == "data_start_before_available_start"


def test_a_recording_reaches_as_far_as_it_was_made() -> None:
    """Its bars too, though the last may end in the middle of one; a schema may begin later than its dataset."""
    ranges = {
        "mbo": (ns(2026, 11, 19, 14), ns(2026, 11, 19, 15, 30)),
        "ohlcv-1h": (ns(2026, 11, 19, 15), ns(2026, 11, 19, 15, 30)),
    }
    recorded = horizon(recorded={"GLBX.MDP3": ranges})
    assert recorded.of(DEFAULT_KEY, "GLBX.MDP3").start_ns == ns(2026, 11, 19, 14)
    bars = recorded.of(DEFAULT_KEY, "GLBX.MDP3", "ohlcv-1h")
    assert (bars.start_ns, bars.end_ns) == ranges["ohlcv-1h"]
    with pytest.raises(ApiError) as caught:
        recorded.check(DEFAULT_KEY, "GLBX.MDP3", "ohlcv-1h", ns(2026, 11, 19, 14), ns(2026, 11, 19, 15))
    assert caught.value.case == "data_schema_not_fully_available"

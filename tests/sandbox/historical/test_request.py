"""Forms: the vendor's defaults, and its errors."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from budget_guard.clock import ManualClock, ns_from_instant
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.historical.request import ApiError, check_query, parse_day, parse_time, time_text

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CONFIG = SandboxConfig(clock=ManualClock(NOW))
GOOD = {"dataset": "GLBX.MDP3", "start": "2026-11-19", "symbols": "NQ.v.0", "stype_in": "continuous"}


def ns(*parts: int) -> int:
    return ns_from_instant(datetime(*parts, tzinfo=UTC))  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "instant", "unit"),
    [
        ("1795444201200205562", 1795444201200205562, 1),
        ("2026-11-19", ns(2026, 11, 19), 86_400 * 10**9),
        ("2026-11-19T14", ns(2026, 11, 19, 14), 3600 * 10**9),
        ("2026-11-19T14:30", ns(2026, 11, 19, 14, 30), 60 * 10**9),
        ("2026-11-19 14:30:05Z", ns(2026, 11, 19, 14, 30, 5), 10**9),
        ("2026-11-19T14:30:00-05:00", ns(2026, 11, 19, 19, 30), 10**9),
        ("2026-11-19T14:30:00.000000001+00:00", ns(2026, 11, 19, 14, 30) + 1, 1),
    ],
)
def test_times_are_read_to_the_nanosecond(text: str, instant: int, unit: int) -> None:
    """Every spelling that the clients send, and the unit it was written to."""
    assert parse_time(text) == (instant, unit)


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "2026-11-19T25:00"])
def test_what_is_not_a_time_is_an_error(text: str) -> None:
    """Never a guess."""
    with pytest.raises(ValueError):  # noqa: PT011 - the message is that of whichever parser stumbled
        parse_time(text)


def test_what_is_left_out_means_what_it_means_at_the_vendors() -> None:
    """Trades, all symbols, raw symbols, and an end filled forward from the start."""
    query = check_query({"dataset": "GLBX.MDP3", "start": "2026-11-18"}, CONFIG)
    assert (query.schema, query.symbols, query.stype_in) == ("trades", ("ALL_SYMBOLS",), "raw_symbol")
    assert (query.start_ns, query.end_ns, query.limit) == (ns(2026, 11, 18), ns(2026, 11, 19), None)


def test_a_filled_end_stops_at_now() -> None:
    """Today has only been until now."""
    query = check_query(GOOD | {"start": "2026-11-20"}, CONFIG)
    assert query.end_ns == ns(2026, 11, 20, 12)


@pytest.mark.parametrize(
    ("change", "case"),
    [
        ({"dataset": ""}, "validation_failed"),
        ({"dataset": "NOPE.NOPE"}, "dataset_unknown"),
        ({"schema": "mbp-7"}, "data_schema_not_supported"),
        ({"schema": "cmbp-1"}, "data_schema_not_supported"),
        ({"stype_in": "isin"}, "symbology_invalid_request"),
        ({"symbols": ",".join(f"A{i}" for i in range(2001))}, "symbology_invalid_request"),
        ({"start": "soon"}, "validation_failed"),
        ({"limit": "0"}, "validation_failed"),
        ({"start": "2009-01-01"}, "data_start_before_available_start"),
        ({"start": "2026-11-20T12:00"}, "data_start_after_available_end"),
        ({"end": "2026-11-20T12:00:00.000000001"}, "data_end_after_available_end"),
        ({"end": "2026-11-19"}, "data_time_range_start_on_or_after_end"),
    ],
)
def test_each_defect_has_the_vendors_case(change: dict[str, str], case: str) -> None:
    """All of them 422, with a sentence."""
    with pytest.raises(ApiError) as caught:
        check_query(GOOD | change, CONFIG)
    detail = caught.value.body()["detail"]
    assert (detail["case"], detail["status_code"]) == (case, 422)
    assert detail["message"]


def test_days_are_dates_or_the_default() -> None:
    """A date field may carry a time; one that is left out may have a default."""
    assert parse_day({"start_date": "2026-11-19T00:00"}, "start_date") == date(2026, 11, 19)
    assert parse_day({}, "end_date", date(2026, 1, 2)) == date(2026, 1, 2)
    with pytest.raises(ApiError, match="not a date"):
        parse_day({"start_date": "soon"}, "start_date")


def test_times_are_written_to_the_nanosecond() -> None:
    """As the vendor does."""
    assert time_text(ns(2026, 11, 19, 14, 30) + 5) == "2026-11-19T14:30:00.000000005Z"

"""Batch jobs as values: where they stand at an instant, and what is told of them when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.sandbox.config import BatchRules
from budget_guard.sandbox.historical.encodings import Form
from budget_guard.sandbox.historical.jobs import (
    Job,
    Sizes,
    Split,
    State,
    details,
    is_listed,
    new_id,
    receipt,
    stages_of,
    summary,
    user_id,
)
from budget_guard.sandbox.historical.request import Query
from budget_guard.sandbox.historical.timeseries import Purchase

RECEIVED = datetime(2026, 8, 25, 18, 58, 13, 23009, tzinfo=UTC)
QUERY = Query("XNAS.ITCH", "ohlcv-1m", ("MSFT",), "raw_symbol", 1654864200 * 10**9, 1654869600 * 10**9, 1000)
JOB = Job(
    job_id="XNAS-20260825-6T3F5G5TYH",
    user_id="W7KFYTCU",
    purchase=Purchase(QUERY, "instrument_id", Form("csv", map_symbols=True)),
    split=Split(duration="none"),
    record_count=90,
    billed_bytes=5040,
    cost_usd=Decimal("0.0000014"),
    received_utc=RECEIVED,
    host="127.0.0.1:8080",
)
# The pace that the vendor was seen at.
RULES = BatchRules(
    listed_after_s=3, queued_after_s=20.021269, processing_after_s=30.058166, done_after_s=31.073428
)


def after(seconds: float) -> datetime:
    return RECEIVED + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("seconds", "state"),
    [
        (0, "received"),
        (20, "received"),
        (21, "queued"),
        (30.5, "processing"),
        (31.1, "done"),
        (30 * 86_400 + 31, "done"),
        (30 * 86_400 + 3600 + 31, "expired"),
    ],
)
def test_a_job_goes_through_its_states(seconds: float, state: str) -> None:
    """Each state begins at its instant and lasts until the next."""
    assert stages_of(JOB, RULES).state_at(after(seconds)) == state


def test_files_expire_on_a_whole_hour() -> None:
    """A job that the vendor finished at 18:58:44 was to expire 30 days later at 19:00."""
    assert stages_of(JOB, RULES).expired == datetime(2026, 9, 24, 19, tzinfo=UTC)
    on_the_hour = replace(JOB, received_utc=datetime(2026, 8, 25, 18, tzinfo=UTC))
    at_once = BatchRules(queued_after_s=0, processing_after_s=0, done_after_s=0)
    assert stages_of(on_the_hour, at_once).expired == datetime(2026, 9, 24, 18, tzinfo=UTC)


@pytest.mark.parametrize("stuck", ["queued", "processing"])
def test_a_stuck_job_never_leaves_its_state(stuck: State) -> None:
    """Not after a year either, and it never expires."""
    job = replace(JOB, stuck=stuck)
    assert stages_of(job, RULES).state_at(after(86_400 * 365)) == stuck
    told = details(job, RULES, after(86_400 * 365), None)
    assert (told["cost_usd"], told["ts_process_done"], told["ts_expiration"]) == (None, None, None)
    assert told["progress"] == (0 if stuck == "queued" else 99)


@settings(max_examples=60)
@given(st.floats(0, 4_000_000), st.floats(0, 4_000_000))
def test_time_only_moves_a_job_forward(first_s: float, second_s: float) -> None:
    """States and progress never go back."""
    order = ["received", "queued", "processing", "done", "expired"]
    early, late = (details(JOB, RULES, after(seconds), None) for seconds in sorted((first_s, second_s)))
    assert order.index(early["state"]) <= order.index(late["state"])
    assert early["progress"] <= late["progress"]


def test_a_finished_job_is_told_as_the_vendor_tells_it() -> None:
    """Names, order, nulls for 'none', and nanoseconds are those of an answer that somebody published."""
    told = details(JOB, RULES, after(40), Sizes(8341, 10578))
    assert told == {
        "id": "XNAS-20260825-6T3F5G5TYH",
        "user_id": "W7KFYTCU",
        "bill_id": None,
        "cost_usd": 0.0000014,
        "dataset": "XNAS.ITCH",
        "symbols": "MSFT",
        "stype_in": "raw_symbol",
        "stype_out": "instrument_id",
        "schema": "ohlcv-1m",
        "start": "2022-06-10T12:30:00.000000000Z",
        "end": "2022-06-10T14:00:00.000000000Z",
        "limit": 1000,
        "encoding": "csv",
        "compression": None,
        "pretty_px": False,
        "pretty_ts": False,
        "map_symbols": True,
        "split_symbols": False,
        "split_duration": None,
        "split_size": None,
        "packaging": None,
        "delivery": "download",
        "record_count": 90,
        "billed_size": 5040,
        "actual_size": 8341,
        "package_size": 10578,
        "state": "done",
        "ts_received": "2026-08-25T18:58:13.023009000Z",
        "ts_queued": "2026-08-25T18:58:33.044278000Z",
        "ts_process_start": "2026-08-25T18:58:43.081175000Z",
        "ts_process_done": "2026-08-25T18:58:44.096437000Z",
        "ts_expiration": "2026-09-24T19:00:00.000000000Z",
        "progress": 100,
    }


def test_a_receipt_knows_nothing_yet() -> None:
    """The answer to a submission has every field, and no size, cost, progress or later time."""
    told = receipt(JOB)
    assert list(told) == list(details(JOB, RULES, after(40), None))
    unknown = {name for name, value in told.items() if value is None}
    assert {"cost_usd", "record_count", "billed_size", "actual_size", "package_size", "progress"} <= unknown
    assert {"ts_queued", "ts_process_start", "ts_process_done", "ts_expiration"} <= unknown
    assert told["state"] == "received"


@pytest.mark.parametrize("seconds", [1, 25, 30.5])
def test_cost_and_count_are_told_when_a_job_is_done(seconds: float) -> None:
    """Until then they are null, though they are on the bill."""
    told = details(JOB, RULES, after(seconds), None)
    assert (told["cost_usd"], told["record_count"], told["billed_size"]) == (None, None, None)


def test_the_short_form_has_three_fields() -> None:
    """As announced for 2026-09-29."""
    assert summary(JOB, RULES, after(40)) == {
        "id": "XNAS-20260825-6T3F5G5TYH",
        "state": "done",
        "ts_received": "2026-08-25T18:58:13.023009000Z",
    }


def test_the_listing_knows_a_job_a_moment_later() -> None:
    """Whoever looks at once does not find what was just bought."""
    assert not is_listed(JOB, RULES, after(2.9))
    assert is_listed(JOB, RULES, after(3))


def test_ids_are_as_the_vendors_and_a_seeds_own() -> None:
    """Dataset, day and ten letters; the same seed gives the same ones, each job another."""
    ids = {new_id(7, "GLBX.MDP3", number, RECEIVED) for number in range(200)}
    assert len(ids) == 200
    assert all(found.startswith("GLBX-20260825-") and len(found) == 24 for found in ids)
    assert new_id(7, "GLBX.MDP3", 3, RECEIVED) in ids
    assert len(user_id(7)) == 8
    assert user_id(7) == user_id(7) != user_id(8)


def test_times_that_run_backwards_are_refused() -> None:
    """A job is queued first, then processed, then done."""
    with pytest.raises(ValueError, match="queued first"):
        BatchRules(queued_after_s=5, processing_after_s=1)

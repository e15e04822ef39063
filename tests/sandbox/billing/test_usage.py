"""The bill in the vendor's shape: usage records by hour and day, and the month to date."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from budget_guard.clock import ManualClock
from budget_guard.money import GIB
from budget_guard.sandbox.billing.bill import Bill
from budget_guard.sandbox.billing.line import BillLine
from budget_guard.sandbox.billing.usage import FIELDS, usage_csv, usage_json

NOW = datetime(2026, 11, 30, 21, 59, 50, tzinfo=UTC)
HOUR = int(NOW.replace(minute=0, second=0).timestamp())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def bill(clock: ManualClock) -> Bill:
    return Bill(clock, lambda: None)


def send(line: BillLine, schema: str | None, size_bytes: int) -> None:
    line.intend(size_bytes)
    line.add(schema, size_bytes)
    line.intend(0)


def live(bill: Bill) -> BillLine:
    line = bill.open("live", "db-key-abcde", "GLBX.MDP3")
    line.subscribe("mbo", Decimal("2.16"))
    line.subscribe("trades", Decimal("33.6"))
    return line


def test_a_record_has_the_vendors_fields(bill: Bill) -> None:
    """In the vendor's order, with its types; the cost is a number."""
    send(live(bill), "mbo", GIB)
    (row,) = usage_json(bill.usage())
    assert tuple(row) == FIELDS
    assert row == {
        "timestamp": HOUR,
        "user_id": "sandbox",
        "api_key": "abcde",
        "user_name": "Sandbox",
        "dataset": "GLBX.MDP3",
        "schema": "mbo",
        "mode": "live",
        "usage_sum": GIB,
        "cost_sum": 2.16,
    }


def test_live_bytes_stand_in_the_hour_in_which_they_were_sent(bill: Bill, clock: ManualClock) -> None:
    """But never outside the month of the connection, which they are billed in."""
    line = live(bill)
    for size in (1, 10, 100, 1000):
        send(line, "mbo", size)
        clock.advance(3600)
    assert [(row["timestamp"] - HOUR, row["usage_sum"]) for row in usage_json(bill.usage("2026-11"))] == [
        (0, 1),
        (3600, 10),
        (7200, 1100),
    ]
    assert bill.usage("2026-12") == []
    (day,) = usage_json(bill.usage(frequency="day"))
    assert (day["timestamp"], day["usage_sum"]) == (HOUR - 21 * 3600, 1111)


def test_a_download_stands_in_the_hour_in_which_it_was_asked_for(bill: Bill, clock: ManualClock) -> None:
    """However long it takes."""
    line = bill.open("historical", "db-key-abcde", "GLBX.MDP3")
    line.subscribe("mbo", Decimal(2))
    for _ in range(3):
        send(line, "mbo", 100)
        clock.advance(3600)
    assert [(row["timestamp"], row["usage_sum"]) for row in usage_json(bill.usage())] == [(HOUR, 300)]


def test_control_stands_under_the_dearest_schema(bill: Bill) -> None:
    """The vendor's record has no row for it, and that is the price it is charged."""
    line = live(bill)
    send(line, "mbo", 100)
    send(line, None, 320)
    assert [(row["schema"], row["usage_sum"]) for row in usage_json(bill.usage())] == [
        ("mbo", 100),
        ("trades", 320),
    ]


def test_an_unknown_cost_is_not_zero(bill: Bill) -> None:
    """It is null in JSON and empty in CSV."""
    line = bill.open("live", "db-key-abcde", "GLBX.MDP3")
    line.subscribe("mbo", None)
    send(line, "mbo", 100)
    assert usage_json(bill.usage())[0]["cost_sum"] is None
    assert usage_csv(bill.usage()).splitlines()[1].endswith(",100,")


def test_csv_has_every_digit(bill: Bill) -> None:
    """The sum of its costs is the bill, exactly."""
    line = live(bill)
    send(line, "mbo", 1)
    send(line, "trades", 3)
    rows = list(csv.DictReader(io.StringIO(usage_csv(bill.usage()))))
    assert sum(Decimal(row["cost_sum"]) for row in rows) == Decimal(bill.as_json()["cost_usd"])


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_timestamps_come_in_any_unit(bill: Bill, unit: str, factor: int) -> None:
    """The vendor's document does not say which its own is."""
    send(live(bill), "mbo", 1)
    assert usage_json(bill.usage(), unit)[0]["timestamp"] == HOUR * factor


def test_the_month_to_date_rounds_up_to_a_cent(bill: Bill, clock: ManualClock) -> None:
    """It is of the current month unless another is asked for."""
    send(live(bill), "mbo", GIB)
    send(live(bill), "mbo", 1)
    assert bill.month_to_date() == {"usage_bytes": GIB + 1, "usage_cents": 217}
    clock.advance(86_400)
    assert bill.month_to_date() == {"usage_bytes": 0, "usage_cents": 0}
    assert bill.month_to_date("2026-11")["usage_cents"] == 217

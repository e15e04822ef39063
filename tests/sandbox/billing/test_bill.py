"""The bill: exact, by line, and never half written."""

from __future__ import annotations

import gc
import json
import tracemalloc
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.clock import ManualClock
from budget_guard.money import GIB
from budget_guard.sandbox.billing.bill import Bill, exact_cost, write_bill
from budget_guard.sandbox.prices import DEFAULT_PRICES, DatasetPrices, parse_prices

NOW = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
KEY = "db-key-abcde"


def new_bill() -> tuple[Bill, ManualClock]:
    clock = ManualClock(NOW)
    return Bill(clock, lambda: None), clock


@given(st.integers(0, 2**50), st.decimals("0.01", "600", places=4))
@settings(max_examples=100)
def test_cost_is_exact(size: int, price: Decimal) -> None:
    """Multiplying back gives the product without any rounding."""
    assert exact_cost(size, price) * GIB == size * price


def test_a_documented_quote_comes_out() -> None:
    """99,219,648 bytes at 28 USD are the documented 2.587353944778 USD."""
    assert round(exact_cost(99_219_648, Decimal(28)), 12) == Decimal("2.587353944778")


def test_control_costs_the_dearest_price_and_is_reported_apart() -> None:
    """Bytes that belong to no schema are billed at the connection's dearest subscription."""
    bill, _ = new_bill()
    line = bill.open("live", KEY, "GLBX.MDP3")
    line.subscribe("mbo", Decimal("2.16"))
    line.subscribe("trades", Decimal("33.6"))
    line.add("mbo", GIB)
    line.add(None, GIB // 2)
    whole = bill.as_json()
    (row,) = whole["connections"]
    assert (row["bytes"], row["control_bytes"], row["schemas"]["mbo"]["bytes"]) == (
        GIB * 3 // 2,
        GIB // 2,
        GIB,
    )
    assert row["cost_usd"] == whole["cost_usd"] == "18.96"


def test_an_unknown_price_is_not_free() -> None:
    """Bytes without a price are counted as unpriced; the cost holds what is known."""
    bill, _ = new_bill()
    line = bill.open("live", KEY, "GLBX.MDP3")
    line.subscribe("mbo", None)
    line.add("mbo", 100)
    whole = bill.as_json()
    assert (whole["cost_usd"], whole["unpriced_bytes"], whole["bytes"]) == ("0", 100, 100)
    assert whole["connections"][0]["schemas"]["mbo"]["cost_usd"] is None


def test_the_month_is_that_of_the_opening() -> None:
    """A connection that runs into the next month stays on the bill of its first."""
    bill, clock = new_bill()
    line = bill.open("live", KEY, "GLBX.MDP3")
    line.subscribe("mbo", Decimal(1))
    clock.advance(10)
    line.add("mbo", 56)
    assert bill.as_json()["connections"][0]["month"] == "2026-11"
    assert bill.open("historical", KEY, "GLBX.MDP3").as_json()["month"] == "2026-12"


def test_usage_adds_up_over_connections() -> None:
    """One row for each key, dataset, schema, mode and month."""
    bill, _ = new_bill()
    for _ in range(2):
        line = bill.open("historical", KEY, "GLBX.MDP3")
        line.subscribe("mbo", Decimal(2))
        line.add("mbo", GIB)
    rows = [row for row in bill.as_json()["by_usage"] if row["bytes"]]
    assert rows == [
        {
            "key": "abcde",
            "dataset": "GLBX.MDP3",
            "schema": "mbo",
            "mode": "historical",
            "month": "2026-11",
            "bytes": 2 * GIB,
            "cost_usd": "4",
        }
    ]


def test_a_price_may_change_while_a_line_is_open() -> None:
    """Bytes before cost the old price, bytes after the new one; control bytes the dearest of those in force."""
    bill, _ = new_bill()
    line = bill.open("live", KEY, "GLBX.MDP3")
    line.subscribe("mbo", Decimal(2))
    line.subscribe("mbp-1", Decimal(1))
    line.add("mbo", GIB)
    line.add(None, GIB)
    bill.reprice("live", "GLBX.MDP3", "mbo", Decimal(8))
    line.add("mbo", GIB)
    line.add(None, GIB)
    line.reprice("mbo", Decimal("0.5"))
    line.add(None, GIB)
    shown = line.as_json()
    assert shown["schemas"]["mbo"] == {
        "bytes": 2 * GIB,
        "usd_per_gib": "0.5",
        "cost_usd": "10",
        "at_prices": [{"usd_per_gib": "2", "bytes": GIB}, {"usd_per_gib": "8", "bytes": GIB}],
    }
    assert (shown["control_bytes"], shown["cost_usd"]) == (3 * GIB, "21")
    assert line.schema_bytes == {"mbo": 2 * GIB, "mbp-1": 0}


def test_a_price_changes_for_the_lines_that_it_is_about() -> None:
    """Another dataset, mode or schema keeps its price."""
    bill, _ = new_bill()
    lines = [bill.open("live", KEY, "XNAS.ITCH"), bill.open("historical", KEY, "GLBX.MDP3")]
    for line in lines:
        line.subscribe("mbo", Decimal(2))
    bill.reprice("live", "GLBX.MDP3", "mbo", Decimal(8))
    bill.reprice("live", "XNAS.ITCH", "trades", Decimal(8))
    assert [line.prices["mbo"].usd for line in lines] == [Decimal(2), Decimal(2)]
    with pytest.raises(KeyError):
        lines[0].reprice("trades", Decimal(8))


def test_control_before_any_subscription_has_no_price() -> None:
    """The error record that refuses the first subscription is counted, and unpriced."""
    bill, _ = new_bill()
    bill.open("live", KEY, "GLBX.MDP3").add(None, 320)
    whole = bill.as_json()
    assert (whole["control_bytes"], whole["unpriced_bytes"], whole["cost_usd"]) == (320, 320, "0")


def test_old_lines_leave_the_list_and_stay_in_the_sums() -> None:
    """The last closed lines are listed, the others summed up as `older`; the totals hold them all."""
    clock = ManualClock(NOW)
    bill = Bill(clock, lambda: None, kept=3)
    running = bill.open("live", KEY, "GLBX.MDP3")
    running.subscribe("mbo", Decimal(2))
    for number in range(10):
        line = bill.open("historical", KEY, "GLBX.MDP3")
        line.subscribe("mbo", Decimal(2) if number else None)
        line.add("mbo", 2**20)
        line.close("complete")
    running.add(None, 320)
    whole = bill.as_json()
    assert [line["id"] for line in whole["connections"]] == [1, 9, 10, 11]
    assert (whole["older"]["connections"], whole["older"]["bytes"]) == (7, 7 * 2**20)
    assert (whole["bytes"], whole["unpriced_bytes"]) == (10 * 2**20 + 320, 2**20)
    parts = [whole["older"], *whole["connections"]]
    assert sum(part["bytes"] for part in parts) == whole["bytes"]
    assert sum(Decimal(part["cost_usd"]) for part in parts) == Decimal(whole["cost_usd"])


def test_many_connections_leave_memory_flat() -> None:
    """Thousands of closed lines take no more than the hundred that are listed."""
    clock = ManualClock(NOW)
    bill = Bill(clock, lambda: None, kept=100)

    def serve(count: int) -> int:
        for _ in range(count):
            line = bill.open("live", KEY, "GLBX.MDP3")
            line.subscribe("mbo", Decimal(2))
            line.add("mbo", 56)
            line.add(None, 320)
            line.close("closed by the client")
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = serve(300)
        assert serve(2000) - before < 100_000
    finally:
        tracemalloc.stop()
    assert bill.as_json()["bytes"] == 2300 * 376


def test_nothing_is_added_to_a_line_that_is_closed() -> None:
    """Bytes after the end are a mistake of the sandbox, not a figure to lose."""
    bill, _ = new_bill()
    line = bill.open("live", KEY, "GLBX.MDP3")
    line.subscribe("mbo", Decimal(2))
    line.close("ended")
    with pytest.raises(ValueError, match="line 1 of the bill is closed"):
        line.add("mbo", 1)
    with pytest.raises(ValueError, match="line 1 of the bill is closed"):
        line.add(None, 1)
    with pytest.raises(ValueError, match="line 1 of the bill is closed"):
        line.intend(1)


def test_the_first_end_is_kept() -> None:
    """How a connection ended is said once."""
    bill, _ = new_bill()
    line = bill.open("live", KEY, "GLBX.MDP3")
    line.close("lost")
    line.close("ended")
    assert line.as_json()["ended"] == "lost"


def test_the_file_is_replaced_whole(tmp_path: Path) -> None:
    """A bill on disk is always a complete one, and nothing else is left beside it."""
    path = tmp_path / "bill.json"
    bill, _ = new_bill()
    for _ in range(3):
        bill.open("live", KEY, "GLBX.MDP3")
        write_bill(path, bill.as_json())
    assert len(json.loads(path.read_text())["connections"]) == 3
    assert list(tmp_path.iterdir()) == [path]


def test_live_prices_are_the_historical_ones_times_a_factor() -> None:
    """mbo of GLBX.MDP3 at 1.80 is 2.16 live; an override of 0 is a flat plan."""
    assert DEFAULT_PRICES["GLBX.MDP3"].live_price("mbo") == Decimal("2.16")
    flat = DatasetPrices(parse_prices("mbo 1.80"), live={"mbo": Decimal(0)})
    assert flat.live_price("mbo") == 0
    assert flat.unit_prices("live") == {"mbo": Decimal(0)}


def test_a_price_list_is_read_with_its_shared_intervals() -> None:
    """`ohlcv-1h/1d 190` prices both."""
    assert parse_prices("ohlcv-1h/1d 190, mbo 1.80") == {
        "ohlcv-1h": Decimal(190),
        "ohlcv-1d": Decimal(190),
        "mbo": Decimal("1.80"),
    }

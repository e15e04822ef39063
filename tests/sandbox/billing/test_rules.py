"""Billing rules: what of a live session is counted, where the vendor does not say."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.clock import ManualClock
from budget_guard.sandbox.billing.bill import Bill
from budget_guard.sandbox.billing.line import BillLine
from budget_guard.sandbox.billing.rules import BillingRules, Kind, ts_out_bytes

SWITCHES: dict[Kind, BillingRules] = {
    "mapping": BillingRules(mappings=False),
    "system": BillingRules(system=False),
    "error": BillingRules(errors=False),
    "replay": BillingRules(replayed=False),
    "snapshot": BillingRules(snapshots=False),
    "duplicate": BillingRules(duplicates=False),
}


def line_under(rules: BillingRules) -> tuple[Bill, BillLine]:
    bill = Bill(ManualClock(datetime(2026, 11, 23, tzinfo=UTC)), lambda: None, rules=rules)
    line = bill.open("live", "db-key-abcde", "GLBX.MDP3")
    line.subscribe("mbo", Decimal(2))
    return bill, line


def test_everything_is_billed_unless_said_otherwise() -> None:
    """The default leaves nothing out."""
    assert all(BillingRules().bill(kind) for kind in (None, *SWITCHES))


@pytest.mark.parametrize("kind", SWITCHES)
def test_each_kind_has_a_switch_of_its_own(kind: Kind) -> None:
    """What a switch leaves out is counted apart, and nothing else is left out."""
    bill, line = line_under(SWITCHES[kind])
    for each in SWITCHES:
        line.count("mbo", each, 56, 0, 56)
    line.count("mbo", None, 56, 0, 560)
    whole = bill.as_json()
    assert (whole["bytes"], whole["excluded_bytes"]) == (560 + 5 * 56, 56)
    line.close("ended")
    assert bill.as_json()["excluded_bytes"] == whole["connections"][0]["excluded_bytes"] == 56


def test_ts_out_may_be_free() -> None:
    """Of a record with `ts_out` 8 bytes are left out; one without has none."""
    _, line = line_under(BillingRules(ts_out=False))
    line.count("mbo", None, 56, 0, 56)
    line.ts_out = True
    line.count("mbo", None, 64, 0, 640)
    line.count(None, "system", 328, 0, 328)
    assert (line.size_bytes, line.excluded_bytes) == (56 + 560 + 320, 88)


@given(st.sampled_from([56, 64, 88, 328]), st.integers(1, 9), st.lists(st.integers(0, 3000), max_size=9))
def test_a_cut_anywhere_leaves_the_sum(record_size: int, count: int, cuts: list[int]) -> None:
    """Sends may end within a record, and within its `ts_out`: the parts add up."""
    whole = record_size * count
    places = [0, *sorted(cut for cut in cuts if cut < whole), whole]
    parts = [ts_out_bytes(record_size, start, end) for start, end in pairwise(places)]
    assert sum(parts) == 8 * count
    assert all(part >= 0 for part in parts)
    assert ts_out_bytes(record_size, whole - 8, whole) == 8
    assert ts_out_bytes(record_size, 0, record_size - 8) == 0

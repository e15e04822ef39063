"""The bill of a running sandbox: its rules on the wire, its plans, and its usage records."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from databento.historical.api.timeseries import TimeseriesHttpAPI

from budget_guard.clock import RehearsalClock, ns_from_instant
from budget_guard.sandbox.billing.rules import BillingRules
from budget_guard.sandbox.config import FlatPlan, SandboxConfig
from budget_guard.sandbox.server import running_sandbox
from tests.sandbox.bare_client import NQ_MBO, BareClient, ended

NOW = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)
MBO, MAPPING, SYSTEM = 160, 22, 23  # record types


def received_under(rules: BillingRules, subscription: str) -> tuple[Counter[int], int, int]:
    """(bytes received by record type, billed, excluded) of a session with `ts_out` that has sent a while."""
    config = SandboxConfig(rate=2000, clock=RehearsalClock(NOW), billing=rules)
    with running_sandbox(config) as sandbox:
        with BareClient(sandbox, subscription, login="|ts_out=1") as client:
            client.start()
            sandbox.wait_for(lambda bill: bill["bytes"] + bill["excluded_bytes"] > 100_000)
            data = client.finish()
        bill = sandbox.wait_for(ended())
        sizes: Counter[int] = Counter()
        while data:
            size = data[0] * 4
            sizes[data[1]] += size
            data = data[size:]
        return sizes, bill["bytes"], bill["excluded_bytes"]


def test_by_default_every_byte_received_is_billed() -> None:
    """Control records and `ts_out` too."""
    sizes, billed, excluded = received_under(BillingRules(), NQ_MBO)
    assert (billed, excluded) == (sum(sizes.values()), 0)


def test_switches_leave_out_what_they_name() -> None:
    """Mappings, system messages and the 8 bytes of each `ts_out` are received, counted apart and not billed."""
    rules = BillingRules(mappings=False, system=False, ts_out=False)
    sizes, billed, excluded = received_under(rules, NQ_MBO)
    assert sizes[MAPPING] and sizes[SYSTEM]
    assert billed == sizes[MBO] * 56 // 64
    assert billed + excluded == sum(sizes.values())


@pytest.mark.parametrize(
    ("rules", "asked"),
    [
        (BillingRules(replayed=False), f"|start={ns_from_instant(NOW - timedelta(seconds=30))}"),
        (BillingRules(snapshots=False), "|snapshot=1"),
    ],
)
def test_what_is_repeated_may_be_free(rules: BillingRules, asked: str) -> None:
    """A replay's records, or a snapshot's; those that follow are billed."""
    sizes, billed, excluded = received_under(rules, NQ_MBO + asked)
    assert billed + excluded == sum(sizes.values())
    assert excluded > 0
    assert excluded % 64 == 0
    assert billed >= sizes[MAPPING] + sizes[SYSTEM]


def test_history_of_a_plan_is_counted_and_costs_nothing() -> None:
    """As far back as the plan reaches; before that it costs its list price."""
    config = SandboxConfig(
        clock=RehearsalClock(NOW), plans={"GLBX.MDP3": FlatPlan(history_days={"mbo": 30, "trades": 5})}
    )
    with running_sandbox(config) as sandbox:
        timeseries = TimeseriesHttpAPI(key=sandbox.key, gateway=sandbox.http_url)
        for schema in ("mbo", "trades"):
            timeseries.get_range(
                "GLBX.MDP3",
                schema=schema,
                symbols="NQ.v.0",
                stype_in="continuous",
                start="2026-11-10T14:30",
                end="2026-11-10T14:31",
            )
        bill = sandbox.bill()
        included, sold = bill["connections"]
        assert included["bytes"] > 0
        assert (included["cost_usd"], sold["cost_usd"]) == ("0", sold["list_cost_usd"])
        assert included["list_cost_usd"] != "0"
        rows = sandbox.usage("2026-11")
        assert [(row["schema"], row["mode"], row["usage_sum"]) for row in rows] == [
            ("mbo", "historical", included["bytes"]),
            ("trades", "historical", sold["bytes"]),
        ]
        assert rows[0]["timestamp"] == int(NOW.replace(minute=0).timestamp())

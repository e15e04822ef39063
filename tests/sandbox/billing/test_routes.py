"""The bill over HTTP, and as a table for people."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from budget_guard.clock import ManualClock
from budget_guard.money import GIB
from budget_guard.sandbox.billing.bill import Bill
from budget_guard.sandbox.billing.routes import add_routes
from budget_guard.sandbox.billing.rules import BillingRules
from budget_guard.sandbox.billing.table import bill_as_text
from budget_guard.sandbox.config import Credit, FlatPlan

NOW = datetime(2026, 11, 23, 14, 30, tzinfo=UTC)


@pytest.fixture
def bill() -> Bill:
    """A live connection and a download."""
    bill = Bill(ManualClock(NOW), lambda: None)
    line = bill.open("live", "db-key-abcde", "GLBX.MDP3")
    line.subscribe("mbo", Decimal("2.16"))
    line.add("mbo", GIB)
    line.add(None, 320)
    download = bill.open("historical", "db-key-abcde", "GLBX.MDP3")
    download.subscribe("trades", Decimal(28))
    download.add("trades", GIB // 2)
    download.close("complete")
    return bill


def get(bill: Bill, path: str) -> tuple[int, str, str]:
    """(status, content type, text) of an answer."""

    async def ask() -> tuple[int, str, str]:
        app = web.Application()
        add_routes(app, bill)
        async with TestClient(TestServer(app)) as client, client.get(path) as answer:
            return answer.status, answer.content_type, await answer.text()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("path", "kind", "start"),
    [
        ("/bill", "application/json", '{"synthetic": true'),
        ("/bill?format=text", "text/plain", "month "),
        ("/bill/usage", "application/json", '[{"timestamp": 1795442400,'),
        (
            "/bill/usage?month=2026-11&frequency=day&timestamps=ms",
            "application/json",
            '[{"timestamp": 1795392000000,',
        ),
        ("/bill/usage?month=2026-10", "application/json", "[]"),
        ("/bill/usage?format=csv", "text/csv", "timestamp,user_id,api_key,"),
        ("/bill/month", "application/json", '{"usage_bytes": 1610613056, "usage_cents": 1617}'),
        ("/bill/month?month=2026-12", "application/json", '{"usage_bytes": 0, "usage_cents": 0}'),
    ],
)
def test_the_bill_is_served_in_its_shapes(bill: Bill, path: str, kind: str, start: str) -> None:
    """Whole, as a table, as usage records and as the month to date."""
    status, content_type, text = get(bill, path)
    assert (status, content_type) == (200, kind)
    assert text.startswith(start)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/bill?format=xml", "format is 'xml'; one of json, text"),
        ("/bill/usage?format=text", "format is 'text'; one of json, csv"),
        ("/bill/usage?frequency=week", "frequency is 'week'; one of hour, day"),
        ("/bill/usage?timestamps=min", "timestamps is 'min'; one of s, ms, us, ns"),
        ("/bill/usage?month=2026-13", "'2026-13' is not a month"),
        ("/bill/month?month=november", "'november' is not a month"),
    ],
)
def test_what_cannot_be_asked_for_is_explained(bill: Bill, path: str, error: str) -> None:
    """400, with what would be right."""
    status, _, text = get(bill, path)
    assert status == 400
    assert error in text


def test_the_table_is_small_and_whole(bill: Bill) -> None:
    """A row for each usage, and the total."""
    lines = [" ".join(line.split()) for line in bill_as_text(bill.as_json()).splitlines()]
    assert [line for line in lines if line and "─" not in line] == [
        "month key dataset mode schema size cost",
        "2026-11 abcde GLBX.MDP3 historical trades 512.00 MiB $14.00",
        "2026-11 abcde GLBX.MDP3 live mbo 1.00 GiB $2.16",
        "2026-11 abcde GLBX.MDP3 live control 320 B $0.000000644",
        "total 1.50 GiB $16.16",
    ]


def test_a_bill_of_nothing_says_so() -> None:
    """One line, and no empty table."""
    assert bill_as_text(Bill(ManualClock(NOW), lambda: None).as_json()) == "nothing was billed\n"


def test_what_is_not_in_the_cost_is_noted_below() -> None:
    """Credits, list prices under a plan, unknown prices, excluded bytes."""
    bill = Bill(
        ManualClock(NOW),
        lambda: None,
        plans={"GLBX.MDP3": FlatPlan()},
        credits=[Credit(Decimal(5), date(2027, 1, 1))],
        rules=BillingRules(mappings=False),
    )
    flat = bill.open("live", "db-key-abcde", "GLBX.MDP3")
    flat.subscribe("mbo", Decimal(2))
    flat.add("mbo", GIB)
    metered = bill.open("live", "db-key-abcde", "XNAS.ITCH")
    metered.subscribe("mbo", Decimal(8))
    metered.add("mbo", GIB)
    metered.count(None, "mapping", 176, 0, 176)
    unknown = bill.open("live", "db-key-abcde", "IFEU.IMPACT")
    unknown.subscribe("mbo", None)
    unknown.add("mbo", 1000)
    text = bill_as_text(bill.as_json())
    for note in (
        "2026-11: $5.00 paid by credits, $3.00 due",
        "at list prices: $10.00",
        "no price is known for 1,000 bytes",
        "176 bytes were sent and, by its billing rules, not billed",
        "unknown",
    ):
        assert note in text

"""Several streams and schemas on one connection: told apart by record type, priced and ended each by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import databento
import pytest
from databento import BentoError

from budget_guard.clock import ManualClock
from budget_guard.gateway.wire.framer import RTYPE_ERROR, RTYPE_SYSTEM
from budget_guard.policy.model import HoursClause, Match, NotBilled, Policy
from budget_guard.sandbox.billing.rules import BillingRules
from tests.gateway.desk import (
    GLBX,
    NOW,
    TIMEOUT_S,
    Collector,
    Desk,
    budget,
    limit,
    policy,
    recovery,
    running_desk,
    stream,
)

RATE = 5_000
MBO, TRADES, MBP_1, TBBO = 0xA0, 0x00, 0x01, 0x01


def three(**changes: Any) -> Policy:
    """Streams of three prices: 2.16, 33.60 and 0.60 USD per GiB."""
    return policy(
        stream("orders"), stream("trades", schema="trades"), stream("depth", schema="mbp-10"), **changes
    )


def subscribed(desk: Desk, *schemas: str, **options: Any) -> tuple[databento.Live, Collector]:
    """A client with a subscription to each schema, started."""
    client = desk.live(**options)
    collector = Collector()
    for schema in schemas:
        client.subscribe(dataset=GLBX, schema=schema, stype_in="continuous", symbols="NQ.v.0")
    client.add_callback(collector.take)
    client.start()
    return client, collector


def types(collector: Collector) -> set[int]:
    return {record[1] for record in collector.data}


def billed(desk: Desk) -> dict[str, int]:
    """The vendor's bytes by schema; control is apart."""
    found: dict[str, int] = {}
    for row in desk.sandbox.bill()["by_usage"]:
        found[row["schema"]] = found.get(row["schema"], 0) + row["bytes"]
    return found


def assert_books_cover(desk: Desk) -> None:
    """To the byte by schema, but for control, which counts on the dearest; and in money the whole bill."""
    bill, entries = desk.sandbox.bill(), desk.entries()
    assert sum(entry.size_bytes for entry in entries) == bill["bytes"], (
        [(one["bytes"], one["control_bytes"], one["ended"], one["schemas"]) for one in bill["connections"]],
        [(one.schema, one.size_bytes, one.ending, one.note) for one in entries],
    )
    assert sum(entry.control_bytes for entry in entries) == bill["control_bytes"]
    assert {entry.ending for entry in entries} == {"exact"}
    schemas: dict[str, int] = {}
    for entry in entries:
        data = entry.size_bytes - entry.control_bytes
        schemas[entry.schema] = schemas.get(entry.schema, 0) + data
    for schema, size in billed(desk).items():
        if schema in schemas:
            assert schemas[schema] == size
    cost = sum(entry.cost_nano_usd for entry in entries)
    assert desk.billed_nano_usd() <= cost <= desk.billed_nano_usd() + len(entries)


@pytest.mark.parametrize(
    ("ts_out", "compression"), [(False, databento.Compression.NONE), (True, databento.Compression.ZSTD)]
)
def test_three_schemas_of_three_prices_are_counted_to_the_byte(
    tmp_path: Path, ts_out: bool, compression: databento.Compression
) -> None:
    with running_desk(tmp_path, three(), rate=RATE) as desk:
        client, got = subscribed(desk, "mbo", "trades", "mbp-10", ts_out=ts_out, compression=compression)
        desk.until(got, lambda _: types(got) == {MBO, TRADES, 0x0A})
        desk.advance(1)
        desk.until(got, lambda _: len(got.data) > 10_000)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        entries = {entry.schema: entry for entry in desk.entries()}
        assert {schema: entry.stream for schema, entry in entries.items()} == {
            "mbo": "orders",
            "trades": "trades",
            "mbp-10": "depth",
        }
        assert [entries[schema].unit_price_usd for schema in ("mbo", "trades", "mbp-10")] == [
            Decimal("2.16"),
            Decimal("33.6"),
            Decimal("0.6"),
        ]
        assert entries["trades"].control_bytes and not entries["mbo"].control_bytes
        assert len(desk.sandbox.bill()["connections"]) == 1
        assert_books_cover(desk)


def test_what_shares_a_record_type_is_charged_the_dearer_price_and_held_by_both_budgets(
    tmp_path: Path,
) -> None:
    rules = policy(
        stream("quotes", schema="mbp-1"),
        stream("trades", schema="tbbo"),
        budgets=[
            budget(limit("100"), name="quotes", match=Match(schema=frozenset({"mbp-1"}))),
            budget(limit("100"), name="trades", match=Match(schema=frozenset({"tbbo"}))),
        ],
    )
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client, got = subscribed(desk, "mbp-1", "tbbo")
        desk.begin(got)
        desk.advance(0.5)
        desk.until(got, lambda _: len(got.data) > 2000)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        (entry,) = desk.entries()
        assert (entry.stream, entry.schema, entry.unit_price_usd) == ("trades", "tbbo", Decimal("33.6"))
        assert entry.price_source.endswith("the dearest of mbp-1, tbbo, whose records cannot be told apart")
        assert entry.size_bytes == desk.sandbox.bill()["bytes"]
        assert desk.billed_nano_usd() <= entry.cost_nano_usd
        balances = desk.books.account_balances("desk", NOW - timedelta(days=60), NOW + timedelta(days=60))
        assert {key.budget: balance.settled for key, balance in balances.items() if key.unit == "usd"} == {
            "quotes": entry.cost_nano_usd,
            "trades": entry.cost_nano_usd,
        }


def test_a_connection_counts_once_in_connections_and_hours(tmp_path: Path) -> None:
    rules = three(budgets=[budget(limit("100"), limit("5", unit="connections"), limit("10", unit="hours"))])
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client, got = subscribed(desk, "mbo", "trades", "mbp-10")
        desk.begin(got)
        desk.advance(360)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        balances = desk.books.account_balances("desk", NOW - timedelta(days=60), NOW + timedelta(days=60))
        used = {key.unit: balance.settled for key, balance in balances.items()}
        assert used["connections"] == 1
        assert 360_000 <= used["hours"] < 2 * 360_000


def test_one_refusal_opens_nothing_and_holds_nothing(tmp_path: Path) -> None:
    rules = three(
        budgets=[
            budget(limit("100")),
            budget(limit("0.001"), name="small", match=Match(stream=frozenset({"depth"}))),
        ]
    )
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client, _ = subscribed(desk, "mbo", "trades", "mbp-10")
        with pytest.raises(BentoError, match=r"limit_reached \[small month 0\.001 usd\]"):
            client.block_for_close(TIMEOUT_S)
        desk.close()
        assert desk.sandbox.bill()["connections"] == []
        assert desk.entries() == [] and desk.spent_nano_usd() == 0
        assert desk.books.open_holds() == []


def test_a_stream_that_reaches_its_limit_leaves_the_others_running(tmp_path: Path) -> None:
    rules = three(
        budgets=[
            budget(limit("100")),
            budget(limit("0.3"), name="small", match=Match(stream=frozenset({"trades"}))),
        ]
    )
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client, got = subscribed(desk, "mbo", "trades")
        desk.until(got, lambda _: types(got) == {MBO, TRADES})
        for _ in range(60):
            desk.advance(1)
            if any("ended" in text for text in got.texts(RTYPE_SYSTEM)):
                break
            desk.until(got, lambda _: True)
        desk.until(got, lambda _: any("ended" in text for text in got.texts(RTYPE_SYSTEM)))
        said = [text for text in got.texts(RTYPE_SYSTEM) if "ended" in text]
        assert said[0].startswith(
            "budget-guard: stream trades ended, the others go on: budget-guard: limit_reached [small month 0.3 usd]"
        )
        before = len(got.data)
        desk.until(got, lambda _: len(got.data) > before + 2000 and {r[1] for r in got.data[-500:]} == {MBO})
        desk.until(got, lambda _: {gap.mended for gap in desk.gaps()} <= {"replayed"})
        host = desk.gateway.host
        assert ([names for names, _ in host.outcome.shed], host.going_on) == ([("trades",)], 1)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert got.texts(RTYPE_ERROR) == []
        spent = sum(entry.cost_nano_usd for entry in desk.entries() if entry.stream == "trades")
        assert 0 < spent <= 300_000_000
        assert [refusal.stream for refusal in desk.refusals() if refusal.code == "limit_reached"] == [
            "trades"
        ]
        assert_books_cover(desk)
        orders = [record for record in got.data if record[1] == MBO]
        assert len(orders) == len(set(orders)), "nothing came twice"


def test_a_window_that_closes_ends_its_stream_only(tmp_path: Path) -> None:
    closes = (NOW + timedelta(minutes=1)).time()
    short = stream(
        "trades", schema="trades", windows=(HoursClause((NOW - timedelta(hours=1)).time(), closes),)
    )
    with running_desk(tmp_path, policy(stream("orders"), short), rate=200) as desk:
        client, got = subscribed(desk, "mbo", "trades")
        desk.until(got, lambda _: types(got) == {MBO, TRADES})
        desk.advance(60)
        desk.until(got, lambda _: any("closed at" in text for text in got.texts(RTYPE_SYSTEM)))
        before = len(got.data)
        desk.until(got, lambda _: len(got.data) > before + 10)
        assert client.is_connected()
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert [text for text in got.texts(RTYPE_SYSTEM) if "closed at" in text] == [
            "budget-guard: the window of stream trades closed at 2026-11-24T15:31:00Z; "
            "it opens next at 2026-11-25T14:30:00Z; the others go on"
        ]
        assert_books_cover(desk)


def test_windows_that_close_at_one_instant_end_together_and_leave_no_gap(tmp_path: Path) -> None:
    """One after the other, the vendor would be called again after the close."""
    hours = (HoursClause((NOW - timedelta(hours=1)).time(), (NOW + timedelta(minutes=1)).time()),)
    both = policy(
        stream("orders", windows=hours, recovery=recovery(replay=timedelta(minutes=5))),
        stream("trades", schema="trades", windows=hours),
    )
    with running_desk(tmp_path, both, rate=200) as desk:
        client, got = subscribed(desk, "mbo", "trades")
        desk.until(got, lambda _: types(got) == {MBO, TRADES})
        desk.advance(60)
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert len(desk.sandbox.bill()["connections"]) == 1
        assert desk.gaps() == []
        assert [text for text in got.texts(RTYPE_SYSTEM) if "others go on" in text] == []
        assert_books_cover(desk)


def test_a_late_subscription_of_another_stream_is_held_before_the_vendor_is_asked(tmp_path: Path) -> None:
    with running_desk(tmp_path, three(), rate=RATE) as desk:
        client, got = subscribed(desk, "mbo")
        desk.begin(got)
        client.subscribe(dataset=GLBX, schema="trades", stype_in="continuous", symbols="NQ.v.0")
        desk.until(got, lambda _: types(got) == {MBO, TRADES})
        holds = desk.holds()
        assert {hold.terms.schema: hold.state for hold in holds} == {
            "mbo": "active",
            "trades": "active",
        }
        desk.advance(0.5)
        # After a loss both are asked for again.
        desk.sandbox.close_live()
        desk.sandbox.wait_for(lambda bill: len(bill["connections"]) > 1)
        before = len(got.data)
        desk.until(got, lambda _: {record[1] for record in got.data[before:]} == {MBO, TRADES})
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert sorted(entry.schema for entry in desk.entries()) == ["mbo", "mbo", "trades", "trades"]
        assert_books_cover(desk)


def test_a_late_subscription_that_shares_a_record_type_raises_the_price_first(tmp_path: Path) -> None:
    rules = policy(stream("quotes", schema="mbp-1"), stream("trades", schema="tbbo"))
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client, got = subscribed(desk, "mbp-1")
        desk.begin(got)
        client.subscribe(dataset=GLBX, schema="tbbo", stype_in="continuous", symbols="NQ.v.0")
        desk.until(got, lambda _: "tbbo" in desk.sandbox.bill()["connections"][0]["schemas"])
        before = len(got.data)
        desk.until(got, lambda _: len(got.data) > before + 500)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert [(entry.schema, entry.unit_price_usd) for entry in desk.entries()] == [
            ("mbp-1", Decimal("2.16")),
            ("tbbo", Decimal("33.6")),
        ]
        assert sum(entry.size_bytes for entry in desk.entries()) == desk.sandbox.bill()["bytes"]
        assert desk.billed_nano_usd() <= sum(entry.cost_nano_usd for entry in desk.entries())


def test_a_late_subscription_without_room_is_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    rules = three(
        budgets=[
            budget(limit("100")),
            budget(limit("0.001"), name="small", match=Match(stream=frozenset({"trades"}))),
        ]
    )
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client, got = subscribed(desk, "mbo")
        desk.begin(got)
        client.subscribe(dataset=GLBX, schema="trades", stype_in="continuous", symbols="NQ.v.0")
        desk.until(got, lambda _: got.texts(RTYPE_ERROR))
        assert "limit_reached [small month 0.001 usd]" in got.texts(RTYPE_ERROR)[0]
        before = len(got.data)
        desk.until(got, lambda _: len(got.data) > before + 500)
        desk.close()
        assert billed(desk).keys() <= {"mbo", "control"}
        assert_books_cover(desk)


def test_every_part_goes_on_in_a_new_day_and_a_new_month(tmp_path: Path) -> None:
    clock = ManualClock(datetime(2026, 11, 29, 23, 59, 59, tzinfo=UTC))
    rules = three(budgets=[budget(limit("50", "day"), limit("9", "day", unit="connections"), limit("100"))])
    with running_desk(tmp_path, rules, clock=clock, rate=RATE) as desk:
        client, got = subscribed(desk, "mbo", "trades")
        desk.begin(got)
        desk.advance(1)
        desk.settled.wait_for_length(2)
        desk.advance(24 * 3600 - 2)
        desk.until(got, lambda _: types(got) == {MBO, TRADES})
        desk.advance(2)
        desk.sandbox.wait_for(lambda bill: len(bill["connections"]) > 1)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        days = desk.books.account_balances("desk", clock.now() - timedelta(days=5), clock.now())
        counts = [
            balance.settled
            for key, balance in sorted(days.items(), key=lambda item: item[0].period_start_utc)
            if key.unit == "connections"
        ]
        assert counts == [1, 1, 1]
        for month in ("2026-11", "2026-12"):
            by_month = sum(
                row["bytes"] for row in desk.sandbox.bill()["connections"] if row["month"] == month
            )
            assert sum(entry.size_bytes for entry in desk.entries(month)) == by_month


@pytest.mark.parametrize(
    ("not_billed", "rules"),
    [
        ({"control"}, BillingRules(mappings=False, system=False, errors=False)),
        ({"ts_out"}, BillingRules(ts_out=False)),
        ({"control", "ts_out"}, BillingRules(ts_out=False, mappings=False, system=False, errors=False)),
    ],
)
@pytest.mark.parametrize("schemas", [("mbo",), ("mbo", "trades")])
def test_what_the_policy_says_is_not_billed_is_not_counted(
    tmp_path: Path, not_billed: set[NotBilled], rules: BillingRules, schemas: tuple[str, ...]
) -> None:
    account = replace(three().account, not_billed=frozenset(not_billed))
    chosen = replace(three(), account=account)
    with running_desk(tmp_path, chosen, rate=RATE, billing=rules) as desk:
        client, got = subscribed(desk, *schemas, ts_out=True)
        desk.begin(got)
        desk.advance(0.5)
        desk.until(got, lambda _: len(got.data) > 2000)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        bill, entries = desk.sandbox.bill(), desk.entries()
        assert sum(entry.size_bytes for entry in entries) == bill["bytes"]
        assert bill["excluded_bytes"] > 0
        noted = [entry.note for entry in entries if "account.not_billed" in entry.note]
        assert len(noted) == 1
        assert f"{bill['excluded_bytes']} bytes more were read and not counted" in noted[0]
        assert desk.billed_nano_usd() <= sum(entry.cost_nano_usd for entry in entries)

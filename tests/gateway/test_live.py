"""The relay between the vendor's own client and a local Databento whose bill is the truth."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path

import databento
import pytest
from databento import BentoError

from budget_guard.clock import ManualClock, RehearsalClock, ns_from_instant
from budget_guard.gateway.wire.framer import RTYPE_ERROR, RTYPE_SYSTEM
from budget_guard.money import cost_nano_usd
from budget_guard.policy.model import HoursClause
from budget_guard.sandbox.market.model import Selection
from tests.gateway.desk import (
    GLBX,
    NOW,
    NQ,
    TIMEOUT_S,
    Desk,
    budget,
    limit,
    policy,
    recovery,
    running_desk,
    stream,
)

NQ_MBO = "schema=mbo|stype_in=continuous|symbols=NQ.v.0"
RATE = 20_000


def market_bytes(desk: Desk, first_ts: int, last_ts: int) -> bytes:
    """What the sandbox's market holds from one timestamp to another, both included."""
    selection = Selection(GLBX, "mbo", ("NQ.v.0",), "continuous")
    parts = desk.sandbox.market.parts(selection, first_ts, last_ts + 1)
    return b"".join(part.rows.tobytes() for part in parts)


def ts_recv(record: bytes) -> int:
    return int.from_bytes(record[40:48], "little")


def assert_each_once(desk: Desk, data: list[bytes]) -> None:
    """Every record between the first and the last that came, once and in order.

    The last one may be amid an event, whose other records have the same timestamp.
    """
    whole, got = market_bytes(desk, ts_recv(data[0]), ts_recv(data[-1])), b"".join(data)
    assert whole.startswith(got)
    assert len(whole) - len(got) <= 2 * 56


def assert_books_agree(desk: Desk) -> None:
    """The ledger's bytes are the vendor's to the byte, and its cost covers the bill."""
    bill = desk.sandbox.bill()
    entries = desk.entries()
    assert sum(entry.size_bytes for entry in entries) == bill["bytes"]
    assert [entry.ending for entry in entries] == ["exact"] * len(entries)
    cost = sum(entry.cost_nano_usd for entry in entries)
    assert desk.billed_nano_usd() <= cost <= desk.billed_nano_usd() + len(entries)


# --- what flows ---------------------------------------------------------------------------------------------


def test_what_the_vendor_bills_is_what_the_ledger_holds_to_the_byte(tmp_path: Path) -> None:
    with running_desk(tmp_path, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        desk.flow(got, 1)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert_each_once(desk, got.data)
        assert_books_agree(desk)


def test_records_can_be_iterated(tmp_path: Path) -> None:
    with running_desk(tmp_path, clock=RehearsalClock(NOW), rate=RATE) as desk:
        client = desk.live()
        client.subscribe(**NQ)  # type: ignore[arg-type]
        orders = (record for record in client if isinstance(record, databento.MBOMsg))
        sequence = [order.sequence for order in islice(orders, 1000)]
        client.stop()
        desk.close()
        assert sequence == list(range(sequence[0], sequence[0] + 1000))
        assert_books_agree(desk)


def test_records_carry_the_sending_time_that_was_asked_for(tmp_path: Path) -> None:
    with running_desk(tmp_path, rate=RATE) as desk:
        _, got = desk.streaming(ts_out=True)
        desk.begin(got)
        desk.flow(got, 0.1)
        desk.close()
        assert {len(record) for record in got.data} == {64}
        assert_books_agree(desk)


def test_the_client_may_have_its_stream_compressed(tmp_path: Path) -> None:
    with running_desk(tmp_path, rate=RATE) as desk:
        client, got = desk.streaming(compression=databento.Compression.ZSTD)
        desk.begin(got)
        desk.flow(got, 1)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert_each_once(desk, got.data)
        assert_books_agree(desk)


def test_a_client_that_goes_away_is_settled_exactly(tmp_path: Path) -> None:
    with running_desk(tmp_path, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        client.terminate()
        desk.sandbox.wait_for(lambda bill: bill["connections"][0]["closed_utc"])
        desk.close()
        assert_books_agree(desk)


def test_a_client_that_closes_its_side_reads_on_to_the_end(tmp_path: Path) -> None:
    """Half-closing is how a program says that it wants no more and will read what is on its way."""
    with running_desk(tmp_path, rate=RATE) as desk:
        with desk.bare(NQ_MBO) as client:
            client.start()
            control = client.records(2)
            rest = client.finish()
        desk.close()
        assert len(b"".join(control)) + len(rest) == sum(entry.size_bytes for entry in desk.entries())
        assert_books_agree(desk)


# --- what ends it -------------------------------------------------------------------------------------------


def test_a_limit_ends_the_stream_with_its_reason_and_is_not_passed(tmp_path: Path) -> None:
    rules = policy(budgets=[budget(limit("0.02"))])
    with running_desk(tmp_path, rules, rate=0) as desk:
        client, _ = desk.streaming()
        with pytest.raises(
            BentoError, match=r"budget-guard: limit_reached \[account month 0.02 usd\] retry at"
        ):
            client.block_for_close(TIMEOUT_S)
        desk.close()
        assert desk.billed_nano_usd() <= desk.spent_nano_usd() <= 20_000_000
        assert_books_agree(desk)
        # What was left could not have carried another lease.
        assert desk.spent_nano_usd() > 9_000_000
        # The month's review counts the cut.
        (cut,) = desk.refusals()
        assert (cut.code, cut.stream, cut.schema) == ("limit_reached", "nq", "mbo")


def test_a_limit_in_gib_is_not_passed_either(tmp_path: Path) -> None:
    rules = policy(budgets=[budget(limit("0.0078125", unit="gib"))])
    with running_desk(tmp_path, rules, rate=0) as desk:
        client, _ = desk.streaming()
        with pytest.raises(BentoError, match=r"limit_reached \[account month 0\.0078125 gib\]"):
            client.block_for_close(TIMEOUT_S)
        desk.close()
        assert desk.sandbox.bill()["bytes"] <= 2**23
        assert_books_agree(desk)


def test_connections_of_one_budget_share_it_and_never_pass_it(tmp_path: Path) -> None:
    rules = policy(budgets=[budget(limit("0.06"))])
    with running_desk(tmp_path, rules, rate=0) as desk:
        clients = [desk.streaming()[0] for _ in range(3)]
        for client in clients:
            with pytest.raises(BentoError, match="limit_reached"):
                client.block_for_close(TIMEOUT_S)
        desk.close()
        assert len(desk.entries()) == 3
        assert desk.billed_nano_usd() <= desk.spent_nano_usd() <= 60_000_000
        assert_books_agree(desk)


def test_after_a_limit_the_next_connection_is_refused_as_it_logs_on(tmp_path: Path) -> None:
    """A client that reconnects by itself is told at once instead of looping through a session each time."""
    rules = policy(budgets=[budget(limit("0.02"))])
    with running_desk(tmp_path, rules, rate=0) as desk:
        client, _ = desk.streaming()
        with pytest.raises(BentoError, match="limit_reached"):
            client.block_for_close(TIMEOUT_S)
        with pytest.raises(BentoError, match="limit_reached"):
            desk.live().subscribe(**NQ)  # type: ignore[arg-type]
        assert len(desk.sandbox.bill()["connections"]) == 1


def test_the_end_of_the_window_is_a_notice_and_a_clean_close(tmp_path: Path) -> None:
    closes = (NOW + timedelta(minutes=1)).time()
    rules = policy(stream(windows=(HoursClause((NOW - timedelta(hours=1)).time(), closes),)))
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        desk.advance(60)
        client.block_for_close(TIMEOUT_S)
        assert not client.is_connected()
        notices = [text for text in got.texts(RTYPE_SYSTEM) if text.startswith("budget-guard")]
        assert notices == [
            "budget-guard: the window of stream nq closed at 2026-11-24T15:31:00Z; "
            "it opens next at 2026-11-25T14:30:00Z"
        ]
        assert got.texts(RTYPE_ERROR) == []
        desk.close()
        assert_books_agree(desk)


def test_outside_the_window_the_next_opening_is_named(tmp_path: Path) -> None:
    rules = policy(stream(windows=(HoursClause(NOW.time().replace(hour=20), NOW.time().replace(hour=21)),)))
    with running_desk(tmp_path, rules) as desk:
        client, _ = desk.streaming()
        with pytest.raises(BentoError, match="window_closed retry at 2026-11-24T20:30:00Z"):
            client.block_for_close(TIMEOUT_S)
        assert desk.sandbox.bill()["connections"] == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "trades"}, "it is for schema mbo"),
        ({"symbols": "ES.v.0"}, "it has no ES.v.0"),
        ({"symbols": ["NQ.v.0", "ES.v.0"]}, "it has no ES.v.0"),
        ({"symbols": "NQZ6", "stype_in": "raw_symbol"}, "it is for symbols of stype_in continuous"),
        ({"start": ns_from_instant(NOW - timedelta(hours=1))}, "allows no start of a client's own"),
        ({"snapshot": True}, "a snapshot is data of its own"),
    ],
)
def test_what_no_stream_covers_is_refused_with_the_nearest_miss(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    with running_desk(tmp_path) as desk:
        client = desk.live()
        client.subscribe(**{**NQ, **change})  # type: ignore[arg-type]
        client.start()
        with pytest.raises(BentoError, match="budget-guard: not_covered") as refusal:
            client.block_for_close(TIMEOUT_S)
        assert reason in str(refusal.value)
        assert [refusal.code for refusal in desk.refusals()] == ["not_covered"]
        assert desk.spent_nano_usd() == 0
        assert desk.sandbox.bill()["connections"] == []


def test_a_dataset_without_a_stream_is_refused_as_it_logs_on(tmp_path: Path) -> None:
    with (
        running_desk(tmp_path) as desk,
        pytest.raises(BentoError, match="no live stream of the policy is for"),
    ):
        desk.live().subscribe("EQUS.MINI", "trades", "SPY")


def test_a_key_that_is_no_token_is_refused_as_it_logs_on(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        with pytest.raises(BentoError, match="not this guard's token"):
            desk.live(key=desk.sandbox.key).subscribe(**NQ)  # type: ignore[arg-type]
        assert desk.sandbox.bill()["connections"] == []


def test_a_token_of_one_stream_opens_no_other(tmp_path: Path) -> None:
    rules = policy(stream(), stream("es", symbols=("ES.v.0",)))
    with running_desk(tmp_path, rules) as desk:
        client, _ = desk.streaming("es")
        with pytest.raises(
            BentoError, match=r"stream nq covers this, but the token .* is for stream es alone"
        ):
            client.block_for_close(TIMEOUT_S)


def test_a_first_line_that_cannot_be_read_is_answered_after_the_start(tmp_path: Path) -> None:
    """An ErrorMsg before `start_session` would be hidden by the client's own error."""
    with running_desk(tmp_path) as desk, desk.bare("schema=mbo|symbols=", NQ_MBO) as client:
        client.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.read(1)
        client.socket.settimeout(TIMEOUT_S)
        client.start()
        assert b"names no symbols" in client.record()


# --- what the vendor refuses --------------------------------------------------------------------------------


def test_a_licence_that_is_missing_is_told_and_not_asked_for_in_a_loop(tmp_path: Path) -> None:
    with running_desk(tmp_path, live_entitlements=frozenset()) as desk:
        client, _ = desk.streaming()
        with pytest.raises(BentoError, match=r"not_entitled.*A live data license is required"):
            client.block_for_close(TIMEOUT_S)
        with pytest.raises(BentoError, match="not_entitled"):
            desk.live().subscribe(**NQ)  # type: ignore[arg-type]
        assert desk.sandbox.bill()["connections"] == []
        assert desk.spent_nano_usd() == 0
        assert [decision.code for decision in desk.gateway.host.outcome.vendor] == ["not_entitled"]


def test_a_licence_that_is_lost_while_streaming_ends_it(tmp_path: Path) -> None:
    with running_desk(tmp_path, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        desk.sandbox.revoke_live(GLBX)
        desk.sandbox.close_live()
        with pytest.raises(BentoError, match="not_entitled"):
            client.block_for_close(TIMEOUT_S)
        desk.close()
        assert_books_agree(desk)
        assert [gap.mended for gap in desk.gaps()] == [""]


# --- what is mended -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ts_out", [False, True])
def test_a_stream_that_the_vendor_ended_goes_on_with_every_record_once(tmp_path: Path, ts_out: bool) -> None:
    with running_desk(tmp_path, rate=RATE) as desk:
        client, got = desk.streaming(ts_out=ts_out)
        desk.begin(got)
        for _ in range(3):
            desk.flow(got, 0.5)
            desk.sandbox.close_live()
        desk.flow(got, 0.5)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        data = [record[:56].replace(record[:1], b"\x0e", 1) for record in got.data]
        assert_each_once(desk, data)
        assert_books_agree(desk)
        assert [gap.mended for gap in desk.gaps()] == ["replayed"] * 3


def test_a_stream_that_was_reset_goes_on_with_every_record_once(tmp_path: Path) -> None:
    with running_desk(tmp_path, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        desk.advance(1)
        desk.sandbox.reset_live()
        desk.flow(got, 1)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert_each_once(desk, got.data)
        assert sorted(entry.ending for entry in desk.entries()) == ["exact", "residual"]
        assert desk.billed_nano_usd() <= desk.spent_nano_usd()


def test_what_recovery_does_not_allow_to_replay_is_an_open_gap(tmp_path: Path) -> None:
    rules = policy(stream(recovery=recovery(replay=timedelta(0))))
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        desk.flow(got, 1)
        desk.sandbox.close_live()
        desk.sandbox.wait_for(lambda bill: bill["connections"][0]["closed_utc"])
        desk.advance(5)
        after = ns_from_instant(desk.clock.now())
        desk.until(got, lambda records: ts_recv(records[-1]) > after)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        (gap,) = desk.gaps()
        assert gap.mended == ""
        last = max(stamp for stamp in map(ts_recv, got.data) if stamp < after)
        assert ns_from_instant(gap.start_utc) == last // 1000 * 1000
        assert ns_from_instant(gap.end_utc) >= after
        assert_books_agree(desk)


def test_a_replay_dearer_than_allowed_is_stopped_and_the_gap_stays_open(tmp_path: Path) -> None:
    rules = policy(stream(recovery=recovery(spend_usd=Decimal("0.001"))))
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        desk.sandbox.refuse_live(1)
        desk.sandbox.close_live()
        desk.advance(60)
        # 60 s are 67 MB, $0.001 buys 0.5 MB: closed, replay begun and cut, then without one.
        desk.sandbox.wait_for(lambda bill: len(bill["connections"]) > 2)
        desk.until(got, lambda records: ts_recv(records[-1]) > ns_from_instant(NOW + timedelta(seconds=60)))
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert desk.gaps() and all(gap.mended == "" for gap in desk.gaps())
        replay = desk.entries()[1]
        assert replay.cost_nano_usd < 1_000_000 + cost_nano_usd(8 << 20, replay.unit_price_usd)
        assert_books_agree(desk)


def test_a_vendor_that_refuses_connections_for_a_while_leaves_one_gap(tmp_path: Path) -> None:
    with running_desk(tmp_path, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        desk.sandbox.refuse_live(3)
        desk.sandbox.close_live()
        desk.flow(got, 0.5)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert_each_once(desk, got.data)
        assert [gap.mended for gap in desk.gaps()] == ["replayed"]


# --- periods ------------------------------------------------------------------------------------------------


def test_a_new_day_is_counted_on_a_hold_of_its_own_while_the_stream_goes_on(tmp_path: Path) -> None:
    midnight = datetime(2026, 11, 25, 6, tzinfo=UTC)  # in Chicago
    rules = policy(budgets=[budget(limit("1", "day"), limit("100"), timezone="America/Chicago")])
    clock = ManualClock(midnight - timedelta(seconds=1))
    with running_desk(tmp_path, rules, clock=clock, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        desk.flow(got, 1)
        desk.settled.wait_for_length(1)
        desk.flow(got, 1)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert len(desk.sandbox.bill()["connections"]) == 1
        assert len(desk.entries()) == 2
        assert_each_once(desk, got.data)
        assert_books_agree(desk)
        days = desk.books.account_balances("desk", midnight - timedelta(days=2), midnight + timedelta(days=2))
        sizes = {
            key.period_start_utc: balance.settled for key, balance in days.items() if key.period == "day"
        }
        assert set(sizes) == {midnight - timedelta(days=1), midnight} and all(sizes.values())


def test_a_metered_connection_is_opened_again_as_the_billing_month_ends(tmp_path: Path) -> None:
    clock = ManualClock(datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC))
    # A limit without a period of its own must not hide the billing month.
    with running_desk(
        tmp_path, policy(budgets=[budget(limit("10", "total"))]), clock=clock, rate=RATE
    ) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        desk.advance(1)
        desk.sandbox.wait_for(lambda bill: len(bill["connections"]) > 1)
        desk.flow(got, 1)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert [len(desk.entries(month)) for month in ("2026-11", "2026-12")] == [1, 1]
        by_month = {row["month"]: row["bytes"] for row in desk.sandbox.bill()["connections"]}
        assert by_month == {month: desk.entries(month)[0].size_bytes for month in ("2026-11", "2026-12")}
        assert_each_once(desk, got.data)

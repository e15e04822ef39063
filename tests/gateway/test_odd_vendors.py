"""What the relay makes of a vendor on its worst days: a gateway that is a script."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import databento_dbn as dbn
import pytest
from databento import BentoError

from budget_guard.gateway.live import connection
from tests.gateway.desk import NQ, TIMEOUT_S, budget, limit, policy
from tests.gateway.fake_gateway import (
    NOW_NS,
    FakeGateway,
    Session,
    desk_before,
    metadata,
    meters_left,
    order,
    orders,
)

FIRST = orders(NOW_NS, 100)


async def serve_all(session: Session) -> None:
    """A good vendor: a header, a hundred orders, and the end when asked for it."""
    session.header()
    session.send(b"".join(FIRST))
    await session.until_fin()


# --- logon --------------------------------------------------------------------------------------------------


def test_bytes_that_come_with_the_answer_to_the_logon_are_part_of_the_stream(tmp_path: Path) -> None:
    async def script(session: Session) -> None:
        session.send(b"".join(FIRST))
        await session.until_fin()

    vendor = FakeGateway(script, answer=b"success=1|session_id=7\n" + metadata())
    with desk_before(vendor, tmp_path) as desk:
        _, got = desk.streaming()
        got.wait_for_data(100)
        assert got.data == FIRST


def test_fields_that_are_not_known_are_passed_over(tmp_path: Path) -> None:
    with desk_before(FakeGateway(serve_all), tmp_path) as desk:
        _, got = desk.streaming(slow_reader_behavior="skip")
        got.wait_for_data(100)


def test_what_the_client_asked_for_reaches_the_vendor_uncompressed(tmp_path: Path) -> None:
    vendor = FakeGateway(serve_all)
    with desk_before(vendor, tmp_path) as desk:
        _, got = desk.streaming(heartbeat_interval_s=17, compression=dbn.Compression.ZSTD)
        got.wait_for_data(100)
        logon = vendor.sessions[0].logon
        assert (logon["compression"], logon["heartbeat_interval_s"]) == ("none", "17")
        assert vendor.sessions[0].lines == [
            {
                "schema": "mbo",
                "stype_in": "continuous",
                "symbols": "NQ.v.0",
                "snapshot": "0",
                "id": "0",
                "is_last": "1",
            }
        ]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Authentication failed.", "key_rejected"),
        ("User has reached their open connection limit", "sessions_full"),
        ("The account has insufficient funds", "payment_required"),
    ],
)
def test_a_refused_logon_is_told_and_holds_nothing(tmp_path: Path, text: str, code: str) -> None:
    vendor = FakeGateway(serve_all, answer=f"success=0|error={text}\n".encode())
    with desk_before(vendor, tmp_path) as desk:
        client, _ = desk.streaming()
        with pytest.raises(BentoError, match=f"{code}.*{text}"):
            client.block_for_close(TIMEOUT_S)
        with pytest.raises(BentoError, match=code):
            desk.live().subscribe(**NQ)  # type: ignore[arg-type]
        assert len(vendor.sessions) == 1
        assert desk.spent_nano_usd() == 0


@pytest.mark.parametrize("answer", [b"what?\n|||\n", b"success=2\n" * 10_000, b"x" * 100_000])
def test_a_gateway_that_talks_nonsense_is_given_up_in_time(
    tmp_path: Path, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FIRST_CONNECT_S", 0.2)
    monkeypatch.setattr("budget_guard.gateway.live.upstream.CONNECT_TIMEOUT_S", 0.2)
    with desk_before(FakeGateway(serve_all, answer=answer), tmp_path) as desk:
        client, _ = desk.streaming()
        with pytest.raises(BentoError, match="cannot be reached"):
            client.block_for_close(TIMEOUT_S)
        assert desk.spent_nano_usd() == 0
        assert meters_left(desk) == []


# --- endings ------------------------------------------------------------------------------------------------


def test_a_vendor_that_never_ends_is_cut_and_its_residual_assumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ENDING_S", 0.1)

    async def script(session: Session) -> None:
        await serve_all(session)
        await asyncio.Event().wait()

    with desk_before(FakeGateway(script), tmp_path) as desk:
        client, got = desk.streaming()
        got.wait_for_data(100)
        client.stop()
        desk.settled.wait_for_length(1)
        (entry,) = desk.entries()
        assert (entry.size_bytes, entry.ending) == (5600, "residual")
        assert 0 < entry.residual_bytes <= desk.gateway.host.allowance_bytes


def test_an_ending_that_is_cut_short_stays_within_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read of the allowance cannot be unseen as well."""
    monkeypatch.setattr(connection, "ENDING_S", 0.3)
    block = b"".join(orders(NOW_NS, 1000))

    async def script(session: Session) -> None:
        # It may hold no more than a vendor is assumed to: else the kernel lets the queue grow past it.
        session.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        session.header()
        while not session.reader.at_eof():
            session.send(block)
            await session.writer.drain()
            await asyncio.sleep(0)
        for _ in range(4):
            session.send(block)
        await session.writer.drain()
        await asyncio.Event().wait()

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path, policy(budgets=[budget(limit("0.02"))])) as desk:
        client, _ = desk.streaming()
        with pytest.raises(BentoError, match="limit_reached"):
            client.block_for_close(TIMEOUT_S)
        (entry,) = desk.entries()
        assert entry.ending == "residual"
        assert vendor.sessions[0].sent_bytes <= entry.size_bytes + entry.residual_bytes
        assert desk.spent_nano_usd() <= 20_000_000


def test_a_vendor_that_sends_beyond_the_allowance_is_cut_at_once(tmp_path: Path) -> None:
    block = bytes(b"".join(orders(NOW_NS, 10_000)))

    async def script(session: Session) -> None:
        session.header()
        while True:
            session.send(block)
            await session.writer.drain()

    with desk_before(FakeGateway(script), tmp_path, policy(budgets=[budget(limit("0.02"))])) as desk:
        client, _ = desk.streaming()
        with pytest.raises(BentoError, match="limit_reached"):
            client.block_for_close(TIMEOUT_S)
        (entry,) = desk.entries()
        # Past the lease by one read at most; and whatever may have been sent beyond is an overrun, in full.
        assert entry.cost_nano_usd <= 20_000_000 + 2_200_000_000 // 2**12
        assert entry.ending == "residual"


def test_a_part_of_a_record_is_counted_and_never_passed_on(tmp_path: Path) -> None:
    async def script(session: Session) -> None:
        session.header()
        session.send(b"".join(FIRST) + order(NOW_NS + 10**6)[:20])
        await session.until_fin()

    with desk_before(FakeGateway(script), tmp_path) as desk:
        client, got = desk.streaming()
        got.wait_for_data(100)
        client.stop()
        desk.settled.wait_for_length(1)
        assert desk.entries()[0].size_bytes == 5620
        assert got.data == FIRST


# --- the guard's own end ------------------------------------------------------------------------------------


def test_stopping_does_not_wait_for_clients_that_never_started(tmp_path: Path) -> None:
    with desk_before(FakeGateway(serve_all), tmp_path) as desk, desk.bare():
        loop_end = asyncio.run_coroutine_threadsafe(desk.gateway.host._relay.stop(), desk.gateway.host._loop)
        loop_end.result(2)


def test_stopping_settles_what_runs_and_says_so(tmp_path: Path) -> None:
    with desk_before(FakeGateway(serve_all), tmp_path) as desk:
        client, got = desk.streaming()
        got.wait_for_data(100)
        desk.gateway.close()
        client.block_for_close(TIMEOUT_S)
        assert [entry.ending for entry in desk.entries()] == ["exact"]
        assert meters_left(desk) == []


def test_stopping_does_not_wait_for_a_vendor_that_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budget_guard.gateway.live.backoff.FIRST_S", 30)

    async def script(session: Session) -> None:
        if session.number == 1:
            session.header()
            session.send(b"".join(FIRST))

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path) as desk:
        _, got = desk.streaming()
        got.wait_for_data(100)
        desk.settled.wait_for_length(1)
        asyncio.run_coroutine_threadsafe(desk.gateway.host._relay.stop(), desk.gateway.host._loop).result(2)

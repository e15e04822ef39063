"""What the relay makes of clients: what they ask for late, wrongly, twice, too much of, or never read."""

from __future__ import annotations

import socket
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from databento import BentoError

from budget_guard.clock import ns_from_instant
from budget_guard.gateway.live import relay
from budget_guard.gateway.live.connection import LiveConnection
from budget_guard.gateway.wire.framer import RTYPE_ERROR, RTYPE_SYMBOL_MAPPING
from budget_guard.policy.model import Match
from tests.gateway.desk import (
    NOW,
    NQ,
    TIMEOUT_S,
    Desk,
    budget,
    eventually,
    limit,
    policy,
    recovery,
    running_desk,
    stream,
)
from tests.sandbox.bare_client import BareClient

NQ_MBO = "schema=mbo|stype_in=continuous|symbols=NQ.v.0"
ES_MBO = "schema=mbo|stype_in=continuous|symbols=ES.v.0"
RATE = 20_000


def said_before_logon(desk: Desk, data: bytes) -> bytes:
    """Everything that a client hears that sends these bytes as its first."""
    with socket.create_connection(("127.0.0.1", desk.live_port), timeout=TIMEOUT_S) as raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        heard = b""
        while part := raw.recv(1 << 16):
            heard += part
    return heard


# --- lines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"the first line should answer the challenge"),
        (b"\n", b"not a line of key=value fields"),
        (b"auth=x|auth=y\n", b"comes twice"),
        (b"auth=x|dataset=GLBX.MDP3|encoding=json\n", b"encoding json cannot be counted"),
        ("auth=ü|dataset=GLBX.MDP3\n".encode(), b"not this guard's token"),
        (b"auth=\xff\n", b"not UTF-8"),
        (b"x" * 70_000, b"a line of more than 65536 bytes"),
    ],
)
def test_a_first_line_that_is_no_logon_is_refused_in_the_protocols_words(
    tmp_path: Path, data: bytes, reason: bytes
) -> None:
    with running_desk(tmp_path) as desk:
        heard = said_before_logon(desk, data)
        assert b"success=0|error=" in heard and reason in heard
        assert heard.count(b"\n") == 3  # greeting, challenge, refusal


def test_a_client_that_floods_is_not_listened_to_any_more(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk, desk.bare() as client:
        client.socket.sendall((ES_MBO + "\n").encode() * 10_000)
        assert b"lines" in client.rest()


def test_a_session_without_a_subscription_says_so(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk, desk.bare() as client:
        client.start()
        assert b"without a subscription" in client.record()
        assert client.rest() == b""


def test_a_connection_too_many_is_closed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CONNECTIONS_MAX", 1)
    with running_desk(tmp_path) as desk, desk.bare(), pytest.raises((EOFError, ConnectionError)):
        desk.bare()


# --- subscriptions ------------------------------------------------------------------------------------------


def test_two_streams_of_one_schema_are_one_part_of_a_connection(tmp_path: Path) -> None:
    """Nothing in their records says whose they are: every budget that matches either of them counts them all."""
    rules = policy(
        stream(),
        stream("es", symbols=("ES.v.0",)),
        budgets=[
            budget(limit("10"), name=name, match=Match(stream=frozenset({name}))) for name in ("nq", "es")
        ],
    )
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        with desk.bare(NQ_MBO, ES_MBO) as client:
            client.start()
            client.records(4)
            client.finish()
        desk.close()
        (entry,) = desk.entries()
        assert entry.stream == "nq"
        assert entry.size_bytes == desk.sandbox.bill()["bytes"]
        balances = desk.books.account_balances("desk", NOW - timedelta(days=60), NOW + timedelta(days=1))
        spent = {key.budget: balance.settled for key, balance in balances.items() if key.unit == "usd"}
        assert spent == {"nq": entry.cost_nano_usd, "es": entry.cost_nano_usd}


def test_a_late_subscription_of_the_same_stream_reaches_the_vendor(tmp_path: Path) -> None:
    rules = policy(stream(symbols=("NQ.v.0", "ES.v.0")))
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        client.subscribe(**{**NQ, "symbols": "ES.v.0"})  # type: ignore[arg-type]
        desk.until(got, lambda records: sum(one[1] == RTYPE_SYMBOL_MAPPING for one in records) == 2)
        # After a loss both are asked for again.
        desk.sandbox.close_live()
        desk.sandbox.wait_for(lambda bill: bill["connections"][0]["closed_utc"])
        instruments = len({record[4:8] for record in got.data})
        assert instruments <= 2
        desk.until(got, lambda _: {record[4:8] for record in got.data[-50:]} != {got.data[-1][4:8]})


def test_a_late_subscription_that_nothing_covers_is_told_while_the_stream_goes_on(tmp_path: Path) -> None:
    with running_desk(tmp_path, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        client.subscribe(**{**NQ, "symbols": "ES.v.0"})  # type: ignore[arg-type]
        got.wait_for(lambda _: got.texts(RTYPE_ERROR))
        assert "not_covered" in got.texts(RTYPE_ERROR)[0]
        desk.flow(got, 0.5)
        assert len(desk.sandbox.bill()["connections"]) == 1
        client.stop()
        with pytest.raises(BentoError, match="not_covered"):
            client.block_for_close(TIMEOUT_S)


def test_a_start_within_what_the_policy_allows_is_replayed(tmp_path: Path) -> None:
    rules = policy(stream(recovery=recovery(client_replay=timedelta(minutes=5))))
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        with desk.bare(f"{NQ_MBO}|start={ns_from_instant(NOW - timedelta(seconds=2))}") as client:
            client.start()
            # Before the sandbox's start the market has its ordinary pace.
            assert len(client.records(60, 0xA0)) == 60
        desk.close()
        assert sum(entry.size_bytes for entry in desk.entries()) == desk.sandbox.bill()["bytes"]


def test_a_snapshot_that_the_policy_allows_comes_first(tmp_path: Path) -> None:
    rules = policy(stream(recovery=recovery(client_replay=timedelta(minutes=5))))
    with running_desk(tmp_path, rules, rate=RATE) as desk, desk.bare(f"{NQ_MBO}|snapshot=1") as client:
        client.start()
        # The clock stands at the market's first instant: its book is still empty.
        (clear,) = client.records(1, 0xA0)
        assert clear[36] == 32 | 128
        desk.advance(1)
        assert not any(record[36] & 32 for record in client.records(100, 0xA0))


# --- leaving and not reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [(), (NQ_MBO,)])
def test_a_client_that_leaves_before_the_start_costs_nothing(tmp_path: Path, lines: tuple[str, ...]) -> None:
    with running_desk(tmp_path) as desk:
        desk.bare(*lines).close()
        desk.close()
        assert desk.spent_nano_usd() == 0
        assert desk.sandbox.bill()["connections"] == []


def test_a_client_that_starts_and_leaves_at_once_is_settled(tmp_path: Path) -> None:
    with running_desk(tmp_path, rate=0) as desk:
        for _ in range(5):
            client = desk.bare(NQ_MBO)
            client.send("start_session")
            client.close()
        desk.close()
        assert sum(entry.size_bytes for entry in desk.entries()) == desk.sandbox.bill()["bytes"]
        assert desk.books.open_holds() == []


def renewed(desk: Desk, version: int) -> bool:
    return desk.holds()[0].version > version


def test_a_client_that_does_not_read_is_not_read_for(tmp_path: Path) -> None:
    """Neither may what waits for it grow, nor may a renewed lease start the reading again."""
    with running_desk(tmp_path, rate=0) as desk, desk.bare(NQ_MBO, receive_buffer=1 << 16) as client:
        connection = not_reading(desk, client)
        for _ in range(3):
            version = desk.holds()[0].version
            desk.advance(16)
            eventually(partial(renewed, desk, version))
            assert connection.upstream.paused
        transport = connection._down._transport
        assert transport is not None and transport.get_write_buffer_size() < 6 << 20
        assert desk.sandbox.bill()["bytes"] < 32 << 20
        assert len(desk.sandbox.bill()["connections"]) == 1


def not_reading(desk: Desk, client: BareClient) -> LiveConnection:
    """The relay's side of a client once it has stopped reading for it."""
    client.start()
    connection = next(iter(desk.gateway.host._relay._serving.values()))
    eventually(lambda: connection.upstream.paused)
    return connection


def test_a_loss_behind_a_client_that_does_not_read_is_mended_once_it_reads(tmp_path: Path) -> None:
    with running_desk(tmp_path, rate=0) as desk, desk.bare(NQ_MBO, receive_buffer=1 << 16) as client:
        not_reading(desk, client)
        desk.sandbox.reset_live()
        client.read(48 << 20)
        desk.settled.wait_for_length(1)


def test_a_loss_behind_a_client_that_leaves_is_settled(tmp_path: Path) -> None:
    with running_desk(tmp_path, rate=0) as desk:
        with desk.bare(NQ_MBO, receive_buffer=1 << 16) as client:
            not_reading(desk, client)
            desk.sandbox.reset_live()
        desk.settled.wait_for_length(1)
        assert [entry.ending for entry in desk.entries()] == ["residual"]
        assert desk.billed_nano_usd() <= desk.spent_nano_usd()


def test_a_connection_that_is_refused_does_not_stand_in_the_way_of_another_stream(tmp_path: Path) -> None:
    rules = policy(stream(), stream("es", symbols=("ES.v.0",)))
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client, _ = desk.streaming("es")
        with pytest.raises(BentoError, match="not_covered"):
            client.block_for_close(TIMEOUT_S)
        _, got = desk.streaming("nq")
        desk.begin(got)

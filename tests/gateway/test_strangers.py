"""What who shows no token may do at either door: little, for a short time, and never in others' way."""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from budget_guard.gateway import visitors
from budget_guard.gateway.historical import entrance
from budget_guard.gateway.live import connection, downstream, relay
from budget_guard.gateway.wire.lines import LINE_MAX_BYTES
from tests.gateway.desk import TIMEOUT_S, Desk, eventually, running_desk

DOORS = pytest.mark.parametrize("door", ["live", "http"])


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with running_desk(tmp_path) as desk:
        yield desk


def place(desk: Desk, door: str) -> tuple[str, int]:
    port = desk.live_port if door == "live" else int(desk.gateway.host.http_url.rsplit(":", 1)[1])
    return "127.0.0.1", port


def heard(peer: socket.socket) -> bytes:
    """Everything until the other side closes, or breaks."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while part := peer.recv(1 << 16):
            said += part
    return said


@contextlib.contextmanager
def strangers(desk: Desk, door: str, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(place(desk, door), TIMEOUT_S)) for _ in range(count)
        ]


def request(token: str) -> bytes:
    """For what is not there: whoever has a token is told so."""
    basic = base64.b64encode(f"{token}:".encode())
    return (
        b"GET /elsewhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Authorization: Basic " + basic + b"\r\n\r\n"
    )


def served(desk: Desk, door: str) -> bool:
    """Whether somebody with a token gets in."""
    if door == "live":
        with desk.bare() as client:
            return client.reply.startswith("success=1")
    with socket.create_connection(place(desk, door), TIMEOUT_S) as peer:
        peer.sendall(request(desk.token))
        return heard(peer).startswith(b"HTTP/1.1 404")


# --- time ---------------------------------------------------------------------------------------------------


@pytest.fixture
def short_logons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_S", 0.3)
    monkeypatch.setattr(entrance, "LOGON_S", 0.3)


@DOORS
def test_who_says_nothing_is_closed_in_time(desk: Desk, door: str, short_logons: None) -> None:
    with strangers(desk, door, 3) as peers:
        for peer in peers:
            said = heard(peer)
            assert (b"lsg_version" if door == "live" else b"HTTP/1.1 408") in said


@DOORS
def test_who_drips_a_logon_letter_by_letter_is_closed_in_time(
    desk: Desk, door: str, short_logons: None
) -> None:
    letters = iter(b"auth=" + b"x" * 100_000 if door == "live" else b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
    with socket.create_connection(place(desk, door), TIMEOUT_S) as peer:
        peer.settimeout(0.01)
        for letter in letters:
            try:
                peer.send(bytes([letter]))
                if not peer.recv(1000):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            raise AssertionError("it was listened to until the end")


def test_a_request_whose_body_does_not_come_is_given_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "BODY_S", 0.3)
    head = (
        request(desk.token).replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 10\r\n\r\n")
    )
    with socket.create_connection(place(desk, "http"), TIMEOUT_S) as peer:
        peer.sendall(head + b"data")
        assert heard(peer).startswith(b"HTTP/1.1 408")


# --- number -------------------------------------------------------------------------------------------------


@DOORS
def test_many_that_say_nothing_lose_their_places_to_who_has_a_token(
    desk: Desk, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = relay if door == "live" else entrance
    monkeypatch.setattr(module, "STRANGERS_MAX", 5)
    with strangers(desk, door, 20) as peers:
        assert served(desk, door)
        # The first to come were the first to go.
        assert all(b"408" not in heard(peer) for peer in peers[:15])


@DOORS
def test_when_all_places_are_taken_the_oldest_stranger_goes(
    desk: Desk, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = relay if door == "live" else entrance
    monkeypatch.setattr(module, "CONNECTIONS_MAX", 5)
    with strangers(desk, door, 8):
        assert served(desk, door)


def test_requests_are_refused_when_all_places_are_in_use(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "CONNECTIONS_MAX", 1)
    with socket.create_connection(place(desk, "http"), TIMEOUT_S) as known:
        known.sendall(request(desk.token).replace(b"close", b"keep-alive"))
        assert known.recv(1000).startswith(b"HTTP/1.1 404")
        with socket.create_connection(place(desk, "http"), TIMEOUT_S) as peer:
            assert heard(peer).startswith(b"HTTP/1.1 503")


def test_one_token_has_so_many_live_connections_and_is_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitors, "PLACES_MAX", 2)
    with desk.bare(), desk.bare(), desk.bare() as third:
        assert "connections open: close one first" in third.reply
    eventually(lambda: not desk.gateway.host._shared.visitors._places)
    assert served(desk, "live")


# --- size ---------------------------------------------------------------------------------------------------


def test_before_the_logon_a_client_may_say_no_more_than_a_logon(desk: Desk) -> None:
    with socket.create_connection(place(desk, "live"), TIMEOUT_S) as peer:
        line = b"schema=" + b"x" * (LINE_MAX_BYTES - 100) + b"\n"
        with contextlib.suppress(ConnectionError):
            peer.sendall(line * 100)
        assert b"success=0" in heard(peer) or True
    for connected in list(desk.gateway.host._relay._serving.values()):
        assert connected._down._waiting_bytes <= downstream.STRANGER_BYTES_MAX + LINE_MAX_BYTES


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"\x00\xff" * 50_000 + b"\r\n\r\n",
    ],
)
def test_a_head_that_is_too_large_or_none_is_refused(
    desk: Desk, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), socket.create_connection(place(desk, "http"), TIMEOUT_S) as peer:
        with contextlib.suppress(ConnectionError):
            peer.sendall(data)
        assert heard(peer)[:12] in (b"HTTP/1.0 400", b"HTTP/1.1 400", b"")
        assert served(desk, "http")
    assert caplog.text == ""


def test_a_body_that_is_too_large_is_refused(desk: Desk) -> None:
    head = request(desk.token).replace(b"GET", b"POST")
    size = entrance.BODY_MAX_BYTES + 1
    head = head.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % size)
    with socket.create_connection(place(desk, "http"), TIMEOUT_S) as peer:
        with contextlib.suppress(ConnectionError):
            peer.sendall(head + b"x" * size)
        assert heard(peer)[:12] in (b"HTTP/1.1 413", b"")


# --- other protocols ----------------------------------------------------------------------------------------


@DOORS
def test_tls_on_a_plain_port_is_told_so_in_words(
    desk: Desk, door: str, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.create_default_context()
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    with caplog.at_level(logging.WARNING), socket.create_connection(place(desk, door), TIMEOUT_S) as peer:
        peer.sendall(hello.read())
        assert b"without TLS" in heard(peer)
    assert "TLS" in caplog.text


def test_http_on_the_live_port_is_told_so_in_words(desk: Desk) -> None:
    with socket.create_connection(place(desk, "live"), TIMEOUT_S) as peer:
        peer.sendall(request(desk.token))
        assert b"speaks the live protocol, not HTTP" in heard(peer)


# --- bad logons ---------------------------------------------------------------------------------------------


@DOORS
def test_a_flood_of_bad_logons_is_slowed_down_and_logged_once_and_nobody_else_waits(
    desk: Desk, door: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(visitors, "MOST_DELAY_S", TIMEOUT_S)
    monkeypatch.setattr(visitors, "FIRST_DELAY_S", TIMEOUT_S)
    bad = b"auth=0-12345|dataset=GLBX.MDP3\n" if door == "live" else request("db-" + "x" * 29)
    sign = b"success=0" if door == "live" else b"HTTP/1.1 401"
    with caplog.at_level(logging.WARNING), strangers(desk, door, visitors.FREE_TRIES + 10) as peers:
        for peer in peers:
            peer.sendall(bad)
        for peer in peers[: visitors.FREE_TRIES]:
            assert sign in heard(peer)
        assert served(desk, door)
        slow = peers[-1]
        slow.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while said := slow.recv(1000):
                assert sign not in said
    assert len(caplog.records) == 1
    assert "bad logon" in caplog.text


# --- who does not read --------------------------------------------------------------------------------------


def test_a_client_that_never_reads_is_given_up_and_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downstream, "STALLED_S", 0.3)
    lines = "schema=mbo|stype_in=continuous|symbols=NQ.v.0"
    with (
        running_desk(tmp_path, rate=0) as desk,
        desk.bare(lines, receive_buffer=1 << 16) as client,
    ):
        client.send("start_session")
        desk.settled.wait_for_length(1)
        eventually(lambda: desk.gateway.host.clients == 0)


def test_an_answer_that_nobody_takes_is_given_up(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    monkeypatch.setattr(entrance, "STALLED_S", 0.1)
    host = desk.gateway.host
    with socket.create_connection(place(desk, "http"), TIMEOUT_S) as peer:
        peer.sendall(request(desk.token).replace(b"close", b"keep-alive"))
        assert peer.recv(1000).startswith(b"HTTP/1.1 404")
        (visitor,) = host._door._entrance._visitors
        host._loop.call_soon_threadsafe(visitor.pause_writing)
        assert b"HTTP" not in heard(peer)

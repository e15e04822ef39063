"""Whatever a live client sends, its session ends with a reason, and nobody else's is touched."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from budget_guard.clock import ManualClock
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.live.wire import WireError, parse_login, parse_start, parse_subscription
from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.sandbox.bare_client import NQ_MBO, BareClient, ended

TUESDAY = datetime(2026, 11, 24, 14, 40, tzinfo=UTC)
ENDLESS = "9" * 5000


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(SandboxConfig(clock=ManualClock(TUESDAY), limits=Limits.none())) as running:
        yield running


@pytest.mark.parametrize("start", [ENDLESS, str(2**64), "9999-12-31T23:59:59-23:59", "2262-04-12"])
def test_a_start_that_no_header_can_hold_ends_the_session_with_a_reason(sandbox: Sandbox, start: str) -> None:
    """An ErrorMsg and FIN, whether it is asked for before the session has started or after."""
    line = f"{NQ_MBO}|start={start}"
    with BareClient(sandbox, line) as before, BareClient(sandbox) as after:
        before.start()
        after.start()
        after.send(line)
        for client in (before, after):
            assert b"start" in client.rest()
    bill = sandbox.wait_for(lambda bill: ended(1)(bill) and ended(2)(bill))
    assert all(line["ended"].startswith("refused: Invalid") for line in bill["connections"])


def test_numbers_without_end_are_malformed() -> None:
    """They are refused as a line of the protocol is, before anything reads their digits."""
    with pytest.raises(WireError, match="start"):
        parse_start(ENDLESS)
    assert parse_subscription(f"{NQ_MBO}|id={ENDLESS}".encode()).number is None
    with pytest.raises(WireError, match="Authentication"):
        parse_login(f"auth=x|heartbeat_interval_s={ENDLESS}".encode(), "challenge", ["db-a-key"])


def test_a_heartbeat_interval_without_end_is_refused(sandbox: Sandbox) -> None:
    """With a reply, as every login is."""
    with BareClient(sandbox, login=f"|heartbeat_interval_s={ENDLESS}") as client:
        assert client.reply.startswith("success=0|error=Invalid heartbeat_interval_s")


def test_a_session_that_fails_of_itself_is_closed_and_says_so(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even a defect of the sandbox's leaves no connection behind that nobody listens to."""

    def stumbles(*_: Any) -> Any:
        raise ZeroDivisionError("a defect")

    seen: list[Any] = []
    with BareClient(sandbox, NQ_MBO) as client:
        client.start()
        assert sandbox._loop is not None
        sandbox._loop.set_exception_handler(lambda _, context: seen.append(context))
        monkeypatch.setattr("budget_guard.sandbox.live.connection.parse_subscription", stumbles)
        client.send(NQ_MBO)
        client.rest()
        bill = sandbox.wait_for(ended(1))
    assert bill["connections"][0]["ended"] == "failed: ZeroDivisionError: a defect"
    assert [type(context["exception"]) for context in seen] == [ZeroDivisionError]


@pytest.mark.parametrize("started", [False, True])
def test_a_client_that_only_ever_subscribes_is_not_read_without_end(started: bool) -> None:
    """What waits to be taken is bounded; a client that sends more is let go."""
    clock = ManualClock(TUESDAY)
    with running_sandbox(SandboxConfig(clock=clock, limits=Limits(new_connections_per_s=None))) as sandbox:
        with BareClient(sandbox) as client:
            if started:
                client.start()
            symbols = ",".join(f"S{number}" for number in range(500))
            flood = f"schema=mbo|stype_in=raw_symbol|symbols={symbols}\n".encode() * 1000
            client.socket.settimeout(2)
            sent = 0
            with suppress(OSError):  # it is not read any more, or closed
                for _ in range(100):
                    sent += client.socket.send(flood)
            assert sent < 60 * 2**20
        sandbox.wait_for(ended(1), timeout_s=10)


def test_a_client_that_goes_while_its_lines_wait_is_noticed() -> None:
    """Its connection is over although the clock, and so the pace of its subscriptions, stands still."""
    with running_sandbox(SandboxConfig(clock=ManualClock(TUESDAY))) as sandbox:
        with BareClient(sandbox) as client:
            client.start()
            for _ in range(30):
                client.send(NQ_MBO)
            client.finish()
        sandbox.wait_for(ended(1), timeout_s=10)


def test_a_crowd_that_says_nothing_keeps_nobody_out(sandbox: Sandbox) -> None:
    """A live session and the HTTP side go on beside hundreds of connections that are silent or half a line long."""
    crowd = [socket.create_connection(("127.0.0.1", sandbox.live_port)) for _ in range(150)]
    crowd += [socket.create_connection(("127.0.0.1", sandbox.http_port)) for _ in range(150)]
    try:
        for number, one in enumerate(crowd):
            one.sendall(b"" if number % 2 else b"GET /bi")
        began_s = time.monotonic()
        with BareClient(sandbox, NQ_MBO) as client:
            client.start()
            client.records(2)
        assert sandbox.historical().metadata.list_datasets()
        assert time.monotonic() - began_s < 10
    finally:
        for one in crowd:
            one.close()


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"\x00" * 100, b"\xff\n", b"GET / HTTP/1.1\r\n\r\n", b"a" * 200_000]
)
def test_what_is_no_login_is_refused(sandbox: Sandbox, text: bytes) -> None:
    """And billed to nobody."""
    with socket.create_connection(("127.0.0.1", sandbox.live_port), timeout=10) as client, suppress(OSError):
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass
    assert sandbox.bill()["connections"] == []
    assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0), sandbox._loop).result(5) is None  # type: ignore[arg-type]

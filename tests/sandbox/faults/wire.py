"""What the tests of faults share: a sandbox whose clock stands still, and its streams and answers as bytes."""

from __future__ import annotations

import base64
import http.client
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from budget_guard.clock import ManualClock, ns_from_instant
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.sandbox.bare_client import DATASET, NQ_MBO, BareClient

TUESDAY = datetime(2026, 11, 24, 14, 40, tzinfo=UTC)
MBO, SYSTEM, ERROR = 160, 23, 21
HISTORY = {
    "dataset": DATASET,
    "schema": "mbo",
    "symbols": "NQ.v.0",
    "stype_in": "continuous",
    "start": "2026-03-10T14:30",
    "end": "2026-03-10T14:31",
    "encoding": "dbn",
}


@contextmanager
def standing(**fields: Any) -> Iterator[tuple[Sandbox, ManualClock]]:
    """A sandbox whose time moves only when told to: what comes over the wire is the same every time."""
    clock = ManualClock(TUESDAY)
    settings: dict[str, Any] = {"clock": clock, "limits": Limits.none(), **fields}
    with running_sandbox(SandboxConfig(**settings)) as sandbox:
        yield sandbox, clock


def replay_line(seconds: int = 3) -> str:
    """A subscription that begins so long before the clock's instant."""
    return f"{NQ_MBO}|start={ns_from_instant(TUESDAY - timedelta(seconds=seconds))}"


def replay(sandbox: Sandbox, seconds: int = 3) -> list[bytes]:
    """The records of a replay, control included, up to the notice that it is complete."""
    with BareClient(sandbox, replay_line(seconds)) as client:
        client.start()
        return until_replayed(client)


def until_replayed(client: BareClient) -> list[bytes]:
    records: list[bytes] = []
    while not records or b"Finished" not in records[-1]:
        records.append(client.record())
    return records


def eventually(holds: Callable[[], object]) -> None:
    """Until something is true that nobody announces."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline


def wait_for_strikes(sandbox: Sandbox, strikes: int = 1) -> None:
    """Until so many faults have struck: by then the sandbox has seen the clock as it is."""
    eventually(lambda: len(sandbox.faults()["struck"]) >= strikes)


def advance_until_something_comes(client: BareClient, clock: ManualClock, step_s: float) -> float:
    """Move time on until the connection brings something; returns by how much."""
    advanced_s = 0.0
    while nothing_comes(client, 0.05):
        clock.advance(step_s)
        advanced_s += step_s
        assert advanced_s < 1000 * step_s
    return advanced_s


def data(records: list[bytes]) -> list[bytes]:
    """Market data only."""
    return [record for record in records if record[1] == MBO]


def nothing_comes(client: BareClient, seconds: float = 0.2) -> bool:
    """Whether a connection stays open and brings nothing for a while."""
    before = client.socket.gettimeout()
    client.socket.settimeout(seconds)
    try:
        return client.socket.recv(1, socket.MSG_PEEK) is None
    except TimeoutError:
        return True
    finally:
        client.socket.settimeout(before)


def call(
    sandbox: Sandbox, path: str, *, key: str | None = None, **fields: str
) -> tuple[int, dict[str, str], bytes]:
    """One HTTP request: status, headers, body."""
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.http_port, timeout=20)
    form = "&".join(f"{name}={value}" for name, value in fields.items())
    try:
        if ".list_" in path:
            connection.request("GET", f"/v0/{path}?{form}", headers=authorised(key or sandbox.key))
        else:
            form_type = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", f"/v0/{path}", form, authorised(key or sandbox.key) | form_type)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def authorised(key: str) -> dict[str, str]:
    """The headers that carry an API key."""
    return {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}

"""Whatever an HTTP client sends, it is told what is wrong with it: never 500, and nothing is billed."""

from __future__ import annotations

import base64
import http.client
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.sandbox.historical.desk import ask, config

ENDLESS = "9" * 5000
RANGE: dict[str, Any] = {
    "dataset": "GLBX.MDP3",
    "schema": "trades",
    "symbols": "NQ.v.0",
    "stype_in": "continuous",
    "start": "2026-11-19T14:30",
    "end": "2026-11-19T14:30:01",
    "encoding": "dbn",
}
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(config()) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("timeseries.get_range", "limit", ENDLESS),
        ("timeseries.get_range", "limit", str(2**64)),
        ("metadata.get_record_count", "limit", ENDLESS),
        ("metadata.get_cost", "retry", ENDLESS),
        ("batch.submit_job", "split_size", ENDLESS),
        ("batch.submit_job", "limit", str(2**64)),
        ("batch.list_jobs", "since", "0001-01-01T00:00:00+23:59"),
        ("metadata.get_dataset_condition", "start_date", "9999-12-31T23:59:59-23:59"),
        ("timeseries.get_range", "end", "9999-12-31T23:59:59-23:59"),
    ],
)
def test_numbers_and_times_beyond_all_bounds_are_malformed(
    sandbox: Sandbox, path: str, field: str, value: str
) -> None:
    """422 with the field's name, also where a number has more digits than the interpreter reads."""
    method = "GET" if path in ("batch.list_jobs", "metadata.get_dataset_condition") else "POST"
    answer = ask(sandbox, method, f"/v0/{path}", **{**RANGE, field: value})
    assert answer.status == 422
    assert [item["loc"][1] for item in answer.body["detail"]] == [field]
    assert sandbox.bill()["bytes"] == 0


@pytest.mark.parametrize(
    "symbol", ["A" * 71, "A" * 67 + ".v.0", "\u00e9.v.0", "N\x00Q.v.0", "\U0001f600.v.0"]
)
@pytest.mark.parametrize("path", ["timeseries.get_range", "batch.submit_job", "metadata.get_billable_size"])
def test_symbols_that_no_record_can_hold_are_invalid(sandbox: Sandbox, path: str, symbol: str) -> None:
    """More than 70 characters, or other than printable ASCII: 400 before anything is sold."""
    stype_in = "continuous" if symbol.endswith(".v.0") else "raw_symbol"
    answer = ask(
        sandbox, "POST", f"/v0/{path}", **{**RANGE, "symbols": f"NQ.v.0,{symbol}", "stype_in": stype_in}
    )
    assert (answer.status, answer.body["detail"]["case"]) == (400, "symbology_invalid_symbol")
    assert sandbox.bill()["connections"] == []


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Type": f"{FORM}; charset=nope"}, b"dataset=x"),
        ({"Content-Type": f"{FORM}; charset=utf-16"}, b"abc"),
        ({"Content-Type": FORM}, b"dataset=\xff\xfe\x00x"),
        ({"Content-Type": "multipart/form-data"}, b"abc"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"abc"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\n\r\nabc\r\n--x--\r\n"),
        ({"Content-Type": FORM, "Content-Encoding": "gzip"}, b"abc"),
    ],
)
def test_a_body_that_cannot_be_read_is_a_bad_request(
    sandbox: Sandbox, headers: dict[str, str], body: bytes
) -> None:
    """400 in JSON, at the vendor's paths as at the sandbox's own."""
    token = base64.b64encode(f"{sandbox.key}:".encode()).decode()
    assert _post(sandbox, "/v0/timeseries.get_range", body, Authorization=f"Basic {token}", **headers) == 400
    assert _post(sandbox, "/control", body, **headers) == 400


def test_a_key_that_is_no_text_does_not_authenticate(sandbox: Sandbox) -> None:
    """401, not an error of the sandbox's."""
    for token in ("\xff\xff", "AAAA", "/w=="):
        assert _post(sandbox, "/v0/timeseries.get_range", b"", Authorization=f"Basic {token}") == 401


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"do":' * 50_000, b'{"do": "drop", "number": 1' + b"1" * 5000]
)
def test_control_takes_no_bottomless_json(sandbox: Sandbox, body: bytes) -> None:
    """400: nested beyond the interpreter's depth, or cut."""
    assert _post(sandbox, "/control", body) == 400


def test_a_client_that_goes_in_the_middle_of_a_body_is_no_defect(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged and nothing is billed, at the vendor's paths as at the sandbox's own."""
    token = base64.b64encode(f"{sandbox.key}:".encode()).decode()
    for path in ("/v0/timeseries.get_range", "/control"):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {token}\r\nContent-Type: {FORM}\r\n"
        with socket.create_connection(("127.0.0.1", sandbox.http_port), timeout=20) as client:
            client.sendall(f"{head}Content-Length: 50\r\n\r\nda".encode())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # The loop has seen both go once it has answered ten more.
    for _ in range(10):
        assert ask(sandbox, "GET", "/v0/metadata.list_datasets").status == 200
    assert sandbox.bill()["connections"] == []
    assert caplog.records == []


def _post(sandbox: Sandbox, path: str, body: bytes, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.http_port, timeout=20)
    try:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()

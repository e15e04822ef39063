"""Faults of HTTP requests and downloads, seen in answers; the bill counts what was written."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from decimal import Decimal
from typing import Any

import pytest

from budget_guard.sandbox.billing.bill import exact_cost
from budget_guard.sandbox.server import Sandbox
from tests.sandbox.bare_client import DATASET, NQ_MBO, BareClient, ended
from tests.sandbox.faults.wire import (
    HISTORY,
    advance_until_something_comes,
    authorised,
    call,
    eventually,
    nothing_comes,
    standing,
)

QUERY = {name: value for name, value in HISTORY.items() if name != "encoding"}


def size(sandbox: Sandbox) -> Any:
    status, _, body = call(sandbox, "metadata.get_billable_size", **QUERY)
    return json.loads(body) if status == 200 else status


@pytest.mark.parametrize(
    ("status", "case"),
    [
        (401, "auth_authentication_failed"),
        (402, "account_insufficient_funds"),
        (403, "license_not_found_unauthorized"),
        (410, "batch_job_expired"),
        (422, "data_end_after_available_end"),
        (429, "rate_limit_exceeded"),
    ],
)
def test_errors_have_the_vendors_body(status: int, case: str) -> None:
    """One request each, on the paths that the fault names; then all is well."""
    with standing() as (sandbox, _):
        sandbox.arm("http_error", on="metadata.get_billable_size", status=status)
        assert call(sandbox, "metadata.list_datasets")[0] == 200
        answer, headers, body = call(sandbox, "metadata.get_billable_size", **QUERY)
        assert size(sandbox) > 0
    assert (answer, json.loads(body)["detail"]["case"]) == (status, case)
    assert headers.get("Retry-After") == ("1" if status == 429 else None)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_broken_server_answers_in_plain_text(status: int) -> None:
    """For a while, to everybody."""
    with standing() as (sandbox, clock):
        sandbox.arm("http_error", on="all", status=status, at="+10s", for_="20s")
        assert size(sandbox) > 0
        clock.advance(10)
        answers = [call(sandbox, path, **HISTORY) for path in ("timeseries.get_range", "metadata.get_cost")]
        clock.advance(20)
        assert size(sandbox) > 0
    assert [answer[0] for answer in answers] == [status, status]
    assert all(answer[1]["Content-Type"].startswith("text/plain") for answer in answers)


def test_a_limit_says_when_to_come_back() -> None:
    """429 with the Retry-After that it was told."""
    with standing() as (sandbox, _):
        sandbox.arm("metadata_429", times=2, retry_after_s=7)
        answers = [call(sandbox, "metadata.list_datasets") for _ in range(3)]
    assert [answer[0] for answer in answers] == [429, 429, 200]
    assert answers[0][1]["Retry-After"] == "7"


def test_the_files_of_a_job_are_on_a_path_too() -> None:
    """Whatever their address looks like."""
    with standing() as (sandbox, _):
        sandbox.arm("http_error", on="batch.download", status=410)
        connection = http.client.HTTPConnection("127.0.0.1", sandbox.http_port, timeout=20)
        connection.request("GET", "/v0/batch/download/A/B/c.dbn", headers=authorised(sandbox.key))
        status = connection.getresponse().status
        connection.close()
    assert status == 410


def test_a_request_is_reset() -> None:
    """No answer at all."""
    with standing() as (sandbox, _):
        sandbox.arm("http_reset", on="metadata")
        with pytest.raises(ConnectionResetError):
            size(sandbox)
        assert size(sandbox) > 0


def test_an_answer_is_late() -> None:
    """By the sandbox's clock."""
    with standing() as (sandbox, clock):
        sandbox.arm("http_delay", ms=3000)
        connection = http.client.HTTPConnection("127.0.0.1", sandbox.http_port, timeout=0.3)
        connection.request("GET", "/v0/metadata.list_datasets")
        with pytest.raises(TimeoutError):
            connection.getresponse()
        connection.close()
        clock.advance(3)
        assert size(sandbox) > 0


def test_a_size_is_off_by_a_factor() -> None:
    """Only the answer that it names; what is sold and billed is right."""
    with standing() as (sandbox, _):
        right = size(sandbox)
        cost = float(call(sandbox, "metadata.get_cost", **QUERY)[2])
        sandbox.arm("wrong_number", factor=0.5)
        sandbox.arm("wrong_number", answer="get_cost", factor=3)
        assert float(call(sandbox, "metadata.get_cost", **QUERY)[2]) == pytest.approx(3 * cost)
        assert size(sandbox) == right // 2
        assert size(sandbox) == right


def test_an_answer_is_cut_in_half() -> None:
    """Its status says that all is well, its body is no JSON."""
    with standing() as (sandbox, _):
        sandbox.arm("unparsable", on="metadata.list_unit_prices")
        status, _, body = call(sandbox, "metadata.list_unit_prices", dataset=DATASET)
    assert status == 200
    with pytest.raises(ValueError, match=r"decode|delimiter|Unterminated|Expecting"):
        json.loads(body)


def test_a_schema_is_missing_from_the_price_list() -> None:
    """In every mode."""
    with standing() as (sandbox, _):
        sandbox.arm("missing_price", schema="mbo", dataset=DATASET)
        missing, whole = (
            json.loads(call(sandbox, "metadata.list_unit_prices", dataset=DATASET)[2]) for _ in range(2)
        )
    assert all("mbo" not in mode["unit_prices"] and "trades" in mode["unit_prices"] for mode in missing)
    assert all("mbo" in mode["unit_prices"] for mode in whole)


def listens(sandbox: Sandbox) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", sandbox.http_port)) == 0


def test_nobody_listens_for_a_while() -> None:
    """Connections are refused; then the same port answers again."""
    with standing() as (sandbox, clock):
        sandbox.arm("http_down", for_="30s")
        eventually(lambda: not listens(sandbox))
        clock.advance(30)
        eventually(lambda: listens(sandbox))
        assert size(sandbox) > 0


def test_a_download_breaks_off_after_so_many_bytes() -> None:
    """What was billed is what was written; the next one is whole."""
    with standing() as (sandbox, _):
        right = size(sandbox)
        sandbox.arm("break_history", after="100000 bytes", dataset=DATASET)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            call(sandbox, "timeseries.get_range", **HISTORY)
        call(sandbox, "timeseries.get_range", **HISTORY)
        lines = sandbox.wait_for(ended(2))["connections"]
    assert [line["bytes"] for line in lines] == [100_000, right]


def test_a_download_is_slow() -> None:
    """No more than so many bytes a second, by the sandbox's clock; all of them in the end."""
    with standing() as (sandbox, clock):
        right = size(sandbox)
        sandbox.arm("slow_history", bytes_per_s=right // 2)
        done = threading.Event()

        def move() -> None:
            while not done.wait(0.01):
                clock.advance(0.05)

        mover = threading.Thread(target=move)
        mover.start()
        began_s = clock.monotonic_s()
        status, _, body = call(sandbox, "timeseries.get_range", **HISTORY)
        done.set()
        mover.join()
        lasted_s = clock.monotonic_s() - began_s
    assert status == 200
    assert len(body) > right
    assert lasted_s >= 2


def test_a_licence_for_history_is_gone_and_an_account_is_unpaid() -> None:
    """403, then 402, in the vendor's words; metadata still answers."""
    with standing() as (sandbox, _):
        number = sandbox.arm("revoke_history", dataset=DATASET)
        unlicensed = call(sandbox, "timeseries.get_range", **HISTORY)
        sandbox.drop(number=number)
        sandbox.arm("unpaid")
        unpaid = call(sandbox, "timeseries.get_range", **HISTORY)
        assert size(sandbox) > 0
        sandbox.drop("unpaid")
        assert call(sandbox, "timeseries.get_range", **HISTORY)[0] == 200
    assert (unlicensed[0], unpaid[0]) == (403, 402)
    assert json.loads(unpaid[2])["detail"]["case"] == "account_insufficient_funds"


def test_a_price_changes_and_open_connections_pay_it_from_then_on() -> None:
    """What was sent before costs the old price; the price list shows the new one."""
    with standing() as (sandbox, clock), BareClient(sandbox, NQ_MBO) as client:
        client.start()
        client.records(2)
        advance_until_something_comes(client, clock, 1)
        while not nothing_comes(client, 0.1):
            client.record()
        sandbox.arm("price", dataset=DATASET, schema="mbo", mode="live", usd_per_gib=21.60)
        first = sandbox.bill()["connections"][0]["bytes"]
        prices = json.loads(call(sandbox, "metadata.list_unit_prices", dataset=DATASET)[2])
        while sandbox.bill()["connections"][0]["bytes"] == first:
            clock.advance(1)
        client.finish()
        line = sandbox.wait_for(ended())["connections"][0]
    assert {mode["mode"]: mode["unit_prices"]["mbo"] for mode in prices}["live"] == 21.6
    later = line["bytes"] - first
    assert later > 0
    expected = exact_cost(first, Decimal("2.16")) + exact_cost(later, Decimal("21.60"))
    assert Decimal(line["cost_usd"]) == expected


def test_a_job_of_a_batch_is_struck_by_its_fate() -> None:
    """What the batch side asks for when a job is submitted."""
    from budget_guard.sandbox.faults.requests import batch_fate

    with standing() as (sandbox, _):
        sandbox.arm("batch_queued")
        sandbox.arm("batch_failed", dataset=DATASET)
        fates = [batch_fate(sandbox._faults, DATASET, sandbox.key) for _ in range(3)]
    assert fates == ["queued", "failed", None]

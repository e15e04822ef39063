"""The historical door between the vendor's own client and its HTTP: priced, decided, held, passed on, settled."""

from __future__ import annotations

import asyncio
import base64
import http.client
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import databento_dbn as dbn
import numpy as np
import pytest
import zstandard
from aiohttp import web
from databento.common.error import BentoClientError, BentoError, BentoServerError
from databento.historical.api.metadata import MetadataHttpAPI
from databento.historical.api.symbology import SymbologyHttpAPI
from databento.historical.api.timeseries import TimeseriesHttpAPI

import budget_guard
from budget_guard.clock import RehearsalClock
from budget_guard.policy.model import HistoricalRules, Policy
from budget_guard.settings import Settings
from budget_guard.streaming import mounts
from budget_guard.streaming.assembly import open_gateway
from tests.gateway import desk as desks
from tests.gateway.desk import (
    ACCOUNT,
    GLBX,
    MONTH,
    NOW,
    NQ,
    Desk,
    budget,
    limit,
    policy,
    stream,
)
from tests.gateway.fake_vendor import Answer, FakeVendor, running_vendor

# Ten minutes of a session a few days back; the sandbox has orders enough in them to weigh something.
RANGE = {"start": "2026-11-20T15:00", "end": "2026-11-20T15:10"}
NQ_RANGE: dict[str, Any] = {**NQ, **RANGE}
RECORD = 56


def running_desk(folder: Path, rules: Policy | None = None, **options: Any) -> AbstractContextManager[Desk]:
    """A desk whose clock runs: pacing the vendor's metadata waits for it."""
    return desks.running_desk(folder, rules, clock=RehearsalClock(NOW), **options)


def timeseries(desk: Desk) -> TimeseriesHttpAPI:
    return TimeseriesHttpAPI(key=desk.token, gateway=desk.gateway.host.http_url)


def get_nq(desk: Desk, **changes: Any) -> Any:
    """The data of NQ_RANGE, through the door."""
    return timeseries(desk).get_range(**{**NQ_RANGE, **changes})


def quoted(desk: Desk, **changes: Any) -> tuple[int, Decimal]:
    """The vendor's own size and cost of a request, asked through the door."""
    metadata = MetadataHttpAPI(key=desk.token, gateway=desk.gateway.host.http_url)
    wanted = {**NQ_RANGE, **changes}
    return metadata.get_billable_size(**wanted), Decimal(repr(metadata.get_cost(**wanted)))


# --- what passes --------------------------------------------------------------------------------------------


def test_a_request_that_fits_is_settled_at_what_flowed(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        size, _ = quoted(desk)
        store = get_nq(desk)
        (entry,) = desk.entries()
        assert len(store.to_ndarray()) * RECORD == size == entry.size_bytes
        assert (entry.ending, entry.residual_bytes, entry.mode) == ("exact", 0, "historical")
        assert desk.billed_nano_usd() <= desk.spent_nano_usd() <= desk.billed_nano_usd() + 1


def test_a_price_that_rises_between_two_requests_is_booked_as_it_is_billed(tmp_path: Path) -> None:
    """The quote of the second shows that the list is no longer right."""
    with running_desk(tmp_path) as desk:
        get_nq(desk)
        words = {"dataset": GLBX, "schema": "mbo", "mode": "historical", "usd_per_gib": 18}
        desk.sandbox.arm("price", **words)
        get_nq(desk)
        first, second = desk.entries()
        assert (first.unit_price_usd, second.unit_price_usd) == (Decimal("1.8"), Decimal(18))
        assert desk.billed_nano_usd() <= desk.spent_nano_usd() <= desk.billed_nano_usd() + 2


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_bytes_are_counted_through_either_compression(tmp_path: Path, compression: str) -> None:
    with running_desk(tmp_path) as desk:
        form = {**NQ_RANGE, "encoding": "dbn", "compression": compression}
        status, body = post(desk, form)
        assert status == 200
        plain = (
            zstandard.ZstdDecompressor().decompressobj().decompress(body) if compression == "zstd" else body
        )
        assert desk.entries()[0].size_bytes == desk.sandbox.bill()["bytes"] == data_size(plain)


def test_a_limit_on_the_records_is_what_is_held_and_settled(tmp_path: Path) -> None:
    rules = policy(
        budgets=[budget(limit("0.00001"))]
    )  # 100 records of 56 bytes at $1.80 a GiB are $0.0000094
    with running_desk(tmp_path, rules) as desk:
        get_nq(desk, limit=100)
        assert desk.entries()[0].size_bytes == 100 * RECORD


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of aiohttp, by the vendor's client
def test_the_python_mount_goes_through_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_desk(tmp_path) as desk:
        host = desk.gateway.host
        beside = SimpleNamespace(
            policy=desk.gateway.opened.guard.policy, http_url=host.http_url, token=host.token
        )
        monkeypatch.setattr(mounts, "gateway_for", lambda _: beside)
        client = budget_guard.Historical(policy="any")
        whole = client.timeseries.get_range(**NQ_RANGE)
        again = asyncio.run(client.timeseries.get_range_async(**NQ_RANGE))
        assert whole.to_ndarray().tobytes() == again.to_ndarray().tobytes()
        assert [entry.ending for entry in desk.entries()] == ["exact", "exact"]


def test_free_calls_pass_with_the_real_key(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        url = desk.gateway.host.http_url
        assert GLBX in MetadataHttpAPI(key=desk.token, gateway=url).list_datasets()
        resolved = SymbologyHttpAPI(key=desk.token, gateway=url).resolve(
            GLBX, ["NQ.v.0"], "continuous", "instrument_id", "2026-11-20"
        )
        assert "NQ.v.0" in resolved["result"]


# --- what is refused ----------------------------------------------------------------------------------------


def refused(desk: Desk, **changes: Any) -> str:
    """The refusal of a data request that must not have reached the vendor."""
    with pytest.raises(BentoClientError) as refusal:
        get_nq(desk, **changes)
    assert refusal.value.http_status == 403
    assert desk.sandbox.bill()["connections"] == []
    assert desk.spent_nano_usd() == 0
    return str(refusal.value)


def test_a_request_above_its_own_limit_is_refused(tmp_path: Path) -> None:
    rules = policy(historical=HistoricalRules(max_request_usd=Decimal("0.001")))
    with running_desk(tmp_path, rules) as desk:
        assert "would_exceed" in refused(desk)
        assert [refusal.code for refusal in desk.refusals()] == ["would_exceed"]


def test_a_request_that_does_not_fit_a_budget_is_refused(tmp_path: Path) -> None:
    with running_desk(tmp_path, policy(budgets=[budget(limit("0.001"))])) as desk:
        assert "budget account has $0.001" in refused(desk)


def test_a_request_without_symbols_is_refused(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        assert "all_symbols" in refused(desk, symbols=None, stype_in="raw_symbol")


def test_a_request_that_no_stream_covers_is_refused(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        assert "it is for schema mbo" in refused(desk, schema="trades")


def test_a_dear_request_is_refused_where_nobody_can_be_asked(tmp_path: Path) -> None:
    rules = policy(historical=HistoricalRules(approve_above_usd=Decimal("0.001")))
    with running_desk(tmp_path, rules) as desk:
        assert "approval_needed" in refused(desk)


def test_a_dear_request_passes_once_somebody_says_yes(tmp_path: Path) -> None:
    rules = policy(historical=HistoricalRules(approve_above_usd=Decimal("0.001")))
    with running_desk(tmp_path, rules, approve=lambda quote: True) as desk:
        get_nq(desk)
        assert len(desk.entries()) == 1


def test_a_person_who_thinks_does_not_keep_live_data_waiting(tmp_path: Path) -> None:
    """More questions than there are workers must not stop the leases of running connections."""
    answer = threading.Event()
    rules = policy(
        historical=HistoricalRules(approve_above_usd=Decimal("0.001")), budgets=[budget(limit("0.1"))]
    )

    def think(_: object) -> bool:
        return answer.wait(20)

    with running_desk(tmp_path, rules, approve=think, rate=0) as desk, ThreadPoolExecutor(10) as pool:
        size, _ = quoted(desk)
        asked = [pool.submit(get_nq, desk, limit=size // RECORD - number) for number in range(10)]
        try:
            client, _ = desk.streaming()
            with pytest.raises(Exception, match="limit_reached"):
                client.block_for_close(15)
        finally:
            answer.set()
        assert all(one.exception() is not None for one in asked)


@pytest.mark.parametrize(
    "path",
    ["/v0/timeseries.stream", "/v0/batch.cancel_job", "/v0/usage/report", "/v1/timeseries.get_range", "/"],
)
def test_a_path_that_is_not_known_is_refused_and_never_reaches_the_vendor(tmp_path: Path, path: str) -> None:
    with running_desk(tmp_path) as desk:
        status, _ = request_to(desk.gateway.host.http_url, desk.token, "GET", path)
        assert status in (403, 404)


def test_a_key_that_is_no_token_is_refused(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        api = MetadataHttpAPI(key=desk.sandbox.key, gateway=desk.gateway.host.http_url)
        with pytest.raises(BentoClientError, match="not this guard's token"):
            api.list_datasets()


def test_of_two_requests_for_the_last_dollar_one_is_made(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        _, cost = quoted(desk)
    once = policy(budgets=[budget(limit(str(round(cost * Decimal("1.5"), 9))))])
    folder = tmp_path / "race"
    folder.mkdir()
    with running_desk(folder, once) as desk, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(get_nq, desk) for _ in range(4)]
        failures = [one.exception() for one in asked]
        assert sum(failure is None for failure in failures) == 1
        assert len(desk.sandbox.bill()["connections"]) == len(desk.entries()) == 1
        assert desk.billed_nano_usd() <= desk.spent_nano_usd() <= int(cost * 10**9 * 3 // 2)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({"start": ""}, "the request has no start"),
        ({"start": "yesterday"}, "start is 'yesterday'"),
        ({"start": "2026-11-20T15:10", "end": "2026-11-20T15:00"}, "not after its start"),
        ({"limit": "0"}, "limit is '0'"),
        ({"limit": "²"}, "it should be a whole number"),
        ({"start": "9999-12-31", "end": ""}, "9999-12-31"),
    ],
)
def test_a_form_that_cannot_be_priced_is_told_what_is_wrong(
    tmp_path: Path, form: dict[str, str], reason: str
) -> None:
    with running_desk(tmp_path) as desk:
        status, body = post(desk, {**NQ_RANGE, **form})
        assert status == 422
        assert reason in body.decode("unicode_escape")


# --- what breaks --------------------------------------------------------------------------------------------


def test_an_answer_that_breaks_off_is_settled_with_what_may_have_been_billed(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        size, _ = quoted(desk)
        desk.sandbox.break_history(size // 2)
        with pytest.raises(Exception, match=r"."):
            get_nq(desk)
        desk.settled.wait_for_length(1)
        (entry,) = desk.entries()
        assert entry.ending == "residual"
        assert (
            desk.billed_nano_usd()
            <= desk.spent_nano_usd()
            <= entry.unit_price_usd * (size + size // 100) * 10**9 / 2**30 + 1
        )


def test_a_client_that_leaves_half_way_is_settled_and_the_vendor_stopped(tmp_path: Path) -> None:
    long = {**NQ_RANGE, "end": "2026-11-20T20:00", "encoding": "dbn", "compression": "none"}
    with running_desk(tmp_path) as desk:
        connection, response = begin_post(desk, long)
        response.read(100_000)
        connection.close()
        response.close()
        desk.settled.wait_for_length(1)
        (entry,) = desk.entries()
        bill = desk.sandbox.wait_for(lambda bill: bill["connections"][0]["closed_utc"])
        assert bill["connections"][0]["ended"] == "lost"
        assert entry.ending == "residual"
        assert desk.billed_nano_usd() <= desk.spent_nano_usd()


def test_a_vendor_that_cannot_quote_is_not_asked_for_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budget_guard.vendor.client._FIRST_WAIT_S", 0.01)
    with running_desk(tmp_path) as desk:
        desk.sandbox.metadata_503(100)
        with pytest.raises((BentoServerError, BentoClientError)):
            get_nq(desk)
        assert desk.sandbox.bill()["connections"] == []
        assert desk.spent_nano_usd() == 0


@pytest.mark.parametrize(
    ("sandbox", "status", "case"),
    [
        ({"unpaid": True}, 402, "account_insufficient_funds"),
        ({"historical_entitlements": frozenset[str]()}, 403, "license_not_found_unauthorized"),
    ],
)
def test_the_vendors_refusal_is_passed_on_and_costs_nothing(
    tmp_path: Path, sandbox: dict[str, Any], status: int, case: str
) -> None:
    with running_desk(tmp_path, **sandbox) as desk:
        with pytest.raises(BentoClientError) as refusal:
            get_nq(desk)
        assert refusal.value.http_status == status
        assert case in str(refusal.value)
        assert desk.spent_nano_usd() == 0
        assert len(desk.gateway.host.outcome.vendor) == 1


# --- what the sandbox never says ----------------------------------------------------------------------------


def dbn_body(records: int) -> bytes:
    """A DBN stream of that many orders."""
    header = dbn.Metadata(
        dataset=GLBX, start=1, stype_in=None, stype_out=dbn.SType.from_str("instrument_id"), schema=None
    )
    rows = np.zeros(records, dtype=np.dtype(dbn.MBOMsg._dtypes))
    rows["length"], rows["rtype"] = RECORD // 4, 0xA0
    return header.encode() + rows.tobytes()


def data_size(body: bytes) -> int:
    return len(body) - 8 - int.from_bytes(body[4:8], "little")


def answering(body: bytes, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers=headers)

    return answer


def with_vendor(
    folder: Path, vendor: FakeVendor, use: Callable[[Any], tuple[int, bytes]], *, usd: str = "1"
) -> tuple[int, bytes, list[Any]]:
    """What a request at a door before a fake vendor comes to: status, body, entries."""
    clock = RehearsalClock(NOW)
    with running_vendor(vendor):
        settings = Settings(
            key="db-" + "k" * 29,
            ledger_url=f"sqlite:///{folder / 'ledger.sqlite'}",
            live_gateway=("127.0.0.1", 9),
            historical_gateway=vendor.url,
            now=NOW,
            data_dir=folder,
            cache_dir=folder / "cache",
        )
        gateway = open_gateway(policy(stream(), budgets=[budget(limit(usd))]), settings, clock)
        try:
            status, body = use(gateway)
        finally:
            gateway.host.stop()
        entries = gateway.opened.ledger.entries(ACCOUNT, MONTH)
        gateway.close()
    return status, body, entries


def ask(**changes: str) -> Callable[[Any], tuple[int, bytes]]:
    form = {**NQ_RANGE, "encoding": "dbn", "compression": "none", **changes}
    return lambda gateway: post_to(gateway.host.http_url, gateway.host.token(), form)


@pytest.mark.parametrize("body", [b"ts,price\n1,2\n3,4\n", b"1,2\n3,4\n"])
def test_text_is_settled_at_a_record_for_each_of_its_lines(tmp_path: Path, body: bytes) -> None:
    """A line with the names of the columns is none."""
    vendor = FakeVendor(answering(body), size_bytes=2**30, cost_usd=0.25)
    status, got, (entry,) = with_vendor(tmp_path, vendor, ask(encoding="csv"), usd="2")
    assert (status, got) == (200, body)
    assert (entry.ending, entry.size_bytes) == ("exact", 2 * RECORD)


def test_text_that_ends_within_a_line_is_not_taken_for_whole(tmp_path: Path) -> None:
    vendor = FakeVendor(answering(b"ts,price\n1,2\n3"), size_bytes=1000 * RECORD)
    status, _, (entry,) = with_vendor(tmp_path, vendor, ask(encoding="csv"))
    assert (status, entry.ending, entry.size_bytes) == (0, "residual", RECORD)


def test_what_is_asked_for_is_the_range_that_was_priced(tmp_path: Path) -> None:
    vendor = FakeVendor(answering(dbn_body(10)))
    with_vendor(tmp_path, vendor, ask(start="2026-11-20T15:00:00.000000001", end="", limit="7"))
    (form,) = vendor.forms
    assert form["start"] == "2026-11-20T15:00:00+00:00"
    assert form["end"] == "2026-11-20T15:00:00.000001+00:00"
    assert (form["symbols"], form["limit"]) == ("NQ.v.0", "7")


def test_a_request_that_the_vendor_would_reject_is_rejected_in_its_own_words(tmp_path: Path) -> None:
    """It is the request that is wrong: nothing was refused by the guard, and the review counts nothing."""
    with running_desk(tmp_path) as desk:
        with pytest.raises(BentoError, match="422 data_end_after_available_end"):
            get_nq(desk, end="2027-01-04T15:00")
        assert (desk.refusals(), desk.entries()) == ([], [])
        assert desk.gateway.host.outcome.refused == []


@pytest.mark.parametrize("status", [422, 429, 500, 503])
def test_any_other_refusal_is_passed_on_with_its_headers(tmp_path: Path, status: int) -> None:
    vendor = FakeVendor(answering(b'{"detail": "no"}', status, **{"Retry-After": "7"}))
    got, body, (entry,) = with_vendor(tmp_path, vendor, ask())
    assert (got, body) == (status, b'{"detail": "no"}')
    assert (entry.size_bytes, entry.residual_bytes, entry.ending) == (0, 0, "exact")


def test_an_answer_cut_within_a_record_is_not_taken_for_whole(tmp_path: Path) -> None:
    vendor = FakeVendor(answering(dbn_body(100)[:-1]))
    _, _, (entry,) = with_vendor(tmp_path, vendor, ask())
    assert entry.ending == "residual"
    assert entry.size_bytes + entry.residual_bytes == vendor.size_bytes + vendor.size_bytes // 100


def test_a_compressed_answer_cut_within_a_frame_is_not_taken_for_whole(tmp_path: Path) -> None:
    whole = zstandard.ZstdCompressor().compress(dbn_body(1000))
    vendor = FakeVendor(answering(whole[:-4]))
    _, _, (entry,) = with_vendor(tmp_path, vendor, ask(compression="zstd"))
    assert entry.ending == "residual"


def test_an_answer_that_is_no_dbn_is_settled_and_not_passed_as_whole(tmp_path: Path) -> None:
    vendor = FakeVendor(answering(b"<html>" * 100))
    _, body, (entry,) = with_vendor(tmp_path, vendor, ask())
    assert entry.ending == "residual"
    assert b"DBN" not in body


@pytest.mark.parametrize("more", [9, 1000])
def test_more_than_was_quoted_is_let_through_up_to_one_in_a_hundred(tmp_path: Path, more: int) -> None:
    """The vendor is told where to stop; whoever gets that much, or more, has no whole answer, and is told so."""
    vendor = FakeVendor(answering(dbn_body(1000 + more)), size_bytes=1000 * RECORD)
    status, _, (entry,) = with_vendor(tmp_path, vendor, ask())
    assert vendor.forms[0]["limit"] == "1010"
    if more < 10:
        assert (status, entry.ending, entry.size_bytes) == (200, "exact", (1000 + more) * RECORD)
    else:
        assert status == 0
        assert entry.ending == "residual"
        assert "more came than was quoted" in entry.note


# --- HTTP without a client of the vendor's ------------------------------------------------------------------


def begin_post(
    desk: Desk, form: dict[str, Any]
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    return _begin(desk.gateway.host.http_url, desk.token, form)


def post(desk: Desk, form: dict[str, Any]) -> tuple[int, bytes]:
    return post_to(desk.gateway.host.http_url, desk.token, form)


def post_to(url: str, token: str, form: dict[str, Any]) -> tuple[int, bytes]:
    """Status and body; status 0 and what came for an answer that broke off."""
    connection, response = _begin(url, token, form)
    try:
        return response.status, response.read()
    except http.client.IncompleteRead as error:
        return 0, error.partial
    except ConnectionError:
        return 0, b""
    finally:
        connection.close()


def request_to(
    url: str, token: str, method: str, path: str, form: dict[str, Any] | None = None, **headers: str
) -> tuple[int, bytes]:
    """Status and body of any request."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    headers["Authorization"] = "Basic " + base64.b64encode(f"{token}:".encode()).decode()
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.request(method, path, None if form is None else urlencode(form), headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _begin(
    url: str, token: str, form: dict[str, Any]
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    host = url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=20)
    headers = {
        "Authorization": "Basic " + base64.b64encode(f"{token}:".encode()).decode(),
        "Content-Type": "application/x-www-form-urlencoded",
    }
    connection.request("POST", "/v0/timeseries.get_range", urlencode(form), headers)
    return connection, connection.getresponse()

"""Batch jobs behind the guard: priced, held, submitted once, found again, and settled at what the vendor billed."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from databento import DBNStore
from databento.common.error import BentoClientError, BentoServerError
from databento.historical.api.batch import BatchHttpAPI

from budget_guard.clock import RehearsalClock
from budget_guard.gateway.historical import batch as batches
from budget_guard.gateway.historical import following
from budget_guard.ledger.model import Purchase
from budget_guard.money import cost_nano_usd
from budget_guard.policy.model import HistoricalRules, Policy
from budget_guard.streaming.assembly import open_gateway
from tests.gateway import desk as desks
from tests.gateway.desk import ACCOUNT, GLBX, NOW, NQ, Desk, budget, eventually, limit, policy
from tests.gateway.fake_vendor import FakeVendor, running_vendor
from tests.gateway.http_client import BrokeOff, ask_door
from tests.postgres import fresh_database

RANGE = {"start": "2026-11-20T15:00", "end": "2026-11-20T15:01"}
NQ_JOB: dict[str, Any] = {**NQ, **RANGE}
RECORD = 56


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at a sandbox's list harms nobody."""
    monkeypatch.setattr(following, "FIRST_LOOK_S", 0.05)
    monkeypatch.setattr(following, "SLOWEST_LOOK_S", 0.2)
    monkeypatch.setattr(batches, "LOOK_AT_OTHERS_S", 0.05)


def running_desk(folder: Path, rules: Policy | None = None, **options: Any) -> AbstractContextManager[Desk]:
    return desks.running_desk(folder, rules, clock=RehearsalClock(NOW), **options)


def client(desk: Desk) -> BatchHttpAPI:
    return BatchHttpAPI(key=desk.token, gateway=desk.gateway.host.http_url)


def sold(desk: Desk) -> list[dict[str, Any]]:
    """The jobs on the vendor's bill."""
    return [line for line in desk.sandbox.bill()["connections"] if str(line["ended"]).startswith("batch ")]


def purchases(desk: Desk) -> list[Purchase]:
    return desk.books.purchases(ACCOUNT)


def open_holds(desk: Desk) -> int:
    return len(desk.books.open_holds(ACCOUNT))


def test_a_job_is_settled_at_what_the_vendor_billed(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        job = client(desk).submit_job(**NQ_JOB)
        desk.settled.wait_for_length(1)
        (entry,) = desk.entries()
        details = client(desk).get_job_details(job["id"])
        assert entry.size_bytes == details["billed_size"] == desk.sandbox.bill()["bytes"]
        assert entry.cost_nano_usd == cost_nano_usd(entry.size_bytes, Decimal("1.8"))
        assert (entry.ending, entry.note) == ("exact", f"batch job {job['id']}")
        assert desk.billed_nano_usd() <= desk.spent_nano_usd() <= desk.billed_nano_usd() + 1
        eventually(lambda: purchases(desk)[0].cost_nano_usd == entry.cost_nano_usd)
        (row,) = purchases(desk)
        assert (row.state, row.kind, row.job_id) == ("bought", "batch", job["id"])


def test_its_price_is_held_until_the_bill_is_known(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        desk.sandbox.arm("batch_queued")
        client(desk).submit_job(**NQ_JOB)
        assert desk.billed_nano_usd() <= desk.spent_nano_usd()
        assert (desk.entries(), open_holds(desk)) == ([], 1)


def test_the_same_job_is_given_again_and_not_bought_again(tmp_path: Path) -> None:
    """However it is written: the end left out, the symbols twice, the schema's other name."""
    with running_desk(tmp_path) as desk:
        first = client(desk).submit_job(**NQ_JOB)
        form = {
            "dataset": GLBX,
            "schema_": "mbo",
            "symbols": "NQ.v.0,NQ.v.0",
            "stype_in": "continuous",
            "start": "2026-11-20T15:00",
            "encoding": "dbn",
            "compression": "zstd",
        }
        again = ask_door(desk, "POST", "/v0/batch.submit_job", form)
        assert (again.status, again.json["id"]) == (200, first["id"])
        assert first["id"] in again.headers["X-Budget-Guard"]
        assert client(desk).submit_job(**NQ_JOB)["id"] == first["id"]
        assert len(sold(desk)) == 1
        assert len(desk.gateway.host.outcome.notes) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"encoding": "csv"},
        {"split_duration": "none"},
        {"end": "2026-11-20T15:02"},
        {"limit": 5},
        {"stype_out": "instrument_id", "pretty_px": True, "encoding": "json"},
    ],
)
def test_any_other_job_is_bought(tmp_path: Path, change: dict[str, Any]) -> None:
    with running_desk(tmp_path) as desk:
        first = client(desk).submit_job(**NQ_JOB)
        assert client(desk).submit_job(**{**NQ_JOB, **change})["id"] != first["id"]
        assert len(sold(desk)) == 2


def test_a_policy_may_let_a_job_be_bought_again(tmp_path: Path) -> None:
    with running_desk(tmp_path, policy(historical=HistoricalRules(buy_again=True))) as desk:
        assert len({client(desk).submit_job(**NQ_JOB)["id"] for _ in range(2)}) == 2


def test_a_job_whose_files_are_gone_is_bought_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "SHOWN_AFTER", 0 * batches.SHOWN_AFTER)
    with running_desk(tmp_path) as desk:
        first = client(desk).submit_job(**NQ_JOB)
        desk.settled.wait_for_length(1)
        (row,) = purchases(desk)
        desk.books.record_purchase(replace(row, job_id="GLBX-20260101-GONE"))
        assert client(desk).submit_job(**NQ_JOB)["id"] != first["id"]


def test_a_job_that_the_vendor_does_not_show_yet_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "FOUND_WITHIN_S", 0.1)
    with running_desk(tmp_path) as desk:
        desk.sandbox.arm("http_error", on="batch.get_job_details", status=404, times="all")
        first = client(desk).submit_job(**NQ_JOB)["id"]
        with pytest.raises(BentoServerError, match="outcome_unknown"):
            client(desk).submit_job(**NQ_JOB)
        assert (len(sold(desk)), open_holds(desk)) == (1, 1)
        desk.sandbox.drop("http_error")
        assert client(desk).submit_job(**NQ_JOB)["id"] == first


def test_many_at_once_buy_one_job(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk, ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(client(desk).submit_job, **NQ_JOB) for _ in range(6)]
        assert len({one.result()["id"] for one in asked}) == 1
        assert len(sold(desk)) == 1


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_two_guards_with_one_ledger_buy_one_job(tmp_path: Path, store: str) -> None:
    """Of two that ask at the same moment one steps back, and then finds what the other has bought."""
    ledger_url = fresh_database() if store == "postgresql" else None
    with running_desk(tmp_path, ledger_url=ledger_url) as desk:
        rules = desk.gateway.opened.guard.policy
        other = Desk(desk.sandbox, open_gateway(rules, desk.settings, desk.clock), desk.settings, desk.clock)
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(client(one).submit_job, **NQ_JOB) for one in (desk, other) * 2]
            try:
                assert len({one.result()["id"] for one in asked}) == 1
            finally:
                other.close()
        assert len(sold(desk)) == 1
        assert sorted(row.state for row in purchases(desk))[0] == "bought"


def test_a_guard_that_ends_before_the_bill_is_known_leaves_it_to_the_next(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        desk.sandbox.arm("batch_queued")
        job_id = client(desk).submit_job(**NQ_JOB)["id"]
        desk.close()
        assert (open_holds(desk), len(purchases(desk))) == (1, 1)
        rules = desk.gateway.opened.guard.policy
        other = Desk(desk.sandbox, open_gateway(rules, desk.settings, desk.clock), desk.settings, desk.clock)
        try:
            assert client(other).submit_job(**NQ_JOB)["id"] == job_id
        finally:
            other.close()
        assert (open_holds(desk), len(sold(desk))) == (1, 1)


# --- refusals -----------------------------------------------------------------------------------------------


def refused(desk: Desk, **changes: Any) -> str:
    with pytest.raises(BentoClientError) as refusal:
        client(desk).submit_job(**{**NQ_JOB, **changes})
    assert sold(desk) == []
    assert (desk.spent_nano_usd(), open_holds(desk)) == (0, 0)
    return str(refusal.value)


def test_a_job_that_does_not_fit_a_budget_is_refused(tmp_path: Path) -> None:
    with running_desk(tmp_path, policy(budgets=[budget(limit("0.001"))])) as desk:
        assert "budget account has $0.001" in refused(desk)


def test_a_dear_job_needs_a_yes(tmp_path: Path) -> None:
    rules = policy(historical=HistoricalRules(approve_above_usd=Decimal("0.0001")))
    with running_desk(tmp_path, rules) as desk:
        assert "approval_needed" in refused(desk)
    folder = tmp_path / "yes"
    folder.mkdir()
    with running_desk(folder, rules, approve=lambda quote: True) as desk:
        assert client(desk).submit_job(**NQ_JOB)["state"] == "received"


def test_a_job_that_no_stream_covers_is_refused(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        assert "it is for schema mbo" in refused(desk, schema="trades")
        assert "all_symbols" in refused(desk, symbols="ALL_SYMBOLS", stype_in="raw_symbol")


def test_the_vendors_refusal_of_a_job_is_passed_on_and_costs_nothing(tmp_path: Path) -> None:
    with running_desk(tmp_path, unpaid=True) as desk:
        assert "account_insufficient_funds" in refused(desk)
        assert [row.state for row in purchases(desk)] == ["refused"]


def test_a_field_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        form = {**NQ_JOB, "encoding": "dbn", "priority": "high"}
        answer = ask_door(desk, "POST", "/v0/batch.submit_job", form)
        assert answer.status == 422
        assert "'priority' is not known here" in answer.json["detail"]["message"]


# --- answers that are lost ----------------------------------------------------------------------------------


def test_a_job_whose_answer_was_lost_is_found_and_given(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        desk.sandbox.arm("batch_lost")
        job = client(desk).submit_job(**NQ_JOB)
        assert [f"batch {job['id']}"] == [line["ended"] for line in sold(desk)]
        desk.settled.wait_for_length(1)
        assert desk.entries()[0].size_bytes == desk.sandbox.bill()["bytes"]


def test_a_job_that_is_not_found_yet_is_never_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "FOUND_WITHIN_S", 0.1)
    with running_desk(tmp_path) as desk:
        desk.sandbox.arm("batch_lost")
        desk.sandbox.arm("http_error", on="batch.list_jobs", status=503, times="all")
        for _ in range(2):
            with pytest.raises(BentoServerError) as unknown:
                client(desk).submit_job(**NQ_JOB)
            assert unknown.value.http_status == 503
        assert (len(sold(desk)), open_holds(desk)) == (1, 1)
        assert desk.billed_nano_usd() <= desk.spent_nano_usd()
        desk.sandbox.drop("http_error")
        desk.settled.wait_for_length(1)
        assert client(desk).submit_job(**NQ_JOB)["id"] in sold(desk)[0]["ended"]
        assert len(sold(desk)) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_error_of_the_vendors_side_is_no_proof_that_nothing_was_sold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(batches, "FOUND_WITHIN_S", 0.1)
    with running_desk(tmp_path) as desk:
        desk.sandbox.arm("http_error", on="batch.submit_job", status=status)
        with pytest.raises(BentoServerError):
            client(desk).submit_job(**NQ_JOB)
        assert (len(sold(desk)), open_holds(desk)) == (0, 1)


def test_what_the_vendors_list_does_not_have_long_afterwards_was_never_sold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "NOT_SOLD_AFTER", 0 * following.NOT_SOLD_AFTER)
    with running_desk(tmp_path) as desk:
        desk.sandbox.arm("http_error", on="batch.submit_job", status=502)
        with pytest.raises(BentoServerError):
            client(desk).submit_job(**NQ_JOB)
        desk.settled.wait_for_length(1)
        (entry,) = desk.entries()
        assert (entry.size_bytes, entry.cost_nano_usd) == (0, 0)
        assert "never sold: the vendor's list of" in entry.note
        assert (open_holds(desk), desk.spent_nano_usd()) == (0, 0)
        client(desk).submit_job(**NQ_JOB)
        assert len(sold(desk)) == 1


def test_a_job_that_never_gets_done_counts_as_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "QUOTED_AFTER", 0 * following.QUOTED_AFTER)
    with running_desk(tmp_path) as desk:
        desk.sandbox.arm("batch_failed")
        client(desk).submit_job(**NQ_JOB)
        desk.settled.wait_for_length(1)
        assert desk.entries()[0].ending == "quoted"
        assert desk.billed_nano_usd() <= desk.spent_nano_usd()


# --- files --------------------------------------------------------------------------------------------------


def bought(desk: Desk) -> str:
    """A job that is done."""
    job_id: str = client(desk).submit_job(**NQ_JOB)["id"]
    desk.settled.wait_for_length(1)
    return job_id


def test_files_are_fetched_through_the_door_and_cost_nothing(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        job_id = bought(desk)
        before = desk.sandbox.bill()["bytes"]
        files = client(desk).list_files(job_id)
        assert all(row["urls"]["https"].startswith(desk.gateway.host.http_url) for row in files)
        (data,) = [row["filename"] for row in files if row["filename"].endswith(".dbn.zst")]
        (one,) = client(desk).download(job_id, tmp_path / "one", filename_to_download=data)
        assert len(DBNStore.from_bytes(one.read_bytes()).to_ndarray()) * RECORD == before
        everything = client(desk).download(job_id, tmp_path / "all")
        assert len(everything) == len(files)
        asyncio.run(client(desk).download_async(tmp_path / "async", job_id))
        assert desk.sandbox.bill()["bytes"] == before


def test_a_part_of_a_file_can_be_fetched(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        job_id = bought(desk)
        file = client(desk).list_files(job_id)[0]
        path = file["urls"]["https"].removeprefix(desk.gateway.host.http_url)
        whole = ask_door(desk, "GET", path).body
        part = ask_door(desk, "GET", path, Range="bytes=5-9")
        assert (part.status, part.body) == (206, whole[5:10])
        assert part.headers["Content-Range"] == f"bytes 5-9/{file['size']}"


@pytest.mark.parametrize(
    "path",
    [
        "/v0/batch/download/U/J/..%2F..%2Ftimeseries.get_range",
        "/v0/batch/download/U/../timeseries.get_range",
        "/v0/batch/download/U/J/F/more",
    ],
)
def test_a_path_in_disguise_is_none_of_a_file(tmp_path: Path, path: str) -> None:
    with running_desk(tmp_path) as desk:
        assert ask_door(desk, "GET", path).status in (403, 404)


def test_a_job_that_is_not_there_is_told_in_the_vendors_words(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk, pytest.raises(BentoClientError, match="batch_job_not_found"):
        client(desk).list_files("GLBX-20260101-GONE")


def test_a_file_that_the_vendor_cuts_is_cut_for_its_client_too(tmp_path: Path) -> None:
    """The list says where the vendor has it; a host that is not the vendor's is never shown the key."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        if request.path.endswith("list_files"):
            urls = {"https": "http://203.0.113.9/v0/batch/download/U/J/F"}
            return web.json_response([{"filename": "F", "size": 1000, "hash": "sha256:0", "urls": urls}])
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b"x" * 10)
        assert request.transport is not None
        request.transport.close()
        return response

    with running_vendor(FakeVendor(answer)) as vendor, running_desk(tmp_path) as desk:
        settings = replace(desk.settings, historical_gateway=vendor.url, ledger_url=f"sqlite:///{tmp_path}/b")
        gateway = open_gateway(policy(), settings, desk.clock)
        other = Desk(desk.sandbox, gateway, settings, desk.clock)
        try:
            (row,) = ask_door(other, "GET", "/v0/batch.list_files?job_id=J").json
            assert row["urls"]["https"].startswith("http://203.0.113.9/")
            with pytest.raises(BrokeOff):
                ask_door(other, "GET", "/v0/batch/download/U/J/F")
        finally:
            other.close()
    assert asked[-1] == "/v0/batch/download/U/J/F"

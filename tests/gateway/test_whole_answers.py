"""A part of an answer is never taken for the whole, and every form of a whole one is booked as it was billed."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from databento import DBNStore
from databento.common.error import BentoError, BentoWarning
from databento.historical.api.metadata import MetadataHttpAPI
from databento.historical.api.timeseries import TimeseriesHttpAPI

from budget_guard.clock import RehearsalClock
from budget_guard.gateway.historical.entrance import _Visitor
from budget_guard.gateway.historical.transfer import Transfer
from budget_guard.guard.download import RequestHold
from budget_guard.ledger.model import Entry, Purchase
from budget_guard.policy.model import Policy
from budget_guard.sandbox.config import Limits
from tests.gateway import desk as desks
from tests.gateway.desk import ACCOUNT, NOW, NQ, Desk, budget, limit, policy, stream
from tests.gateway.http_client import Answered, BrokeOff, ask_door
from tests.gateway.test_door import begin_post

NQ_RANGE: dict[str, Any] = {**NQ, "start": "2026-11-20T15:00", "end": "2026-11-20T15:05"}
RECORD = 56


def running_desk(folder: Path, rules: Policy | None = None, **options: Any) -> AbstractContextManager[Desk]:
    return desks.running_desk(folder, rules, clock=RehearsalClock(NOW), **options)


def client(desk: Desk) -> TimeseriesHttpAPI:
    return TimeseriesHttpAPI(key=desk.token, gateway=desk.gateway.host.http_url)


def get(desk: Desk, **changes: Any) -> Answered:
    return ask_door(desk, "POST", "/v0/timeseries.get_range", {**NQ_RANGE, **changes})


def purchases(desk: Desk) -> list[Purchase]:
    return desk.books.purchases(ACCOUNT)


# --- what breaks off ----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of aiohttp, by the vendor's client
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the vendor's client leaves the file open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("to_file", [False, True])
def test_the_official_client_raises_when_an_answer_breaks_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, asynchronous: bool, to_file: bool
) -> None:
    """What it has written by then reads as complete; the guard says so wherever it can."""
    path = tmp_path / "part.dbn.zst" if to_file else None
    with running_desk(tmp_path) as desk:
        desk.sandbox.break_history(200_000)
        api = client(desk)
        call = partial(api.get_range, **NQ_RANGE, path=path)
        if asynchronous:
            call = partial(asyncio.run, api.get_range_async(**NQ_RANGE, path=path))
        with caplog.at_level(logging.ERROR), pytest.raises(BentoError, match="Error streaming response"):
            call()
        desk.settled.wait_for_length(1)
        assert desk.billed_nano_usd() <= desk.spent_nano_usd()
        assert [row.state for row in purchases(desk)] == ["lost"]
        (text,) = desk.gateway.host.outcome.incomplete
        assert "an answer is not whole: mbo of GLBX.MDP3" in text
        assert text in caplog.messages
        assert "broke off" in desk.entries()[0].note
    gc.collect()


@pytest.mark.parametrize("encoding", ["dbn", "csv", "json"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_no_form_of_a_broken_answer_looks_whole(tmp_path: Path, encoding: str, compression: str) -> None:
    with running_desk(tmp_path) as desk:
        desk.sandbox.break_history(200_000)
        with pytest.raises(BrokeOff):
            get(desk, encoding=encoding, compression=compression)
        desk.settled.wait_for_length(1)
        (entry,) = desk.entries()
        assert entry.ending == "residual"
        assert entry.size_bytes <= 200_000
        assert desk.billed_nano_usd() <= desk.spent_nano_usd()


def test_a_client_that_leaves_as_its_answer_ends_has_it_booked_once_as_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It has read what it wanted, as `head` does: only the last bytes of the body, which say no data, reach nobody."""
    settling, gone = threading.Event(), threading.Event()
    settle, lost = RequestHold.settle, _Visitor.connection_lost

    def settle_once_it_left(*arguments: Any, **named: Any) -> Entry:
        settling.set()
        assert gone.wait(10)
        return settle(*arguments, **named)

    def note_leaving(visitor: _Visitor, error: BaseException | None) -> None:
        lost(visitor, error)
        gone.set()

    monkeypatch.setattr(RequestHold, "settle", settle_once_it_left)
    monkeypatch.setattr(_Visitor, "connection_lost", note_leaving)
    with running_desk(tmp_path) as desk, caplog.at_level(logging.WARNING):
        connection, response = begin_post(desk, {**NQ_RANGE, "encoding": "csv", "limit": "20"})
        response.readline()
        assert settling.wait(10)
        response.close()
        connection.close()
        desk.settled.wait_for_length(1)
        desk.gateway.host.stop()
        (entry,) = desk.entries()
        assert (entry.ending, entry.size_bytes, entry.residual_nano_usd) == ("exact", 20 * RECORD, 0)
        assert [row.state for row in purchases(desk)] == ["bought"]
        assert desk.gateway.host.outcome.incomplete == []
    assert caplog.messages == []


def test_a_guard_that_is_stopped_while_it_books_a_whole_answer_books_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped = threading.Event()
    settle, settle_whole = RequestHold.settle, Transfer._settle_whole

    def settle_once_stopped(*arguments: Any, **named: Any) -> Entry:
        assert stopped.wait(10)
        return settle(*arguments, **named)

    async def stop_meanwhile(transfer: Transfer) -> None:
        loop, (handling,) = asyncio.get_running_loop(), _handling(transfer)
        loop.call_later(0, handling.cancel)
        loop.call_later(0, loop.call_soon, stopped.set)
        await settle_whole(transfer)

    monkeypatch.setattr(RequestHold, "settle", settle_once_stopped)
    monkeypatch.setattr(Transfer, "_settle_whole", stop_meanwhile)
    with running_desk(tmp_path) as desk, caplog.at_level(logging.WARNING):
        with pytest.raises(BrokeOff):
            get(desk, encoding="csv", limit="20")
        desk.gateway.host.stop()
        (entry,) = desk.entries()
        assert (entry.ending, entry.size_bytes, entry.residual_nano_usd) == ("exact", 20 * RECORD, 0)
        assert [row.state for row in purchases(desk)] == ["bought"]
    assert caplog.messages == []


def _handling(transfer: Transfer) -> list[asyncio.Task[Any]]:
    """The server's task that a request is answered in."""
    protocol = transfer._request.protocol
    return [task for task in asyncio.all_tasks() if task is protocol._task_handler]


# --- what is larger than its quote --------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["dbn", "csv"])
def test_an_answer_larger_than_its_quote_is_cut_within_bill_ledger_and_limit(
    tmp_path: Path, encoding: str
) -> None:
    """The vendor itself is told where to stop, so no byte beyond what is held is ever billed."""
    with running_desk(tmp_path) as desk:
        size = MetadataHttpAPI(key=desk.token, gateway=desk.gateway.host.http_url).get_billable_size(
            **NQ_RANGE
        )
    folder = tmp_path / "wrong"
    folder.mkdir()
    most_usd = f"{1.8 * size / 2 / 2**30 * 1.02:.9f}"
    with running_desk(folder, policy(budgets=[budget(limit(most_usd))])) as desk:
        for name in ("get_billable_size", "get_cost"):
            desk.sandbox.arm("wrong_number", answer=name, factor=0.5)
        with pytest.raises(BrokeOff):
            get(desk, encoding=encoding)
        desk.settled.wait_for_length(1)
        limit_nano = int(float(most_usd) * 10**9)
        assert desk.billed_nano_usd() <= desk.spent_nano_usd() <= limit_nano
        assert desk.sandbox.bill()["bytes"] <= size // 2 * 1.01 + RECORD
        assert desk.books.overruns(ACCOUNT) == []
        assert "more came than was quoted" in desk.entries()[0].note
        assert purchases(desk)[0].state == "lost"


def test_after_that_the_quote_is_asked_for_anew(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        for name in ("get_billable_size", "get_cost"):
            desk.sandbox.arm("wrong_number", answer=name, factor=0.5)
        with pytest.raises(BrokeOff):
            get(desk)
        assert get(desk).status == 200


# --- every form ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        {"encoding": "dbn"},
        {"encoding": "dbn", "compression": "zstd", "limit": "500"},
        {"encoding": "csv"},
        {"encoding": "csv", "compression": "zstd", "pretty_px": "true", "pretty_ts": "true"},
        {"encoding": "csv", "map_symbols": "true", "limit": "1"},
        {"encoding": "json", "compression": "zstd"},
        {"encoding": "json", "pretty_ts": "true", "limit": "77"},
    ],
)
def test_every_form_is_booked_to_the_byte_of_its_records(tmp_path: Path, form: dict[str, str]) -> None:
    with running_desk(tmp_path) as desk:
        assert get(desk, **form).status == 200
        (entry,) = desk.entries()
        assert (entry.ending, entry.size_bytes) == ("exact", desk.sandbox.bill()["bytes"])
        assert desk.billed_nano_usd() <= desk.spent_nano_usd() <= desk.billed_nano_usd() + 1
        assert (purchases(desk)[0].state, purchases(desk)[0].size_bytes) == ("bought", entry.size_bytes)


def test_what_comes_through_the_door_is_what_the_vendor_sends(tmp_path: Path) -> None:
    """But for the header's word on where the vendor would have stopped."""
    with running_desk(tmp_path) as desk:
        direct = TimeseriesHttpAPI(key=desk.sandbox.key, gateway=desk.sandbox.http_url).get_range(**NQ_RANGE)
        guarded = client(desk).get_range(**NQ_RANGE)
        assert guarded.to_ndarray().tobytes() == direct.to_ndarray().tobytes()
        assert (guarded.start, guarded.end, guarded.symbols) == (direct.start, direct.end, direct.symbols)
        assert guarded.limit == len(direct.to_ndarray()) * 101 // 100


def test_symbols_that_resolve_in_part_are_answered_in_part(tmp_path: Path) -> None:
    rules = policy(stream(symbols=("NQ.v.0", "XX.v.0")))
    with running_desk(tmp_path, rules) as desk:
        answer = get(desk, symbols="NQ.v.0,XX.v.0", encoding="dbn")
        assert answer.status == 206
        assert DBNStore.from_bytes(answer.body).metadata.not_found == ["XX.v.0"]


def test_the_vendors_warnings_reach_the_client(tmp_path: Path) -> None:
    conditions = {"GLBX.MDP3": {date(2026, 11, 20): "degraded"}}
    with running_desk(tmp_path, conditions=conditions) as desk, pytest.warns(BentoWarning, match="degraded"):
        client(desk).get_range(**NQ_RANGE)


# --- what was bought before ---------------------------------------------------------------------------------


def test_what_was_bought_before_is_said_with_the_price_of_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_desk(tmp_path) as desk, caplog.at_level(logging.WARNING):
        assert "X-Budget-Guard" not in get(desk, end="2026-11-20T15:02").headers
        longer = get(desk).headers["X-Budget-Guard"]
        assert longer.startswith("a part of it was bought before, last at 2026-11-24T15:30:")
        assert "; the price of the missing part alone: $0." in longer
        again = get(desk).headers["X-Budget-Guard"]
        assert again.startswith("all of it was bought before") and again.endswith("; it is bought again")
        assert "historical.cache keeps answers" in caplog.text
        assert sum("bought before" in message for message in caplog.messages) == 2


def test_a_person_who_is_asked_and_one_who_is_refused_read_it_too(tmp_path: Path) -> None:
    asked: list[str] = []

    def no(quote: Any) -> bool:
        asked.append(quote.text())
        return False

    with running_desk(tmp_path, approve=no) as desk:
        get(desk, end="2026-11-20T15:02")
        guard = desk.gateway.opened.guard
        rules = replace(guard.policy.historical, approve_above_usd=Decimal("0.000001"))
        guard.policy = replace(guard.policy, historical=rules)
        answer = get(desk)
        assert answer.status == 403
        assert "a part of it was bought before" in answer.json["detail"]["message"]
        assert "a part of it was bought before" in asked[0]


def test_two_that_ask_for_the_same_are_each_held_and_booked(tmp_path: Path) -> None:
    """Without a folder to keep answers in, everything that is asked for is bought, knowingly."""
    with running_desk(tmp_path) as desk:
        for _ in range(2):
            get(desk)
        assert len(desk.entries()) == len(desk.sandbox.bill()["connections"]) == 2


# --- what is free -------------------------------------------------------------------------------------------


def test_a_refusal_for_being_too_fast_is_waited_out(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        desk.sandbox.arm("http_error", on="timeseries", status=429, retry_after_s=1)
        assert get(desk).status == 200
        assert len(desk.entries()) == 1


def test_a_longer_wait_is_the_clients_own_to_decide_about(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        desk.sandbox.arm("http_error", on="timeseries", status=429, retry_after_s=60)
        answer = get(desk)
        assert (answer.status, answer.headers["Retry-After"]) == (429, "60")
        assert (desk.entries()[0].cost_nano_usd, purchases(desk)[0].state) == (0, "refused")


def test_what_symbols_stood_for_is_asked_once(tmp_path: Path) -> None:
    form = {
        "dataset": "GLBX.MDP3",
        "symbols": "NQ.v.0",
        "stype_in": "continuous",
        "stype_out": "instrument_id",
        "start_date": "2026-11-19",
        "end_date": "2026-11-20",
    }
    with running_desk(tmp_path) as desk:
        first = ask_door(desk, "POST", "/v0/symbology.resolve", form)
        desk.sandbox.arm("http_error", on="symbology", status=503, times="all")
        again = ask_door(desk, "POST", "/v0/symbology.resolve", form)
        assert (again.status, again.body) == (200, first.body)
        today = ask_door(desk, "POST", "/v0/symbology.resolve", {**form, "end_date": "2026-11-24"})
        assert today.status == 503


def test_questions_that_are_passed_on_keep_to_the_vendors_pace(tmp_path: Path) -> None:
    """However many clients ask at once: the vendor refuses the 21st in a second."""
    with running_desk(tmp_path, limits=Limits()) as desk, ThreadPoolExecutor(30) as pool:
        path = "/v0/metadata.list_datasets"
        asked = [pool.submit(ask_door, desk, "GET", path) for _ in range(30)]
        assert {one.result().status for one in asked} == {200}

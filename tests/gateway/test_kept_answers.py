"""Answers that are kept: the same request is answered from a file, to the byte, and costs nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from databento.common.error import BentoError
from databento.historical.api.timeseries import TimeseriesHttpAPI

from budget_guard.clock import RehearsalClock
from budget_guard.gateway.historical import keeping
from budget_guard.gateway.historical.shelf import Shelf
from budget_guard.policy.model import HistoricalRules, HistoryCache, Policy
from tests.gateway import desk as desks
from tests.gateway.desk import ACCOUNT, NOW, NQ, Desk, eventually, policy, stream
from tests.gateway.http_client import Answered, ask_door

NQ_RANGE: dict[str, Any] = {**NQ, "start": "2026-11-20T15:00", "end": "2026-11-20T15:05"}
FORM = {**NQ_RANGE, "encoding": "dbn", "compression": "zstd"}


def keeping_policy(folder: Path, keep_days: int | None = 30) -> Policy:
    both = stream(symbols=("NQ.v.0", "ES.v.0"))
    return policy(both, historical=HistoricalRules(cache=HistoryCache(str(folder / "kept"), keep_days)))


def running_desk(folder: Path, keep_days: int | None = 30, **options: Any) -> AbstractContextManager[Desk]:
    return desks.running_desk(folder, keeping_policy(folder, keep_days), clock=RehearsalClock(NOW), **options)


def get(desk: Desk, **changes: str) -> Answered:
    return ask_door(desk, "POST", "/v0/timeseries.get_range", {**FORM, **changes})


def bought(desk: Desk) -> int:
    return len(desk.sandbox.bill()["connections"])


@pytest.mark.parametrize(
    "form", [{}, {"encoding": "csv"}, {"encoding": "json", "compression": "none", "pretty_px": "true"}]
)
def test_the_same_request_gets_the_same_bytes_and_costs_nothing(tmp_path: Path, form: dict[str, str]) -> None:
    with running_desk(tmp_path) as desk:
        first, again = get(desk, **form), get(desk, **form)
        assert (again.status, again.body) == (first.status, first.body)
        assert again.headers["Content-Type"] == first.headers["Content-Type"]
        assert "X-Budget-Guard" not in first.headers
        assert "costs nothing" in again.headers["X-Budget-Guard"]
        assert (bought(desk), len(desk.entries())) == (1, 1)
        assert "given again" in desk.gateway.host.outcome.notes[0]


def test_the_official_client_reads_a_kept_answer(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        api = TimeseriesHttpAPI(key=desk.token, gateway=desk.gateway.host.http_url)
        first, again = (api.get_range(**NQ_RANGE) for _ in range(2))
        assert first.to_ndarray().tobytes() == again.to_ndarray().tobytes()
        assert bought(desk) == 1


def test_a_kept_answer_is_given_by_the_next_guard_too(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        first = get(desk).body
        with open_again(desk) as other:
            assert get(other).body == first
            assert bought(desk) == 1


def open_again(desk: Desk) -> AbstractContextManager[Desk]:
    """A second gateway with the same policy and the same vendor."""
    from contextlib import contextmanager

    from budget_guard.streaming.assembly import open_gateway

    @contextmanager
    def opened() -> Any:
        gateway = open_gateway(desk.gateway.opened.guard.policy, desk.settings, desk.clock)
        other = Desk(desk.sandbox, gateway, desk.settings, desk.clock)
        try:
            yield other
        finally:
            other.close()

    return opened()


@pytest.mark.parametrize(
    "change",
    [
        {"symbols": "ES.v.0"},
        {"end": "2026-11-20T15:06"},
        {"limit": "10"},
        {"compression": "none"},
        {"encoding": "csv"},
    ],
)
def test_any_other_request_is_bought(tmp_path: Path, change: dict[str, str]) -> None:
    with running_desk(tmp_path) as desk:
        get(desk)
        assert get(desk, **change).status == 200
        assert bought(desk) == 2


def test_another_order_of_symbols_is_another_answer(tmp_path: Path) -> None:
    """The header of an answer names the symbols in the order in which they were asked for."""
    with running_desk(tmp_path) as desk:
        get(desk, symbols="NQ.v.0,ES.v.0")
        get(desk, symbols="ES.v.0,NQ.v.0")
        assert bought(desk) == 2


def test_many_at_once_buy_it_once(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk, open_again(desk) as other, ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(get, one) for one in (desk, other) * 3]
        assert len({one.result().body for one in asked}) == 1
        assert bought(desk) == 1


def test_an_answer_that_broke_off_is_never_given_again(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        desk.sandbox.break_history(100_000)
        with pytest.raises(BentoError):
            TimeseriesHttpAPI(key=desk.token, gateway=desk.gateway.host.http_url).get_range(**NQ_RANGE)
        eventually(lambda: list((tmp_path / "kept").glob("*.part")) == [])
        assert list((tmp_path / "kept").glob("*.json")) == []
        assert "X-Budget-Guard" not in get(desk).headers
        assert bought(desk) == 2


def test_the_vendors_refusal_is_not_kept(tmp_path: Path) -> None:
    with running_desk(tmp_path, unpaid=True) as desk:
        assert [get(desk).status for _ in range(2)] == [402, 402]
        assert list((tmp_path / "kept").glob("*.json")) == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "note"])
def test_a_damaged_answer_is_removed_and_bought_again(tmp_path: Path, damage: str) -> None:
    with running_desk(tmp_path) as desk:
        first = get(desk).body
        (body,) = (tmp_path / "kept").glob("*.body")
        (note,) = (tmp_path / "kept").glob("*.json")
        if damage == "flipped":
            body.write_bytes(first[:100] + bytes([first[100] ^ 1]) + first[101:])
        elif damage == "cut":
            body.write_bytes(first[:-1])
        elif damage == "gone":
            body.unlink()
        else:
            note.write_text("{")
        assert get(desk).body == first
        assert bought(desk) == 2
        assert get(desk).body == first
        assert bought(desk) == 2


def test_a_note_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    with running_desk(tmp_path) as desk:
        get(desk)
        (note,) = (tmp_path / "kept").glob("*.json")
        note.write_text(json.dumps(json.loads(note.read_text()) | {"body": "../secret"}))
        assert get(desk).body != b"secret"


def test_a_folder_that_cannot_be_written_keeps_nothing_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    with running_desk(tmp_path) as desk:
        assert [get(desk).status for _ in range(2)] == [200, 200]
        assert bought(desk) == 2


def test_answers_are_given_again_for_as_long_as_the_policy_says(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        get(desk)
        (kept,) = Shelf(tmp_path / "kept", None).listed(desk.clock.now())
        later = kept.stored_utc + timedelta(days=30)
        shelf = Shelf(tmp_path / "kept", timedelta(days=30))
        key = kept.path.name.partition("-")[0]
        assert shelf.find(key, later - timedelta(seconds=1)) is not None
        assert shelf.find(key, later) is None
        assert Shelf(tmp_path / "kept", None).find(key, later) is not None
        shelf.sweep(later)
        assert [path.suffix for path in (tmp_path / "kept").iterdir()] == [".lock"]


def test_a_request_that_the_policy_does_not_cover_any_more_gets_no_kept_answer(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        get(desk)
        guard = desk.gateway.opened.guard
        guard.policy = replace(guard.policy, streams={"es": stream("es", symbols=("ES.v.0",))})
        assert get(desk).status == 403


def test_a_turn_that_takes_too_long_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "TURN_WITHIN_S", 0.1)
    with running_desk(tmp_path) as desk:
        first = get(desk)
        (lock,) = (tmp_path / "kept").glob("*.lock")
        for path in (tmp_path / "kept").glob("*.json"):
            path.unlink()
        with Shelf(tmp_path / "kept", None).turn(lock.name.removesuffix(".lock")) as mine:
            assert mine
            assert get(desk).body == first.body
        assert bought(desk) == 2


def test_what_is_kept_says_when_and_for_what(tmp_path: Path) -> None:
    with running_desk(tmp_path) as desk:
        get(desk)
        (kept,) = Shelf(tmp_path / "kept", None).listed(desk.clock.now())
        form = json.loads(kept.note.form)
        assert (form["symbols"], form["schema"], form["limit"]) == (["NQ.v.0"], "mbo", None)
        assert kept.note.size_bytes == kept.path.stat().st_size
        assert desk.books.purchases(ACCOUNT)[0].form == kept.note.form

"""A guard that is killed around a submission: whatever was sold is found again, and nothing is bought twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from databento.common.error import BentoServerError
from databento.historical.api.batch import BatchHttpAPI

from budget_guard.clock import RehearsalClock
from budget_guard.gateway.historical import batch as batches
from budget_guard.gateway.historical import following
from budget_guard.gateway.historical.room import Room
from budget_guard.ledger.audit import audit
from budget_guard.ledger.opening import open_for_use
from budget_guard.ledger.store import SqlLedger
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.server import Sandbox, running_sandbox
from budget_guard.settings import Settings
from budget_guard.streaming.assembly import open_gateway
from tests.gateway.desk import ACCOUNT, NOW, Desk, policy
from tests.gateway.submitting import JOB
from tests.postgres import fresh_database


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "FIRST_LOOK_S", 0.05)
    monkeypatch.setattr(following, "SLOWEST_LOOK_S", 0.2)
    monkeypatch.setattr(batches, "LOOK_AT_OTHERS_S", 0.05)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return fresh_database() if request.param == "postgresql" else f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(SandboxConfig(clock=RehearsalClock(NOW), limits=Limits.none())) as vendor:
        yield vendor


def kill_at(step: str, sandbox: Sandbox, folder: Path, ledger_url: str) -> None:
    """Let another process submit the job, and die at a step."""
    given = {
        "folder": str(folder),
        "now": sandbox.config.clock.now().isoformat(),
        "key": sandbox.key,
        "ledger_url": ledger_url,
        "live_port": sandbox.live_port,
        "http_url": sandbox.http_url,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.gateway.submitting", step],
        input=json.dumps(given),
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@contextmanager
def next_start(sandbox: Sandbox, folder: Path, ledger_url: str) -> Iterator[Desk]:
    """The next guard on the same ledger."""
    clock = sandbox.config.clock
    settings = Settings(
        key=sandbox.key,
        ledger_url=ledger_url,
        live_gateway=("127.0.0.1", sandbox.live_port),
        historical_gateway=sandbox.http_url,
        now=clock.now(),
        data_dir=folder,
        cache_dir=folder / "cache",
    )
    desk = Desk(sandbox, open_gateway(policy(), settings, clock), settings, clock)
    try:
        yield desk
    finally:
        desk.close()
        desk.books.close()


def submit(desk: Desk) -> str:
    api = BatchHttpAPI(key=desk.token, gateway=desk.gateway.host.http_url)
    job_id: str = api.submit_job(**JOB)["id"]
    return job_id


def sold(sandbox: Sandbox) -> list[str]:
    return [str(line["ended"]) for line in sandbox.bill()["connections"]]


@pytest.mark.parametrize("step", ["answered", "recorded", "settling"])
def test_what_was_sold_before_the_kill_is_adopted_and_not_bought_again(
    sandbox: Sandbox, tmp_path: Path, ledger_url: str, step: str
) -> None:
    kill_at(step, sandbox, tmp_path, ledger_url)
    assert len(sold(sandbox)) == 1
    with next_start(sandbox, tmp_path, ledger_url) as desk:
        desk.settled.wait_for_length(1)
        (entry,) = desk.entries()
        assert (entry.ending, entry.size_bytes) == ("recovered", sandbox.bill()["bytes"])
        assert desk.billed_nano_usd() <= desk.spent_nano_usd() <= desk.billed_nano_usd() + 1
        assert sold(sandbox) == [f"batch {submit(desk)}"]
        assert desk.books.open_holds(ACCOUNT) == []
        assert isinstance(desk.books, SqlLedger)
        assert audit(desk.books).findings == ()
        assert list((tmp_path / "meters").glob("*.meter")) == []


@pytest.mark.parametrize("step", ["answered", "recorded", "settling"])
def test_a_ledger_that_is_opened_without_the_vendor_keeps_holding_it(
    sandbox: Sandbox, tmp_path: Path, ledger_url: str, step: str
) -> None:
    """Only the vendor's word closes it: no status, review or audit gives anything back or counts the quote."""
    kill_at(step, sandbox, tmp_path, ledger_url)
    opened = open_for_use(ledger_url, tmp_path, clock=sandbox.config.clock, rehearsal=True)
    with closing(opened.ledger):
        (found,) = opened.recovered
        assert found.outcome == "unresolved"
        assert "the vendor's list of jobs" in found.message
        assert len(opened.ledger.open_holds(ACCOUNT)) == 1


def test_a_kill_before_anything_was_committed_leaves_nothing(
    sandbox: Sandbox, tmp_path: Path, ledger_url: str
) -> None:
    kill_at("held", sandbox, tmp_path, ledger_url)
    assert sold(sandbox) == []
    with next_start(sandbox, tmp_path, ledger_url) as desk:
        assert desk.spent_nano_usd() == 0
        submit(desk)
        assert len(sold(sandbox)) == 1


def test_a_guard_that_runs_sees_to_what_another_left(
    sandbox: Sandbox, tmp_path: Path, ledger_url: str
) -> None:
    """Not only a start does: whoever asks for the same job finds out what became of it."""
    with next_start(sandbox, tmp_path, ledger_url) as desk:
        kill_at("answered", sandbox, tmp_path, ledger_url)
        job_id = submit(desk)
        desk.settled.wait_for_length(1)
        assert sold(sandbox) == [f"batch {job_id}"]
        assert desk.billed_nano_usd() <= desk.spent_nano_usd() <= desk.billed_nano_usd() + 1


def test_a_kill_just_before_the_submission_holds_until_the_list_says_that_nothing_was_sold(
    sandbox: Sandbox, tmp_path: Path, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "FOUND_WITHIN_S", 0.1)
    kill_at("asked", sandbox, tmp_path, ledger_url)
    with next_start(sandbox, tmp_path, ledger_url) as desk:
        with pytest.raises(BentoServerError) as unknown:
            submit(desk)
        assert unknown.value.http_status == 503
        assert sold(sandbox) == []
        assert desk.spent_nano_usd() > 0
        monkeypatch.setattr(following, "NOT_SOLD_AFTER", 0 * following.NOT_SOLD_AFTER)
        desk.settled.wait_for_length(1)
        assert desk.spent_nano_usd() == 0
        submit(desk)
        assert len(sold(sandbox)) == 1


def test_keys_are_told_apart_without_being_shown() -> None:
    rooms: list[Any] = [SimpleNamespace(key=key) for key in ("db-one", "db-other", "db-one")]
    one, other, again = (Room(shared, terms=SimpleNamespace()).key_id for shared in rooms)  # type: ignore[arg-type]
    assert one == again != other
    assert "one" not in one


def test_another_key_says_nothing_about_a_job(
    sandbox: Sandbox, tmp_path: Path, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its list of jobs may be another's: what is not in it may have been sold all the same."""
    monkeypatch.setattr(batches, "FOUND_WITHIN_S", 0.1)
    monkeypatch.setattr(following, "NOT_SOLD_AFTER", 0 * following.NOT_SOLD_AFTER)
    kill_at("asked", sandbox, tmp_path, ledger_url)
    monkeypatch.setattr(Room, "key_id", "of another key")
    with next_start(sandbox, tmp_path, ledger_url) as desk:
        with pytest.raises(BentoServerError):
            submit(desk)
        assert desk.spent_nano_usd() > 0

"""Two ledgers for one account by mistake are said when a guard is opened, where real money is spent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from budget_guard.clock import ManualClock
from budget_guard.settings import Settings
from budget_guard.streaming.assembly import open_guard
from tests.guard.samples import NOW, policy


def opened_with(folder: Path, name: str, *, local: bool = False, rehearsal: bool = False) -> None:
    settings = Settings(
        key=None,
        ledger_url=f"sqlite:///{folder / name}",
        live_gateway=("127.0.0.1", 1) if local else None,
        historical_gateway="http://127.0.0.1:1" if local else None,
        now=None,
        data_dir=folder,
        cache_dir=folder / "cache",
    )
    if rehearsal:
        settings = replace(settings, now=NOW)
    open_guard(policy(), settings, ManualClock(NOW)).ledger.close()


def test_another_ledger_than_the_last_time_is_said_once_for_each_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened_with(tmp_path, "one.sqlite")
    assert caplog.records == []
    opened_with(tmp_path, "two.sqlite")
    (said,) = caplog.records
    assert "ACCOUNT desk WAS USED WITH ANOTHER LEDGER" in said.getMessage()
    assert "one.sqlite" in said.getMessage() and "two.sqlite" in said.getMessage()
    opened_with(tmp_path, "two.sqlite")
    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", ["local", "rehearsal"])
def test_what_spends_nothing_may_use_any_ledger(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """And is not remembered: real spending afterwards is not compared with it."""
    opened_with(tmp_path, "real.sqlite")
    opened_with(tmp_path, "other.sqlite", local=kind == "local", rehearsal=kind == "rehearsal")
    opened_with(tmp_path, "real.sqlite")
    assert caplog.records == []

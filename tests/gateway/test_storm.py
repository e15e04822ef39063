"""Random faults in a row: what holds of a fault by itself holds of them together. `tests.gateway.storm` has more."""

from __future__ import annotations

from pathlib import Path

import pytest

from budget_guard.gateway.live import watch
from tests.gateway import storm


@pytest.mark.parametrize("seed", [3, 24, 29])
def test_the_ledger_covers_the_bill_and_every_record_comes_once_or_is_in_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(watch, "STALE_MARGIN_S", storm.STALE_MARGIN_S)
    assert storm.play(seed, tmp_path) == []

"""A guard that is killed in mid-stream leaves a ledger that covers the bill, within the limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kill import play_all


@pytest.mark.parametrize("seed", [20261124])
def test_the_ledger_covers_the_bill_after_a_kill_at_any_moment(tmp_path: Path, seed: int) -> None:
    rounds = play_all(6, seed, tmp_path)
    assert [one for one in rounds if not one.holds] == []
    assert any(one.billed_bytes for one in rounds)

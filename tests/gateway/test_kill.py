"""A guard that is killed in mid-stream leaves a ledger that covers the bill, within the limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kill import SEVERAL, play_all


@pytest.mark.parametrize("seed", [20261124])
def test_the_ledger_covers_the_bill_after_a_kill_at_any_moment(tmp_path: Path, seed: int) -> None:
    rounds = play_all(6, seed, tmp_path)
    assert [one for one in rounds if not one.holds] == []
    assert any(one.billed_bytes for one in rounds)


def test_so_it_is_with_several_schemas_on_one_connection(tmp_path: Path) -> None:
    rounds = play_all(3, 20261122, tmp_path, SEVERAL)
    assert [one for one in rounds if not one.holds] == []
    assert any(one.billed_bytes for one in rounds)

"""Gaps filled before a sandbox: bought once through the door, written whole, checked, marked."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import databento
import pytest

from budget_guard.backfill.files import count_records, file_name, partial, unchecked
from budget_guard.backfill.model import state_of
from budget_guard.policy.model import HistoricalRules
from tests.backfill.samples import Tampered, broken_off, desk_that_missed, filler, missed, real_door
from tests.gateway.desk import Desk, budget, limit, policy


def bought(desk: Desk) -> int:
    """Records that the sandbox has billed as history."""
    return int(desk.sandbox.bill()["bytes"]) // 56


def state(desk: Desk) -> str:
    (gap,) = desk.books.gaps("desk")
    return state_of(gap)


def test_a_gap_is_bought_written_checked_and_marked(tmp_path: Path) -> None:
    gap = missed()
    with desk_that_missed(tmp_path, gap) as desk:
        filled = filler(desk, tmp_path / "gaps").fill(gap)
        assert filled.outcome == "filled"
        path = tmp_path / "gaps" / file_name(gap)
        assert filled.path == path
        store = databento.DBNStore.from_bytes(path.read_bytes())
        assert f"{store.dataset} {store.schema}" == "GLBX.MDP3 mbo"
        times = store.to_ndarray()["ts_event"]
        start_ns, end_ns = (int(at.timestamp() * 10**9) for at in (gap.start_utc, gap.end_utc))
        assert len(times) == filled.records == bought(desk) > 100
        assert start_ns <= times.min() <= times.max() < end_ns
        (row,) = desk.books.gaps("desk")
        assert row.mended == f"filled: {filled.records} records, {path.absolute()}"
        (entry,) = desk.entries()
        assert (entry.mode, entry.stream, entry.ending) == ("historical", "nq", "exact")
        assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_gap_that_is_filled_is_not_bought_again(tmp_path: Path) -> None:
    """Whoever asks, and wherever the file would go."""
    gap = missed()
    with desk_that_missed(tmp_path, gap) as desk:
        assert filler(desk, tmp_path / "gaps").fill(gap).outcome == "filled"
        before = bought(desk)
        again = filler(desk, tmp_path / "elsewhere").fill(gap)
        assert (again.outcome, bought(desk)) == ("already", before)


def test_a_fill_that_died_before_it_checked_goes_on_without_buying_again(tmp_path: Path) -> None:
    gap, folder = missed(), tmp_path / "gaps"
    with desk_that_missed(tmp_path, gap) as desk:
        away = Tampered(desk, count=lambda count: count + 1)
        assert filler(desk, folder, away).fill(gap).outcome == "unchecked"
        path = folder / file_name(gap)
        assert unchecked(path).exists() and not path.exists()
        resumed = Tampered(desk)
        assert filler(desk, folder, resumed).fill(gap).outcome == "filled"
        assert (resumed.bought, path.exists(), unchecked(path).exists()) == (0, True, False)


def test_a_fill_that_died_before_it_marked_goes_on_without_buying_again(tmp_path: Path) -> None:
    gap, folder = missed(), tmp_path / "gaps"
    with desk_that_missed(tmp_path, gap) as desk:
        assert filler(desk, folder).fill(gap).outcome == "filled"
        desk.books.record_gap(gap)  # as it was before
        door = Tampered(desk)
        assert filler(desk, folder, door).fill(gap).outcome == "filled"
        assert (door.bought, state(desk)) == (0, "filled")


def test_what_died_half_way_is_bought_anew(tmp_path: Path) -> None:
    gap, folder = missed(), tmp_path / "gaps"
    folder.mkdir()
    partial(folder / file_name(gap)).write_bytes(b"the beginning of it")
    with desk_that_missed(tmp_path, gap) as desk:
        assert filler(desk, folder).fill(gap).outcome == "filled"
        assert [path.name for path in folder.iterdir()] == [file_name(gap)]


def test_an_answer_that_breaks_off_leaves_no_file_and_the_gap_open(tmp_path: Path) -> None:
    gap, folder = missed(), tmp_path / "gaps"
    with desk_that_missed(tmp_path, gap) as desk:
        filled = filler(desk, folder, Tampered(desk, buy=broken_off)).fill(gap)
        assert (filled.outcome, filled.message) == ("failed", "the answer broke off")
        assert list(folder.iterdir()) == []
        assert state(desk) == "open"


def test_a_transfer_that_the_vendor_breaks_off_is_no_file_either(tmp_path: Path) -> None:
    gap, folder = missed(), tmp_path / "gaps"
    with desk_that_missed(tmp_path, gap) as desk:
        desk.sandbox.arm("break_history", after="2000 bytes")
        assert filler(desk, folder).fill(gap).outcome == "failed"
        assert list(folder.iterdir()) == []
        assert filler(desk, folder).fill(gap).outcome == "filled"


def test_a_file_that_the_vendors_count_does_not_confirm_marks_nothing_and_is_kept(tmp_path: Path) -> None:
    gap, folder = missed(), tmp_path / "gaps"
    with desk_that_missed(tmp_path, gap) as desk:
        door = Tampered(desk, count=lambda count: count + 1)
        first, second = filler(desk, folder, door).fill(gap), filler(desk, folder, door).fill(gap)
        records = count_records(unchecked(folder / file_name(gap)))
        assert first.outcome == second.outcome == "unchecked"
        assert f"it has {records} records where the vendor counts {records + 1}" in first.message
        assert (door.bought, state(desk)) == (1, "open")


def test_the_guard_refuses_what_no_budget_has_room_for(tmp_path: Path) -> None:
    gap = missed()
    rules = policy(budgets=[budget(limit("0.0001"))])
    with desk_that_missed(tmp_path, gap, rules) as desk:
        filled = filler(desk, tmp_path / "gaps").fill(gap)
        assert filled.outcome == "refused"
        assert "account" in filled.message
        assert (bought(desk), state(desk)) == (0, "open")


def test_what_needs_a_persons_yes_is_refused_without_it(tmp_path: Path) -> None:
    from decimal import Decimal

    gap = missed()
    rules = policy(historical=HistoricalRules(approve_above_usd=Decimal(0)))
    with desk_that_missed(tmp_path, gap, rules) as desk:
        filled = filler(desk, tmp_path / "gaps").fill(gap)
        assert (filled.outcome, bought(desk)) == ("refused", 0)
        assert "approve_above" in filled.message


def test_what_the_vendor_refuses_is_told_apart(tmp_path: Path) -> None:
    gap = missed()
    with desk_that_missed(tmp_path, gap) as desk:
        desk.sandbox.arm("http_error", on="timeseries.get_range", status=403, times="all")
        assert filler(desk, tmp_path / "gaps").fill(gap).outcome == "vendor"
        assert state(desk) == "open"


def test_a_gap_in_which_nothing_was_sent_is_filled_with_nothing(tmp_path: Path) -> None:
    """On a Saturday nothing is traded: the vendor counts no records, and refuses to sell none."""
    start = missed().start_utc - timedelta(days=3)
    gap = missed(start_utc=start, end_utc=start + timedelta(seconds=12))
    with desk_that_missed(tmp_path, gap) as desk:
        filled = filler(desk, tmp_path / "gaps").fill(gap)
        assert (filled.outcome, filled.message) == ("filled", "0 records, the vendor has none")
        assert (bought(desk), state(desk)) == (0, "filled")


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    gap = missed()
    (tmp_path / "gaps").write_text("a file where the folder should be")
    with desk_that_missed(tmp_path, gap) as desk:
        filled = filler(desk, tmp_path / "gaps").fill(gap)
        assert filled.outcome == "failed"
        assert str(tmp_path / "gaps") in filled.message
        assert bought(desk) == 0


def test_the_count_of_records_is_free(tmp_path: Path) -> None:
    gap = missed()
    with desk_that_missed(tmp_path, gap) as desk:
        from budget_guard.backfill.quoting import range_of

        wanted = range_of(desk.gateway.opened.guard.policy, gap)
        assert real_door(desk).record_count(wanted) > 100
        assert desk.sandbox.bill()["bytes"] == 0


@pytest.mark.parametrize("end", [0, 10])
def test_a_damaged_file_is_not_taken_for_a_whole_one(tmp_path: Path, end: int) -> None:
    gap, folder = missed(), tmp_path / "gaps"
    folder.mkdir()
    with desk_that_missed(tmp_path, gap) as desk:
        unchecked(folder / file_name(gap)).write_bytes(b"no DBN at all"[:end])
        assert filler(desk, folder).fill(gap).outcome == "failed"
        assert state(desk) == "open"

"""Order books from recorded mbo: what rests at an instant, where that can be known."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from budget_guard.sandbox.market import recorded_book
from budget_guard.sandbox.market.model import NoSnapshot, Selection
from budget_guard.sandbox.market.recorded import Recording
from budget_guard.sandbox.market.records import F_LAST, F_SNAPSHOT, Rows
from tests.sandbox.market.recordings import DATASET, MONDAY_NS, header, rows_of, write

T = MONDAY_NS
Action = tuple[str, int, int, int]
SEVEN = Selection(DATASET, "mbo", ("7",), "instrument_id")


def record(tmp_path: Path, actions: list[Action], stamps: list[int] | None = None) -> Recording:
    rows = rows_of(
        "mbo",
        stamps or [T + at for at in range(len(actions))],
        action=[action.encode() for action, *_ in actions],
        order_id=[order for _, order, _, _ in actions],
        price=[price for _, _, price, _ in actions],
        size=[size for _, _, _, size in actions],
    )
    return Recording([write(tmp_path / "a.dbn", header(), rows)])


def book_at(recording: Recording, at_ns: int) -> Rows:
    (part,) = recording.snapshot(SEVEN, at_ns)
    return part.rows


def shown(rows: Rows) -> list[tuple[int, int, int]]:
    """The orders of a snapshot: (order, price, size)."""
    assert rows["action"].tolist() == [b"R"] + [b"A"] * (len(rows) - 1)
    return list(zip(*(rows[name][1:].tolist() for name in ("order_id", "price", "size")), strict=True))


def played(actions: list[Action]) -> list[tuple[int, int, int]]:
    """The same by hand: a dict whose order is the queue's."""
    orders: dict[int, tuple[int, int]] = {}
    for action, order, price, size in actions:
        if action == "R":
            orders.clear()
        elif action == "A":
            orders.pop(order, None)
            orders[order] = (price, size)
        elif action == "M":
            before = orders.get(order)
            if before is None or before[0] != price or size > before[1]:
                orders.pop(order, None)
            orders[order] = (price, size)
        elif action == "C" and order in orders:
            left = orders[order][1] - size
            if left > 0:
                orders[order] = (orders[order][0], left)
            else:
                del orders[order]
    return [(order, price, size) for order, (price, size) in orders.items()]


def test_a_book_after_a_clear(tmp_path: Path) -> None:
    """Orders that rest come oldest first after a clear, marked as a snapshot's and stamped with its instant."""
    recording = record(
        tmp_path,
        [("R", 0, 0, 0), ("A", 1, 10, 5), ("A", 2, 10, 3), ("C", 1, 10, 2), ("F", 2, 10, 3), ("T", 0, 10, 3)],
    )
    rows = book_at(recording, T + 100)
    assert shown(rows) == [(1, 10, 3), (2, 10, 3)]
    assert set(rows["ts_recv"].tolist()) == {T + 100}
    assert rows["flags"].tolist() == [F_SNAPSHOT, F_SNAPSHOT, F_SNAPSHOT | F_LAST]
    assert shown(book_at(recording, T + 2)) == [(1, 10, 5)]


def test_a_book_that_nobody_can_know(tmp_path: Path) -> None:
    """Records that begin in mid-session have no book, and the error says why; nor has a time before them."""
    recording = record(tmp_path, [("A", 1, 10, 5)])
    with pytest.raises(NoSnapshot, match="instrument 7 begins with neither a clear nor a snapshot"):
        recording.snapshot(SEVEN, T + 100)
    with pytest.raises(NoSnapshot, match="no mbo of it before"):
        recording.snapshot(SEVEN, T)


ACTION = st.tuples(st.sampled_from("AAACCMMR"), st.integers(1, 5), st.integers(1, 3), st.integers(1, 6))


def _possible(actions: list[Action]) -> list[Action]:
    """Without adds of orders that rest already: an exchange sends none."""
    resting: set[int] = set()
    kept: list[Action] = []
    for one in actions:
        if one[0] == "A" and one[1] in resting:
            continue
        kept.append(one)
        resting = {order for order, _, _ in played(kept)}
    return kept


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(actions=st.lists(ACTION, max_size=40), instants=st.lists(st.integers(1, 45), min_size=1, max_size=4))
def test_the_book_is_what_replaying_every_record_makes_of_it(
    tmp_path: Path, actions: list[Action], instants: list[int]
) -> None:
    """At any instants, asked for in any order and read in any pieces: the same orders, sizes and queue."""
    whole: list[Action] = [("R", 0, 0, 0), *_possible(actions)]
    recording = record(tmp_path, whole)
    with pytest.MonkeyPatch().context() as patched:
        patched.setattr(recorded_book, "_CHUNK_ROWS", 6)
        for instant in instants:
            assert shown(book_at(recording, T + instant)) == played(whole[:instant])

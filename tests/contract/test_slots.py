"""The connections that a team may have at once, counted by whatever store the ledger is kept in."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from budget_guard.clock import ManualClock, SystemClock
from budget_guard.errors import Refused
from budget_guard.guard.slots import SlotHold, Slots, slot_key
from budget_guard.guard.status import take_status
from budget_guard.ledger.audit import audit
from budget_guard.ledger.export import export_rows
from budget_guard.ledger.machine import boot_id
from budget_guard.ledger.model import Ledger
from budget_guard.ledger.recovery import recover_orphans
from budget_guard.ledger.resolving import resolve
from budget_guard.ledger.store import SqlLedger, open_ledger
from budget_guard.policy.model import LiveBilling
from tests.gateway.desk import GLBX, policy
from tests.guard.samples import NOW, OPEN, OneWindow
from tests.ledger.processes import read_line, start

KEY = slot_key("desk", GLBX)
HOST = "here"


def slots(ledger: Ledger, folder: Path, most: int | None = 3) -> Slots:
    rules = policy(billing={GLBX: LiveBilling(connections=most)})
    return Slots(rules, ledger, ManualClock(NOW), folder / "meters", HOST)


def taken(ledger: Ledger) -> int:
    balance = ledger.balances([KEY])[KEY]
    assert balance.settled == 0, "a slot is never spent"
    return balance.held


def assert_sound(ledger: Ledger) -> None:
    assert isinstance(ledger, SqlLedger)
    assert audit(ledger).findings == ()


def held(slot: SlotHold | None) -> SlotHold:
    assert slot is not None
    return slot


def test_one_more_than_the_team_may_have_is_refused_until_one_ends(ledger: Ledger, tmp_path: Path) -> None:
    room = slots(ledger, tmp_path)
    open_ones = [held(room.open(GLBX, f"c{number}")) for number in range(3)]
    with pytest.raises(
        Refused, match=r"3 live connections to GLBX\.MDP3 open, and the vendor allows a team 3"
    ) as full:
        room.open(GLBX, "c3")
    assert full.value.decision.code == "sessions_full"
    assert len(list((tmp_path / "meters").glob("*.meter"))) == 3
    open_ones.pop().release()
    open_ones.append(held(room.open(GLBX, "c4")))
    assert taken(ledger) == 3
    for slot in open_ones:
        slot.release()
    assert taken(ledger) == 0 and ledger.open_holds() == []
    assert_sound(ledger)


def test_datasets_and_accounts_are_counted_apart(ledger: Ledger, tmp_path: Path) -> None:
    room = slots(ledger, tmp_path, most=1)
    first, other = held(room.open(GLBX, "c1")), held(room.open("EQUS.MINI", "c2"))
    assert taken(ledger) == 1
    first.release()
    other.release()


def test_any_number_needs_no_slot(ledger: Ledger, tmp_path: Path) -> None:
    assert slots(ledger, tmp_path, most=None).open(GLBX, "c1") is None
    assert ledger.open_holds() == []


def test_programs_that_open_at_once_never_get_more_than_there_are(url: str, tmp_path: Path) -> None:
    """Each thread has a ledger of its own, as a program has."""
    got: list[SlotHold] = []
    refused: list[Refused] = []
    ledgers = [open_ledger(url) for _ in range(6)]
    ready = threading.Barrier(6)

    def program(ledger: Ledger, number: int) -> None:
        room = slots(ledger, tmp_path, most=4)
        ready.wait()
        for turn in range(3):
            try:
                got.append(held(room.open(GLBX, f"c{number}-{turn}")))
            except Refused as error:
                refused.append(error)

    threads = [threading.Thread(target=program, args=(one, number)) for number, one in enumerate(ledgers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (4, 14)
    assert taken(ledgers[0]) == 4
    for slot in got:
        slot.release()
    for one in ledgers:
        one.close()


_TAKE = """
import sys
from pathlib import Path
from budget_guard.ledger.store import open_ledger
from tests.contract.test_slots import slots
from tests.gateway.desk import GLBX
url, folder = sys.argv[1:]
slot = slots(open_ledger(url), Path(folder)).open(GLBX, "c1")
print(slot.terms.id, flush=True)
sys.stdin.read()
"""


def test_the_slot_of_a_killed_program_is_given_back_by_recovery(
    ledger: Ledger, url: str, tmp_path: Path
) -> None:
    process = start(_TAKE, url, tmp_path)
    hold_id = read_line(process)

    def recover() -> list[object]:
        return list(
            recover_orphans(ledger, tmp_path / "meters", host=HOST, boot_id=boot_id(), clock=SystemClock())
        )

    assert recover() == [] and taken(ledger) == 1, "its program runs"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert recover() == [], "what is given back is no news"
    assert taken(ledger) == 0
    hold = ledger.hold(hold_id)
    assert hold is not None and hold.state == "released"
    assert list((tmp_path / "meters").glob("*.meter")) == []
    assert_sound(ledger)


def test_a_slot_that_the_ledger_lost_can_be_written_again(ledger: Ledger, tmp_path: Path) -> None:
    lost = held(slots(ledger, tmp_path, most=1).open(GLBX, "c1"))
    ledger.release(lost.terms.id)
    fresh = held(slots(ledger, tmp_path, most=1).open(GLBX, "c2"))
    fresh.assert_again()
    assert taken(ledger) == 1, "what is there stays as it is"
    fresh.release()
    fresh.release()
    lost.abandon()


def test_status_shows_slots_and_neither_reviews_nor_exports_count_them(
    ledger: Ledger, tmp_path: Path
) -> None:
    room = slots(ledger, tmp_path)
    slot = held(room.open(GLBX, "c1"))
    status = take_status(room.policy, ledger, lambda _: OneWindow(OPEN, OPEN), NOW)
    assert status.connections == ()
    assert status.as_json()["slots"] == [{"dataset": GLBX, "open": 1, "limit": 3}]
    assert isinstance(ledger, SqlLedger)
    assert [row["kind"] for row in export_rows(ledger, "desk")] == []
    slot.release()
    (row,) = export_rows(ledger, "desk", everything=True)
    assert (row["kind"], row["mode"]) == ("hold", "slot")
    assert_sound(ledger)


@pytest.mark.parametrize("size_bytes", [0, None])
def test_a_decision_gives_a_slot_back_too(ledger: Ledger, tmp_path: Path, size_bytes: int | None) -> None:
    """The slot of a host that is gone is nobody's on this one: a person decides, and its owner agrees."""
    slot = held(slots(ledger, tmp_path).open(GLBX, "c1"))
    resolve(ledger, slot.terms.id, size_bytes=size_bytes, now=NOW, by="me", reason="the host is gone")
    assert taken(ledger) == 0
    assert_sound(ledger)
    slot.release()
    assert taken(ledger) == 0

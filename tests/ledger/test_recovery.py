"""What becomes of the holds that dead owners left: from evidence only, and never less than was settled."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from budget_guard.clock import ManualClock
from budget_guard.errors import Fenced, LedgerError
from budget_guard.ledger.audit import audit
from budget_guard.ledger.meter import FinalWord, Meter
from budget_guard.ledger.model import Balance, Entry, HoldTerms, Ledger
from budget_guard.ledger.recovery import Recovered, recover_orphans, resolve_in_full
from budget_guard.ledger.store import SqlLedger, open_ledger
from budget_guard.money import cost_nano_usd
from tests.ledger.samples import OPENED, PRICE, USD, claiming, key, terms, usd

MIB = 2**20
SECOND = 10**9
BOOT = "boot-1"
HOST = "desk-1"
GIB = key(unit="gib")
HOURS = key(unit="hours")
CONNECTIONS = key(unit="connections")
SLOT = key(unit="slots")


class Desk:
    """A machine with a ledger, a folder of meters and a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.ledger: Ledger = open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.meters = folder / "meters"
        self.clock = ManualClock(OPENED)
        self.clock.advance(1000)

    def recover(self, *, host: str = HOST, boot_id: str = BOOT) -> list[Recovered]:
        return recover_orphans(self.ledger, self.meters, host=host, boot_id=boot_id, clock=self.clock)

    def now_ns(self) -> int:
        return int(self.clock.monotonic_s() * SECOND)

    def own(
        self,
        reads: tuple[int, ...] = (),
        *,
        hold: HoldTerms | None = None,
        active: bool = True,
        boot: str = BOOT,
    ) -> Meter:
        """A hold of $1 with its meter, as a guard makes them; the meter's owner lives until it is closed."""
        hold = terms() if hold is None else hold
        meter = Meter.create(self.meters, hold.id, boot_id=boot)
        self.ledger.open_hold(hold, [USD], claiming({USD: (0, 10**9)}))
        if active:
            self.ledger.activate(hold.id)
        for size_bytes in reads:
            meter.add(size_bytes, 0, self.now_ns())
        return meter

    def orphan(self, reads: tuple[int, ...] = (), *, hold: HoldTerms | None = None, active: bool = True,
               boot: str = BOOT) -> Path:  # fmt: skip
        """The same, and then its owner dies."""
        meter = self.own(reads, hold=hold, active=active, boot=boot)
        meter.close(remove=False)
        return meter.path

    def entry(self) -> Entry:
        (only,) = self.ledger.entries("desk", "2026-11")
        return only

    def state(self, hold_id: str = "h1") -> str:
        hold = self.ledger.hold(hold_id)
        assert hold is not None
        return hold.state


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.ledger.close()


def test_nothing_open_is_nothing_to_do(desk: Desk) -> None:
    assert desk.recover() == []


def test_a_living_owners_hold_is_left_alone(desk: Desk) -> None:
    meter = desk.own((1000,))
    assert desk.recover() == []
    assert desk.state() == "active"
    assert meter.path.exists()
    meter.close(remove=True)


def test_a_hold_that_was_never_active_is_released(desk: Desk) -> None:
    path = desk.orphan(active=False)
    (found,) = desk.recover()
    assert (found.outcome, found.cost_nano_usd) == ("released", 0)
    assert desk.state() == "released"
    assert usd(desk.ledger) == Balance(0, 0)
    assert not path.exists()


def test_an_active_hold_is_settled_from_its_meter_plus_the_residual(desk: Desk) -> None:
    meter = desk.own()
    meter.add(0, 0, desk.now_ns() - SECOND)  # so that the first tenth of a second is over
    meter.add(100_000, 0, desk.now_ns())
    meter.close(remove=False)
    path = meter.path
    desk.clock.advance(2)
    (found,) = desk.recover()
    assumed = 3 * 10 * 100_000 + 65536  # three seconds of ten times what one tenth saw, and a burst
    assert (found.outcome, found.size_bytes, found.residual_bytes) == ("settled", 100_000, assumed)
    cost = cost_nano_usd(100_000 + assumed, PRICE)
    assert usd(desk.ledger) == Balance(cost, 0)
    assert not path.exists()
    entry = desk.entry()
    assert (entry.ending, entry.size_bytes, entry.residual_bytes) == ("recovered", 100_000, assumed)
    assert entry.cost_nano_usd == cost_nano_usd(100_000, PRICE)
    assert entry.cost_nano_usd + entry.residual_nano_usd == cost == found.cost_nano_usd
    assert "assumed" in entry.note
    assert entry.ended_utc == desk.clock.now() - timedelta(seconds=2)


def test_without_a_read_the_whole_residual_is_assumed(desk: Desk) -> None:
    desk.orphan()
    (found,) = desk.recover()
    assert (found.size_bytes, found.residual_bytes) == (0, 5 * MIB)
    assert desk.entry().ended_utc == OPENED


def test_a_connection_that_the_vendor_ended_leaves_no_residual(desk: Desk) -> None:
    meter = desk.own((100_000,))
    meter.mark_ended()
    meter.close(remove=False)
    (found,) = desk.recover()
    assert (found.size_bytes, found.residual_bytes) == (100_000, 0)
    assert usd(desk.ledger) == Balance(cost_nano_usd(100_000, PRICE), 0)


def test_what_was_read_of_an_ending_is_not_assumed_to_be_unseen_as_well(desk: Desk) -> None:
    """What may still come was bounded when the connection began to end; a kill in the midst of it adds nothing."""
    meter = desk.own((50 * MIB,))
    meter.mark_ending()
    assert meter.ending_bytes == 0
    meter.add(2 * MIB, 0, desk.now_ns())
    assert meter.ending_bytes == 2 * MIB
    meter.close(remove=False)
    (found,) = desk.recover()
    assert (found.size_bytes, found.residual_bytes) == (52 * MIB, 3 * MIB)


def test_a_historical_request_counts_in_full(desk: Desk) -> None:
    """Its residual is the rest of the answer: what was counted is a part of what was quoted."""
    desk.orphan((100_000,), hold=terms(mode="historical", residual_bytes_max=MIB))
    (found,) = desk.recover()
    assert (found.size_bytes, found.residual_bytes) == (100_000, MIB - 100_000)


def test_every_unit_is_settled_in_its_own_way(desk: Desk) -> None:
    desk.orphan((100_000,))
    desk.ledger.restate(
        "h1",
        1,
        [USD, GIB, HOURS, CONNECTIONS],
        claiming({USD: (5, 5), GIB: (5, 5), HOURS: (900_000, 50_000), CONNECTIONS: (0, 1)}),
    )
    (found,) = desk.recover()
    total = found.size_bytes + found.residual_bytes
    assert desk.ledger.balances([USD, GIB, HOURS, CONNECTIONS]) == {
        USD: Balance(cost_nano_usd(total, PRICE), 0),
        GIB: Balance(total, 0),
        HOURS: Balance(950_000, 0),  # 1000 s have passed, but no more than this was granted
        CONNECTIONS: Balance(1, 0),
    }


def test_a_clock_that_was_set_back_shortens_no_time_that_was_used(desk: Desk) -> None:
    """How long the dead owner ran is a guess: what it was granted is what it may have used."""
    desk.orphan((1000,))
    desk.ledger.restate("h1", 1, [HOURS], claiming({HOURS: (60_000, 120_000)}))
    desk.clock.advance(-5000)
    desk.recover()
    assert desk.ledger.balances([HOURS]) == {HOURS: Balance(180_000, 0)}


def test_no_claim_ends_below_what_it_had_settled(desk: Desk) -> None:
    desk.orphan((100_000,))
    much = 10**12
    desk.ledger.restate("h1", 1, [USD, HOURS], claiming({USD: (much, 5), HOURS: (much, 5)}))
    desk.recover()
    assert desk.ledger.balances([USD, HOURS]) == {USD: Balance(much, 0), HOURS: Balance(much + 5, 0)}


def test_recovering_again_does_nothing(desk: Desk) -> None:
    desk.orphan((1000,))
    desk.recover()
    before = (usd(desk.ledger), desk.entry())
    assert desk.recover() == []
    assert (usd(desk.ledger), desk.entry()) == before


def test_a_hold_that_was_not_active_but_counted_bytes_is_settled(desk: Desk) -> None:
    """Bytes are evidence whatever the state says."""
    desk.orphan((1000,), active=False)
    (found,) = desk.recover()
    assert (found.outcome, found.size_bytes) == ("settled", 1000)


def test_after_a_restart_of_the_machine_an_active_hold_counts_in_full(desk: Desk) -> None:
    path = desk.orphan((1000,), boot="boot-0")
    (found,) = desk.recover()
    assert found.outcome == "unresolved"
    assert "h1" in found.message
    assert "restarted" in found.message
    assert "$1.00" in found.message
    assert found.message.endswith("budget-guard ledger resolve h1")
    assert usd(desk.ledger) == Balance(0, 10**9)
    assert path.exists()


def test_after_a_restart_a_hold_that_was_never_active_is_released(desk: Desk) -> None:
    desk.orphan(active=False, boot="boot-0")
    assert [found.outcome for found in desk.recover()] == ["released"]


def test_a_container_with_another_name_on_the_same_machine_proves_as_much(desk: Desk) -> None:
    desk.orphan((1000,))
    assert [found.outcome for found in desk.recover(host="other")] == ["settled"]


def test_where_restarts_cannot_be_told_nothing_is_proven(desk: Desk) -> None:
    desk.orphan((1000,), boot="")
    (found,) = desk.recover(boot_id="")
    assert found.outcome == "unresolved"
    assert "cannot tell its restarts apart" in found.message


def test_a_missing_meter_leaves_the_hold_in_full(desk: Desk) -> None:
    desk.orphan((1000,)).unlink()
    (found,) = desk.recover()
    assert found.outcome == "unresolved"
    assert "is missing" in found.message
    assert usd(desk.ledger) == Balance(0, 10**9)


def take_slot(desk: Desk) -> None:
    """One of a connection, as its program left it; an older copy of the ledger has it again, and its meter is gone."""
    slot = terms("slot", mode="slot", stream=None, schema="", unit_price_usd=Decimal(0), residual_bytes_max=0)
    desk.ledger.open_hold(slot, [SLOT], claiming({SLOT: (0, 1)}))


def test_a_slot_without_its_meter_is_free_once_nothing_else_of_its_connection_is_open(desk: Desk) -> None:
    """It costs nothing, and its connection is over."""
    desk.orphan((1000,))
    take_slot(desk)
    assert [found.hold_id for found in desk.recover()] == ["h1"]
    assert desk.state("slot") == "released"


def test_a_slot_that_a_person_decides_about_at_the_same_moment_is_theirs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing left to do, and nothing to complain of."""
    take_slot(desk)
    release = desk.ledger.release

    def too_late(hold_id: str, at_utc: datetime | None = None) -> None:
        resolve_in_full(desk.ledger, hold_id, now=OPENED, reason="it is gone")
        release(hold_id, at_utc)

    monkeypatch.setattr(desk.ledger, "release", too_late)
    assert desk.recover() == []
    assert desk.state("slot") == "settled"


def test_a_slot_without_its_meter_stays_while_its_connection_may_run(desk: Desk) -> None:
    """It says what it keeps taken, not that it counts in full."""
    meter = desk.own((1000,))
    take_slot(desk)
    (found,) = desk.recover()
    assert found.message.startswith(
        "hold slot keeps one of the live connections to GLBX.MDP3 taken: its meter "
    )
    assert found.message.endswith("free it: budget-guard ledger resolve slot --nothing-was-sent")
    assert desk.state("slot") == "held"
    meter.close(remove=True)


@pytest.mark.parametrize(
    ("ended", "says"), [(False, "its program died; "), (True, "it had ended and could not be booked then; ")]
)
def test_a_program_that_ended_while_the_ledger_was_away_is_not_said_to_have_died(
    desk: Desk, ended: bool, says: str
) -> None:
    meter = desk.own((1000,))
    if ended:
        meter.mark_final(FinalWord(0, OPENED, 0))
    meter.close(remove=False)
    (found,) = desk.recover()
    assert f"): {says}settled with 1000 B counted" in found.message


def test_a_damaged_meter_leaves_the_hold_in_full_and_the_file_alone(desk: Desk) -> None:
    path = desk.orphan((1000,))
    path.write_bytes(b"damaged")
    (found,) = desk.recover()
    assert found.outcome == "unresolved"
    assert "not a meter" in found.message
    assert path.read_bytes() == b"damaged"


def test_a_hold_without_a_meter_is_reported(desk: Desk) -> None:
    desk.ledger.open_hold(terms(meter=None), [USD], claiming({USD: (0, 10**9)}))
    (found,) = desk.recover()
    assert found.outcome == "unresolved"
    assert "no meter" in found.message


def test_holds_of_other_hosts_are_not_this_machines_business(desk: Desk) -> None:
    desk.ledger.open_hold(terms("h1", host="lab-7"), [USD], claiming({USD: (0, 1)}))
    desk.ledger.open_hold(terms("h2", host="lab-7", meter=None), [USD], claiming({USD: (0, 1)}))
    assert desk.recover() == []


def test_a_meter_without_a_hold_is_removed(desk: Desk) -> None:
    Meter.create(desk.meters, "h9", boot_id=BOOT).close(remove=False)
    assert desk.recover() == []
    assert list(desk.meters.iterdir()) == []


def test_a_meter_whose_owner_died_after_settling_is_removed(desk: Desk) -> None:
    path = desk.orphan((1000,))
    desk.ledger.settle("h1", {USD: 7}, [])
    assert desk.recover() == []
    assert not path.exists()
    assert usd(desk.ledger) == Balance(7, 0)


def test_a_sweep_that_the_ledger_breaks_off_leaves_no_meter_locked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    Meter.create(desk.meters, "h9", boot_id=BOOT).close(remove=False)

    def fail(hold_id: str) -> None:
        raise LedgerError("cannot be reached")

    with monkeypatch.context() as broken:
        broken.setattr(desk.ledger, "hold", fail)
        with pytest.raises(LedgerError, match="cannot be reached") as raised:
            desk.recover()
    desk.recover()
    assert list(desk.meters.iterdir()) == []
    del raised


def test_a_living_owners_meter_without_a_hold_yet_is_left_alone(desk: Desk) -> None:
    meter = Meter.create(desk.meters, "h9", boot_id=BOOT)
    desk.recover()
    assert meter.path.exists()
    meter.close(remove=True)


def test_a_hold_that_nothing_proves_is_closed_in_full_by_a_decision(desk: Desk) -> None:
    path = desk.orphan((1000,), boot="boot-0")
    desk.ledger.restate("h1", 1, [USD, GIB], claiming({USD: (141, 61), GIB: (70, 30)}))
    entry = resolve_in_full(desk.ledger, "h1", now=desk.clock.now(), reason="power cut on Monday")
    assert (entry.ending, entry.note) == ("resolved", "power cut on Monday")
    assert desk.entry() == entry
    assert desk.ledger.balances([USD, GIB]) == {USD: Balance(202, 0), GIB: Balance(100, 0)}
    assert desk.recover() == []
    assert not path.exists()


@pytest.mark.parametrize(("counted", "known"), [(0, 70), (60, 70), (80, 80), (200, 100)])
def test_of_a_hold_closed_in_full_what_was_counted_or_booked_is_not_assumed(
    desk: Desk, counted: int, known: int
) -> None:
    """The rest is; both together are what it held."""
    desk.orphan((1000,), boot="boot-0")
    desk.ledger.restate("h1", 1, [USD, GIB], claiming({USD: (141, 61), GIB: (70, 30)}))
    entry = resolve_in_full(desk.ledger, "h1", now=OPENED, reason="power cut", counted_bytes=counted)
    assert (entry.size_bytes, entry.residual_bytes) == (known, 100 - known)
    assert (entry.cost_nano_usd, entry.cost_nano_usd + entry.residual_nano_usd) == (
        cost_nano_usd(known, PRICE),
        202,
    )
    assert isinstance(desk.ledger, SqlLedger)
    assert audit(desk.ledger).sound


def test_what_is_closed_in_full_without_a_limit_in_usd_costs_what_its_bytes_do(desk: Desk) -> None:
    """Unknown is not zero."""
    desk.ledger.open_hold(terms(), [GIB], claiming({GIB: (0, 100)}))
    entry = resolve_in_full(desk.ledger, "h1", now=OPENED, reason="power cut")
    assert (entry.residual_bytes, entry.residual_nano_usd) == (100, cost_nano_usd(100, PRICE))


def test_only_an_open_hold_is_closed_by_a_decision(desk: Desk) -> None:
    with pytest.raises(LedgerError, match="no hold h1"):
        resolve_in_full(desk.ledger, "h1", now=OPENED, reason="")
    desk.orphan((1000,))
    desk.recover()
    with pytest.raises(Fenced, match="settled already"):
        resolve_in_full(desk.ledger, "h1", now=OPENED, reason="")

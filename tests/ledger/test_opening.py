"""Opening a ledger for use: rehearsals are marked, orphans recovered, and the mark protects real spending."""

from __future__ import annotations

from pathlib import Path

import pytest

from budget_guard.clock import ManualClock
from budget_guard.errors import LedgerError
from budget_guard.ledger.machine import host_name
from budget_guard.ledger.meter import Meter
from budget_guard.ledger.opening import open_for_use
from tests.ledger.samples import OPENED, USD, claiming, terms


def test_opening_recovers_what_a_dead_owner_left(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    clock = ManualClock(OPENED)
    first = open_for_use(url, tmp_path, clock=clock, rehearsal=False)
    assert first.recovered == ()
    assert first.host == host_name()
    meter = Meter.create(first.meter_dir, "h1")
    first.ledger.open_hold(terms(), [USD], claiming({USD: (0, 1)}))
    meter.close(remove=False)
    first.ledger.close()
    second = open_for_use(url, tmp_path, clock=clock, rehearsal=False)
    assert [(found.hold_id, found.outcome) for found in second.recovered] == [("h1", "released")]
    assert not second.ledger.is_rehearsal()
    second.ledger.close()


def test_a_rehearsal_marks_its_ledger_and_never_a_real_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.sqlite'}"
    opened = open_for_use(url, tmp_path, clock=ManualClock(OPENED), rehearsal=True)
    assert opened.ledger.is_rehearsal()
    opened.ledger.close()
    real = f"sqlite:///{tmp_path / 'real.sqlite'}"
    opened = open_for_use(real, tmp_path, clock=ManualClock(OPENED), rehearsal=False)
    opened.ledger.open_hold(terms(host="lab-7"), [USD], claiming({USD: (0, 1)}))
    opened.ledger.close()
    with pytest.raises(LedgerError, match="real spending"):
        open_for_use(real, tmp_path, clock=ManualClock(OPENED), rehearsal=True)

"""A live hold in trouble: renewals that are refused, get lost, or take a while."""

from __future__ import annotations

from datetime import datetime

import pytest

from budget_guard.guard.connection import LiveHold
from budget_guard.ledger.meter import open_orphan
from budget_guard.ledger.model import Approval
from budget_guard.policy.model import Policy
from tests.guard.samples import ALLOWANCE, LIVE, Desk, budget, limit, policy


def opened(desk: Desk, guarded: Policy | None = None) -> LiveHold:
    guard = desk.guard(guarded)
    return guard.open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold


def test_what_a_refused_renewal_found_past_a_limit_is_an_overrun_too(desk: Desk) -> None:
    """The refusal books what was used; being booked does not make it granted."""
    hold = opened(desk, policy(budget("account", limit("month", "hours", "0.05"))))
    hold.activate()
    desk.clock.advance(3600)
    assert not hold.renew()
    hold.finish("its program had been stopped", clean=True)
    (found,) = desk.ledger.overruns("desk", "2026-11")
    assert (found.unit, found.past) == ("hours", 3_420_000)


def test_no_failure_while_a_hold_is_made_keeps_its_meter_locked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(account: str, at_utc: datetime | None = None) -> list[Approval]:
        raise RuntimeError("a defect")

    monkeypatch.setattr(desk.ledger, "approvals", break_down)
    with pytest.raises(RuntimeError) as raised:
        opened(desk)
    (path,) = desk.meter_dir.glob("*.meter")
    meter = open_orphan(path)
    assert meter is not None
    meter.close(remove=True)
    del raised

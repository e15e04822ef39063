"""A server that loses its last commits: what was spent is written again by its owner, or from its meter."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from budget_guard.clock import ManualClock
from budget_guard.errors import Refused, UnknownHold
from budget_guard.guard.connection import LiveHold
from budget_guard.guard.download import RequestHold
from budget_guard.guard.guard import Guard
from budget_guard.guard.lease import LEASE_BYTES_MIN
from budget_guard.guard.quote import Quote
from budget_guard.ledger.machine import boot_id
from budget_guard.ledger.model import Balance, BalanceKey
from budget_guard.ledger.recovery import KEPT_S, Recovered, recover_orphans
from budget_guard.ledger.store import SqlLedger, open_ledger
from budget_guard.money import GIB, cost_nano_usd
from budget_guard.policy.model import Policy
from tests.guard.samples import (
    ALLOWANCE,
    HISTORY,
    LIVE,
    MONTH_END,
    MONTH_START,
    NOW,
    PRICE,
    STREAM,
    OneWindow,
    PriceTable,
    budget,
    data_range,
    limit,
    policy,
)
from tests.ledger.rewinding import Rewindable
from tests.postgres import fresh_database

MIB = 2**20
USD = BalanceKey("desk", "account", "month", MONTH_START, "usd")
SMALL = policy(budget("account", limit("month", "gib", "0.03125")))  # 32 MiB


@dataclass(slots=True)
class Team:
    """A ledger on a server that may lose commits, and guards that know it."""

    database: Rewindable
    ledger: SqlLedger
    meter_dir: Path
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))

    def guard(self, guarded: Policy | None = None) -> Guard:
        return Guard(
            guarded or policy(),
            ledger=self.ledger,
            clock=self.clock,
            prices=PriceTable(),
            windows=lambda _: OneWindow(),
            meter_dir=self.meter_dir,
            host="desk-1",
            may_lose_commits=True,
        )

    def opened(self, guarded: Policy | None = None) -> LiveHold:
        hold = self.guard(guarded).open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
        hold.activate()
        return hold

    def recover(self) -> list[Recovered]:
        return recover_orphans(
            self.ledger, self.meter_dir, host="desk-1", boot_id=boot_id(), clock=self.clock, keep=True
        )

    def balances(self) -> dict[str, Balance]:
        found = self.ledger.account_balances("desk", MONTH_START, MONTH_END)
        return {key.unit: balance for key, balance in found.items()}

    def usd(self) -> Balance:
        return self.ledger.balances([USD])[USD]

    def meters(self) -> list[Path]:
        return sorted(self.meter_dir.iterdir())


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    url = fresh_database()
    ledger = open_ledger(url)
    yield Team(Rewindable(url), ledger, tmp_path / "meters")
    ledger.close()


def read(hold: LiveHold, size_bytes: int) -> None:
    hold.count(size_bytes, 0, time.monotonic_ns())


def test_lost_renewals_are_made_up_for_by_the_next_one(team: Team) -> None:
    hold = team.opened()
    team.database.keep()
    read(hold, 3 * MIB)
    hold.renew()
    team.database.rewind()
    read(hold, MIB)
    assert hold.renew()
    assert hold.found_loss
    assert team.usd().settled == cost_nano_usd(4 * MIB, PRICE)
    hold.finish("done", clean=True)
    assert team.usd() == Balance(cost_nano_usd(4 * MIB, PRICE), 0)


def test_after_lost_renewals_a_connection_gets_no_more_than_the_limit_has(team: Team) -> None:
    """What it had settled is not in the ledger any more, so it is not to be taken off what others have used."""
    hold = team.opened(SMALL)
    team.database.keep()
    for _ in range(4):
        read(hold, 4 * MIB)
        assert hold.renew()
    team.database.rewind()
    hold.renew()
    balance = team.balances()["gib"]
    assert balance.settled == 16 * MIB
    assert balance.settled + balance.held <= 32 * MIB
    hold.finish("done", clean=True)


def test_a_lost_hold_is_opened_again_by_its_owner_with_what_it_used_and_what_it_has_ahead(team: Team) -> None:
    team.database.keep()
    hold = team.opened()
    read(hold, MIB)
    ahead = hold.left_bytes
    team.database.rewind()
    assert hold.renew()
    stored = team.ledger.hold(hold.terms.id)
    assert stored is not None and stored.state == "active"
    assert stored.terms == hold.terms
    assert hold.left_bytes is not None and ahead is not None and hold.left_bytes >= ahead
    entry = hold.finish("done", clean=True)
    assert team.usd() == Balance(entry.cost_nano_usd, 0)


def test_a_hold_that_is_lost_in_the_midst_of_a_renewal_is_opened_again(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking and writing."""
    team.database.keep()
    hold = team.opened()
    read(hold, MIB)
    team.database.rewind()
    monkeypatch.setattr(hold, "_look_again", lambda usage: None)
    assert hold.renew()
    assert hold.found_loss
    assert team.usd().settled == cost_nano_usd(MIB, PRICE)
    hold.finish("done", clean=True)


def test_a_lost_hold_counts_even_where_others_have_taken_its_room(team: Team) -> None:
    """It is spent: the budget is past its limit, and nothing more fits."""
    team.database.keep()
    hold = team.opened(SMALL)
    read(hold, LEASE_BYTES_MIN)
    team.database.rewind()
    greedy = team.opened(SMALL)
    read(greedy, 40 * MIB)
    greedy.finish("an overrun", clean=True)
    assert not hold.renew()
    balance = team.balances()["gib"]
    assert balance.settled == 40 * MIB + LEASE_BYTES_MIN
    assert balance.held == ALLOWANCE
    with pytest.raises(Refused):
        team.opened(SMALL)
    hold.finish("limit", clean=True)


def test_a_hold_that_is_lost_before_its_end_is_settled_all_the_same(team: Team) -> None:
    team.database.keep()
    hold = team.opened()
    read(hold, MIB)
    team.database.rewind()
    entry = hold.finish("done", clean=True)
    assert team.ledger.entries("desk", "2026-11") == [entry]
    assert team.usd() == Balance(cost_nano_usd(MIB, PRICE), 0)


def test_a_lost_settlement_is_made_again_from_the_meter(team: Team) -> None:
    """To the byte, the residual and the millisecond."""
    everything = policy(
        budget(
            "account",
            *(limit("month", unit, 100) for unit in ("usd", "gib", "hours", "connections")),
        )
    )
    hold = team.opened(everything)
    team.database.keep()
    read(hold, MIB)
    team.clock.advance(60)
    entry = hold.finish("reset", clean=False)
    before = team.balances()
    team.database.rewind()
    team.clock.advance(300)
    (found,) = team.recover()
    assert (found.outcome, found.size_bytes, found.residual_bytes) == ("settled", MIB, entry.residual_bytes)
    assert team.balances() == before
    (again,) = team.ledger.entries("desk", "2026-11")
    assert replace(again, ending=entry.ending, note=entry.note) == entry


def test_a_running_program_makes_lost_settlements_again_by_itself(team: Team) -> None:
    guard = team.guard()
    ended, running = team.opened(), team.opened()
    team.database.keep()
    read(ended, MIB)
    ended.finish("done", clean=True)
    team.database.rewind()
    guard.aftercare.recover()
    assert [hold.terms.id for hold in team.ledger.open_holds()] == [running.terms.id]
    running.finish("done", clean=True)
    assert team.usd() == Balance(cost_nano_usd(MIB, PRICE), 0)


def test_a_lost_release_is_made_again(team: Team) -> None:
    hold = team.guard().open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
    team.database.keep()
    hold.release()
    team.database.rewind()
    assert [found.outcome for found in team.recover()] == ["released"]
    assert team.usd() == Balance(0, 0)


def test_a_lost_hold_has_nothing_to_release(team: Team) -> None:
    team.database.keep()
    hold = team.guard().open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
    team.database.rewind()
    hold.release()
    assert team.usd() == Balance(0, 0)


def test_a_hold_that_was_lost_before_anything_was_asked_for_does_not_begin(team: Team) -> None:
    team.database.keep()
    hold = team.guard().open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
    team.database.rewind()
    with pytest.raises(UnknownHold):
        hold.activate()
    hold.abandon()
    assert team.recover() == []
    assert team.meters() == []


def test_a_hold_that_was_spent_is_not_released_because_its_activation_was_lost(team: Team) -> None:
    hold = team.guard().open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
    team.database.keep()
    hold.activate()
    team.database.rewind()
    hold.abandon()  # before a byte was read: what may be on its way is the whole allowance
    (found,) = team.recover()
    assert (found.outcome, found.residual_bytes) == ("settled", ALLOWANCE)


def test_a_renewal_makes_a_lost_activation_again(team: Team) -> None:
    hold = team.guard().open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
    team.database.keep()
    hold.activate()
    team.database.rewind()
    assert hold.renew()
    (stored,) = team.ledger.open_holds()
    assert stored.state == "active"
    hold.finish("done", clean=True)


def test_a_lost_hold_whose_owner_died_as_well_is_booked_from_its_meter_alone(team: Team) -> None:
    team.database.keep()
    hold = team.opened()
    read(hold, MIB)
    hold.abandon()
    team.database.rewind()
    (found,) = team.recover()
    assert (found.outcome, found.stream, found.size_bytes) == ("settled", "nq-mbo", MIB)
    assert "the ledger had lost this hold" in found.message
    assert team.usd() == Balance(cost_nano_usd(MIB + found.residual_bytes, PRICE), 0)
    assert team.recover() == []


def test_the_meter_of_a_settled_hold_is_kept_for_a_quarter_of_an_hour(team: Team) -> None:
    hold = team.opened()
    hold.finish("done", clean=True)
    assert [path.name for path in team.meters()] == [hold.terms.meter]
    team.clock.advance(KEPT_S - 1)
    assert team.recover() == []
    assert len(team.meters()) == 1
    team.clock.advance(1)
    assert team.recover() == []
    assert team.meters() == []


def test_a_program_that_runs_on_removes_the_meters_that_it_kept(team: Team) -> None:
    guard = team.guard()
    team.opened().finish("done", clean=True)
    guard.aftercare.tidy()
    assert len(team.meters()) == 1
    team.clock.advance(KEPT_S)
    guard.aftercare.tidy()
    assert team.meters() == []


def test_a_lost_request_is_written_again_and_settled(team: Team) -> None:
    team.database.keep()
    hold = asked(team)
    hold.count(MIB, 1)
    team.database.rewind()
    entry = hold.settle("exact")
    assert team.usd() == Balance(entry.cost_nano_usd, 0)


def test_a_lost_settlement_of_a_request_is_made_again_at_the_quote_where_that_was_booked(team: Team) -> None:
    hold = asked(team)
    team.database.keep()
    hold.count(MIB, 1)
    hold.settle_quote("not DBN: settled at the quote")
    before = team.usd()
    team.database.rewind()
    (found,) = team.recover()
    assert found.size_bytes + found.residual_bytes == GIB
    assert team.usd() == before


def asked(team: Team) -> RequestHold:
    """A request for a GiB that is on its way."""
    guard = team.guard()
    price = PriceTable().price("GLBX.MDP3", "mbo", "historical")
    assert price is not None
    quote = Quote(data_range(), GIB, price, price.usd_per_gib)
    hold = guard.open_request(HISTORY, STREAM, quote, approved=True)
    hold.activate()
    return hold


def test_an_entry_never_ends_before_it_began(team: Team) -> None:
    hold = team.opened()
    team.clock._now -= timedelta(hours=1)
    entry = hold.finish("done", clean=True)
    assert entry.ended_utc == entry.started_utc == NOW

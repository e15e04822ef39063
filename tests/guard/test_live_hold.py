"""One live connection's hold on a real ledger: opened, renewed, settled or given back."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from budget_guard.clock import ManualClock, SystemClock
from budget_guard.errors import Fenced, LedgerError, Refused
from budget_guard.guard.connection import IDLE_AFTER_S, RENEW_EVERY_S, LiveHold
from budget_guard.guard.guard import Admission, Guard
from budget_guard.guard.lease import ENDING_MS, FIRST_LEASE_BYTES, LEASE_BYTES_MIN, LEASE_MS
from budget_guard.ledger.machine import boot_id
from budget_guard.ledger.meter import open_orphan
from budget_guard.ledger.model import Approval, Balance, BalanceKey, Ledger
from budget_guard.ledger.recovery import recover_orphans
from budget_guard.ledger.store import open_ledger
from budget_guard.money import GIB, cost_nano_usd
from budget_guard.policy.model import Policy
from tests.guard.samples import (
    ALLOWANCE,
    LIVE,
    MONTH_END,
    MONTH_START,
    NOW,
    PRICE,
    Desk,
    PriceTable,
    always,
    budget,
    limit,
    policy,
)

MIB = 2**20
USD = BalanceKey("desk", "account", "month", MONTH_START, "usd")
EVERYTHING = budget(
    "account",
    limit("month", "usd", 200),
    limit("month", "gib", 60),
    limit("month", "hours", 100),
    limit("month", "connections", 400),
)


def opened(desk: Desk, guarded: Policy | None = None) -> LiveHold:
    return approved(desk.guard(guarded)).hold


def approved(guard: Guard, connection_id: str = "c1") -> Admission:
    return guard.open_live(LIVE, connection_id=connection_id, allowance_bytes=ALLOWANCE)


def balance(ledger: Ledger, key: BalanceKey = USD) -> Balance:
    return ledger.balances([key])[key]


def balances_by_unit(ledger: Ledger) -> dict[str, Balance]:
    found = ledger.account_balances("desk", MONTH_START, MONTH_END)
    return {key.unit: amount for key, amount in found.items()}


def approve(desk: Desk, name: str, unit: str, amount: int, hours: int = 24) -> None:
    now = desk.clock.now()
    until = now + timedelta(hours=hours)
    desk.ledger.record_approval(
        Approval(f"{name}-{unit}", "desk", name, unit, amount, now, until, "results day", "Ada")
    )


def read(hold: LiveHold, size_bytes: int, control_bytes: int = 0) -> None:
    hold.count(size_bytes, control_bytes, time.monotonic_ns())


def test_opening_holds_a_first_lease_and_its_ending(desk: Desk) -> None:
    hold = opened(desk)
    assert hold.left_bytes == LEASE_BYTES_MIN
    assert balance(desk.ledger) == Balance(0, cost_nano_usd(LEASE_BYTES_MIN + ALLOWANCE, PRICE))
    (stored,) = desk.ledger.open_holds()
    assert stored.state == "held"
    assert (stored.terms.stream, stored.terms.month, stored.terms.opened_utc) == ("nq-mbo", "2026-11", NOW)
    assert json.loads(stored.terms.request)["symbols"] == ["NQ.v.0", "ES.v.0"]
    hold.release()


def test_the_meter_is_locked_while_the_hold_lives_and_gone_when_it_ends(desk: Desk) -> None:
    hold = opened(desk)
    path = desk.meter_dir / str(hold.terms.meter)
    assert open_orphan(path) is None
    hold.activate()
    hold.finish("done", clean=True)
    assert list(desk.meter_dir.iterdir()) == []


def test_what_was_counted_is_settled_exactly_and_nothing_stays_held(desk: Desk) -> None:
    hold = opened(desk, policy(EVERYTHING))
    hold.activate()
    read(hold, 3 * MIB, 320)
    read(hold, 17)
    desk.clock.advance(90)
    entry = hold.finish("ended by the vendor", clean=True)
    size = 3 * MIB + 17
    assert (entry.size_bytes, entry.control_bytes, entry.residual_bytes) == (size, 320, 0)
    assert (entry.cost_nano_usd, entry.residual_nano_usd) == (cost_nano_usd(size, PRICE), 0)
    assert (entry.ending, entry.unit_price_usd, entry.month) == ("exact", PRICE, "2026-11")
    assert (entry.started_utc, entry.ended_utc) == (NOW, NOW + timedelta(seconds=90))
    assert balances_by_unit(desk.ledger) == {
        "usd": Balance(cost_nano_usd(size, PRICE), 0),
        "gib": Balance(size, 0),
        "hours": Balance(90_000, 0),
        "connections": Balance(1, 0),
    }
    assert desk.ledger.entries("desk", "2026-11") == [entry]
    assert desk.ledger.open_holds() == []


def test_an_unclean_end_adds_a_residual_that_is_labelled_assumed(desk: Desk) -> None:
    hold = opened(desk, policy(EVERYTHING))
    hold.activate()
    read(hold, 2 * MIB)
    entry = hold.finish("reset", clean=False)
    assert entry.ending == "residual"
    assert 0 < entry.residual_bytes <= ALLOWANCE
    assert "assumed" in entry.note
    total = entry.size_bytes + entry.residual_bytes
    assert entry.cost_nano_usd + entry.residual_nano_usd == cost_nano_usd(total, PRICE)
    settled = balances_by_unit(desk.ledger)
    assert settled["usd"] == Balance(cost_nano_usd(total, PRICE), 0)
    assert settled["gib"] == Balance(total, 0)


def test_an_unclean_end_without_a_single_read_is_charged_the_whole_bound(desk: Desk) -> None:
    hold = opened(desk)
    hold.activate()
    assert hold.finish("reset", clean=False).residual_bytes == ALLOWANCE


def test_giving_back_leaves_no_trace_in_any_balance(desk: Desk) -> None:
    hold = opened(desk, policy(EVERYTHING))
    hold.release()
    assert set(balances_by_unit(desk.ledger).values()) == {Balance(0, 0)}
    assert desk.ledger.entries("desk", "2026-11") == []
    assert list(desk.meter_dir.iterdir()) == []


def test_a_renewal_settles_what_was_used_and_holds_on(desk: Desk) -> None:
    hold = opened(desk, policy(EVERYTHING))
    hold.activate()
    read(hold, 3 * MIB)
    desk.clock.advance(60)
    assert hold.renew()
    assert hold.left_bytes == LEASE_BYTES_MIN
    now = balances_by_unit(desk.ledger)
    assert now["usd"].settled == cost_nano_usd(3 * MIB, PRICE)
    assert now["gib"] == Balance(3 * MIB, LEASE_BYTES_MIN + ALLOWANCE)
    assert now["hours"] == Balance(60_000, LEASE_MS)
    assert now["connections"] == Balance(0, 1)


def test_cost_does_not_depend_on_how_often_it_was_renewed(desk: Desk) -> None:
    """It is worked out from the running total, so rounding never accumulates."""
    hold = opened(desk)
    hold.activate()
    for _ in range(20):
        read(hold, 1)
        assert hold.renew()
    assert balance(desk.ledger).settled == cost_nano_usd(20, PRICE)
    assert hold.finish("done", clean=True).cost_nano_usd == cost_nano_usd(20, PRICE)


def test_a_lease_grows_with_the_rate(desk: Desk) -> None:
    hold = opened(desk)
    hold.activate()
    read(hold, 8 * MIB)
    desk.clock.advance(2)
    assert hold.renew()
    assert hold.left_bytes == 4 * MIB * 30


def test_a_lease_shrinks_by_half_at_most_when_the_rate_falls(desk: Desk) -> None:
    """A pause between bursts says little about the next one."""
    hold = opened(desk)
    hold.activate()
    read(hold, 32 * MIB)
    desk.clock.advance(2)
    assert hold.renew()
    leases = [hold.left_bytes]
    for _ in range(4):
        desk.clock.advance(15)
        assert hold.renew()
        leases.append(hold.left_bytes)
    assert leases == [16 * MIB * 30, 8 * MIB * 30, 4 * MIB * 30, 2 * MIB * 30, 30 * MIB]
    hold.finish("done", clean=True)


def test_its_own_share_does_not_count_against_a_renewal(desk: Desk) -> None:
    """A connection alone on a budget may use all of it but what ending and the least lease need."""
    size = 40 * MIB
    hold = opened(desk, policy(budget("account", limit("month", "gib", str(Decimal(size) / GIB)))))
    hold.activate()
    while True:
        left = hold.left_bytes
        assert left is not None
        read(hold, left)
        assert hold.counted.size_bytes <= size - ALLOWANCE
        if not hold.renew():
            break
    assert hold.exhausted
    assert hold.denied is not None and hold.denied.code == "limit_reached"
    assert hold.denied.reasons[0].held == 0
    assert hold.counted.size_bytes > size - ALLOWANCE - FIRST_LEASE_BYTES
    hold.finish("limit", clean=True)


def test_a_refused_renewal_keeps_what_was_granted(desk: Desk) -> None:
    guarded = policy(budget("account", limit("month", "usd", "0.05")))
    hold, other = opened(desk, guarded), opened(desk, guarded)
    hold.activate()
    other.activate()
    before = hold.left_bytes
    assert before is not None
    read(other, GIB)
    other.finish("an overrun", clean=True)
    held = balance(desk.ledger).held
    assert not hold.renew()
    assert hold.denied is not None and hold.denied.code == "frozen"
    assert hold.left_bytes == before
    assert balance(desk.ledger).held == held
    hold.finish("done", clean=True)


def test_a_renewal_that_is_allowed_again_forgets_the_refusal(desk: Desk) -> None:
    guarded = policy(budget("account", limit("month", "gib", str(Decimal(16 * MIB) / GIB))))
    hold, other = opened(desk, guarded), opened(desk, guarded)
    hold.activate()
    read(hold, 4 * MIB)
    blocker = opened(desk, guarded)
    while hold.renew():
        read(hold, max(1, (hold.left_bytes or 0) // 2))
    assert hold.denied is not None
    other.release()
    blocker.release()
    assert hold.renew()
    assert hold.denied is None
    hold.finish("done", clean=True)


def test_an_overrun_is_booked_in_full_and_freezes_the_budget(desk: Desk) -> None:
    guarded = policy(budget("account", limit("month", "usd", "0.05")))
    hold = opened(desk, guarded)
    hold.activate()
    read(hold, GIB)
    entry = hold.finish("the vendor did not stop", clean=True)
    assert entry.cost_nano_usd == 2_160_000_000
    assert balance(desk.ledger) == Balance(2_160_000_000, 0)
    with pytest.raises(Refused) as refused:
        opened(desk, guarded)
    assert refused.value.decision.code == "frozen"


def test_a_hold_that_was_settled_by_another_is_fenced_off(desk: Desk) -> None:
    hold = opened(desk)
    hold.activate()
    desk.ledger.settle(hold.terms.id, {}, [])
    with pytest.raises(Fenced):
        hold.renew()
    hold.abandon()


def test_an_abandoned_hold_is_settled_from_its_meter(desk: Desk) -> None:
    """The ledger could not be reached at the end: the next start finds the bytes in the meter file."""
    hold = opened(desk)
    hold.activate()
    read(hold, MIB, 40)
    hold.abandon()
    recovered = recover_orphans(
        desk.ledger, desk.meter_dir, host="desk-1", boot_id=boot_id(), clock=SystemClock()
    )
    assert [(one.outcome, one.size_bytes) for one in recovered] == [("settled", MIB)]
    assert balance(desk.ledger).held == 0


def test_an_end_that_could_not_be_booked_is_still_known_to_be_exact(desk: Desk, tmp_path: Path) -> None:
    """The meter remembers that the vendor's end was read: no residual is assumed when it is settled later."""
    hold = opened(desk)
    hold.activate()
    read(hold, MIB)
    desk.ledger.close()
    with pytest.raises(LedgerError):
        hold.finish("done", clean=True)
    hold.abandon()
    again = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    try:
        (recovered,) = recover_orphans(
            again, desk.meter_dir, host="desk-1", boot_id=boot_id(), clock=SystemClock()
        )
        assert (recovered.size_bytes, recovered.residual_bytes) == (MIB, 0)
    finally:
        again.close()


def test_an_unreachable_ledger_leaves_the_lease_as_it_was(desk: Desk) -> None:
    hold = opened(desk)
    hold.activate()
    read(hold, MIB)
    left = hold.left_bytes
    desk.ledger.close()
    with pytest.raises(LedgerError):
        hold.renew()
    assert hold.left_bytes == left
    with pytest.raises(LedgerError):
        hold.finish("done", clean=True)
    hold.abandon()


# --- time ---------------------------------------------------------------------------------------------------


def test_hours_run_out_while_there_is_still_time_to_end(desk: Desk) -> None:
    hold = opened(desk, policy(budget("account", limit("month", "hours", "0.1"))))
    hold.activate()
    limit_s = 360
    while not hold.time_exhausted:
        desk.clock.advance(1)
        if hold.renewal_overdue and not hold.renew():
            assert hold.denied is not None
            assert hold.denied.reasons[0].unit == "hours"
    used_s = (desk.clock.now() - NOW).total_seconds()
    assert limit_s - ENDING_MS / 1000 - 1 <= used_s <= limit_s - ENDING_MS / 1000
    hold.finish("limit", clean=True)
    assert balances_by_unit(desk.ledger)["hours"].settled == int(used_s * 1000)


def test_a_lease_is_renewed_now_and_then_even_when_nothing_flows(desk: Desk) -> None:
    hold = opened(desk)
    hold.activate()
    assert not hold.renewal_overdue
    desk.clock.advance(RENEW_EVERY_S)
    assert hold.renewal_overdue
    assert hold.renew()
    assert not hold.renewal_overdue
    hold.finish("done", clean=True)


def test_an_idle_connection_soon_gives_back_what_others_could_use(desk: Desk) -> None:
    """After a few quiet seconds it keeps the least; alone on its budget it is left alone."""
    hold, other = opened(desk), opened(desk)
    hold.activate()
    read(hold, 8 * MIB)
    desk.clock.advance(1)
    assert hold.renew()
    assert hold.left_bytes == 8 * MIB * 30
    desk.clock.advance(IDLE_AFTER_S)
    assert hold.renewal_overdue
    assert hold.renew()
    assert hold.left_bytes == FIRST_LEASE_BYTES
    desk.clock.advance(IDLE_AFTER_S)
    assert not hold.renewal_overdue
    for one in (hold, other):
        one.finish("done", clean=True)


def test_an_approval_lets_a_running_connection_go_on_and_ends_with_its_time(desk: Desk) -> None:
    """The next renewal sees it; after its end the budget is frozen by what it allowed."""
    hold = opened(desk, policy(budget("account", limit("month", "usd", "0.05"))))
    hold.activate()
    read(hold, 24 * MIB)
    assert not hold.renew()
    approve(desk, "account", "usd", 10**9, hours=1)
    assert hold.renew()
    assert not hold.exhausted
    read(hold, 24 * MIB)
    assert hold.renew()
    desk.clock.advance(3601)
    assert not hold.renew()
    assert hold.denied is not None
    assert hold.denied.code == "frozen"
    hold.finish("limit", clean=True)


def test_an_approval_of_another_budget_or_unit_adds_nothing(desk: Desk) -> None:
    guarded = policy(budget("account", limit("month", "usd", 0)))
    approve(desk, "other", "usd", 10**9)
    approve(desk, "account", "gib", 10**9)
    with pytest.raises(Refused):
        opened(desk, guarded)


def test_what_goes_past_a_limit_is_recorded_as_an_overrun(desk: Desk) -> None:
    """By how much, of which limit, by which hold."""
    hold = opened(desk, policy(budget("account", limit("month", "usd", "0.05"))))
    hold.activate()
    read(hold, GIB)
    hold.finish("the vendor did not stop", clean=True)
    (found,) = desk.ledger.overruns("desk", "2026-11")
    assert (found.hold_id, found.budget, found.period, found.unit) == (
        hold.terms.id,
        "account",
        "month",
        "usd",
    )
    assert (found.limit_amount, found.past) == (50_000_000, 2_110_000_000)


def test_a_hold_that_kept_to_its_grant_has_no_overrun(desk: Desk) -> None:
    """Also where another one's overrun has frozen the budget."""
    guarded = policy(budget("account", limit("month", "usd", "0.05")))
    kept, broke = opened(desk, guarded), opened(desk, guarded)
    read(broke, GIB)
    broke.finish("the vendor did not stop", clean=True)
    read(kept, MIB)
    kept.finish("done", clean=True)
    assert [found.hold_id for found in desk.ledger.overruns("desk", "2026-11")] == [broke.terms.id]


def test_a_hold_ends_with_the_first_of_its_periods(desk: Desk) -> None:
    day = budget("daily", limit("day", "usd", 15), timezone="America/New_York")
    hold = opened(desk, policy(EVERYTHING, day))
    assert hold.period_end_utc == datetime(2026, 11, 24, 5, tzinfo=UTC)
    hold.release()


@pytest.mark.parametrize("period", ["total", "month"])
def test_no_hold_spans_two_billing_months(desk: Desk, period: str) -> None:
    """Whatever the budgets' periods are: an entry belongs to one month."""
    hold = opened(desk, policy(budget("account", limit(period, "usd", 100))))  # type: ignore[arg-type]
    assert hold.period_end_utc == MONTH_END
    hold.release()


def test_the_month_and_the_periods_of_a_hold_are_those_of_one_instant(desk: Desk) -> None:
    """A clock that passes midnight while a request is being decided must not mix two months."""

    class Ticking(ManualClock):
        def now(self) -> datetime:
            self.advance(0.4)
            return super().now()

    desk.windows = always
    desk.clock = Ticking(MONTH_END - timedelta(seconds=0.5))
    hold = opened(desk)
    (stored,) = desk.ledger.open_holds()
    starts = {claim.key.period_start_utc for claim in stored.claims}
    assert (stored.terms.month, starts) == ("2026-11", {MONTH_START})
    hold.release()


# --- connections ---------------------------------------------------------------------------------------------


def test_connections_are_counted_once_each_whatever_becomes_of_them(desk: Desk) -> None:
    guard = desk.guard(policy(budget("account", limit("month", "connections", 2))))
    first, second = approved(guard, "c1").hold, approved(guard, "c2").hold
    first.activate()
    assert first.renew() and first.renew()
    first.finish("done", clean=True)
    with pytest.raises(Refused) as refused:
        approved(guard, "c3")
    assert refused.value.decision.reasons[0].unit == "connections"
    second.release()  # it never asked for anything
    approved(guard, "c4").hold.release()


def test_a_connection_that_goes_on_in_a_new_period_is_not_counted_again_in_the_old_one(desk: Desk) -> None:
    """A day ends at midnight; the month goes on, and so does the connection."""
    desk.windows = always
    both = budget("account", limit("day", "connections", 5), limit("month", "connections", 1))
    guard = desk.guard(policy(both))
    old = approved(guard).hold
    old.activate()
    hold = old
    for _ in range(3):
        desk.clock.advance(86_400)
        following = guard.open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE, continues=hold).hold
        following.activate()
        hold.finish("period ended", clean=True)
        hold = following
    hold.finish("done", clean=True)
    counts = {
        (key.period, key.period_start_utc.day): amount
        for key, amount in desk.ledger.account_balances("desk", MONTH_START, MONTH_END).items()
    }
    assert counts == {
        ("day", 23): Balance(1, 0),
        ("day", 24): Balance(1, 0),
        ("day", 25): Balance(1, 0),
        ("day", 26): Balance(1, 0),
        ("month", 1): Balance(1, 0),
    }


# --- what costs nothing --------------------------------------------------------------------------------------


def test_data_in_a_plan_flows_without_end_and_is_counted(desk: Desk) -> None:
    desk.prices = PriceTable({"live": Decimal(0)})
    hold = opened(desk)
    hold.activate()
    read(hold, 500 * GIB)
    assert hold.left_bytes is None
    assert not hold.exhausted
    assert not hold.renewal_due
    assert hold.renew()
    desk.ledger.close()
    with pytest.raises(LedgerError):
        hold.renew()
    assert not hold.exhausted  # it goes on while the ledger cannot be reached
    hold.abandon()


def test_meters_that_cannot_be_made_refuse_and_leave_nothing(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    broken = replace(desk, meter_dir=tmp_path / "file")
    with pytest.raises(Refused) as refused:
        opened(broken)
    assert refused.value.decision.code == "ledger_unavailable"
    assert [row.code for row in desk.ledger.refusals("desk", "2026-11")] == ["ledger_unavailable"]
    assert desk.ledger.open_holds() == []

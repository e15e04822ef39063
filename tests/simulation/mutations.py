"""The code under test broken on purpose, in one way each: a simulation that does not notice proves nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from budget_guard.guard import connection, guard, lease, periods
from budget_guard.guard.connection import LiveHold
from budget_guard.guard.guard import Guard
from budget_guard.guard.periods import FOREVER
from budget_guard.ledger import booking, meter, recovery, rows, states, store
from budget_guard.ledger.meter import Meter
from budget_guard.ledger.model import Claim, Hold, Posting
from budget_guard.ledger.store import SqlLedger
from budget_guard.money import GIB, NANO
from budget_guard.policy.model import Policy
from tests.simulation.auditor import Breach
from tests.simulation.running import Outcome, run
from tests.simulation.schedule import make_schedule


@contextmanager
def held_is_not_added() -> Iterator[None]:
    """A hold's claims are written, and hold nothing."""
    post: Any = rows.post

    def emptied(*given: Any, **named: Any) -> Any:
        *rest, before, after = given
        if not before:
            after = {key: replace(claim, held=0) for key, claim in after.items()}
        return post(*rest, before, after, **named)

    with patch.object(store, "post", emptied):
        yield


@contextmanager
def a_balance_is_left_as_it_was() -> Iterator[None]:
    """The first posting on a balance moves the claims, not the balance."""
    with patch.object(rows, "_differs", lambda one, other: one != other and other.holders > 0):
        yield


@contextmanager
def recovery_releases_what_was_active() -> Iterator[None]:
    def release(ledger: Any, hold: Hold, use: Any, now: Any, *, had_ended: bool) -> Any:
        ledger.release(hold.terms.id)
        return recovery._outcome(hold, "released", use, 0, "")

    table = {**states.TRANSITIONS, "active": {**states.TRANSITIONS["active"], "release": "released"}}
    with (
        patch.object(states, "TRANSITIONS", table),
        patch.object(recovery, "_settle", release),
    ):
        yield


@contextmanager
def recovery_takes_from_the_living() -> Iterator[None]:
    def unlocked(path: Path) -> int | None:
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None

    with patch.object(meter, "_lock_existing", unlocked):
        yield


@contextmanager
def recovery_assumes_no_residual() -> Iterator[None]:
    with patch.object(recovery, "residual_bytes", lambda **_: 0):
        yield


@contextmanager
def a_broken_line_leaves_no_residual() -> Iterator[None]:
    with patch.object(connection, "residual_bytes", lambda **_: 0):
        yield


class _Whatever(str):
    """Equal to every boot id."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


@contextmanager
def recovery_trusts_a_meter_of_another_boot() -> Iterator[None]:
    with patch.object(Meter, "boot_id", property(lambda _: _Whatever("boot"))):
        yield


class _Newest(int):
    """A version that is never at or below another."""

    def __le__(self, other: int) -> bool:
        return False


@contextmanager
def old_restatements_count() -> Iterator[None]:
    """The version of a restatement is ignored, and what is settled may shrink."""
    restate = SqlLedger.restate
    with (
        patch.object(
            SqlLedger,
            "restate",
            lambda self, name, version, *rest: restate(self, name, _Newest(version), *rest),
        ),
        patch.object(rows, "_check_move", lambda *_: None),
    ):
        yield


@contextmanager
def only_the_first_budget_is_held() -> Iterator[None]:
    find = Policy.budgets_for
    with patch.object(Policy, "budgets_for", lambda self, **named: find(self, **named)[:1]):
        yield


@contextmanager
def a_refusal_leaves_a_hold() -> Iterator[None]:
    open_hold = SqlLedger.open_hold

    def always(self: SqlLedger, terms: Any, keys: Any, decide: Any) -> Hold | None:
        refused: list[bool] = []

        def agree(balances: Any) -> Posting:
            posting: Posting = decide(balances)
            if posting.claims is None:
                refused.append(True)
                return Posting(tuple(Claim(key, 0, 0) for key in keys))
            return posting

        made = open_hold(self, terms, keys, agree)
        return None if refused else made

    with patch.object(SqlLedger, "open_hold", always):
        yield


@contextmanager
def periods_never_end() -> Iterator[None]:
    """A connection goes on under the old period's hold."""
    with patch.object(LiveHold, "period_end_utc", property(lambda _: FOREVER)):
        yield


@contextmanager
def approvals_never_end() -> Iterator[None]:
    approvals, raised = SqlLedger.approvals, periods.with_approvals

    def forever(limits: Any, found: Any, at: Any) -> Any:
        return raised(limits, [replace(each, from_utc=at, until_utc=FOREVER) for each in found], at)

    with (
        patch.object(SqlLedger, "approvals", lambda self, account, at=None: approvals(self, account)),
        patch.object(guard, "with_approvals", forever),
    ):
        yield


@contextmanager
def a_connection_counts_with_every_hold() -> Iterator[None]:
    open_live = Guard.open_live
    with patch.object(
        Guard,
        "open_live",
        lambda self, request, **named: open_live(self, request, **{**named, "continues": None}),
    ):
        yield


@contextmanager
def the_vendor_is_asked_before_the_ledger_knows() -> Iterator[None]:
    with patch.object(LiveHold, "activate", lambda _: None):
        yield


@contextmanager
def a_lease_keeps_nothing_for_its_ending() -> Iterator[None]:
    size = lease.size_lease

    def short(limits: Any, balances: Any, usage: Any, price: Any, wish: Any, granted: Any = None) -> Any:
        return size(limits, balances, usage, price, replace(wish, allowance_bytes=0), granted)

    with patch.object(connection, "size_lease", short):
        yield


@contextmanager
def limits_are_not_looked_at() -> Iterator[None]:
    """Live connections are measured against a thousand times of what is allowed."""
    size = lease.size_lease

    def generous(limits: Any, *rest: Any) -> Any:
        more = tuple(
            each if each.limit is None else replace(each, limit=each.limit * 1000) for each in limits
        )
        return size(more, *rest)

    with patch.object(connection, "size_lease", generous):
        yield


@contextmanager
def overruns_are_kept_quiet() -> Iterator[None]:
    with patch.object(connection, "overruns_of", lambda *_: lambda _: ()):
        yield


@contextmanager
def money_is_given_back_before_it_is_free() -> Iterator[None]:
    """A lease that shrinks can be spent until its renewal has been answered."""
    with patch.object(LiveHold, "_narrow", lambda *_: False):
        yield


@contextmanager
def what_the_ledger_lost_stays_lost() -> Iterator[None]:
    """Nobody writes again what a failover took; only a ledger that loses commits shows it."""
    with (
        patch.object(recovery, "_book_lost", lambda *_: None),
        patch.object(LiveHold, "_look_again", lambda *_: None),
    ):
        yield


@contextmanager
def money_is_rounded_down() -> Iterator[None]:
    def down(size_bytes: int, price: Any) -> int:
        numerator, denominator = price.as_integer_ratio()
        return int(size_bytes * numerator * NANO // (denominator * GIB))

    with ExitStack() as stack:
        for module in (booking, lease, recovery):
            stack.enter_context(patch.object(module, "cost_nano_usd", down))
        yield


MUTATIONS: Mapping[str, Callable[[], Any]] = {
    broken.__name__.replace("_", " "): broken
    for broken in (
        held_is_not_added,
        a_balance_is_left_as_it_was,
        only_the_first_budget_is_held,
        limits_are_not_looked_at,
        a_refusal_leaves_a_hold,
        the_vendor_is_asked_before_the_ledger_knows,
        money_is_rounded_down,
        a_lease_keeps_nothing_for_its_ending,
        a_broken_line_leaves_no_residual,
        recovery_assumes_no_residual,
        recovery_takes_from_the_living,
        recovery_releases_what_was_active,
        recovery_trusts_a_meter_of_another_boot,
        a_connection_counts_with_every_hold,
        periods_never_end,
        old_restatements_count,
        overruns_are_kept_quiet,
        approvals_never_end,
        money_is_given_back_before_it_is_free,
        what_the_ledger_lost_stays_lost,
    )
}
LOSSY = "what the ledger lost stays lost"


@dataclass(frozen=True, slots=True)
class Found:
    """How a mutation was found out: after so many schedules, or not at all."""

    mutation: str
    schedules: int
    outcome: Outcome | None

    def row(self) -> str:
        if self.outcome is None:
            return f"{self.mutation:44} NOT FOUND in {self.schedules} schedules"
        return (
            f"{self.mutation:44} {self.outcome.seed:>8} {self.outcome.step:>5}  "
            f"{(self.outcome.failure or '')[:150]}"
        )


def find(mutation: str, schedules: int, first: int = 0) -> Found:
    """Run schedules with one mutation until one fails."""
    for seed in range(first, first + schedules):
        outcome = run(make_schedule(seed, lossy=mutation == LOSSY), broken=MUTATIONS[mutation])
        # An error of the broken code itself is not the auditor's merit.
        if outcome.failure is not None and outcome.failure.startswith(Breach.__name__):
            return Found(mutation, seed - first + 1, outcome)
    return Found(mutation, schedules, None)

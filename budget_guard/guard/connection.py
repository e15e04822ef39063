"""One live connection's hold: what it may use, what it has used, and how that reaches the ledger.

`count` runs on the data path and touches memory only. `renew`, `settle` and the other methods that write to the
ledger block, so callers run them outside the event loop; only one of them at a time.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from budget_guard.clock import Clock, month_bounds, uptime_ns
from budget_guard.decisions import Decision
from budget_guard.errors import Refused, UnknownHold
from budget_guard.guard.alerts import Alerts, seen_by
from budget_guard.guard.asking import PARTS
from budget_guard.guard.lease import (
    ENDING_MS,
    FIRST_LEASE_BYTES,
    LEASE_BYTES_MIN,
    Grant,
    Usage,
    Wish,
    next_ahead_bytes,
    part_bytes,
    settled_count,
    size_lease,
)
from budget_guard.guard.overruns import overruns_of
from budget_guard.guard.periods import Approve, BudgetLimit
from budget_guard.ledger.booking import make_entry, with_left_out
from budget_guard.ledger.memo import memo_text, write_again
from budget_guard.ledger.meter import FinalWord, Meter
from budget_guard.ledger.model import (
    BalanceKey,
    Balances,
    Claim,
    Ending,
    Entry,
    HoldTerms,
    Ledger,
    Posting,
)
from budget_guard.ledger.residual import residual_bound_bytes, residual_bytes
from budget_guard.money import cost_nano_usd

log = logging.getLogger(__name__)

# Renewed at least this often, so that `status` shows a running connection as it is.
RENEW_EVERY_S = 15.0
# A connection through which next to nothing comes for this long gives back what it does not need.
IDLE_AFTER_S = 3.0
IDLE_BYTES = 64 * 1024


def connection_allowance_bytes(receive_buffer_bytes: int, read_bytes: int) -> int:
    """What a lease keeps free for ending: as much as an unclean end may leave uncounted."""
    return residual_bound_bytes(receive_buffer_bytes, read_bytes)


@dataclass(frozen=True, slots=True)
class Counted:
    """What went over a connection since its hold was opened, in bytes; control bytes are part of the size."""

    size_bytes: int
    control_bytes: int


class LiveHold:
    """A hold on the ledger and the meter that counts against it."""

    def __init__(
        self,
        terms: HoldTerms,
        limits: tuple[BudgetLimit, ...],
        *,
        ledger: Ledger,
        clock: Clock,
        meter: Meter,
        allowance_bytes: int,
        approved: Approve = lambda limits: limits,
        may_lose_commits: bool = False,
        alerts: Alerts | None = None,
    ) -> None:
        """`approved` adds to limits what people have approved at this moment. Raises LedgerError as it does.

        `may_lose_commits` says that the ledger's server may come back from a failover without its last commits.
        """
        self.terms = terms
        self.limits = approved(limits)
        self._written_limits = limits
        self._approved = approved
        self.allowance_bytes = allowance_bytes
        # The periods that have counted this connection, in this hold or in those that it continues, and their ends.
        self._counted_before: frozenset[BalanceKey] = frozenset()
        self._counted_until = {
            limit.key: limit.period_end_utc for limit in limits if limit.unit == "connections"
        }
        self._alerts = alerts or Alerts(())
        self._ledger = ledger
        self._clock = clock
        self._meter = meter
        self._size_bytes = 0
        self._control_bytes = 0
        self._left_out_bytes = 0
        self._may_lose_commits = may_lose_commits
        self._ending_at_bytes: int | None = None
        self._version = 0
        self._claims: dict[BalanceKey, Claim] = {}
        self._allowed: dict[
            BalanceKey, int
        ] = {}  # what each balance was last allowed to take, settled and held
        self._grant = Grant(0, 0)
        self._opened_s = clock.elapsed_s()
        self._renewed_s = clock.monotonic_s()
        self._measured_s = self._opened_s
        self._renewed_bytes = 0
        self._renew_below_bytes = 0
        self._rate = 0.0
        self._returned = False
        self.denied: Decision | None = None  # the last renewal's refusal, while it stands
        self.short = False  # whether the last renewal brought nothing more: it is worth asking again soon
        self.found_loss = False  # whether the ledger was seen to have lost something it had committed

    def go_on_from(self, earlier: LiveHold) -> None:
        """Take over what is known of the connection: the periods that have counted it, and how fast it can be."""
        begins = self.terms.opened_utc
        self._counted_before = earlier.connection_keys
        self._counted_until |= {key: end for key, end in earlier._counted_until.items() if end > begins}
        self._meter.go_on_from(earlier._meter)

    # --- on the data path ---------------------------------------------------------------------------------

    def count(
        self,
        size_bytes: int,
        control_bytes: int,
        monotonic_ns: int,
        beside_bytes: int = 0,
        *,
        filled: bool = False,
    ) -> None:
        """Count bytes that the vendor sent; they are in the meter file before this returns.

        `beside_bytes` came on the same connection and are counted on other holds. `filled` says that the read took all
        that it might.
        """
        self._size_bytes += size_bytes
        self._control_bytes += control_bytes
        self._meter.add(size_bytes, control_bytes, monotonic_ns, beside_bytes, filled=filled)

    def leave_out(self, size_bytes: int) -> None:
        """Bytes that the vendor sent and, by the policy's own word, does not bill: noted, and not counted."""
        self._left_out_bytes += size_bytes
        self._meter.leave_out(size_bytes)

    def begin_ending(self) -> None:
        """The connection is being half-closed. What may still come is the allowance, whatever of it is read."""
        self._ending_at_bytes = self._size_bytes
        # It may be settled, and its meter closed, by another thread in this moment.
        with suppress(ValueError):
            self._meter.mark_ending()

    @property
    def left_bytes(self) -> int | None:
        """Bytes until the connection must begin to end; None when nothing limits them."""
        if self._grant.size_bytes is None:
            return None
        return self._grant.size_bytes - self.allowance_bytes - self._size_bytes

    @property
    def exhausted(self) -> bool:
        """Whether what is granted, less what ending may take, is used up."""
        left = self.left_bytes
        return left is not None and left <= 0

    @property
    def renewal_due(self) -> bool:
        left = self.left_bytes
        return left is not None and left < self._renew_below_bytes

    # --- now and then -------------------------------------------------------------------------------------

    @property
    def time_exhausted(self) -> bool:
        """Whether the granted hours, less what ending may take, are used up."""
        granted = self._grant.elapsed_ms
        return granted is not None and self._usage().elapsed_ms >= granted - ENDING_MS

    @property
    def renewal_overdue(self) -> bool:
        """Whether the ledger has not heard of this connection for a while, its hours run low, or it has gone idle."""
        quiet_s = self._clock.monotonic_s() - self._renewed_s
        if quiet_s >= RENEW_EVERY_S or (quiet_s >= IDLE_AFTER_S and self._is_idle and not self._returned):
            return True
        granted = self._grant.elapsed_ms
        return granted is not None and granted - self._usage().elapsed_ms < RENEW_EVERY_S * 2000

    @property
    def lasts_s(self) -> float | None:
        """How long the rest of the lease lasts, at the last renewal's rate; None when nothing says that it ends."""
        left, granted_ms = self.left_bytes, self._grant.elapsed_ms
        spans = []
        if left is not None and self._rate > 0:
            spans.append(max(0, left) / self._rate)
        if granted_ms is not None:
            spans.append(max(0, granted_ms - ENDING_MS - self._usage().elapsed_ms) / 1000)
        return min(spans, default=None)

    @property
    def period_start_utc(self) -> datetime:
        """When the last of its periods began: a clock that says less has been set back since."""
        month_start = month_bounds(self.terms.month)[0]
        return max([month_start, *(limit.key.period_start_utc for limit in self.limits)])

    @property
    def period_end_utc(self) -> datetime:
        """When the first of its periods ends, the billing month being one of them: no hold spans two."""
        month_end = month_bounds(self.terms.month)[1]
        ends = (limit.period_end_utc for limit in self.limits)
        return min([month_end, *ends, *self._counted_until.values()])

    @property
    def connection_keys(self) -> frozenset[BalanceKey]:
        """The periods that have counted this connection; one that is over may come back with a clock set back."""
        return self._counted_before | frozenset(self._counted_until)

    @property
    def shared_keys(self) -> frozenset[BalanceKey]:
        """What it counts for the whole connection, and no other hold of it does: the connection and its hours."""
        return self.connection_keys | {limit.key for limit in self.limits if limit.unit == "hours"}

    @property
    def counted(self) -> Counted:
        return Counted(self._size_bytes, self._control_bytes)

    @property
    def cost_nano_usd(self) -> int:
        """What the counted bytes cost so far."""
        return cost_nano_usd(self._size_bytes, self.terms.unit_price_usd)

    @property
    def peak_bytes_per_s(self) -> int | None:
        return self._meter.peak_bytes_per_s

    @property
    def last_read_ns(self) -> int:
        return self._meter.last_read_monotonic_ns

    # --- with the ledger ----------------------------------------------------------------------------------

    def open(self, wish_bytes: int = LEASE_BYTES_MIN) -> None:
        """Hold a first lease. Raises Refused, with nothing held, when there is no room for it."""
        wish = Wish(wish_bytes, FIRST_LEASE_BYTES, self.allowance_bytes)
        asked_s = self._clock.monotonic_s()
        decision: list[Decision] = []
        seen: list[Balances] = []

        def decide(balances: Balances) -> Posting:
            seen.append(balances)
            answer, grant, claims = size_lease(
                self.limits, balances, Usage(), self.terms.unit_price_usd, wish
            )
            decision.append(answer)
            if not answer.allowed:
                return Posting(None)
            self._accept(grant, claims, Usage(), asked_s)
            self._allow(claims)
            return Posting(claims)

        keys = [limit.key for limit in self.limits]
        self._meter.describe(memo_text(self._ledger, self.terms, keys))
        if self._ledger.open_hold(self.terms, keys, decide) is None:
            raise Refused(decision[-1])
        self._alerts.look_after(self.limits, seen[-1])

    def activate(self) -> None:
        """Commit that something billable is about to be asked for."""
        self._ledger.activate(self.terms.id, self._clock.now())
        self._meter.mark_asked()

    def renew(self) -> bool:
        """Restate what is used and ask for more; False when the answer was no (`denied` says why).

        Raises LedgerError when the ledger cannot be reached; the lease stays as it was.
        """
        asked_s = self._clock.monotonic_s()
        usage = self._usage()
        idle = self._is_idle
        rate = self._measure(usage)
        wish = Wish(
            next_ahead_bytes(rate),
            FIRST_LEASE_BYTES // 4,
            self.allowance_bytes,
            shared_bytes=FIRST_LEASE_BYTES if idle else None,
            part_bytes=part_bytes(rate),
        )
        self.limits = self._approved(self._written_limits)
        if self._may_lose_commits:
            self._look_again(usage)
        before = self._grant
        seen: list[Balances] = []
        outcome: list[tuple[Decision, Grant, tuple[Claim, ...], Usage]] = []

        def decide(balances: Balances) -> Posting:
            others = self._without_own_share(balances)
            now = usage
            answer = size_lease(self.limits, others, now, self.terms.unit_price_usd, wish, before)
            if self._narrow(answer[1]):
                # What came before that is more than is left of it.
                now = self._usage()
                answer = size_lease(self.limits, others, now, self.terms.unit_price_usd, wish, before)
            outcome.append((*answer, now))
            seen.append(others)
            return Posting(answer[2])

        self._version += 1
        keys = [limit.key for limit in self.limits]
        try:
            self._ledger.restate(self.terms.id, self._version, keys, decide, self._clock.now())
        except UnknownHold:
            self._write_again(usage)
            self._ledger.restate(self.terms.id, self._version, keys, decide, self._clock.now())
        decision, grant, claims, usage = outcome[-1]
        used = usage.size_bytes > self._renewed_bytes
        nothing_more = used and grant.size_bytes is not None and grant.size_bytes == before.size_bytes
        self._accept(grant, claims, usage, asked_s)
        self._alerts.look(
            self.limits, {claim.key: seen[-1][claim.key].settled + claim.settled for claim in claims}
        )
        self._returned = idle
        self.denied = None if decision.allowed else decision
        if decision.allowed:
            self._allow(claims)
        self.short = nothing_more or not decision.allowed
        if self.short:
            left = self.left_bytes
            self._renew_below_bytes = 0 if left is None else left - left // PARTS
        return decision.allowed

    def finish(self, note: str, *, clean: bool) -> Entry:
        """Write what was used as the final word, and remove the meter.

        `clean` says that the vendor's own end was read, so every byte was counted. Otherwise bytes may have been
        billed that nobody saw: a residual is added, and labelled assumed.
        """
        if clean:
            self._meter.mark_ended()
            return self._settle("exact", 0, note)
        since_ns = uptime_ns() - self.last_read_ns if self.last_read_ns else None
        missing = residual_bytes(
            bound_bytes=self._unseen_bytes_max(),
            peak_bytes_per_s=self.peak_bytes_per_s,
            since_last_read_ns=since_ns,
        )
        return self._settle("residual", missing, f"{note}; not ended by the vendor, the residual is assumed")

    def _unseen_bytes_max(self) -> int:
        """The allowance, less what has been read of it since the ending began."""
        if self._ending_at_bytes is None:
            return self.allowance_bytes
        return max(0, self.allowance_bytes - (self._size_bytes - self._ending_at_bytes))

    def _settle(self, ending: Ending, residual_bytes: int, note: str) -> Entry:
        usage = self._usage()
        total = Usage(usage.size_bytes + residual_bytes, usage.elapsed_ms)
        price = self.terms.unit_price_usd
        entry = make_entry(
            self.terms,
            ended_utc=self._clock.now(),
            size_bytes=usage.size_bytes,
            control_bytes=self._control_bytes,
            residual_bytes=residual_bytes,
            ending=ending,
            note=with_left_out(note, self._left_out_bytes),
        )
        settled = {
            limit.key: 1 if limit.unit == "connections" else settled_count(limit.unit, total, price)
            for limit in self.limits
        }
        now = self._clock.now()
        seen: list[Balances] = []
        past = seen_by(seen, overruns_of(self.terms.id, self.limits, self._allowed, settled, now, note))
        # If this cannot be booked now, it is booked later, as it is here.
        self._meter.mark_final(FinalWord(residual_bytes, entry.ended_utc, usage.elapsed_ms))
        try:
            self._ledger.settle(self.terms.id, settled, [entry], past, now)
        except UnknownHold:
            self._write_again(usage)
            self._ledger.settle(self.terms.id, settled, [entry], past, now)
        for balances in seen:
            self._alerts.look_after(self.limits, balances)
        self._dispose()
        return entry

    def release(self) -> None:
        """Give everything back: nothing billable was ever asked for."""
        # A hold that is lost with the ledger's last commits has nothing to give back.
        with suppress(UnknownHold):
            self._ledger.release(self.terms.id, self._clock.now())
        self._dispose()

    def abandon(self) -> None:
        """Leave the hold as it stands: recovery settles it from the meter file, which stays."""
        self._meter.close(remove=False)

    # --- inside -------------------------------------------------------------------------------------------

    def _usage(self) -> Usage:
        elapsed_ms = int((self._clock.elapsed_s() - self._opened_s) * 1000)
        return Usage(self._size_bytes, max(0, elapsed_ms))

    def _dispose(self) -> None:
        """The hold is closed: remove its meter, or keep it while that may still be lost."""
        if self._may_lose_commits:
            self._meter.keep(int(self._clock.monotonic_s() * 1e9))
        else:
            self._meter.close(remove=True)

    def _look_again(self, usage: Usage) -> None:
        """What the ledger knows of this hold: after a failover less than was written, or nothing."""
        hold = self._ledger.hold(self.terms.id)
        if hold is None:
            self._write_again(usage)
            return
        self.found_loss |= hold.version < self._version
        if hold.state == "held" and self._meter.asked:
            self.found_loss = True
            self._ledger.activate(self.terms.id, self._clock.now())
        self._claims = {claim.key: claim for claim in hold.claims}

    def _write_again(self, usage: Usage) -> None:
        """Write a hold that the ledger has lost: what was used as settled, the rest of what was granted as held."""
        log.warning(
            "the ledger had lost hold %s with its last commits: it is written again, with %d bytes used",
            self.terms.id,
            usage.size_bytes,
        )
        self.found_loss = True
        price = self.terms.unit_price_usd
        claims = []
        for claim in self._claims.values():
            used = max(claim.settled, settled_count(claim.key.unit, usage, price))
            claims.append(Claim(claim.key, used, max(0, claim.settled + claim.held - used)))
        write_again(self._ledger, self.terms, claims)
        self._claims = {claim.key: claim for claim in claims}

    @property
    def _is_idle(self) -> bool:
        return self._size_bytes - self._renewed_bytes < IDLE_BYTES

    def _measure(self, usage: Usage) -> float:
        """Bytes per second since the last renewal, never less than half of what it was before."""
        seconds = max(0.05, self._clock.elapsed_s() - self._measured_s)
        self._rate = max((usage.size_bytes - self._renewed_bytes) / seconds, self._rate / 2)
        return self._rate

    def _accept(self, grant: Grant, claims: tuple[Claim, ...], usage: Usage, asked_s: float) -> None:
        """The ledger's answer to what was asked at `asked_s`: it knows things as of then."""
        self._claims = {claim.key: claim for claim in claims}
        self._grant = grant
        self._renewed_s = asked_s
        self._measured_s = self._clock.elapsed_s()
        self._renewed_bytes = usage.size_bytes
        left = self.left_bytes
        self._renew_below_bytes = 0 if left is None else left // 2

    def _allow(self, claims: tuple[Claim, ...]) -> None:
        """Remember what was allowed: a refused renewal books what was used, and allows none of it."""
        self._allowed = {claim.key: claim.settled + claim.held for claim in claims}

    def _narrow(self, grant: Grant) -> bool:
        """Give back before it is written: bytes go on coming meanwhile, and none may use what is given back.

        Whether so many had come already that less would be left than an ending may take. Should the write fail, the
        next one makes the room again.
        """
        self._grant = Grant(
            _lesser(self._grant.size_bytes, grant.size_bytes),
            _lesser(self._grant.elapsed_ms, grant.elapsed_ms),
        )
        return grant.size_bytes is not None and self._size_bytes > grant.size_bytes - self.allowance_bytes

    def _without_own_share(self, balances: Balances) -> Balances:
        """Balances as everybody else's: the ledger already leaves out what this hold holds ahead."""
        return {
            key: replace(balance, settled=balance.settled - self._claims[key].settled)
            if key in self._claims
            else balance
            for key, balance in balances.items()
        }


def _lesser(one: int | None, other: int | None) -> int | None:
    """The smaller of two bounds; None is no bound."""
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)

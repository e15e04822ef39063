"""One historical request's hold: its quote is held before the request is made, what flowed is settled after it."""

from __future__ import annotations

from contextlib import suppress

from budget_guard.clock import Clock
from budget_guard.errors import UnknownHold
from budget_guard.guard.alerts import Alerts, seen_by
from budget_guard.guard.overruns import overruns_of
from budget_guard.guard.periods import BudgetLimit
from budget_guard.guard.quote import Quote
from budget_guard.ledger.batches import Billed
from budget_guard.ledger.booking import make_entry
from budget_guard.ledger.memo import memo_text, write_again
from budget_guard.ledger.meter import FinalWord, Meter
from budget_guard.ledger.model import Balances, Claim, Ending, Entry, HoldTerms, Ledger


class RequestHold:
    """A hold of a request's whole price, and the meter that counts what flows."""

    def __init__(
        self,
        terms: HoldTerms,
        quote: Quote,
        limits: tuple[BudgetLimit, ...],
        *,
        ledger: Ledger,
        clock: Clock,
        meter: Meter,
        may_lose_commits: bool = False,
        alerts: Alerts | None = None,
    ) -> None:
        """`may_lose_commits`: the ledger's server may come back from a failover without its last commits."""
        self.terms = terms
        self.quote = quote
        self._limits = limits
        self._ledger = ledger
        self._clock = clock
        self._meter = meter
        self._may_lose_commits = may_lose_commits
        self._alerts = alerts or Alerts(())
        self.size_bytes = 0

    def activate(self) -> None:
        """Commit that the request is about to be sent."""
        self._meter.describe(memo_text(self._ledger, self.terms, [limit.key for limit in self._limits]))
        self._ledger.activate(self.terms.id, self._clock.now())
        self._meter.mark_asked()

    def count(self, size_bytes: int, monotonic_ns: int) -> None:
        """Count billable bytes: uncompressed DBN records."""
        self.size_bytes += size_bytes
        self._meter.add(size_bytes, 0, monotonic_ns)

    def settle(self, ending: Ending, *, residual_bytes: int = 0, note: str = "") -> Entry:
        """Write what flowed and, for an unclean end, what may have been billed unseen (at most the largest answer)."""
        residual = max(0, min(residual_bytes, self.quote.bytes_max - self.size_bytes))
        return self._settle(self.size_bytes, residual, ending, note)

    def settle_job(self, billed: Billed, note: str) -> Entry:
        """Settle at what the vendor says that it billed for a batch job."""
        return self._settle(billed.size_bytes, 0, "exact", note, billed)

    def settle_quote(self, note: str) -> Entry:
        """Settle at the quote: for answers whose bytes say nothing about the records in them."""
        return self._settle(max(self.size_bytes, self.quote.size_bytes), 0, "quoted", note)

    def release(self) -> None:
        """Give everything back: the request was never sent, or the vendor refused it."""
        # A hold that is lost with the ledger's last commits has nothing to give back.
        with suppress(UnknownHold):
            self._ledger.release(self.terms.id, self._clock.now())
        self._dispose()

    def abandon(self) -> None:
        """Leave the hold as it stands: recovery settles it from the meter file, which stays."""
        self._meter.close(remove=False)

    def _settle(
        self, size_bytes: int, residual_bytes: int, ending: Ending, note: str, billed: Billed | None = None
    ) -> Entry:
        entry = make_entry(
            self.terms if billed is None else billed.terms(self.terms),
            ended_utc=self._clock.now(),
            size_bytes=size_bytes,
            control_bytes=0,
            residual_bytes=residual_bytes,
            ending=ending,
            note=note,
        )
        total = size_bytes + residual_bytes
        counts = {"usd": entry.cost_nano_usd + entry.residual_nano_usd, "gib": total}
        settled = {limit.key: counts.get(limit.unit, 0) for limit in self._limits}
        granted = {limit.key: self.quote.held_count(limit.unit) for limit in self._limits}
        now = self._clock.now()
        seen: list[Balances] = []
        past = seen_by(seen, overruns_of(self.terms.id, self._limits, granted, settled, now, note))
        # If this cannot be booked now, it is booked later, as it is here.
        self._meter.mark_final(FinalWord(total - self.size_bytes, entry.ended_utc, 0))
        try:
            self._ledger.settle(self.terms.id, settled, [entry], past, now)
        except UnknownHold:
            write_again(self._ledger, self.terms, [Claim(key, 0, held) for key, held in granted.items()])
            self._ledger.settle(self.terms.id, settled, [entry], past, now)
        for balances in seen:
            self._alerts.look_after(self._limits, balances)
        self._dispose()
        return entry

    def _dispose(self) -> None:
        """The hold is closed: remove its meter, or keep it while that may still be lost."""
        if self._may_lose_commits:
            self._meter.keep(int(self._clock.monotonic_s() * 1e9))
        else:
            self._meter.close(remove=True)

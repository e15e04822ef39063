"""Batch jobs whose owners died before their bill was known: found in the ledger, closed by the vendor's word."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta

from budget_guard.clock import Clock, parse_instant
from budget_guard.errors import LedgerError
from budget_guard.guard.guard import Guard
from budget_guard.ledger.batches import Billed, settle_job, submission_of
from budget_guard.ledger.meter import Meter, open_orphan
from budget_guard.ledger.model import Entry, Hold, Ledger, Purchase
from budget_guard.money import cost_nano_usd

# A guard on another machine has so long to see to its own jobs.
OTHERS_AFTER = timedelta(minutes=10)


@dataclass(slots=True)
class Orphan:
    """A hold of a dead owner, and its purchase. Whoever has it holds the lock of its meter, if that is here."""

    hold: Hold
    purchase: Purchase
    ledger: Ledger
    clock: Clock
    meter: Meter | None
    keep_meter: bool

    def settle(self, billed: Billed, note: str) -> Entry:
        """Close it at what the vendor billed. Raises LedgerError."""
        now = self.clock.now()
        entry = settle_job(self.ledger, self.hold, billed, ending="recovered", now=now, note=note)
        self._dispose()
        return entry

    def settle_quote(self, note: str) -> Entry:
        """Close it at all that was held. Raises LedgerError."""
        size = self.hold.terms.residual_bytes_max
        listed = cost_nano_usd(size, self.hold.terms.unit_price_usd)
        cost = max((claim.held for claim in self.hold.claims if claim.key.unit == "usd"), default=listed)
        now = self.clock.now()
        entry = settle_job(self.ledger, self.hold, Billed(size, cost), ending="recovered", now=now, note=note)
        self._dispose()
        return entry

    def abandon(self) -> None:
        """Leave it as it is."""
        if self.meter is not None:
            self.meter.close(remove=False)

    def _dispose(self) -> None:
        if self.meter is None:
            return
        if self.keep_meter:
            self.meter.keep(int(self.clock.monotonic_s() * 1e9))
        else:
            self.meter.close(remove=True)


def find_orphans(guard: Guard, account: str, besides: frozenset[str]) -> list[Orphan]:
    """The open batch holds of an account that nobody owns any more. Raises LedgerError."""
    ledger, found = guard.ledger, []
    for hold in ledger.open_holds(account):
        if hold.terms.id in besides or hold.state != "active" or submission_of(hold.terms) is None:
            continue
        owner = _take_over(guard, hold)
        if owner is None:
            continue
        found.append(
            Orphan(hold, _purchase_of(ledger, hold), ledger, guard.clock, owner.meter, guard.may_lose_commits)
        )
    return found


@dataclass(frozen=True, slots=True)
class _Owner:
    """What is left of a dead owner: its meter, if that is here."""

    meter: Meter | None


def _take_over(guard: Guard, hold: Hold) -> _Owner | None:
    """None while the owner lives, as far as can be seen from here."""
    terms = hold.terms
    path = guard.meter_dir / (terms.meter or "")
    if terms.meter is not None and path.exists():
        try:
            meter = open_orphan(path)
        except LedgerError:
            return None
        return None if meter is None else _Owner(meter)
    if terms.host == guard.host or guard.clock.now() - terms.opened_utc >= OTHERS_AFTER:
        return _Owner(None)
    return None


def _purchase_of(ledger: Ledger, hold: Hold) -> Purchase:
    """The row of a hold; made again from the hold's own words where the ledger has lost it."""
    terms = hold.terms
    rows = ledger.purchases(terms.account, terms.dataset)
    found = next((row for row in rows if row.id == terms.id), None)
    if found is not None:
        return found
    said = submission_of(terms)
    asked = json.loads(terms.request)
    assert said is not None
    purchase = Purchase(
        id=terms.id,
        account=terms.account,
        stream=terms.stream or "",
        dataset=terms.dataset,
        schema=terms.schema,
        stype_in=asked["stype_in"],
        symbols=json.dumps(asked["symbols"]),
        start_utc=parse_instant(asked["start"]),
        end_utc=parse_instant(asked["end"]),
        form=said.form,
        kind="batch",
        job_id="",
        state="asked",
        size_bytes=0,
        cost_nano_usd=0,
        asked_utc=terms.opened_utc,
    )
    ledger.record_purchase(purchase)
    return purchase

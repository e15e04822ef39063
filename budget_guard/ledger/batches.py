"""Holds of batch jobs: sold whole when they are submitted, and proved by the vendor's word, never by a meter.

A job whose submission was never answered may have been sold. Its hold stays open until the vendor's own list of jobs
says so or not: no meter can.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_FLOOR, Context, Decimal

from budget_guard.ledger.booking import make_entry
from budget_guard.ledger.model import Ending, Entry, Hold, HoldTerms, Ledger
from budget_guard.money import GIB, NANO, cost_nano_usd

_BATCH = "batch"
_DIGITS = Context(prec=60, rounding=ROUND_FLOOR)


@dataclass(frozen=True, slots=True)
class Billed:
    """What the vendor says that it billed for a job."""

    size_bytes: int
    cost_nano_usd: int

    def terms(self, terms: HoldTerms) -> HoldTerms:
        """The hold's terms at the price that the bill comes to: the hold's own, unless that says something else."""
        if cost_nano_usd(self.size_bytes, terms.unit_price_usd) == self.cost_nano_usd or self.size_bytes == 0:
            return terms
        # Rounded down, so that the bytes times the price round up to the bill.
        price = _DIGITS.divide(Decimal(self.cost_nano_usd * GIB), Decimal(self.size_bytes * NANO))
        return replace(terms, unit_price_usd=price, price_source="the vendor's bill of this job")


@dataclass(frozen=True, slots=True)
class Submission:
    """What a batch hold says of its submission: the request in its canonical form, and whose list shows its job."""

    form: str
    key_id: str

    def details(self) -> dict[str, str]:
        """As a hold's `request` keeps it."""
        return {"kind": _BATCH, "form": self.form, "key_id": self.key_id}


def submission_of(terms: HoldTerms) -> Submission | None:
    """What a hold's terms say of a batch submission; None for any other hold."""
    row = json.loads(terms.request)
    if not isinstance(row, dict) or row.get("kind") != _BATCH:
        return None
    return Submission(str(row["form"]), str(row["key_id"]))


def settle_job(
    ledger: Ledger, hold: Hold, billed: Billed, *, ending: Ending, now: datetime, note: str
) -> Entry:
    """Settle the hold of a dead owner's job at what the vendor billed. On a settled hold this writes nothing."""
    entry = make_entry(
        billed.terms(hold.terms),
        ended_utc=now,
        size_bytes=billed.size_bytes,
        control_bytes=0,
        residual_bytes=0,
        ending=ending,
        note=note,
    )
    counts = {"usd": entry.cost_nano_usd, "gib": billed.size_bytes}
    settled = {claim.key: max(claim.settled, counts.get(claim.key.unit, 0)) for claim in hold.claims}
    ledger.settle(hold.terms.id, settled, [entry], at_utc=now)
    return entry

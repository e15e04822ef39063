"""Closing a hold by a person's decision, where nothing on this machine proves what was spent."""

from __future__ import annotations

from datetime import datetime, timedelta

from budget_guard.clock import instant_text
from budget_guard.errors import Fenced, LedgerError, UnknownHold
from budget_guard.ledger.booking import make_entry
from budget_guard.ledger.evidence import Evidence
from budget_guard.ledger.model import SLOT_UNIT, Claim, Entry, Hold, Ledger
from budget_guard.ledger.recovery import resolve_in_full
from budget_guard.ledger.story import Story
from budget_guard.money import bytes_within, cost_nano_usd, nano_exact_text, size_text

# A live connection restates its hold every 15 s; one that did so within a minute has an owner.
RENEWED_WITHIN = timedelta(minutes=1)
# So far may the clock of another host be ahead; what was renewed later than that says nothing.
AHEAD_AT_MOST = timedelta(minutes=10)


def why_not(story: Story, now: datetime) -> str | None:
    """Why nobody may decide about a hold: its owner lives, as far as can be seen from here. None when one may."""
    if not story.is_open:
        return f"hold {story.terms.id} is {story.state} already: there is nothing left to decide"
    if story.evidence is not None and story.evidence.owner == "living":
        return (
            f"hold {story.terms.id} belongs to a program on this machine that is running: "
            "its meter is locked. End the program; what it used is then settled by itself"
        )
    renewed = story.restated_utc
    if renewed is not None and -AHEAD_AT_MOST <= now - renewed < RENEWED_WITHIN:
        return (
            f"hold {story.terms.id} was renewed at {instant_text(renewed)} by a program on {story.terms.host}, "
            "so that is running: end it, then try again in a minute"
        )
    return None


def resolve(
    ledger: Ledger,
    hold_id: str,
    *,
    size_bytes: int | None,
    now: datetime,
    by: str,
    reason: str,
    evidence: Evidence | None = None,
) -> Entry:
    """Close an open hold and write down who decided it and why: as `size_bytes` sent (0: nothing), None: in full.

    What is known is never decided away: raises LedgerError for fewer bytes than the ledger has booked or the meter
    has counted, and for a hold whose full use nothing bounds. UnknownHold and Fenced as for any write.
    """
    hold = ledger.hold(hold_id)
    if hold is None:
        raise UnknownHold(f"the ledger knows no hold {hold_id}")
    if hold.state not in ("held", "active"):
        raise Fenced(f"hold {hold_id} is {hold.state} already")
    if hold.is_slot and size_bytes:
        raise LedgerError(
            f"hold {hold_id} is one of the connections that the vendor allows at once, over which nothing is sent: "
            "free it with --nothing-was-sent"
        )
    counted = 0 if evidence is None or evidence.size_bytes is None else evidence.size_bytes
    if size_bytes is None:
        _check_full(hold, counted)
        reason = f"{by}: counted in full; {reason}"
        return resolve_in_full(ledger, hold_id, now=now, reason=reason, counted_bytes=counted)
    _check_bytes(hold, size_bytes, counted)
    how = f"{size_bytes} bytes were sent" if size_bytes else "nothing was sent"
    entry = make_entry(
        hold.terms,
        ended_utc=max(now, hold.terms.opened_utc),
        size_bytes=size_bytes,
        control_bytes=0,
        residual_bytes=0,
        ending="resolved",
        note=f"{by}: {how}; {reason}",
    )
    totals = {claim.key: _total(claim, size_bytes, entry.cost_nano_usd) for claim in hold.claims}
    ledger.settle(hold_id, totals, [entry], at_utc=now)
    return entry


def granted_bytes(hold: Hold) -> int | None:
    """The most that a hold may have used by its claims, in bytes; None where nothing bounds it."""
    sizes = [claim.settled + claim.held for claim in hold.claims if claim.key.unit == "gib"]
    return max(sizes, default=None)


def _total(claim: Claim, size_bytes: int, cost: int) -> int:
    """A claim's final total; of time and connections all that was granted, or nothing where nothing was sent."""
    granted = claim.settled + claim.held if size_bytes else 0
    return max(
        claim.settled,
        {"usd": cost, "gib": size_bytes, "hours": granted, "connections": granted, SLOT_UNIT: 0}[
            claim.key.unit
        ],
    )


def _check_bytes(hold: Hold, size_bytes: int, counted: int) -> None:
    cost = cost_nano_usd(size_bytes, hold.terms.unit_price_usd)
    if size_bytes < counted:
        raise LedgerError(
            f"hold {hold.terms.id}: its meter has counted {counted} bytes ({size_text(counted)}), so no fewer were sent"
        )
    for claim in hold.claims:
        known = {"usd": cost, "gib": size_bytes}.get(claim.key.unit, claim.settled)
        if known < claim.settled:
            booked, least = f"{claim.settled} bytes", claim.settled
            if claim.key.unit == "usd":
                booked = f"${nano_exact_text(claim.settled)}"
                least = (bytes_within(claim.settled - 1, hold.terms.unit_price_usd) or 0) + 1
            raise LedgerError(
                f"hold {hold.terms.id} has booked {booked} of what was read, so at least {least} bytes were sent"
            )


def _check_full(hold: Hold, counted: int) -> None:
    price = hold.terms.unit_price_usd
    granted_usd = [claim.settled + claim.held for claim in hold.claims if claim.key.unit == "usd"]
    size = granted_bytes(hold)
    if price and not granted_usd and size is None:
        raise LedgerError(
            f"hold {hold.terms.id} counts against no limit in USD or GiB, so nothing says what it may have used: "
            "say how many bytes were sent (--bytes), from the vendor's own record"
        )
    if price == 0 and size is not None and hold.terms.mode == "live":
        # It is read on while the ledger cannot be reached, and where no limit says how far: a lease does not bound it.
        known = f"its meter has counted {counted} bytes, at least; " if counted else ""
        raise LedgerError(
            f"hold {hold.terms.id} costs nothing, so more may have come than it holds: {known}"
            "say how many bytes were sent (--bytes), from the vendor's own record"
        )
    cost = cost_nano_usd(counted, price)
    if (granted_usd and cost > max(granted_usd)) or (size is not None and counted > size):
        raise LedgerError(
            f"hold {hold.terms.id}: its meter has counted {counted} bytes ({size_text(counted)}), more than it "
            "holds: say how many were sent (--bytes)"
        )

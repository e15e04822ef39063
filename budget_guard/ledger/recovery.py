"""After a crash: settle what dead owners left open, from evidence only.

The evidence is a meter whose lock can be had (its owner is dead) and whose boot id is this one (its page is
whole). Whatever is not proven so keeps counting in full, and is reported.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from budget_guard.clock import Clock, instant_text
from budget_guard.errors import Fenced, LedgerError
from budget_guard.ledger.booking import make_entry
from budget_guard.ledger.meter import SUFFIX, Meter, open_orphan, sweep_unfinished
from budget_guard.ledger.model import BalanceKey, Claim, Ending, Entry, Hold, HoldTerms, Ledger
from budget_guard.ledger.residual import residual_bytes
from budget_guard.money import bytes_within, cost_nano_usd, size_text, usd_from_nano, usd_text

Outcome = Literal["released", "settled", "unresolved"]

_MS = timedelta(milliseconds=1)
_NS = 10**9


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of one orphan. `cost_nano_usd` is of the counted bytes and the residual together."""

    hold_id: str
    outcome: Outcome
    stream: str | None
    dataset: str
    schema: str
    size_bytes: int
    residual_bytes: int
    cost_nano_usd: int
    message: str


@dataclass(frozen=True, slots=True)
class _Use:
    """What a dead owner's hold is charged with."""

    size_bytes: int
    control_bytes: int
    residual_bytes: int
    ended_utc: datetime

    @property
    def total_bytes(self) -> int:
        return self.size_bytes + self.residual_bytes


def recover_orphans(
    ledger: Ledger, meter_dir: Path, *, host: str, boot_id: str, clock: Clock
) -> list[Recovered]:
    """Release or settle the holds of dead owners on this machine; report those that nothing proves.

    Holds of living owners, and of other hosts, are left alone. Safe to run at any time and several times at
    once. Raises LedgerError when the ledger or the folder of meters cannot be used.
    """
    found = [
        outcome
        for hold in ledger.open_holds()
        if (outcome := _recover(ledger, hold, meter_dir, host, boot_id, clock)) is not None
    ]
    if meter_dir.is_dir():
        _sweep(ledger, meter_dir)
    return found


def resolve_in_full(ledger: Ledger, hold_id: str, *, now: datetime, reason: str) -> Entry:
    """Close a hold that nothing proves by a recorded decision: all that it holds counts as spent.

    Raises LedgerError for an unknown hold, Fenced for one that is closed. An owner that lives after all is
    fenced off: its next write ends its connection.
    """
    hold = ledger.hold(hold_id)
    if hold is None:
        raise LedgerError(f"the ledger knows no hold {hold_id}")
    if hold.state not in ("held", "active"):
        raise Fenced(f"hold {hold_id} is {hold.state} already")
    totals = {claim.key: claim.settled + claim.held for claim in hold.claims}
    cost = max((total for key, total in totals.items() if key.unit == "usd"), default=0)
    sizes = [total for key, total in totals.items() if key.unit == "gib"]
    size = max(sizes) if sizes else bytes_within(cost, hold.terms.unit_price_usd) or 0
    use = _Use(0, 0, size, max(now, hold.terms.opened_utc))
    # What counts is what was held, whatever the bytes would cost.
    entry = replace(_entry(hold.terms, use, "resolved", reason), residual_nano_usd=cost)
    ledger.settle(hold_id, totals, [entry], at_utc=now)
    return entry


def _recover(
    ledger: Ledger, hold: Hold, meter_dir: Path, host: str, boot_id: str, clock: Clock
) -> Recovered | None:
    """The outcome of one open hold, or None when it is somebody else's."""
    terms = hold.terms
    here = terms.host == host
    if terms.meter is None:
        return _unresolved(hold, "it has no meter, so nothing shows what it used") if here else None
    path = meter_dir / terms.meter
    if not path.exists():
        # Owners settle before they remove a meter, so an owner that has just finished shows in the ledger.
        if not here or not _is_open(ledger.hold(terms.id)):
            return None
        return _unresolved(hold, f"its meter {path} is missing")
    try:
        meter = open_orphan(path)
    except LedgerError as error:
        return _unresolved(hold, str(error))
    if meter is None:
        return None
    removable = False
    try:
        current = ledger.hold(terms.id)
        if current is None or not _is_open(current):
            removable = True
            return None
        outcome = _decide(ledger, current, meter, here=here, boot_id=boot_id, clock=clock)
        removable = outcome.outcome != "unresolved"
        return outcome
    finally:
        meter.close(remove=removable)


def _is_open(hold: Hold | None) -> bool:
    return hold is not None and hold.state in ("held", "active")


def _decide(ledger: Ledger, hold: Hold, meter: Meter, *, here: bool, boot_id: str, clock: Clock) -> Recovered:
    """Release, settle or report a hold whose dead owner's meter is locked by us."""
    same_boot = bool(boot_id) and meter.boot_id == boot_id
    untouched = hold.state == "held" and not any(claim.settled for claim in hold.claims)
    # `active` is on the disk before anything is asked of the vendor, so a hold that is not was never spent from.
    if untouched and meter.size_bytes == 0 and (same_boot or here):
        ledger.release(hold.terms.id, clock.now())
        return _outcome(
            hold,
            "released",
            _Use(0, 0, 0, hold.terms.opened_utc),
            0,
            "nothing had been asked of the vendor, nothing is owed",
        )
    if not same_boot:
        why = (
            "the machine has been restarted since"
            if boot_id
            else "this system cannot tell its restarts apart"
        )
        return _unresolved(hold, f"{why}, so its meter may be incomplete")
    return _settle(ledger, hold, _use(hold.terms, meter, clock), clock.now())


def _use(terms: HoldTerms, meter: Meter, clock: Clock) -> _Use:
    """What the meter shows, and the residual that the ending leaves to be assumed."""
    since_ns = None
    ended_utc = terms.opened_utc
    if meter.last_read_monotonic_ns:
        since_ns = int(clock.monotonic_s() * _NS) - meter.last_read_monotonic_ns
        ended_utc = max(ended_utc, clock.now() - timedelta(microseconds=max(0, since_ns) // 1000))
    if meter.ended:
        residual = 0
    elif terms.mode == "historical":
        # The whole answer may have been on its way; what was counted is a part of it.
        residual = max(0, terms.residual_bytes_max - meter.size_bytes)
    else:
        residual = residual_bytes(
            # Of what was on its way when the connection began to end, this much had arrived.
            bound_bytes=max(0, terms.residual_bytes_max - meter.ending_bytes),
            peak_bytes_per_s=meter.peak_bytes_per_s,
            since_last_read_ns=since_ns,
        )
    return _Use(meter.size_bytes, meter.control_bytes, residual, ended_utc)


def _settle(ledger: Ledger, hold: Hold, use: _Use, now: datetime) -> Recovered:
    terms = hold.terms
    cost = cost_nano_usd(use.total_bytes, terms.unit_price_usd)
    elapsed_ms = (now - terms.opened_utc) // _MS
    settled: dict[BalanceKey, int] = {
        claim.key: _final(claim, cost, use.total_bytes, elapsed_ms) for claim in hold.claims
    }
    note = f"recovered from its meter; a residual of {use.residual_bytes} bytes is assumed"
    ledger.settle(terms.id, settled, [_entry(terms, use, "recovered", note)], at_utc=now)
    message = (
        f"settled with {size_text(use.size_bytes)} counted and {size_text(use.residual_bytes)} assumed, "
        f"{usd_text(usd_from_nano(cost))} together"
    )
    return _outcome(hold, "settled", use, cost, message)


def _final(claim: Claim, cost: int, size: int, elapsed_ms: int) -> int:
    """A claim's final total: never less than it had settled; time and connections no more than it held."""
    granted = claim.settled + claim.held
    totals = {"usd": cost, "gib": size, "hours": min(elapsed_ms, granted), "connections": granted}
    return max(claim.settled, totals[claim.key.unit])


def _entry(terms: HoldTerms, use: _Use, ending: Ending, note: str) -> Entry:
    return make_entry(
        terms,
        ended_utc=use.ended_utc,
        size_bytes=use.size_bytes,
        control_bytes=use.control_bytes,
        residual_bytes=use.residual_bytes,
        ending=ending,
        note=note,
    )


def _unresolved(hold: Hold, why: str) -> Recovered:
    held = max((claim.settled + claim.held for claim in hold.claims if claim.key.unit == "usd"), default=0)
    message = (
        f"hold {hold.terms.id} ({hold.terms.stream or hold.terms.dataset}) stays open and counts in full, "
        f"{usd_text(usd_from_nano(held))}: {why}. If its program has ended, settle it by a decision "
        '(docs/operations.md, "Holds that nothing proves")'
    )
    return _outcome(hold, "unresolved", _Use(0, 0, 0, hold.terms.opened_utc), held, message)


def _outcome(hold: Hold, outcome: Outcome, use: _Use, cost: int, message: str) -> Recovered:
    terms = hold.terms
    whose = f"{terms.stream or terms.dataset} ({terms.mode} {terms.schema}, since {instant_text(terms.opened_utc)})"
    return Recovered(
        terms.id,
        outcome,
        terms.stream,
        terms.dataset,
        terms.schema,
        use.size_bytes,
        use.residual_bytes,
        cost,
        message if outcome == "unresolved" else f"{whose}: its program died; {message}",
    )


def _sweep(ledger: Ledger, meter_dir: Path) -> None:
    """Remove meters whose owner died before it had a hold, or after it had settled."""
    sweep_unfinished(meter_dir)
    for path in _meters(meter_dir):
        try:
            meter = open_orphan(path)
        except LedgerError:
            continue  # not ours to judge; a hold that needs it has been reported
        if meter is not None:
            meter.close(remove=not _is_open(ledger.hold(meter.hold_id)))


def _meters(meter_dir: Path) -> Iterable[Path]:
    return sorted(path for path in meter_dir.iterdir() if path.suffix == SUFFIX)

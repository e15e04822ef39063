"""After a crash: settle what dead owners left open, from evidence only.

The evidence is a meter whose lock can be had (its owner is dead) and whose boot id is this one (its page is
whole), or one in which the owner wrote how it ended. Whatever is not proven so keeps counting in full, and is
reported. A meter also proves a hold that the ledger itself has lost, in a failover or with an old backup.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from budget_guard.clock import Clock, instant_text
from budget_guard.errors import Fenced, LedgerError
from budget_guard.ledger.batches import submission_of
from budget_guard.ledger.booking import make_entry, with_left_out
from budget_guard.ledger.memo import Memo, parse_memo, write_again
from budget_guard.ledger.meter import SUFFIX, FinalWord, Meter, meter_folder, open_orphan, sweep_unfinished
from budget_guard.ledger.model import SLOT_UNIT, BalanceKey, Claim, Ending, Entry, Hold, HoldTerms, Ledger
from budget_guard.ledger.residual import residual_bytes
from budget_guard.money import bytes_within, cost_nano_usd, size_text, usd_from_nano, usd_text

Outcome = Literal["released", "settled", "unresolved"]

# How long the meter of a hold that is booked is kept where a failover of the server may lose the booking.
KEPT_S = 15 * 60

_DIED = "its program died"
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

    @property
    def is_free_slot(self) -> bool:
        """Whether it was a connection's slot, which has been given back: of those only have no schema."""
        return self.outcome == "released" and not self.schema


@dataclass(frozen=True, slots=True)
class _Use:
    """What a dead owner's hold is charged with."""

    size_bytes: int
    control_bytes: int
    residual_bytes: int
    ended_utc: datetime
    elapsed_ms: int | None = None  # by the owner's own word
    left_out_bytes: int = 0  # read, and by the policy's own word not billed

    @property
    def total_bytes(self) -> int:
        return self.size_bytes + self.residual_bytes


@dataclass(frozen=True, slots=True)
class _Scene:
    """Where holds are recovered: `keep` says that a booking may still be lost, so that its meter is kept a while."""

    ledger: Ledger
    meter_dir: Path
    host: str
    boot_id: str
    clock: Clock
    keep: bool

    @property
    def now_ns(self) -> int:
        return int(self.clock.monotonic_s() * _NS)

    def dispose(self, meter: Meter) -> None:
        """The hold is booked: remove its meter, now or later."""
        if self.keep:
            meter.keep(self.now_ns)
        else:
            meter.close(remove=True)


def recover_orphans(
    ledger: Ledger, meter_dir: Path, *, host: str, boot_id: str, clock: Clock, keep: bool = False
) -> list[Recovered]:
    """Release or settle the holds of dead owners on this machine; report those that nothing proves.

    A connection's slot that is given back is no news, and not reported.

    Holds of living owners, and of other hosts, are left alone. Safe to run at any time and several times at
    once. `keep` says that the ledger may lose its last commits, and meters are to outlive their bookings for a
    while. Raises LedgerError when the ledger or the folder of meters cannot be used.
    """
    scene = _Scene(ledger, meter_dir, host, boot_id, clock, keep)
    with meter_folder(meter_dir):
        # Slots come last: whether one is still used shows in what becomes of its connection's money.
        found = [_recover(scene, hold) for hold in sorted(ledger.open_holds(), key=lambda hold: hold.is_slot)]
        if meter_dir.is_dir():
            sweep_unfinished(meter_dir)
            found += [_sweep(scene, path) for path in _meters(meter_dir)]
    return [outcome for outcome in found if outcome is not None and not outcome.is_free_slot]


def resolve_in_full(
    ledger: Ledger, hold_id: str, *, now: datetime, reason: str, counted_bytes: int = 0
) -> Entry:
    """Close a hold that nothing proves by a recorded decision: all that it holds counts as spent.

    What its meter has counted (`counted_bytes`), or the ledger has booked, is known; the rest is assumed.

    Raises LedgerError for an unknown hold, Fenced for one that is closed. An owner that lives after all is
    fenced off: its next write ends its connection.
    """
    hold = ledger.hold(hold_id)
    if hold is None:
        raise LedgerError(f"the ledger knows no hold {hold_id}")
    if hold.state not in ("held", "active"):
        raise Fenced(f"hold {hold_id} is {hold.state} already")
    totals = {
        claim.key: 0 if claim.key.unit == SLOT_UNIT else claim.settled + claim.held for claim in hold.claims
    }
    price = hold.terms.unit_price_usd
    costs = [total for key, total in totals.items() if key.unit == "usd"]
    sizes = [total for key, total in totals.items() if key.unit == "gib"]
    size = max(sizes) if sizes else bytes_within(max(costs, default=0), price) or 0
    cost = max(costs) if costs else cost_nano_usd(size, price)
    paid_bytes = bytes_within(cost, price)
    known = min(
        size if paid_bytes is None else min(size, paid_bytes), max(counted_bytes, _booked_bytes(hold))
    )
    use = _Use(known, 0, size - known, max(now, hold.terms.opened_utc))
    entry = _entry(hold.terms, use, "resolved", reason)
    # What counts is what was held, whatever the bytes would cost.
    entry = replace(entry, residual_nano_usd=cost - entry.cost_nano_usd)
    ledger.settle(hold_id, totals, [entry], at_utc=now)
    return entry


def _booked_bytes(hold: Hold) -> int:
    """What its owner has said that it used, in bytes, as far as any claim shows."""
    price = hold.terms.unit_price_usd
    booked = {claim.key.unit: claim.settled for claim in hold.claims}
    return max(booked.get("gib", 0), bytes_within(booked.get("usd", 0), price) or 0)


def _recover(scene: _Scene, hold: Hold) -> Recovered | None:
    """The outcome of one open hold, or None when it is somebody else's."""
    terms = hold.terms
    ledger, here = scene.ledger, terms.host == scene.host
    if terms.meter is None:
        return _unresolved(hold, "it has no meter, so nothing shows what it used") if here else None
    path = scene.meter_dir / terms.meter
    if not path.exists():
        # Owners settle before they remove a meter, so an owner that has just finished shows in the ledger.
        if not here or not _is_open(ledger.hold(terms.id)):
            return None
        if hold.is_slot and not _connection_holds_money(ledger, hold):
            # No lock keeps a person from deciding about it meanwhile.
            with suppress(Fenced):
                return _released(scene, hold)
            return None
        return _unresolved(hold, f"its meter {path} is missing")
    try:
        meter = open_orphan(path)
    except LedgerError as error:
        return _unresolved(hold, str(error))
    if meter is None:
        return None
    try:
        current = ledger.hold(terms.id)
        if current is None or not _is_open(current):
            return None  # its owner has just finished: sweeping sees to the meter
        return _decide(scene, current, meter)
    finally:
        meter.close(remove=False)


def _connection_holds_money(ledger: Ledger, slot: Hold) -> bool:
    """Whether anything else of a slot's connection is open."""
    connection_id = slot.terms.connection_id
    return any(
        hold.terms.connection_id == connection_id and not hold.is_slot
        for hold in ledger.open_holds(slot.terms.account)
    )


def _released(scene: _Scene, hold: Hold) -> Recovered:
    scene.ledger.release(hold.terms.id, scene.clock.now())
    nothing = _Use(0, 0, 0, hold.terms.opened_utc)
    return _outcome(hold, "released", nothing, 0, "nothing had been asked of the vendor, nothing is owed")


def _is_open(hold: Hold | None) -> bool:
    return hold is not None and hold.state in ("held", "active")


def _decide(scene: _Scene, hold: Hold, meter: Meter) -> Recovered:
    """Release, settle or report a hold whose dead owner's meter is locked by us."""
    here = hold.terms.host == scene.host
    same_boot = bool(scene.boot_id) and meter.boot_id == scene.boot_id
    untouched = hold.state == "held" and not any(claim.settled for claim in hold.claims)
    # `active` is on the disk before anything is asked of the vendor, so a hold that is not was never spent from,
    # unless the ledger has lost that: then the meter knows.
    if untouched and meter.size_bytes == 0 and not meter.asked and (same_boot or here):
        outcome = _released(scene, hold)
        scene.dispose(meter)
        return outcome
    if submission_of(hold.terms) is not None and meter.final_word is None:
        return _unresolved(
            hold,
            "it is of a batch job, and only the vendor's list of jobs shows whether that was sold and what it cost; "
            "the next guard that runs with the key looks there",
        )
    if not same_boot and meter.final_word is None:
        return _unresolved(hold, f"{_other_boot(scene, here)}, so its meter may be incomplete")
    use = _use(hold.terms, meter, scene)
    had_ended = meter.final_word is not None
    outcome = _settle(scene.ledger, hold, use, scene.clock.now(), had_ended=had_ended)
    if scene.keep:
        elapsed_ms = _elapsed_ms(hold.terms, use, scene.clock.now())
        meter.mark_final(FinalWord(use.residual_bytes, use.ended_utc, elapsed_ms))
    scene.dispose(meter)
    return outcome


def _other_boot(scene: _Scene, here: bool) -> str:
    if not scene.boot_id:
        return "this system cannot tell its restarts apart"
    if here:
        return "the machine has been restarted since"
    return "its host is another machine, or has been restarted since"


def _use(terms: HoldTerms, meter: Meter, scene: _Scene) -> _Use:
    """What the meter shows, and the residual that the ending leaves to be assumed."""
    final = meter.final_word
    if final is not None:
        return _Use(
            meter.size_bytes,
            meter.control_bytes,
            final.residual_bytes,
            final.ended_utc,
            final.elapsed_ms,
            meter.left_out_bytes,
        )
    since_ns = None
    ended_utc = terms.opened_utc
    if meter.last_read_monotonic_ns:
        since_ns = scene.now_ns - meter.last_read_monotonic_ns
        ago = timedelta(microseconds=max(0, since_ns) // 1000)
        ended_utc = max(ended_utc, scene.clock.now() - ago)
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
    return _Use(
        meter.size_bytes,
        meter.control_bytes,
        residual,
        ended_utc,
        left_out_bytes=meter.left_out_bytes,
    )


def _settle(ledger: Ledger, hold: Hold, use: _Use, now: datetime, *, had_ended: bool) -> Recovered:
    terms = hold.terms
    cost = cost_nano_usd(use.total_bytes, terms.unit_price_usd)
    elapsed_ms = _elapsed_ms(terms, use, now)
    settled: dict[BalanceKey, int] = {
        claim.key: _final(claim, cost, use, elapsed_ms) for claim in hold.claims
    }
    recovered = f"recovered from its meter; a residual of {use.residual_bytes} bytes is assumed"
    note = with_left_out(recovered, use.left_out_bytes)
    ledger.settle(terms.id, settled, [_entry(terms, use, "recovered", note)], at_utc=now)
    message = (
        f"settled with {size_text(use.size_bytes)} counted and {size_text(use.residual_bytes)} assumed, "
        f"{usd_text(usd_from_nano(cost))} together"
    )
    how = "it had ended and could not be booked then" if had_ended else _DIED
    return _outcome(hold, "settled", use, cost, message, how)


def _elapsed_ms(terms: HoldTerms, use: _Use, now: datetime) -> int:
    """How long it had been open: by its owner's word, else until now, whatever was done to the clock."""
    return max(0, (now - terms.opened_utc) // _MS) if use.elapsed_ms is None else use.elapsed_ms


def _final(claim: Claim, cost: int, use: _Use, elapsed_ms: int) -> int:
    """A claim's final total: never less than it had settled; connections, and a time that is a guess, as granted."""
    granted = claim.settled + claim.held
    # The clock may have been set since: without the owner's word, all that was granted may have been used.
    hours = granted if use.elapsed_ms is None else elapsed_ms
    totals = {"usd": cost, "gib": use.total_bytes, "hours": hours, "connections": granted, SLOT_UNIT: 0}
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
    terms = hold.terms
    message = (
        f"hold {terms.id} keeps one of the live connections to {terms.dataset} taken: {why}. If its program has "
        f"ended, free it: budget-guard ledger resolve {terms.id} --nothing-was-sent"
        if hold.is_slot
        else f"hold {terms.id} ({terms.stream or terms.dataset}) stays open and counts in full, "
        f"{usd_text(usd_from_nano(held))}: {why}. If its program has ended, decide what it used: "
        f"budget-guard ledger resolve {terms.id}"
    )
    return _outcome(hold, "unresolved", _Use(0, 0, 0, hold.terms.opened_utc), held, message)


def _outcome(hold: Hold, outcome: Outcome, use: _Use, cost: int, message: str, how: str = _DIED) -> Recovered:
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
        message if outcome == "unresolved" else f"{whose}: {how}; {message}",
    )


def _sweep(scene: _Scene, path: Path) -> Recovered | None:
    """Remove a meter whose owner died before it had a hold, or after it had settled; book what the ledger lost."""
    try:
        meter = open_orphan(path)
    except LedgerError:
        return None  # not ours to judge; a hold that needs it has been reported
    if meter is None:
        return None
    removable = False
    try:
        hold = scene.ledger.hold(meter.hold_id)
        if hold is None and (meter.asked or meter.size_bytes):
            return _book_lost(scene, meter)
        removable = not _is_open(hold) and not _is_kept(scene, meter)
        return None
    finally:
        meter.close(remove=removable)


def _is_kept(scene: _Scene, meter: Meter) -> bool:
    """Whether a booked hold's meter is to wait: the booking may still be lost."""
    kept_at = meter.kept_at_ns
    return kept_at is not None and meter.boot_id == scene.boot_id and scene.now_ns - kept_at < KEPT_S * _NS


def _book_lost(scene: _Scene, meter: Meter) -> Recovered:
    """A meter shows spending of a hold that the ledger does not know: write the hold again, and settle it."""
    memo = parse_memo(meter.description)
    if memo is None or memo.ledger != scene.ledger.identity:
        stream, dataset, schema = ("", "", "") if memo is None else _names(memo)
        whose = (
            "does not say what it is of" if memo is None else f"belongs to another ledger (id {memo.ledger})"
        )
        message = (
            f"the meter {meter.path} counted {size_text(meter.size_bytes)} of a hold that this ledger does not "
            f"know, and {whose}: put that ledger back, or remove the file when it is booked elsewhere"
        )
        return Recovered(
            meter.hold_id, "unresolved", stream, dataset, schema, meter.size_bytes, 0, 0, message
        )
    hold = write_again(scene.ledger, memo.terms, _lost_claims(scene, memo, meter))
    assert hold is not None
    outcome = _decide(scene, hold, meter)
    return replace(outcome, message=f"{outcome.message} (the ledger had lost this hold)")


def _lost_claims(scene: _Scene, memo: Memo, meter: Meter) -> list[Claim]:
    """All that a lost hold may have used: what its meter shows, and the most that was left unseen."""
    terms = memo.terms
    size = meter.size_bytes + terms.residual_bytes_max
    final = meter.final_word
    elapsed_ms = max(0, (scene.clock.now() - terms.opened_utc) // _MS) if final is None else final.elapsed_ms
    held = {
        "usd": cost_nano_usd(size, terms.unit_price_usd),
        "gib": size,
        "hours": elapsed_ms,
        "connections": 1,
        SLOT_UNIT: 1,
    }
    return [Claim(key, 0, held[key.unit]) for key in memo.keys]


def _names(memo: Memo) -> tuple[str, str, str]:
    return memo.terms.stream or "", memo.terms.dataset, memo.terms.schema


def _meters(meter_dir: Path) -> Iterable[Path]:
    return sorted(path for path in meter_dir.iterdir() if path.suffix == SUFFIX)

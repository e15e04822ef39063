"""How much a connection may use next, worked out from balances: pure, and run inside the ledger's transaction.

A lease is counted in bytes and milliseconds from the start of its hold. What is granted always includes an
allowance: the bytes that may still come between the decision to stop and the vendor's last byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from budget_guard.decisions import Code, Decision, Reason
from budget_guard.guard.periods import BudgetLimit
from budget_guard.ledger.amounts import amount_from_count
from budget_guard.ledger.model import Balance, BalanceKey, Balances, Claim
from budget_guard.money import bytes_within, cost_nano_usd, decimal_text, size_text, usd_text

# The least that a connection needs on top of its allowance to be worth opening.
FIRST_LEASE_BYTES = 256 * 1024
# Seconds of data that a lease is meant to last, and the least it holds when there is plenty.
LEASE_SECONDS = 30
LEASE_BYTES_MIN = 4 * 2**20
LEASE_BYTES_MAX = 2**30
LEASE_MS = 120_000
# What closing a connection may take: kept free at the end of a limit in hours.
ENDING_MS = 15_000

_ALLOW = Decision("allow")

# What something counts in each unit that a limit has.
Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a hold has used since it was opened."""

    size_bytes: int = 0
    elapsed_ms: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """How far a hold may go, counted from its start; None where nothing limits it: bytes that cost nothing, time."""

    size_bytes: int | None
    elapsed_ms: int | None


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for beyond what is used: `ahead_bytes` at best, never less than `least_bytes`.

    `shared_bytes` takes the place of `ahead_bytes` while others draw on the same balances: what is idle asks for less.
    `part_bytes` is the smallest part of what is left that is worth sharing out.
    """

    ahead_bytes: int
    least_bytes: int
    allowance_bytes: int
    ahead_ms: int = LEASE_MS
    shared_bytes: int | None = None
    part_bytes: int = 0


def settled_count(unit: str, usage: Usage, price_usd: Decimal) -> int:
    """What a use counts in a unit, from its running totals."""
    if unit == "usd":
        return cost_nano_usd(usage.size_bytes, price_usd)
    if unit == "gib":
        return usage.size_bytes
    return usage.elapsed_ms if unit == "hours" else 0


def next_ahead_bytes(rate_bytes_per_s: float) -> int:
    """The size of a lease for a burn rate: about half a minute of data, within bounds."""
    return min(LEASE_BYTES_MAX, max(LEASE_BYTES_MIN, int(rate_bytes_per_s * LEASE_SECONDS)))


def part_bytes(rate_bytes_per_s: float) -> int:
    """The smallest part of what is left that is worth sharing out: about a second of data, within bounds.

    Connections whose leases last for moments end together, and nobody is left to use what they kept for their endings.
    With a second each they end one after another, and what the first gives back goes to the others.
    """
    return min(LEASE_BYTES_MIN, int(rate_bytes_per_s))


def size_lease(
    limits: tuple[BudgetLimit, ...],
    balances: Balances,
    usage: Usage,
    price_usd: Decimal,
    wish: Wish,
    granted: Grant | None = None,
) -> tuple[Decision, Grant, tuple[Claim, ...]]:
    """The decision, how far the hold may go, and its claims.

    `balances` are those of everybody else: without any share of this hold. `granted` is what it was granted
    before; when the answer is no, it keeps that and settles what was used. None for a hold not opened yet.
    """
    used = _counts(limits, usage, price_usd)
    decision = _decide(limits, balances, usage, used, price_usd, wish, running=granted is not None)
    if not decision.allowed:
        grant = granted or Grant(0, 0)
        size = max(usage.size_bytes, grant.size_bytes or 0)
        return decision, grant, _claims(limits, usage, used, grant, size, price_usd)
    bounded = [limit for limit in limits if limit.limit is not None]
    room = _room(bounded, balances, price_usd)
    size = _ahead(usage, room.size_bytes, wish, _sharers(bounded, balances))
    # What costs money never goes further than the ledger knows of, also where no limit says how far.
    grant = Grant(
        None if room.size_bytes is None and price_usd == 0 else size,
        None if room.elapsed_ms is None else min(room.elapsed_ms, usage.elapsed_ms + wish.ahead_ms),
    )
    return decision, grant, _claims(limits, usage, used, grant, size, price_usd)


def decide_lease(
    limits: tuple[BudgetLimit, ...],
    balances: Balances,
    usage: Usage,
    price_usd: Decimal,
    wish: Wish,
    *,
    running: bool = False,
) -> Decision:
    """Whether every limit allows the least that is wished for."""
    used = _counts(limits, usage, price_usd)
    return _decide(limits, balances, usage, used, price_usd, wish, running=running)


def _decide(
    limits: tuple[BudgetLimit, ...],
    balances: Balances,
    usage: Usage,
    used: Counts,
    price_usd: Decimal,
    wish: Wish,
    *,
    running: bool,
) -> Decision:
    least = Usage(
        usage.size_bytes + wish.allowance_bytes + wish.least_bytes, usage.elapsed_ms + ENDING_MS + 1
    )
    wanted = _counts(limits, least, price_usd)
    short: list[Reason] = []
    for limit in limits:
        most, unit, others = limit.limit, limit.key.unit, balances[limit.key]
        if most is None:
            continue
        needed = 1 if unit == "connections" else wanted[unit] - used[unit]
        # A limit of 0 refuses everything it matches, also what costs nothing.
        if others.settled + used[unit] + others.held + needed > most or most <= 0:
            short.append(_shortage(limit, others, used[unit], needed, running=running))
    return Decision("deny", tuple(short)) if short else _ALLOW


def _counts(limits: tuple[BudgetLimit, ...], usage: Usage, price_usd: Decimal) -> Counts:
    """What a use counts, worked out once for each unit that a limit has."""
    found: dict[str, int] = {}
    for limit in limits:
        unit = limit.key.unit
        if unit not in found:
            found[unit] = settled_count(unit, usage, price_usd)
    return found


def _room(bounded: list[BudgetLimit], balances: Balances, price_usd: Decimal) -> Grant:
    """How far a hold could go, counted from its start, if it took all that the others leave."""
    size_bytes: int | None = None
    elapsed_ms: int | None = None
    for limit in bounded:
        assert limit.limit is not None
        unit, others = limit.key.unit, balances[limit.key]
        left = max(0, limit.limit - others.settled - others.held)
        if unit == "usd":
            size_bytes = _least(size_bytes, bytes_within(left, price_usd))
        elif unit == "gib":
            size_bytes = _least(size_bytes, left)
        elif unit == "hours":
            elapsed_ms = _least(elapsed_ms, left)
    return Grant(size_bytes, elapsed_ms)


def _sharers(bounded: list[BudgetLimit], balances: Balances) -> int:
    """How many other holds draw on the busiest of the balances that bound bytes."""
    counts = (balances[limit.key].holders for limit in bounded if limit.key.unit in ("usd", "gib"))
    return max(counts, default=0)


def _ahead(usage: Usage, room: int | None, wish: Wish, sharers: int) -> int:
    """Total bytes granted: near a limit each lease gets an equal part of what is left, and a newcomer finds one too.

    With every renewal the parts draw closer to each other, since what others hold is taken off first.
    """
    floor = usage.size_bytes + wish.allowance_bytes
    ahead = wish.ahead_bytes
    if sharers and wish.shared_bytes is not None:
        ahead = min(ahead, wish.shared_bytes)
    if room is None:
        return floor + ahead
    left = room - floor
    return floor + min(left, ahead, max(left // (sharers + 2), wish.least_bytes, wish.part_bytes))


def _claims(
    limits: tuple[BudgetLimit, ...],
    usage: Usage,
    used: Counts,
    grant: Grant,
    size_bytes: int,
    price_usd: Decimal,
) -> tuple[Claim, ...]:
    elapsed_ms = usage.elapsed_ms + LEASE_MS if grant.elapsed_ms is None else grant.elapsed_ms
    total = _counts(limits, Usage(size_bytes, elapsed_ms), price_usd)
    return tuple(_claim(limit.key, used[limit.key.unit], total[limit.key.unit]) for limit in limits)


def _claim(key: BalanceKey, used: int, total: int) -> Claim:
    if key.unit == "connections":
        return Claim(key, 0, 1)
    return Claim(key, used, max(0, total - used))


def _shortage(limit: BudgetLimit, others: Balance, used: int, needed: int, *, running: bool) -> Reason:
    """Why a limit does not allow what is needed."""
    assert limit.limit is not None
    settled = others.settled + used
    taken = settled + others.held
    code: Code = "frozen" if taken > limit.limit else "limit_reached"
    message = _why(code, limit, taken, others.held, needed, running=running)
    return limit_reason(code, limit, settled, others.held, needed, message)


def _why(code: Code, limit: BudgetLimit, taken: int, held: int, needed: int, *, running: bool) -> str:
    name, period = limit.key.budget, limit.key.period
    assert limit.limit is not None
    total, left = count_text(limit.unit, limit.limit), count_text(limit.unit, max(0, limit.limit - taken))
    if code == "frozen":
        over = count_text(limit.unit, taken - limit.limit)
        until = "an approval" if period == "total" else f"the next {period} or an approval"
        return f"budget {name} is {over} past its {period} limit of {total}: nothing more before {until}"
    purpose = "to go on and to end safely" if running else "to start and to end safely"
    span = span_text(period)
    if limit.limit == 0:
        return f"budget {name} has a limit of {total} {span}, which refuses everything it matches"
    more = count_text(limit.unit, needed)
    # What others hold comes back when they end, and says why so little is left.
    apart = f" ({count_text(limit.unit, held)} is held by what is running)" if held else ""
    return f"budget {name} has {left} left of {total} {span}{apart}; a connection needs {more} {purpose}"


def span_text(period: str) -> str:
    """A period in a sentence."""
    return "in total" if period == "total" else f"this {period}"


def limit_reason(code: Code, limit: BudgetLimit, settled: int, held: int, asked: int, message: str) -> Reason:
    """A reason that carries the whole state of a limit, in the unit that people write.

    It names the end of the period as the time to try again only if a fresh period would have room.
    """
    unit = limit.unit
    assert limit.limit is not None
    fits_later = limit.key.period != "total" and limit.limit > 0 and asked <= limit.limit
    return Reason(
        code,
        message,
        budget=limit.key.budget,
        period=limit.key.period,
        unit=unit,
        limit=limit.amount,
        settled=amount_from_count(unit, settled),
        held=amount_from_count(unit, held),
        asked=amount_from_count(unit, asked),
        retry_at_utc=limit.period_end_utc if fits_later else None,
    )


def count_text(unit: str, count: int) -> str:
    """A ledger's integer for people: `$1.50`, `2.00 GiB`, `1.5 hours`, `3 connections`."""
    if unit == "usd":
        return usd_text(amount_from_count(unit, count))
    if unit == "gib":
        return size_text(count)
    amount = amount_from_count(unit, count)
    text = decimal_text(amount.quantize(Decimal("0.01")) if unit == "hours" else amount)
    return f"{text} {unit if text != '1' else unit.removesuffix('s')}"


def _least(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)

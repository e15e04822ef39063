"""How many leases a ledger grants, beside what the bare database commits under the same contention.

A grant is a renewal of a live connection's lease: the sizes are worked out by `size_lease` inside the transaction that
restates the hold on its three balances, and it is on the disk when it returns.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

from benchmarks.stores import Doing, bare, new_bare, new_ledger
from benchmarks.workers import Tally, Workers, ready
from budget_guard.guard.lease import Grant, Usage, Wish, size_lease
from budget_guard.guard.periods import BudgetLimit
from budget_guard.ledger.model import BalanceKey, Balances, HoldTerms, Ledger, Posting
from budget_guard.ledger.store import open_ledger

MONTH_START = datetime(2026, 11, 1, tzinfo=UTC)
MONTH_END = datetime(2026, 12, 1, tzinfo=UTC)
DAY_START = datetime(2026, 11, 24, tzinfo=UTC)
DAY_END = datetime(2026, 11, 25, tzinfo=UTC)
NOW = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)
PRICE_USD = Decimal("2.16")
# Enough that no measurement comes near a limit.
PLENTY = 10**15
# A connection at 500 KB/s asks again about four times a minute.
BETWEEN_BYTES = 8 * 2**20
WISH = Wish(15 * 2**20, 64 * 2**10, 5 * 2**20)

LIMITS = (
    BudgetLimit(BalanceKey("desk", "account", "month", MONTH_START, "usd"), PLENTY, MONTH_END),
    BudgetLimit(BalanceKey("desk", "account", "day", DAY_START, "usd"), PLENTY, DAY_END),
    BudgetLimit(BalanceKey("desk", "glbx-live", "month", MONTH_START, "gib"), PLENTY, MONTH_END),
)
KEYS = tuple(limit.key for limit in LIMITS)


def hold_terms(hold_id: str) -> HoldTerms:
    return HoldTerms(
        id=hold_id,
        account="desk",
        stream="nq-mbo",
        dataset="GLBX.MDP3",
        schema="mbo",
        mode="live",
        connection_id=hold_id,
        month="2026-11",
        unit_price_usd=PRICE_USD,
        price_source="the policy's override",
        residual_bytes_max=5 * 2**20,
        host="desk-1",
        meter=f"{hold_id}.meter",
        opened_utc=NOW,
    )


class Renewals:
    """One connection that uses what it is granted and asks again."""

    def __init__(self, ledger: Ledger, hold_id: str) -> None:
        self._ledger = ledger
        self._id = hold_id
        self._used = 0
        self._version = 0
        self._settled: dict[BalanceKey, int] = {}
        self._grant: Grant | None = None
        ledger.open_hold(hold_terms(hold_id), KEYS, self._decide)
        ledger.activate(hold_id, NOW)

    def once(self) -> None:
        self._used += BETWEEN_BYTES
        self._version += 1
        self._ledger.restate(self._id, self._version, KEYS, self._decide, NOW)

    def _decide(self, balances: Balances) -> Posting:
        usage = Usage(self._used)
        decision, grant, claims = size_lease(LIMITS, balances, usage, PRICE_USD, WISH, self._grant)
        if not decision.allowed:
            raise RuntimeError(f"the benchmark ran out of money: {decision.reasons[0].message}")
        self._grant = grant
        return Posting(claims)


def make_worker(store: str, url: str, bare_place: str, number: int) -> dict[str, Doing]:
    """What each process can do: `bare` and `ledger`."""
    ledger = open_ledger(url)
    renewals = Renewals(ledger, f"worker-{number}")
    return {"bare": bare(store, bare_place), "ledger": (renewals.once, ledger.close)}


@dataclass(frozen=True, slots=True)
class Contest:
    """The ledger beside the bare database, so many processes at a time; one pair of figures for each round."""

    store: str
    processes: int
    bare: tuple[Tally, ...]
    ledger: tuple[Tally, ...]

    @property
    def share(self) -> float:
        """The ledger's grants for each commit of the bare database: the median over the rounds."""
        pairs = zip(self.ledger, self.bare, strict=True)
        return statistics.median(one.per_second / other.per_second for one, other in pairs)


def measure(
    store: str, folder: Path, processes: Sequence[int], *, rounds: int, seconds: float
) -> list[Contest]:
    """Rounds of all numbers of processes, the bare database and the ledger in turn."""
    url, place = new_ledger(store, folder), new_bare(store, folder)
    open_ledger(url).close()
    found: dict[int, list[tuple[Tally, Tally]]] = {count: [] for count in processes}
    with ready(partial(make_worker, store, url, place), max(processes)) as workers:
        for number in range(rounds):
            for count in processes:
                found[count].append(_pair(workers, count, seconds, ledger_first=bool(number % 2)))
    return [
        Contest(store, count, tuple(one for one, _ in pairs), tuple(other for _, other in pairs))
        for count, pairs in found.items()
    ]


def _pair(workers: Workers, count: int, seconds: float, *, ledger_first: bool) -> tuple[Tally, Tally]:
    """The bare database and the ledger, one right after the other."""
    order = ("ledger", "bare") if ledger_first else ("bare", "ledger")
    tallies = {way: workers.run(way, count, seconds) for way in order}
    return tallies["bare"], tallies["ledger"]

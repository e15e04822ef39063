"""Whether a ledger that has grown grants as fast as a new one: the same renewals over more and more old rows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, insert

from benchmarks.grants import KEYS, NOW, Renewals, hold_terms
from benchmarks.stores import new_ledger
from benchmarks.workers import Tally, tally, timed
from budget_guard.ledger import schema
from budget_guard.ledger.backends import backend_of, transaction
from budget_guard.ledger.booking import make_entry
from budget_guard.ledger.model import Entry, HoldTerms
from budget_guard.ledger.rows import values_of
from budget_guard.ledger.store import open_ledger

_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Size:
    """Grants per second beside those of the smallest ledger, which was asked in the same rounds."""

    store: str
    holds: int
    rounds: tuple[Tally, ...]
    beside: float

    @property
    def per_second(self) -> float:
        return statistics.median(one.per_second for one in self.rounds)


def measure(store: str, folder: Path, sizes: Sequence[int], *, rounds: int, seconds: float) -> list[Size]:
    """One ledger for each size, all of them in turn in every round."""
    with ExitStack() as stack:
        renewals = {}
        for holds in sizes:
            url = new_ledger(store, folder / str(holds))
            ledger = open_ledger(url)
            stack.callback(ledger.close)
            renewals[holds] = Renewals(ledger, "measured")
            fill(url, holds)
        found: dict[int, list[Tally]] = {holds: [] for holds in sizes}
        for number in range(rounds):
            turn = number % len(sizes)
            for holds in (*sizes[turn:], *sizes[:turn]):
                found[holds].append(tally(timed(renewals[holds].once, seconds), seconds))
    first = found[sizes[0]]
    return [Size(store, holds, tuple(tallies), _beside(tallies, first)) for holds, tallies in found.items()]


def _beside(tallies: Sequence[Tally], first: Sequence[Tally]) -> float:
    pairs = zip(tallies, first, strict=True)
    return statistics.median(one.per_second / other.per_second for one, other in pairs)


def fill(url: str, holds: int) -> None:
    """Add settled holds with a claim on each of the three balances, and an entry for each."""
    backend = backend_of(url)
    try:
        for start in range(0, holds, _AT_ONCE):
            with transaction(backend, write=True) as tx:
                _add(tx, range(start, min(start + _AT_ONCE, holds)))
        with transaction(backend, write=True) as tx:
            tx.exec_driver_sql("ANALYZE")
    finally:
        backend.engine.dispose()


def _add(tx: Connection, numbers: range) -> None:
    # Far above the numbers that the ledger gives by itself.
    first = 10**9
    terms = [replace(hold_terms(f"old-{number}"), meter=None) for number in numbers]
    state = {"state": "settled", "version": 7, "activated_utc": NOW, "restated_utc": NOW, "closed_utc": NOW}
    tx.execute(
        insert(schema.holds),
        [
            {**values_of(one), **state, "seq": first + number}
            for one, number in zip(terms, numbers, strict=True)
        ],
    )
    claims = [
        {"hold_seq": first + number, "balance_seq": balance, "settled": 0, "held": 0}
        for number in numbers
        for balance in range(1, len(KEYS) + 1)
    ]
    tx.execute(insert(schema.claims), claims)
    tx.execute(insert(schema.entries), [values_of(_entry(one)) for one in terms])


def _entry(terms: HoldTerms) -> Entry:
    return make_entry(
        terms, ended_utc=NOW, size_bytes=1, control_bytes=0, residual_bytes=0, ending="exact", note=""
    )

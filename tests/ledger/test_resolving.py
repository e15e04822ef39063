"""A person's decision about a hold that nothing proves: what it may say, and what it may not."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from budget_guard.errors import LedgerError
from budget_guard.ledger.evidence import Evidence
from budget_guard.ledger.resolving import resolve, why_not
from budget_guard.ledger.store import open_ledger
from budget_guard.ledger.story import Story
from tests.ledger.samples import OPENED, USD, claiming, key, terms

GIB = key(unit="gib")


def test_a_stream_that_costs_nothing_is_not_counted_in_full_as_what_it_held(tmp_path: Path) -> None:
    """It is read on past its lease while the ledger is away, so what it holds says nothing about what was sent."""
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    free = terms(unit_price_usd=Decimal(0))
    ledger.open_hold(free, [USD, GIB], claiming({USD: (0, 0), GIB: (0, 4096)}))
    ledger.activate("h1")
    with pytest.raises(LedgerError, match="more may have come than it holds: its meter has counted 7 bytes"):
        resolve(
            ledger, "h1", size_bytes=None, now=OPENED, by="Ada", reason="x", evidence=Evidence("restarted", 7)
        )
    resolve(ledger, "h1", size_bytes=10_000, now=OPENED, by="Ada", reason="the vendor's usage page")
    assert ledger.balances([GIB])[GIB].settled == 10_000
    ledger.close()


def test_a_stream_that_costs_nothing_and_counts_no_bytes_is_closed_in_full(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.open_hold(terms(unit_price_usd=Decimal(0)), [USD], claiming({USD: (0, 0)}))
    ledger.activate("h1")
    entry = resolve(ledger, "h1", size_bytes=None, now=OPENED, by="Ada", reason="power cut")
    assert (entry.cost_nano_usd, entry.ending) == (0, "resolved")
    ledger.close()


@pytest.mark.parametrize(("ago", "lives"), [(-300, True), (0, True), (59, True), (60, False), (-601, False)])
def test_what_was_renewed_a_moment_ago_has_an_owner_whose_clock_may_be_ahead(ago: int, lives: bool) -> None:
    """By minutes, on another host; a renewal that lies hours ahead says nothing."""
    story = Story(terms(), "active", 1, None, OPENED, None, (), (), (), ())
    said = why_not(story, OPENED + timedelta(seconds=ago))
    assert (said is not None and "was renewed at" in said) == lives

"""A download that the account's plan includes is held, decided and settled at a known 0, and no other is."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from budget_guard.clock import ManualClock
from budget_guard.gateway.historical.form import RangeRequest, parse_range_request
from budget_guard.guard.quote import Quote
from budget_guard.money import GIB
from budget_guard.policy.model import LiveBilling, Policy
from tests.planning.desk import GLBX, budget, limit, policy, stream
from tests.planning.test_sources import OPEN, guard_of

# The vendor was measured to quote the list's price whatever the plan.
LIST_QUOTE = Decimal("1.80")
FLAT = {GLBX: LiveBilling("flat", "standard")}


def download(start: str, end: str) -> RangeRequest:
    names = {"dataset": GLBX, "schema": "mbo", "symbols": "NQ.v.0", "stype_in": "continuous"}
    return parse_range_request({**names, "start": start, "end": end, "encoding": "dbn"})


INSIDE = download("2026-11-18", "2026-11-19")
ACROSS = download("2026-10-20", "2026-10-24")
OUTSIDE = download("2026-10-01", "2026-10-02")


def flat(**options: object) -> Policy:
    return policy(stream(), billing=FLAT, **options)  # type: ignore[arg-type]


def quote_of(whole: Policy, wanted: RangeRequest, folder: Path) -> Quote:
    with guard_of(whole, folder) as guard:
        price = guard.historical_price(wanted.request, wanted.range)
    return Quote(wanted.range, GIB, price, LIST_QUOTE)


def test_history_inside_the_plan_costs_a_known_zero_whatever_is_quoted(tmp_path: Path) -> None:
    """Held and settled at 0, with the plan as the source."""
    quote = quote_of(flat(), INSIDE, tmp_path)
    assert quote.price.kind == "plan"
    assert (quote.included, quote.cost_nano_usd, quote.settle_price_usd) == (True, 0, Decimal(0))
    assert "standard plan of GLBX.MDP3" in quote.settle_price_source


@pytest.mark.parametrize("wanted", [ACROSS, OUTSIDE])
def test_history_that_reaches_beyond_the_plan_is_held_at_the_lists_price(
    wanted: RangeRequest, tmp_path: Path
) -> None:
    """All of it: bytes are counted without knowing their day, and an upper bound is never too little."""
    quote = quote_of(flat(), wanted, tmp_path)
    assert (quote.included, quote.cost_nano_usd, quote.settle_price_usd) == (False, 1_800_000_000, LIST_QUOTE)


def test_a_metered_account_pays_for_the_same_range(tmp_path: Path) -> None:
    """Nothing is included without a plan."""
    assert quote_of(policy(stream()), INSIDE, tmp_path).cost_nano_usd == 1_800_000_000


def test_an_included_download_passes_a_budget_that_is_used_up(tmp_path: Path) -> None:
    """It asks for no money, so no limit of money stands in its way."""
    whole = flat(budgets=[budget(limit("0.01"))])
    with guard_of(whole, tmp_path) as guard:
        one = next(iter(whole.streams.values()))
        quote = Quote(INSIDE.range, GIB, guard.historical_price(INSIDE.request, INSIDE.range), LIST_QUOTE)
        hold = guard.open_request(INSIDE.request, one, quote)
        hold.activate()
        hold.count(GIB, 0)
        entry = hold.settle("exact")
    assert (entry.cost_nano_usd, entry.size_bytes) == (0, GIB)


def test_what_was_included_rolls_out_of_the_plan(tmp_path: Path) -> None:
    """The same request, a month later, is bought by the byte."""
    with guard_of(flat(), tmp_path) as guard:
        assert guard.historical_price(INSIDE.request, INSIDE.range).kind == "plan"
        assert isinstance(guard.clock, ManualClock)
        guard.clock.advance(timedelta(days=30).total_seconds())
        assert guard.historical_price(INSIDE.request, INSIDE.range).kind == "sheet"
    assert INSIDE.range.end_utc < OPEN

"""The sandbox that a policy is rehearsed against: its account, its volumes, its symbols."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from budget_guard.clock import SteppedClock
from budget_guard.policy.model import Account, LiveBilling, Policy, Stream
from budget_guard.rehearsal.vendor import product_of, vendor_config

CLOCK = SteppedClock(datetime(2026, 11, 23, 14, 30, tzinfo=UTC))
NQ = Stream("nq", "GLBX.MDP3", "mbo", ("NQ.v.0",), "continuous")


def a_policy(*streams: Stream, account: Account | None = None) -> Policy:
    return Policy("p", "UTC", account or Account("desk"), (), {stream.name: stream for stream in streams})


def test_prices_are_the_published_ones_unless_the_policy_has_its_own() -> None:
    own = Account("desk", prices={("GLBX.MDP3", "live", "mbo"): Decimal(5)})
    prices = vendor_config(a_policy(NQ, account=own), CLOCK, seed=0).prices["GLBX.MDP3"]
    assert prices.live_price("mbo") == 5
    assert prices.historical_price("mbo") == Decimal("1.80")
    assert prices.live_price("trades") == Decimal("33.6")


def test_what_nobody_has_a_price_for_is_offered_without_one() -> None:
    stream = replace(NQ, dataset="XEUR.EOBI", symbols=("FESX.v.0",))
    config = vendor_config(a_policy(stream), CLOCK, seed=0)
    assert config.prices["XEUR.EOBI"].live_price("mbo") is None
    assert config.products["XEUR.EOBI"] == ("FESX",)


def test_a_flat_plan_is_the_vendors_too_and_reaches_as_far_as_the_guard_believes() -> None:
    flat = Account("desk", billing={"GLBX.MDP3": LiveBilling("flat", "standard")})
    plan = vendor_config(a_policy(NQ, account=flat), CLOCK, seed=0).plans["GLBX.MDP3"]
    assert plan.live
    assert plan.history_days["mbo"] > 31
    assert plan.history_days["trades"] > 366


def test_live_data_that_is_not_sold_to_the_account_is_refused() -> None:
    none = Account("desk", billing={"GLBX.MDP3": LiveBilling("none")})
    config = vendor_config(a_policy(NQ, account=none), CLOCK, seed=0)
    assert config.live_entitlements is not None
    assert "GLBX.MDP3" not in config.live_entitlements
    assert vendor_config(a_policy(NQ), CLOCK, seed=0).live_entitlements is None


def test_the_policys_own_volume_is_what_a_session_has() -> None:
    """Shared evenly between the products of the stream."""
    sized = replace(NQ, gib_per_session=Decimal("0.5"), symbols=("NQ.v.0", "ES.v.0"))
    config = vendor_config(a_policy(sized), CLOCK, seed=7)
    assert config.records_per_session == {("mbo", "NQ"): 2**28 // 56, ("mbo", "ES"): 2**28 // 56}
    assert config.seed == 7
    assert vendor_config(a_policy(NQ), CLOCK, seed=0).records_per_session == {}


@pytest.mark.parametrize(
    ("symbol", "product"),
    [("NQ.v.0", "NQ"), ("6E.c.1", "6E"), ("ES.FUT", "ES"), ("NQZ6", "NQ"), ("MNQH27", "MNQ"), ("SPY", "SPY")],
)
def test_a_symbol_is_about_a_product(symbol: str, product: str) -> None:
    assert product_of(symbol) == product

"""One historical request's hold on a real ledger: its whole price is held, what flowed is settled."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from budget_guard.errors import LedgerError, Refused
from budget_guard.guard.download import RequestHold
from budget_guard.guard.quote import Quote
from budget_guard.ledger.audit import audit
from budget_guard.ledger.batches import Billed
from budget_guard.ledger.model import Balance, BalanceKey
from budget_guard.ledger.store import SqlLedger
from budget_guard.money import GIB, cost_nano_usd
from budget_guard.policy.model import HistoricalRules, Match, Policy
from budget_guard.pricing.model import UnitPrice
from tests.guard.samples import (
    HISTORY,
    KNOWN,
    MONTH_START,
    NOW,
    STREAM,
    Desk,
    OneWindow,
    budget,
    data_range,
    limit,
    policy,
)

LIST = Decimal("1.80")
# The largest answer to a request of 1 GiB.
MOST = GIB + GIB // 100
USD = BalanceKey("desk", "account", "month", MONTH_START, "usd")
SIZE = BalanceKey("desk", "account", "month", MONTH_START, "gib")
BOTH = policy(budget("account", limit("month", "usd", 200), limit("month", "gib", 60)))


def quote(size_bytes: int = GIB, cost: str = "1.80") -> Quote:
    return Quote(data_range(), size_bytes, UnitPrice(LIST, "vendor", "a list"), Decimal(cost))


def opened(
    desk: Desk, asked: Quote | None = None, guarded: Policy = BOTH, *, approved: bool = False
) -> RequestHold:
    return desk.guard(guarded).open_request(HISTORY, STREAM, asked or quote(), approved=approved)


def balances(desk: Desk) -> tuple[Balance, Balance]:
    found = desk.ledger.balances([USD, SIZE])
    return found[USD], found[SIZE]


def test_the_price_of_the_largest_answer_is_held_before_anything_is_asked_for(desk: Desk) -> None:
    hold = opened(desk)
    assert balances(desk) == (Balance(0, cost_nano_usd(MOST, LIST)), Balance(0, MOST))
    assert hold.terms.residual_bytes_max == MOST
    assert (hold.terms.mode, hold.terms.month, hold.terms.unit_price_usd) == ("historical", "2026-11", LIST)
    request = json.loads(hold.terms.request)
    assert (request["start"], request["end"]) == ("2026-11-20T14:30:00Z", "2026-11-20T15:30:00Z")
    hold.release()
    assert balances(desk) == (Balance(), Balance())


def test_what_flowed_is_settled_and_the_rest_given_back(desk: Desk) -> None:
    hold = opened(desk)
    hold.activate()
    hold.count(1000, 1)
    hold.count(500, 2)
    entry = hold.settle("exact")
    assert (entry.size_bytes, entry.cost_nano_usd, entry.ending) == (1500, cost_nano_usd(1500, LIST), "exact")
    assert balances(desk) == (Balance(cost_nano_usd(1500, LIST), 0), Balance(1500, 0))
    assert list(desk.meter_dir.iterdir()) == []


@pytest.mark.parametrize(("unseen", "residual"), [(0, 0), (300, 300), (10**12, MOST - 1000)])
def test_a_broken_answer_adds_what_may_be_unseen_but_never_more_than_the_largest_answer(
    desk: Desk, unseen: int, residual: int
) -> None:
    hold = opened(desk)
    hold.activate()
    hold.count(1000, 1)
    entry = hold.settle("residual", residual_bytes=unseen)
    assert (entry.size_bytes, entry.residual_bytes) == (1000, residual)
    total = cost_nano_usd(1000 + residual, LIST)
    assert entry.cost_nano_usd + entry.residual_nano_usd == total
    assert balances(desk) == (Balance(total, 0), Balance(1000 + residual, 0))


def test_more_than_was_quoted_is_booked_in_full(desk: Desk) -> None:
    hold = opened(desk, quote(size_bytes=1000, cost="0.000002"))
    hold.activate()
    hold.count(5000, 1)
    assert hold.settle("residual", residual_bytes=700).residual_bytes == 0
    assert balances(desk)[1] == Balance(5000, 0)


def test_an_answer_whose_bytes_say_nothing_is_settled_at_the_quote(desk: Desk) -> None:
    hold = opened(desk)
    hold.activate()
    entry = hold.settle_quote("csv")
    assert (entry.size_bytes, entry.cost_nano_usd, entry.ending) == (GIB, 1_800_000_000, "quoted")


def test_more_than_the_quote_is_settled_in_full_even_where_the_quote_would_do(desk: Desk) -> None:
    hold = opened(desk, quote(size_bytes=1000, cost="0.000002"))
    hold.activate()
    hold.count(5000, 1)
    assert hold.settle_quote("csv").size_bytes == 5000


def test_data_that_a_plan_includes_is_settled_at_nothing_and_counted(desk: Desk) -> None:
    hold = opened(desk, quote(cost="0"))
    assert balances(desk) == (Balance(0, 0), Balance(0, MOST))
    hold.activate()
    hold.count(1000, 1)
    entry = hold.settle("exact")
    assert entry.cost_nano_usd == 0
    assert entry.unit_price_usd == 0
    assert entry.price_source == "included: the vendor quotes $0"
    assert balances(desk)[1] == Balance(1000, 0)


@pytest.mark.parametrize(
    ("size", "cost"), [(GIB, 1_800_000_000), (GIB, 1_799_999_999), (1000, 7), (3 * GIB, 0), (0, 0), (77, 129)]
)
def test_a_job_is_settled_at_what_the_vendor_billed_to_the_nano_dollar(
    desk: Desk, size: int, cost: int
) -> None:
    hold = opened(desk, guarded=BOTH)
    hold.activate()
    entry = hold.settle_job(Billed(size, cost), "job GLBX-1")
    assert (entry.size_bytes, entry.cost_nano_usd, entry.ending) == (size, cost, "exact")
    assert entry.cost_nano_usd == cost_nano_usd(size, entry.unit_price_usd)
    assert balances(desk) == (Balance(cost, 0), Balance(size, 0))
    assert isinstance(desk.ledger, SqlLedger)
    assert audit(desk.ledger).findings == ()


def test_hours_and_connections_are_left_alone(desk: Desk) -> None:
    live = budget("live", limit("month", "hours", 1), limit("month", "connections", 1))
    hold = opened(desk, guarded=policy(budget("account", limit("month", "usd", 200)), live))
    hold.activate()
    hold.settle("exact")
    found = desk.ledger.account_balances("desk", MONTH_START, NOW)
    assert [amount for key, amount in found.items() if key.budget == "live"] == [Balance(0, 0), Balance(0, 0)]


def test_a_refused_request_changes_nothing_and_is_recorded_with_its_price(desk: Desk) -> None:
    with pytest.raises(Refused) as refused:
        opened(desk, guarded=policy(budget("account", limit("month", "usd", 1))))
    assert refused.value.decision.code == "would_exceed"
    assert balances(desk) == (Balance(), Balance())
    (recorded,) = desk.ledger.refusals("desk", "2026-11")
    assert (recorded.code, recorded.stream, recorded.asked_nano_usd) == (
        "would_exceed",
        "nq-mbo",
        1_800_000_000,
    )
    assert list(desk.meter_dir.iterdir()) == []


def test_a_yes_is_needed_only_where_nothing_else_is_missing(desk: Desk) -> None:
    rules = HistoricalRules(approve_above_usd=Decimal(1))
    asked = quote()
    plenty, little = (
        replace(BOTH, historical=rules),
        policy(budget("account", limit("month", "usd", 1)), historical=rules),
    )
    assert desk.guard(plenty).needs_approval(STREAM, asked)
    assert not desk.guard(plenty).needs_approval(STREAM, quote(GIB // 2, "0.90"))
    assert not desk.guard(little).needs_approval(STREAM, asked)
    with pytest.raises(Refused) as refused:
        opened(desk, guarded=plenty)
    assert refused.value.decision.code == "approval_needed"
    opened(desk, guarded=plenty, approved=True).release()


def test_a_request_that_no_budget_matches_is_refused_and_nobody_is_asked(desk: Desk) -> None:
    live_only = budget("account", limit("month", "usd", 200), match=Match(mode=frozenset({"live"})))
    guarded = policy(live_only, historical=HistoricalRules(approve_above_usd=Decimal(1)))
    assert not desk.guard(guarded).needs_approval(STREAM, quote())
    with pytest.raises(Refused) as refused:
        opened(desk, guarded=guarded)
    assert refused.value.decision.code == "not_covered"
    assert "no budget of the policy matches historical mbo of stream nq-mbo" in refused.value.decision.text()


def test_a_session_limit_without_a_known_session_refuses(desk: Desk) -> None:
    desk.windows = lambda _: OneWindow(known=replace(KNOWN, end_utc=NOW))
    guarded = policy(budget("account", limit("session", "usd", 8)))
    assert not desk.guard(guarded).needs_approval(STREAM, quote())
    with pytest.raises(Refused) as refused:
        opened(desk, guarded=guarded)
    assert refused.value.decision.code == "calendar_unknown"
    assert [row.code for row in desk.ledger.refusals("desk", "2026-11")] == ["calendar_unknown"]


def test_an_unreachable_ledger_refuses_and_asks_nobody(desk: Desk) -> None:
    desk.ledger.close()
    guarded = policy(historical=HistoricalRules(approve_above_usd=Decimal(1)))
    assert not desk.guard(guarded).needs_approval(STREAM, quote())
    with pytest.raises(Refused) as refused:
        opened(desk)
    assert refused.value.decision.code == "ledger_unavailable"


def test_a_hold_that_cannot_be_settled_keeps_its_meter_for_the_next_start(desk: Desk) -> None:
    hold = opened(desk)
    hold.activate()
    hold.count(1000, 1)
    desk.ledger.close()
    with pytest.raises(LedgerError):
        hold.settle("exact")
    hold.abandon()
    assert len(list(desk.meter_dir.iterdir())) == 1

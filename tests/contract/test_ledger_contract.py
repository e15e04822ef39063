"""What every ledger promises, whatever store it is kept in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

import pytest

from budget_guard.errors import Fenced, LedgerError
from budget_guard.ledger.model import Approval, Balance, Balances, Claim, Ledger, Posting
from budget_guard.ledger.store import open_ledger
from tests.ledger.samples import (
    OPENED,
    USD,
    breaker,
    claiming,
    entry,
    gap,
    key,
    no,
    purchase,
    refusal,
    terms,
    usd,
    within,
)

GIB = key(unit="gib")


def opened(ledger: Ledger, hold_id: str = "h1", held: int = 100) -> None:
    ledger.open_hold(terms(hold_id), [USD], claiming({USD: (0, held)}))


def settled(ledger: Ledger) -> None:
    opened(ledger)
    ledger.settle("h1", {USD: 40}, [entry()])


def released(ledger: Ledger) -> None:
    opened(ledger)
    ledger.release("h1")


def test_an_untouched_balance_is_zero(ledger: Ledger) -> None:
    assert ledger.balances([USD, GIB]) == {USD: Balance(0, 0), GIB: Balance(0, 0)}


def test_a_hold_moves_every_balance_it_claims(ledger: Ledger) -> None:
    hold = ledger.open_hold(terms(), [USD, GIB], claiming({USD: (0, 100), GIB: (0, 7)}))
    assert hold is not None
    assert (hold.state, hold.version) == ("held", 0)
    assert set(hold.claims) == {Claim(USD, 0, 100), Claim(GIB, 0, 7)}
    assert ledger.balances([USD, GIB]) == {USD: Balance(0, 100), GIB: Balance(0, 7)}


def test_decide_sees_what_others_hold_and_settled(ledger: Ledger) -> None:
    settled(ledger)
    opened(ledger, "h2", held=11)
    seen: list[Balances] = []

    def decide(balances: Balances) -> Posting:
        seen.append(dict(balances))
        return Posting(())

    ledger.open_hold(terms("h3"), [USD, GIB], decide)
    assert seen == [{USD: Balance(40, 11), GIB: Balance(0, 0)}]


def test_a_decision_to_write_nothing_leaves_no_hold(ledger: Ledger) -> None:
    assert ledger.open_hold(terms(), [USD], no) is None
    assert ledger.hold("h1") is None
    assert usd(ledger) == Balance(0, 0)


def test_opening_a_hold_again_changes_nothing_and_decides_nothing(ledger: Ledger) -> None:
    first = ledger.open_hold(terms(), [USD], claiming({USD: (0, 100)}))

    def never(balances: Balances) -> Posting:
        raise AssertionError("a retry must not decide again")

    assert ledger.open_hold(terms(), [USD], never) == first
    assert usd(ledger) == Balance(0, 100)


def test_an_error_in_decide_passes_through_and_writes_nothing(ledger: Ledger) -> None:
    def broken(balances: Balances) -> Posting:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ledger.open_hold(terms(), [USD], broken)
    assert ledger.hold("h1") is None
    opened(ledger)


def test_two_claims_on_one_balance_are_a_mistake(ledger: Ledger) -> None:
    twice = (Claim(USD, 0, 1), Claim(USD, 0, 2))
    with pytest.raises(ValueError, match="two claims"):
        ledger.open_hold(terms(), [USD], lambda balances: Posting(twice))
    assert ledger.hold("h1") is None


def test_a_hold_comes_back_exactly_as_it_was_given(ledger: Ledger) -> None:
    given = terms(
        unit_price_usd=Decimal("0.000000000000000000000001"),
        stream=None,
        meter=None,
        request='{"symbols": ["Ω"]}',
    )
    ledger.open_hold(given, [], claiming({}))
    stored = ledger.hold("h1")
    assert stored is not None
    assert stored.terms == given
    assert stored.claims == ()


def test_an_unknown_hold_is_none_to_read_and_an_error_to_change(ledger: Ledger) -> None:
    assert ledger.hold("nobody") is None
    for change in (
        lambda: ledger.activate("nobody"),
        lambda: ledger.release("nobody"),
        lambda: ledger.settle("nobody", {}, []),
        lambda: ledger.restate("nobody", 1, [], no),
    ):
        with pytest.raises(LedgerError, match="no hold nobody"):
            change()


def test_activating_twice_is_activating_once(ledger: Ledger) -> None:
    opened(ledger)
    ledger.activate("h1")
    ledger.activate("h1")
    hold = ledger.hold("h1")
    assert hold is not None
    assert hold.state == "active"


def test_a_restatement_replaces_the_claims(ledger: Ledger) -> None:
    opened(ledger)
    ledger.activate("h1")
    hold = ledger.restate("h1", 1, [USD, GIB], claiming({USD: (60, 30), GIB: (5, 0)}))
    assert (hold.version, set(hold.claims)) == (1, {Claim(USD, 60, 30), Claim(GIB, 5, 0)})
    assert ledger.balances([USD, GIB]) == {USD: Balance(60, 30), GIB: Balance(5, 0)}
    assert ledger.hold("h1") == hold


def test_a_restatement_sees_balances_without_its_own_held(ledger: Ledger) -> None:
    opened(ledger, "h1", held=100)
    opened(ledger, "h2", held=7)
    ledger.restate("h1", 1, [USD], claiming({USD: (60, 40)}))
    seen: list[Balances] = []

    def decide(balances: Balances) -> Posting:
        seen.append(dict(balances))
        return Posting(None)

    ledger.restate("h1", 2, [USD], decide)
    assert seen == [{USD: Balance(60, 7)}]


def test_a_claim_that_a_restatement_leaves_out_keeps_what_it_settled_and_holds_nothing(
    ledger: Ledger,
) -> None:
    tomorrow = replace(USD, period="day", period_start_utc=OPENED + timedelta(days=1))
    opened(ledger)
    ledger.restate("h1", 1, [USD], claiming({USD: (60, 30)}))
    hold = ledger.restate("h1", 2, [tomorrow], claiming({tomorrow: (5, 20)}))
    assert set(hold.claims) == {Claim(USD, 60, 0), Claim(tomorrow, 5, 20)}
    assert ledger.balances([USD, tomorrow]) == {USD: Balance(60, 0), tomorrow: Balance(5, 20)}


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_late_restatement_changes_nothing(ledger: Ledger, version: int) -> None:
    opened(ledger)
    latest = ledger.restate("h1", 2, [USD], claiming({USD: (60, 30)}))
    assert ledger.restate("h1", version, [USD], claiming({USD: (99, 99)})) == latest
    assert usd(ledger) == Balance(60, 30)


def test_a_restatement_that_writes_nothing_keeps_its_version(ledger: Ledger) -> None:
    opened(ledger)
    assert ledger.restate("h1", 5, [USD], no).version == 0
    assert ledger.restate("h1", 1, [USD], claiming({USD: (1, 1)})).version == 1


def test_what_is_settled_never_shrinks(ledger: Ledger) -> None:
    opened(ledger)
    ledger.restate("h1", 1, [USD], claiming({USD: (60, 30)}))
    with pytest.raises(LedgerError, match="never shrinks"):
        ledger.restate("h1", 2, [USD], claiming({USD: (59, 30)}))
    with pytest.raises(LedgerError, match="never shrinks"):
        ledger.settle("h1", {USD: 59}, [])
    assert usd(ledger) == Balance(60, 30)


def test_settling_holds_nothing_more_and_writes_the_entries(ledger: Ledger) -> None:
    opened(ledger)
    ledger.activate("h1")
    ledger.settle("h1", {USD: 40}, [entry()])
    hold = ledger.hold("h1")
    assert hold is not None
    assert (hold.state, hold.claims) == ("settled", (Claim(USD, 40, 0),))
    assert usd(ledger) == Balance(40, 0)
    assert ledger.entries("desk", "2026-11") == [entry()]


def test_settling_again_changes_nothing(ledger: Ledger) -> None:
    settled(ledger)
    ledger.settle("h1", {USD: 99}, [entry(), entry(entry_id="h1:2")])
    assert usd(ledger) == Balance(40, 0)
    assert ledger.entries("desk", "2026-11") == [entry()]


def test_an_overrun_is_recorded_in_full(ledger: Ledger) -> None:
    opened(ledger, held=100)
    ledger.settle("h1", {USD: 250}, [entry()])
    assert usd(ledger) == Balance(250, 0)


def test_a_claim_that_a_settlement_leaves_out_keeps_what_it_settled(ledger: Ledger) -> None:
    opened(ledger)
    ledger.restate("h1", 1, [USD, GIB], claiming({USD: (60, 30), GIB: (5, 5)}))
    ledger.settle("h1", {USD: 70}, [])
    assert ledger.balances([USD, GIB]) == {USD: Balance(70, 0), GIB: Balance(5, 0)}


def test_a_settlement_may_touch_a_balance_that_the_hold_had_not_claimed(ledger: Ledger) -> None:
    opened(ledger)
    ledger.settle("h1", {GIB: 3}, [])
    assert ledger.balances([USD, GIB]) == {USD: Balance(0, 0), GIB: Balance(3, 0)}


def test_an_entry_of_another_hold_is_a_mistake(ledger: Ledger) -> None:
    opened(ledger)
    with pytest.raises(ValueError, match="belongs to hold h2"):
        ledger.settle("h1", {}, [entry("h2")])
    assert usd(ledger) == Balance(0, 100)


def test_an_entry_id_is_used_once(ledger: Ledger) -> None:
    settled(ledger)
    opened(ledger, "h2")
    with pytest.raises(LedgerError):
        ledger.settle("h2", {USD: 1}, [entry("h2", "h1:1")])
    assert usd(ledger) == Balance(40, 100)


def test_releasing_gives_everything_back(ledger: Ledger) -> None:
    released(ledger)
    ledger.release("h1")
    assert usd(ledger) == Balance(0, 0)
    assert ledger.open_holds() == []


def test_an_active_hold_is_not_released(ledger: Ledger) -> None:
    opened(ledger)
    ledger.activate("h1")
    with pytest.raises(LedgerError, match="must be settled") as caught:
        ledger.release("h1")
    assert not isinstance(caught.value, Fenced)
    assert usd(ledger) == Balance(0, 100)


def test_a_hold_that_settled_something_is_not_released(ledger: Ledger) -> None:
    opened(ledger)
    ledger.restate("h1", 1, [USD], claiming({USD: (1, 99)}))
    with pytest.raises(LedgerError, match="must be settled"):
        ledger.release("h1")
    hold = ledger.hold("h1")
    assert hold is not None
    assert hold.state == "held"


@pytest.mark.parametrize("close", [settled, released])
def test_a_closed_hold_fences_its_owner_off(ledger: Ledger, close: Callable[[Ledger], None]) -> None:
    close(ledger)
    before = usd(ledger)
    with pytest.raises(Fenced, match="must stop spending"):
        ledger.restate("h1", 7, [USD], claiming({USD: (99, 99)}))
    with pytest.raises(Fenced):
        ledger.activate("h1")
    assert usd(ledger) == before


def test_released_and_settled_exclude_each_other(ledger: Ledger) -> None:
    released(ledger)
    with pytest.raises(Fenced):
        ledger.settle("h1", {USD: 1}, [])
    opened(ledger, "h2")
    ledger.settle("h2", {USD: 1}, [])
    with pytest.raises(Fenced):
        ledger.release("h2")
    assert usd(ledger) == Balance(1, 0)


def test_open_holds_come_oldest_first_and_by_account(ledger: Ledger) -> None:
    for hold_id, minutes, account in (("new", 9, "desk"), ("old", 0, "desk"), ("theirs", 5, "lab")):
        when = OPENED + timedelta(minutes=minutes)
        ledger.open_hold(terms(hold_id, opened_utc=when, account=account), [USD], claiming({USD: (0, 1)}))
    assert [hold.terms.id for hold in ledger.open_holds()] == ["old", "theirs", "new"]
    assert [hold.terms.id for hold in ledger.open_holds("desk")] == ["old", "new"]


def test_an_accounts_balances_are_those_whose_period_starts_in_the_interval(ledger: Ledger) -> None:
    tomorrow = replace(USD, period="day", period_start_utc=OPENED + timedelta(days=1))
    theirs = replace(USD, account="lab")
    ledger.open_hold(
        terms(), [USD, tomorrow, theirs], claiming({USD: (0, 5), tomorrow: (0, 6), theirs: (0, 7)})
    )
    start = USD.period_start_utc
    end = tomorrow.period_start_utc
    assert ledger.account_balances("desk", start, end) == {USD: Balance(0, 5)}
    assert ledger.account_balances("desk", start, end + timedelta(microseconds=1)) == {
        USD: Balance(0, 5),
        tomorrow: Balance(0, 6),
    }
    assert ledger.account_balances("desk", start + timedelta(microseconds=1), end) == {}


def test_entries_belong_to_their_account_and_billing_month(ledger: Ledger) -> None:
    rows = [
        entry(entry_id="late", ended_utc=OPENED + timedelta(hours=2)),
        entry(entry_id="early", ended_utc=OPENED + timedelta(hours=1)),
        entry(entry_id="theirs", account="lab"),
        entry(entry_id="next", month="2026-12"),
    ]
    opened(ledger)
    ledger.settle("h1", {}, rows)
    assert [row.id for row in ledger.entries("desk", "2026-11")] == ["early", "late"]


def test_a_refusal_changes_no_balance_and_is_recorded_once(ledger: Ledger) -> None:
    opened(ledger)
    ledger.record_refusal(refusal(asked_nano_usd=5))
    ledger.record_refusal(refusal(asked_nano_usd=6))
    assert ledger.refusals("desk", "2026-11") == [refusal(asked_nano_usd=5)]
    assert usd(ledger) == Balance(0, 100)


def test_refusals_and_gaps_belong_to_the_month_they_began_in(ledger: Ledger) -> None:
    last = datetime(2026, 11, 30, 23, 59, 59, 999999, tzinfo=UTC)
    first = last + timedelta(microseconds=1)
    for name, at in (("last", last), ("first", first)):
        ledger.record_refusal(refusal(name, at_utc=at))
        ledger.record_gap(gap(name, start_utc=at, end_utc=at + timedelta(minutes=1)))
    assert [row.id for row in ledger.refusals("desk", "2026-11")] == ["last"]
    assert [row.id for row in ledger.gaps("desk", "2026-11")] == ["last"]
    assert [row.id for row in ledger.gaps("desk", "2026-12")] == ["first"]


def test_without_a_month_all_gaps_of_the_account_are_listed_oldest_first(ledger: Ledger) -> None:
    for name, month, account in (("late", 12, "desk"), ("early", 1, "desk"), ("other", 3, "lab")):
        at = datetime(2026, month, 5, tzinfo=UTC)
        ledger.record_gap(gap(name, account=account, start_utc=at, end_utc=at + timedelta(minutes=1)))
    assert [row.id for row in ledger.gaps("desk")] == ["early", "late"]


def test_a_gap_is_mended_in_place(ledger: Ledger) -> None:
    ledger.record_gap(gap())
    ledger.record_gap(gap(mended="replayed", note="2 minutes", end_utc=OPENED.replace(hour=20)))
    assert ledger.gaps("desk", "2026-11") == [gap(mended="replayed", note="2 minutes")]


def test_approvals_are_in_force_from_their_first_instant_until_before_their_last(ledger: Ledger) -> None:
    """Of one account, in the order in which they were made, and each as it was recorded."""
    until, second = OPENED + timedelta(hours=1), timedelta(microseconds=1)
    made = [
        Approval(name, account, "account", "usd", 5, OPENED, until, "results day", "Ada")
        for name, account in (("b", "desk"), ("a", "desk"), ("c", "other"))
    ]
    for approval in made:
        ledger.record_approval(approval)
    assert ledger.approvals("desk", OPENED - second) == []
    assert ledger.approvals("desk", OPENED) == ledger.approvals("desk", until - second) == made[:2]
    assert ledger.approvals("desk", until) == []
    assert ledger.approvals("desk") == made[:2]


def test_a_hold_reads_as_its_restatement_said(ledger: Ledger) -> None:
    """With all that it is for, and its claims in the order in which their balances were made."""
    later, wanted = key(budget="later"), terms("h1", unit_price_usd=Decimal("0.50"), stream=None)
    ledger.open_hold(wanted, [USD, GIB], claiming({USD: (0, 9), GIB: (0, 9)}))
    ledger.activate("h1")
    said = ledger.restate("h1", 1, [later, USD], claiming({later: (0, 1), USD: (2, 3)}))
    assert said.terms == wanted
    assert ledger.hold("h1") == said == ledger.restate("h1", 1, [USD], no)
    assert [claim.key for claim in said.claims] == [GIB, USD, later]


def test_a_breaker_is_open_until_its_time_and_can_be_closed_before(ledger: Ledger) -> None:
    ledger.record_breaker(breaker())
    assert ledger.breakers("desk", OPENED) == [breaker()]
    assert ledger.breakers("other", OPENED) == []
    assert ledger.breakers("desk", breaker().until_utc) == []
    ledger.record_breaker(breaker(until_utc=OPENED))
    assert ledger.breakers("desk", OPENED) == []


def test_a_purchase_takes_its_job_and_its_price_when_they_are_known(ledger: Ledger) -> None:
    ledger.record_purchase(purchase())
    ledger.record_purchase(purchase("p2", dataset="XNAS.ITCH"))
    known = purchase(job_id="GLBX-1", state="bought", size_bytes=56, cost_nano_usd=7)
    ledger.record_purchase(replace(known, symbols="[]"))
    assert ledger.purchases("desk", "GLBX.MDP3") == [known]
    assert [row.id for row in ledger.purchases("desk")] == ["p1", "p2"]
    assert ledger.purchases("other") == []


def test_purchases_are_found_by_their_form_and_by_what_they_overlap(ledger: Ledger) -> None:
    first, second = purchase("p1", form="a"), purchase("p2", form="b", schema="trades")
    for row in (first, second):
        ledger.record_purchase(row)
    start, end = first.start_utc, first.end_utc
    found = partial(ledger.purchases, "desk", "GLBX.MDP3")
    assert found(form="b") == [second]
    assert found(within=("mbo", start, end)) == [first]
    assert found(within=("mbo", end, end.replace(day=28))) == []
    assert found(within=("mbo", start.replace(day=1), start)) == []
    assert found(within=("trades", end.replace(hour=1), end)) == [second]


def test_a_month_that_is_none_is_a_mistake(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="november"):
        ledger.refusals("desk", "november")


def test_amounts_beyond_64_bits_are_refused_and_write_nothing(ledger: Ledger) -> None:
    opened(ledger)
    with pytest.raises(LedgerError, match="64 bits"):
        ledger.settle("h1", {USD: 2**63}, [])
    assert usd(ledger) == Balance(0, 100)


def test_everything_is_there_after_closing_and_opening_again(ledger: Ledger, url: str) -> None:
    settled(ledger)
    ledger.record_gap(gap())
    ledger.close()
    again = open_ledger(url)
    assert usd(again) == Balance(40, 0)
    assert again.entries("desk", "2026-11") == [entry()]
    assert again.gaps("desk", "2026-11") == [gap()]
    again.close()


def test_a_closed_ledger_says_so(ledger: Ledger) -> None:
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        ledger.open_holds()


def test_a_new_ledger_may_be_marked_a_rehearsals_and_stays_one(ledger: Ledger, url: str) -> None:
    assert not ledger.is_rehearsal()
    ledger.mark_rehearsal()
    opened(ledger)
    ledger.mark_rehearsal()
    other = open_ledger(url)
    assert other.is_rehearsal()
    other.close()


def test_a_ledger_with_real_holds_is_not_used_for_a_rehearsal(ledger: Ledger) -> None:
    settled(ledger)
    with pytest.raises(LedgerError, match="real spending"):
        ledger.mark_rehearsal()
    assert not ledger.is_rehearsal()


def test_the_last_dollar_goes_to_one_of_two_instances(ledger: Ledger, url: str) -> None:
    other = open_ledger(url)
    first = ledger.open_hold(terms("h1"), [USD], within(100, 0, 80))
    second = other.open_hold(terms("h2"), [USD], within(100, 0, 80))
    assert first is not None
    assert second is None
    assert usd(other) == Balance(0, 80)
    other.close()

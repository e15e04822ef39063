"""The month as the ledger tells it: nothing twice, nothing missing, and what is unknown is not zero."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from budget_guard.clock import EPOCH
from budget_guard.ledger.model import Ledger
from budget_guard.policy.model import Budget, Limit, Policy
from budget_guard.reviewing.model import Review
from budget_guard.reviewing.review import account_budget_usd, review
from tests.ledger.samples import OPENED, USD, claiming, gap, key, refusal, terms
from tests.reviewing.months import CENT, NOW, USD_MONTH, flat, matching, policy, run, spend

GIB = key(unit="gib")


def november(ledger: Ledger, rules: Policy | None = None, **options: Any) -> Review:
    return review(policy() if rules is None else rules, ledger, "2026-11", now=NOW, **options)


def settled(rows: Any) -> list[tuple[str | None, str]]:
    return [(row.labels[0][1], row.as_json()["settled_usd"]) for row in rows]


def test_an_empty_month_is_zero_and_has_no_rows(ledger: Ledger) -> None:
    found = november(ledger).as_json()
    assert found["totals"] == {
        "settled_usd": "0", "held_usd": "0", "residual_usd": "0", "gib": "0", "control_gib": "0",
        "residual_gib": "0", "uses": 0, "fixed_usd": "0", "total_usd": "0", "refused": 0,
        "refused_unpriced": 0, "saved_usd": "0",
    }  # fmt: skip
    assert [found[name] for name in ("by_stream", "by_day", "by_schema", "refusals", "overruns", "gaps")] == [
        []
    ] * 6


def test_the_json_has_the_promised_shape(ledger: Ledger) -> None:
    found = json.loads(json.dumps(november(ledger).as_json()))
    assert {"policy", "month", "totals", "by_stream", "by_day", "against", "overruns", "gaps"} <= set(found)
    assert (found["policy"], found["month"]) == ("nq-futures", "2026-11")
    assert found["against"] == {"plan_usd": None, "budget_usd": "200", "vendor_usd": None}


def test_what_is_settled_contains_what_is_assumed_and_says_how_much(ledger: Ledger) -> None:
    spend(ledger, "h1", 216, residual_cents=4)
    found = november(ledger)
    totals = found.as_json()["totals"]
    assert (totals["settled_usd"], totals["residual_usd"], totals["gib"]) == ("2.2", "0.04", "1")
    assert any(note.startswith("$0.04 of what is settled is assumed") for note in found.notes)


def test_each_grouping_adds_up_to_the_total(ledger: Ledger) -> None:
    spend(ledger, "h1", 100)
    spend(ledger, "h2", 20, days=1, schema="trades", stream="nq-trades")
    spend(ledger, "h3", 3, days=1, mode="historical")
    spend(ledger, "h4", 4, stream=None)
    found = november(ledger)
    assert settled(found.by_stream) == [("nq-mbo", "1.03"), ("nq-trades", "0.2"), (None, "0.04")]
    assert settled(found.by_day) == [("2026-11-23", "1.04"), ("2026-11-24", "0.23")]
    labels = [tuple(text for _, text in row.labels) for row in found.by_schema]
    assert labels == [
        ("GLBX.MDP3", "mbo", "historical"),
        ("GLBX.MDP3", "mbo", "live"),
        ("GLBX.MDP3", "trades", "live"),
    ]
    for rows in (found.by_stream, found.by_day, found.by_schema):
        assert sum(row.spent.settled_nano_usd for row in rows) == found.spent.settled_nano_usd == 127 * CENT
        assert sum(row.spent.uses for row in rows) == 4


def test_a_connection_over_midnight_counts_on_the_day_it_started(ledger: Ledger) -> None:
    """It started at 14:30 and ended twelve hours later, on the 24th."""
    spend(ledger, "h1", 100)
    assert settled(november(ledger).by_day) == [("2026-11-23", "1")]


def test_other_months_and_other_accounts_stay_out(ledger: Ledger) -> None:
    spend(ledger, "h1", 100, month="2026-12")
    spend(ledger, "h2", 100, account="lab")
    run(ledger, "h3", {USD: (0, CENT)}, month="2026-12")
    run(ledger, "h4", {USD: (0, CENT)}, account="lab")
    assert november(ledger).spent.uses == 0


def test_a_running_connection_is_settled_so_far_and_holds_the_rest_once(ledger: Ledger) -> None:
    """Its claims on several budgets speak of the same bytes: they are not added up."""
    other = replace(USD, budget="glbx-live")
    run(ledger, "h1", {USD: (70 * CENT, 30 * CENT), other: (70 * CENT, 30 * CENT), GIB: (2**29, 2**20)})
    found = november(ledger)
    totals = found.as_json()["totals"]
    assert (totals["settled_usd"], totals["held_usd"], totals["gib"]) == ("0.7", "0.3", "0.5")
    assert any(note.startswith("Still running: 1.") for note in found.notes)


def test_a_running_connection_under_a_size_limit_only_is_priced_by_its_size(ledger: Ledger) -> None:
    run(ledger, "h1", {GIB: (2**30, 2**30)})
    totals = november(ledger).as_json()["totals"]
    assert (totals["settled_usd"], totals["held_usd"]) == ("2.16", "2.16")


def test_a_running_connection_that_nothing_measures_is_said_to_be_unknown(ledger: Ledger) -> None:
    run(ledger, "h1", {key(unit="hours"): (1, 1)})
    assert any("under no limit in USD or GiB" in note for note in november(ledger).notes)


def test_a_running_connection_that_costs_nothing_is_known_to(ledger: Ledger) -> None:
    run(ledger, "h1", {key(unit="hours"): (1, 1)}, unit_price_usd=Decimal(0))
    found = november(ledger)
    assert found.spent.uses == 1
    assert not any("under no limit" in note for note in found.notes)


def test_refusals_are_counted_by_reason_and_stream_and_priced_where_a_price_was_known(ledger: Ledger) -> None:
    ledger.record_refusal(refusal("r1", asked_nano_usd=500 * CENT))
    ledger.record_refusal(refusal("r2", asked_nano_usd=300 * CENT))
    ledger.record_refusal(refusal("r3", asked_nano_usd=None))
    ledger.record_refusal(refusal("r4", code="window_closed", stream="nq-mbo"))
    found = november(ledger)
    assert [group.as_json() for group in found.refusals] == [
        {"code": "would_exceed", "stream": None, "count": 3, "saved_usd": "8", "unpriced": 1},
        {"code": "window_closed", "stream": "nq-mbo", "count": 1, "saved_usd": None, "unpriced": 1},
    ]
    totals = found.as_json()["totals"]
    assert (totals["refused"], totals["saved_usd"], totals["refused_unpriced"]) == (4, "8", 2)
    assert "2 of 4 refusals have no known price and are not in what was saved." in found.notes


def test_a_flat_plan_adds_its_fee_and_licence_of_the_month(ledger: Ledger) -> None:
    spend(ledger, "h1", 100)
    found = november(ledger, policy(account=flat("standard")))
    totals = found.as_json()["totals"]
    assert (totals["settled_usd"], totals["fixed_usd"], totals["total_usd"]) == ("1", "235.5", "236.5")


def test_a_fee_that_nobody_knows_is_null_and_never_zero(ledger: Ledger) -> None:
    found = november(ledger, policy(account=flat("platinum")))
    totals = found.as_json()["totals"]
    assert (totals["fixed_usd"], totals["total_usd"]) == (None, None)
    assert any(
        note.startswith("Fixed costs are unknown: no fee is known of a 'platinum' plan")
        for note in found.notes
    )


def test_the_budget_is_the_smallest_month_limit_over_everything() -> None:
    wide, tight = Budget("wide", (USD_MONTH,)), Budget("tight", (replace(USD_MONTH, amount=Decimal(50)),))
    part = matching(Budget("part", (replace(USD_MONTH, amount=Decimal(1)),)), dataset="GLBX.MDP3")
    open_end = Budget("open", (replace(USD_MONTH, amount=None),))
    assert account_budget_usd(policy(budgets=(wide, part, open_end, tight))) == 50
    assert account_budget_usd(policy(budgets=(part, open_end))) is None


def test_the_plan_is_set_beside_what_was_spent(ledger: Ledger) -> None:
    assert november(ledger, plan_usd=Decimal("8.61")).as_json()["against"]["plan_usd"] == "8.61"


def test_a_limit_that_was_passed_is_listed_with_by_how_much(ledger: Ledger) -> None:
    day = replace(USD, period="day", period_start_utc=datetime(2026, 11, 24, 5, tzinfo=UTC))
    ledger.open_hold(terms(), [day], claiming({day: (0, 100)}))
    ledger.settle("h1", {day: 1_516 * CENT}, [])
    (found,) = november(ledger).overruns
    assert found.as_json() == {
        "budget": "account", "period": "day", "period_start_utc": "2026-11-24T05:00:00Z", "unit": "usd",
        "limit": "15", "approved": "0", "settled": "15.16", "held": "0", "over": "0.16", "causes": [],
    }  # fmt: skip


def test_a_limit_that_is_met_exactly_is_not_passed(ledger: Ledger) -> None:
    spend(ledger, "h1", 20_000)
    assert november(ledger).overruns == ()
    run(ledger, "h2", {USD: (0, 1)})
    assert [found.period for found in november(ledger).overruns] == ["month"]


def test_limits_without_an_end_are_looked_at_every_month(ledger: Ledger) -> None:
    ever = replace(USD, period="total", period_start_utc=EPOCH)
    ledger.open_hold(terms(month="2025-01"), [ever], claiming({ever: (0, 11 * CENT)}))
    rules = policy(budgets=(Budget("account", (Limit("total", "usd", Decimal("0.1")),)),))
    assert [found.period for found in november(ledger, rules).overruns] == ["total"]


def test_gaps_say_what_was_missed_and_how_it_was_mended(ledger: Ledger) -> None:
    ledger.record_gap(gap(start_utc=OPENED.replace(microsecond=0), mended="replayed"))
    (found,) = november(ledger).as_json()["gaps"]
    assert (found["stream"], found["start_utc"], found["mended"]) == (
        "nq-mbo", "2026-11-23T14:30:00Z", "replayed",
    )  # fmt: skip


def test_streams_of_other_policies_of_the_account_are_named(ledger: Ledger) -> None:
    spend(ledger, "h1", 1, stream="es-trades")
    assert "Streams of other policies of this account are included: es-trades." in november(ledger).notes


def test_a_month_that_is_not_over_says_so(ledger: Ledger) -> None:
    last = datetime(2026, 12, 1, tzinfo=UTC) - timedelta(microseconds=1)
    note = "The month is not over: these are the figures so far."
    assert note in review(policy(), ledger, "2026-11", now=last).notes
    assert note not in review(policy(), ledger, "2026-11", now=last + timedelta(microseconds=1)).notes


def test_a_month_that_is_none_is_a_mistake(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="november"):
        review(policy(), ledger, "november", now=NOW)

"""Limits that were passed, as settlements recorded them and as balances show them: each once, approvals respected."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from rich.console import Console

from budget_guard.clock import EPOCH
from budget_guard.ledger.model import Approval, BalanceKey, Ledger
from budget_guard.ledger.model import Overrun as Recorded
from budget_guard.policy.model import Budget, Limit, Policy
from budget_guard.render.review import render_markdown, render_review
from budget_guard.reviewing.model import Review
from budget_guard.reviewing.review import review
from tests.ledger.samples import USD, claiming, terms
from tests.reviewing.months import CENT, NOW, policy, run

DAY = replace(USD, period="day", period_start_utc=datetime(2026, 11, 24, 5, tzinfo=UTC))
EVER = replace(USD, period="total", period_start_utc=EPOCH)
DOLLAR = 100 * CENT


def reviewed(ledger: Ledger, month: str = "2026-11", rules: Policy | None = None) -> Review:
    return review(rules or policy(), ledger, month, now=NOW)


def overspend(
    ledger: Ledger, key: BalanceKey, settled: int, past: int | None, hold_id: str = "h1", **changes: Any
) -> None:
    """Settle so much on a balance, with an overrun of so much on record, or none."""
    ledger.open_hold(terms(hold_id), [key], claiming({key: (0, 1)}))
    values: dict[str, Any] = {
        "id": f"{hold_id}:over:1", "hold_id": hold_id, "account": "desk", "budget": key.budget,
        "period": key.period, "period_start_utc": key.period_start_utc, "unit": "usd",
        "limit_amount": 15 * DOLLAR, "past": past, "at_utc": key.period_start_utc + timedelta(hours=1),
        "note": "a late burst",
    }  # fmt: skip
    rows = [] if past is None else [Recorded(**{**values, **changes})]
    ledger.settle(hold_id, {key: settled}, [], lambda _: rows)


def approve(ledger: Ledger, dollars: int, since: datetime, until: datetime, **changes: Any) -> None:
    values: dict[str, Any] = {
        "id": f"a{dollars}", "account": "desk", "budget": "account", "unit": "usd", "amount": dollars * DOLLAR,
        "from_utc": since, "until_utc": until, "reason": "results day", "name": "Ada",
    }  # fmt: skip
    ledger.record_approval(Approval(**{**values, **changes}))


def test_what_a_settlement_recorded_and_its_balance_shows_is_one_row(ledger: Ledger) -> None:
    """With the hold, and what it noted."""
    overspend(ledger, DAY, 16 * DOLLAR, DOLLAR)
    (found,) = reviewed(ledger).as_json()["overruns"]
    assert (found["limit"], found["approved"], found["over"]) == ("15", "0", "1")
    assert found["causes"] == [
        {"hold": "h1", "at_utc": "2026-11-24T06:00:00Z", "limit": "15", "past": "1", "note": "a late burst"}
    ]


def test_what_was_spent_under_an_approval_is_no_overrun_also_after_it_has_ended(ledger: Ledger) -> None:
    """It was in force for a part of that day."""
    overspend(ledger, DAY, 16 * DOLLAR, None)
    assert len(reviewed(ledger).overruns) == 1
    start = DAY.period_start_utc
    approve(ledger, 3, start + timedelta(hours=2), start + timedelta(hours=3))
    assert reviewed(ledger).overruns == ()


def test_an_approval_of_another_time_budget_or_unit_allows_nothing(ledger: Ledger) -> None:
    """Up to the instant at which the day began, or from that at which it ended."""
    overspend(ledger, DAY, 16 * DOLLAR, None)
    start, end = DAY.period_start_utc, DAY.period_start_utc + timedelta(days=1)
    approve(ledger, 3, start - timedelta(days=1), start)
    approve(ledger, 4, end, end + timedelta(days=1))
    approve(ledger, 5, start, end, budget="another")
    approve(ledger, 6, start, end, unit="gib")
    assert [found.over for found in reviewed(ledger).overruns] == [Decimal(1)]


def test_approvals_that_were_never_in_force_together_are_not_added_up(ledger: Ledger) -> None:
    """The most at any one time counts."""
    overspend(ledger, DAY, 22 * DOLLAR, None)
    start = DAY.period_start_utc
    approve(ledger, 4, start - timedelta(hours=1), start + timedelta(hours=2))
    approve(ledger, 5, start + timedelta(hours=2), start + timedelta(hours=3))
    approve(ledger, 1, start + timedelta(hours=2), start + timedelta(hours=4))
    (found,) = reviewed(ledger).as_json()["overruns"]
    assert (found["approved"], found["limit"], found["over"]) == ("6", "21", "1")


def test_what_was_approved_only_after_a_limit_was_passed_stays_an_overrun(ledger: Ledger) -> None:
    """It is on record; how far it went is what was recorded then."""
    overspend(ledger, DAY, 16 * DOLLAR, DOLLAR)
    approve(ledger, 25, DAY.period_start_utc + timedelta(hours=2), DAY.period_start_utc + timedelta(hours=9))
    (found,) = reviewed(ledger).as_json()["overruns"]
    assert [found[name] for name in ("limit", "approved", "settled", "over")] == ["40", "25", "16", "1"]


def test_two_settlements_past_one_limit_are_one_row_with_two_causes(ledger: Ledger) -> None:
    """Oldest first."""
    overspend(ledger, DAY, 16 * DOLLAR, DOLLAR)
    overspend(ledger, DAY, 2 * DOLLAR, 2 * DOLLAR, "h2", at_utc=DAY.period_start_utc + timedelta(hours=2))
    (found,) = reviewed(ledger).overruns
    assert found.over == 3
    assert [cause.hold_id for cause in found.causes] == ["h1", "h2"]


def test_an_overrun_belongs_to_the_month_in_which_its_period_began(ledger: Ledger) -> None:
    """Whenever it was settled."""
    overspend(ledger, DAY, 16 * DOLLAR, DOLLAR, at_utc=datetime(2026, 12, 1, 1, tzinfo=UTC))
    assert len(reviewed(ledger).overruns) == 1
    assert reviewed(ledger, "2026-12").overruns == ()


def test_an_overrun_without_an_end_is_shown_until_the_balance_is_within_its_limit(ledger: Ledger) -> None:
    """And in the month in which it happened in any case."""
    at = datetime(2026, 10, 5, tzinfo=UTC)
    overspend(ledger, EVER, 16 * DOLLAR, DOLLAR, at_utc=at)
    tight = policy(budgets=(Budget("account", (Limit("total", "usd", Decimal(15)),)),))
    wide = policy(budgets=(Budget("account", (Limit("total", "usd", Decimal(20)),)),))
    months = ("2026-09", "2026-10", "2026-11")

    def causes(rules: Policy) -> list[list[int]]:
        return [[len(found.causes) for found in reviewed(ledger, month, rules).overruns] for month in months]

    assert causes(tight) == [[0], [1], [1]]
    assert causes(wide) == [[], [1], []]


def test_an_overrun_of_another_policys_budget_is_shown_with_the_limit_it_had(ledger: Ledger) -> None:
    """The account is the same."""
    other = replace(DAY, budget="theirs")
    overspend(ledger, other, 16 * DOLLAR, DOLLAR, budget="theirs")
    (found,) = reviewed(ledger).as_json()["overruns"]
    assert [found[name] for name in ("budget", "limit", "over")] == ["theirs", "15", "1"]


def test_approvals_of_the_month_are_those_in_force_in_a_part_of_it(ledger: Ledger) -> None:
    """With who said so and why."""
    november, december = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    approve(ledger, 1, november - timedelta(days=9), november)
    approve(ledger, 2, november - timedelta(days=9), november + timedelta(days=1))
    approve(ledger, 3, december, december + timedelta(days=1))
    found = json.loads(json.dumps(reviewed(ledger).as_json()))["approvals"]
    assert found == [
        {
            "id": "a2", "budget": "account", "unit": "usd", "amount": "2", "from_utc": "2026-10-23T00:00:00Z",
            "until_utc": "2026-11-02T00:00:00Z", "reason": "results day", "by": "Ada",
        }
    ]  # fmt: skip


def test_the_report_shows_approvals_and_what_passed_a_limit(ledger: Ledger) -> None:
    """On a terminal of 100 columns and as a page."""
    hold = "0123456789abcdef0123456789abcdef"
    overspend(ledger, DAY, 20 * DOLLAR, DOLLAR, hold)
    approve(ledger, 3, DAY.period_start_utc, DAY.period_start_utc + timedelta(hours=9))
    run(ledger, "h2", {USD: (1, 1)})
    page = render_markdown(reviewed(ledger))
    assert (
        "| account | $18.00 ($3.00 of it approved) a day, from 2026-11-24 | $20.00 | $0.00 | $2.00 |" in page
    )
    assert f"| 2026-11-24 06:00:00 | {hold} | account day | $1.00 | a late burst |" in page
    assert "| account | $3.00 | 2026-11-24 05:00:00 | 2026-11-24 14:00:00 | Ada | results day |" in page
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_review(reviewed(ledger)))
    assert max(map(len, console.export_text().splitlines())) <= 100

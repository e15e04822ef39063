"""The status: one row for each limit, what runs, and which windows are open."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from budget_guard.clock import instant_text
from budget_guard.errors import CalendarUnknown
from budget_guard.guard.status import Status, take_status
from budget_guard.ledger.meter import read_size
from budget_guard.ledger.model import Approval, Overrun
from budget_guard.policy.model import AlwaysClause, Policy
from budget_guard.render.status import render_status
from tests.guard.samples import ALLOWANCE, LIVE, NOW, STREAM, Desk, OneWindow, budget, limit, policy
from tests.ledger.samples import claiming, terms

GIB = 2**30


def taken(desk: Desk, guarded: Policy, **options: Any) -> Status:
    return take_status(guarded, desk.ledger, desk.windows, desk.clock.now(), **options)


def test_every_limit_has_a_row_of_exact_amounts_in_its_own_unit(desk: Desk) -> None:
    guarded = policy(
        budget(
            "account",
            limit("month", "usd", "0.5"),
            limit("day", "gib", "0.01"),
            limit("total", "hours", None),
        )
    )
    rows = taken(desk, guarded).as_json()["budgets"]
    assert [(row["period"], row["unit"], row["limit"], row["available"]) for row in rows] == [
        ("month", "usd", "0.5", "0.5"),
        ("day", "gib", "0.01", "0.00999999977648258209228515625"),
        ("total", "hours", None, None),
    ]
    assert rows[0] == {
        "account": "desk", "name": "account", "period": "month", "unit": "usd", "limit": "0.5", "approved": "0",
        "settled": "0", "held": "0", "available": "0.5", "period_start_utc": "2026-11-01T00:00:00Z",
        "period_end_utc": "2026-12-01T00:00:00Z", "frozen": False, "frozen_since_utc": None,
        "approvals": [], "overruns": [],
    }  # fmt: skip


def approve(desk: Desk, amount_usd: int, **changes: Any) -> Approval:
    values: dict[str, Any] = {
        "id": f"a{amount_usd}", "account": "desk", "budget": "account", "unit": "usd",
        "amount": amount_usd * 10**9, "from_utc": NOW, "until_utc": NOW + timedelta(hours=6),
        "reason": "results day", "name": "Ada",
    }  # fmt: skip
    approval = Approval(**{**values, **changes})
    desk.ledger.record_approval(approval)
    return approval


def overspend(desk: Desk, hold_id: str = "h1", settled: int = 250, past: int = 50) -> None:
    """A hold under the month's limit that ended past it, in whole dollars."""
    key = taken(desk, policy()).budgets[0].key
    desk.ledger.open_hold(terms(hold_id), [key], claiming({key: (0, 10**9)}))
    over = Overrun(f"{hold_id}:over:1", hold_id, "desk", "account", "month", key.period_start_utc, "usd", 200 * 10**9,
                   past * 10**9, NOW, "a late burst")  # fmt: skip
    desk.ledger.settle(hold_id, {key: settled * 10**9}, [], lambda _: [over])


def text(desk: Desk, guarded: Policy) -> str:
    """The status as a terminal of 80 columns shows it, on one line each."""
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(render_status(taken(desk, guarded), "UTC", "here"))
    return " ".join(console.export_text().split())


def test_a_limit_is_what_holds_now_and_says_what_is_approved_of_it(desk: Desk) -> None:
    """Every limit of the budget in that unit; what is over, not yet in force or another budget's is left out."""
    approve(desk, 25)
    approve(desk, 5)
    approve(desk, 1, until_utc=NOW)
    approve(desk, 2, from_utc=NOW + timedelta(seconds=1))
    approve(desk, 3, budget="another")
    approve(desk, 4, unit="gib")
    guarded = policy(budget("account", limit("month", "usd", 200), limit("total", "usd", None)))
    month, ever = taken(desk, guarded).as_json()["budgets"]
    assert (month["limit"], month["approved"], month["available"]) == ("230", "30", "230")
    assert month["approvals"][0] == {
        "id": "a25", "amount": "25", "from_utc": "2026-11-23T15:00:00Z", "until_utc": "2026-11-23T21:00:00Z",
        "reason": "results day", "by": "Ada",
    }  # fmt: skip
    assert [row["id"] for row in month["approvals"]] == ["a25", "a5"]
    assert (ever["limit"], ever["approved"], ever["approvals"]) == (None, "0", [])
    shown = text(desk, guarded)
    assert "$200.00 + $30.00" in shown
    assert "approved: account, $25.00 until Mon 2026-11-23 21:00, by Ada: results day" in shown


def test_a_frozen_budget_says_since_when_and_by_which_hold(desk: Desk) -> None:
    """As the settlement recorded it."""
    overspend(desk)
    (row,) = taken(desk, policy()).as_json()["budgets"]
    assert (row["frozen"], row["frozen_since_utc"], row["available"]) == (True, "2026-11-23T15:00:00Z", "0")
    assert row["overruns"] == [
        {"hold": "h1", "limit": "200", "past": "50", "at_utc": "2026-11-23T15:00:00Z", "note": "a late burst"}
    ]
    assert (
        "frozen: account month since Mon 11-23 15:00, $50.00 past $200.00 by hold h1 (a late burst)"
        in text(desk, policy())
    )


def test_a_budget_that_was_past_its_limit_until_more_was_approved_is_not_frozen(desk: Desk) -> None:
    """What happened stays on show."""
    overspend(desk)
    approve(desk, 60)
    (row,) = taken(desk, policy()).as_json()["budgets"]
    assert (row["frozen"], row["frozen_since_utc"], len(row["overruns"])) == (False, None, 1)
    assert "was past its limit: account month since" in text(desk, policy())


def test_a_budget_that_is_frozen_by_no_settlement_says_so(desk: Desk) -> None:
    """Its limit was lowered, or an approval has ended."""
    key = taken(desk, policy()).budgets[0].key
    desk.ledger.open_hold(terms("h1"), [key], claiming({key: (0, 10**9)}))
    lower = policy(budget("account", limit("month", "usd", "0.5")))
    (row,) = taken(desk, lower).as_json()["budgets"]
    assert (row["frozen"], row["frozen_since_utc"]) == (True, None)
    assert "nothing on record went past it, so its limit was lowered, or an approval has ended" in text(
        desk, lower
    )


def test_an_overrun_of_an_earlier_period_is_not_this_ones(desk: Desk) -> None:
    """A new month begins with nothing spent."""
    overspend(desk)
    desk.clock.advance(10 * 24 * 3600)
    (row,) = taken(desk, policy()).as_json()["budgets"]
    assert (row["frozen"], row["overruns"]) == (False, [])


def test_a_running_connection_shows_what_its_meter_counts_and_what_it_may_still_use(desk: Desk) -> None:
    guarded = policy()
    approval = desk.guard(guarded).open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE)
    approval.hold.activate()
    granted = taken(desk, guarded).connections[0].held_nano_usd
    approval.hold.count(GIB // 1024, 0, time.monotonic_ns())
    desk.clock.advance(3600)
    (row,) = taken(
        desk, guarded, sizes=lambda hold: read_size(desk.meter_dir / str(hold.terms.meter))
    ).connections
    assert row.size_bytes == GIB // 1024
    assert row.settled_nano_usd == 2_109_375  # 2.16 USD / 1024
    assert granted is not None
    assert row.held_nano_usd == granted - 2_109_375
    assert row.as_json()["usd_per_hour"] == "0.0021"
    approval.hold.finish("done", clean=True)
    assert taken(desk, guarded).connections == ()


def test_a_running_connection_is_shown_with_the_machine_that_it_runs_on(desk: Desk) -> None:
    guarded = policy()
    hold = desk.guard(guarded).open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
    assert f" {hold.terms.host} " in text(desk, guarded)


@pytest.mark.parametrize(("silent_s", "rate", "said"), [(60, "3", False), (90, None, True)])
def test_a_connection_elsewhere_that_is_silent_has_no_rate(
    desk: Desk, silent_s: int, rate: str | None, said: bool
) -> None:
    """Nothing shows that it runs; what it used an hour would fall with every minute, and say that money lasts."""
    guarded = policy()
    hold = desk.guard(guarded).open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
    hold.activate()
    key = desk.ledger.open_holds("desk")[0].claims[0].key
    desk.clock.advance(120 - silent_s)
    heard = desk.clock.now()
    desk.ledger.restate(hold.terms.id, 9, [key], claiming({key: (10**8, 0)}), at_utc=heard)
    desk.clock.advance(silent_s)
    status = taken(desk, guarded)
    (row,) = status.as_json()["connections"]
    assert (row["last_heard_utc"], row["usd_per_hour"]) == (instant_text(heard), rate)
    assert (status.exhaustion(status.budgets[0]) is None) == said
    assert ("heard of for" in text(desk, guarded)) == said
    hold.abandon()


def test_a_hold_that_nothing_proves_is_called_unproved(desk: Desk) -> None:
    guarded = policy()
    approval = desk.guard(guarded).open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE)
    status = taken(desk, guarded, unproved={approval.hold.terms.id: "its meter is missing"})
    assert status.as_json()["connections"][0]["state"] == "unproved"
    approval.hold.release()


def test_a_budget_lasts_what_is_left_of_it_at_the_burn_rate_of_what_draws_on_it(desk: Desk) -> None:
    guarded = policy(budget("account", limit("month", "usd", "2.17")))
    approval = desk.guard(guarded).open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE)
    approval.hold.activate()
    desk.clock.advance(3600)
    status = taken(desk, guarded, sizes=lambda _hold: GIB // 2)
    left = status.exhaustion(status.budgets[0])
    assert left is not None
    # $1.08 an hour of what is neither booked nor held yet: $2.16.
    assert abs(left - timedelta(hours=2)) < timedelta(minutes=1)
    approval.hold.finish("done", clean=True)


@pytest.mark.parametrize(
    ("after", "open_", "closes", "opens"),
    [
        (timedelta(0), True, "2026-11-23T20:00:00Z", None),
        (timedelta(hours=-2), False, None, "2026-11-23T14:00:00Z"),
        (timedelta(hours=6), False, None, None),
    ],
)
def test_a_stream_says_whether_it_is_open_and_when_that_changes(
    desk: Desk, after: timedelta, open_: bool, closes: str | None, opens: str | None
) -> None:
    status = take_status(policy(), desk.ledger, desk.windows, NOW + after)
    assert status.as_json()["streams"] == [
        {"name": "nq-mbo", "open": open_, "next_open_utc": opens, "closes_utc": closes, "problem": None}
    ]


def test_a_stream_whose_calendar_nobody_knows_is_closed_and_says_so(desk: Desk) -> None:
    later = NOW + timedelta(days=400)
    (row,) = take_status(policy(), desk.ledger, desk.windows, later).streams
    assert not row.open
    assert row.problem is not None
    assert "nobody has checked" in row.problem


def test_a_session_limit_without_a_known_session_is_left_out_and_the_rest_is_shown(desk: Desk) -> None:
    class NoSession(OneWindow):
        def session_interval(self, at: Any) -> Any:
            raise CalendarUnknown("no market")

    always = replace(STREAM, windows=(AlwaysClause(),))
    guarded = policy(
        budget("account", limit("session", "usd", 1), limit("month", "usd", 5)), streams=(always,)
    )
    status = take_status(guarded, desk.ledger, lambda _stream: NoSession(), NOW)
    assert [row.key.period for row in status.budgets] == ["month"]

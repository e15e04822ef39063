"""Why a stream cannot run, when it is looked at again, and what a fallback may know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from budget_guard.clock import ManualClock
from budget_guard.decisions import ALLOW, Code, Decision, deny
from budget_guard.policy.model import Account, Budget, Fallback, Limit, Match, Policy, Stream
from budget_guard.settings import Settings
from budget_guard.streaming.child import HOOK_DIR
from budget_guard.streaming.fallback import (
    Cause,
    Looks,
    News,
    Obstacles,
    fallback_environment,
    fallbacks_of,
    money_cause,
)
from budget_guard.streaming.supervisor_restarts import FIRST_S, HOUR_S, MOST_S, Restarts
from budget_guard.streaming.supervisor_site import GuardSite

NOW = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
KEY = "db-a-key-of-thirty-two-characters"


def stream(name: str, dataset: str = "GLBX.MDP3", *fallbacks: Fallback) -> Stream:
    return Stream(name, dataset, "mbo", ("NQ.v.0",), fallback=fallbacks)


def obstacles() -> Obstacles:
    """Three streams: two of one dataset under the budget `futures`, one of another under `stocks`."""
    streams = (stream("a"), stream("b"), stream("c", "XNAS.ITCH"))
    month = (Limit("month", "usd", Decimal(5)),)
    budgets = (
        Budget("futures", month, Match(dataset=frozenset({"GLBX.MDP3"}))),
        Budget("stocks", month, Match(dataset=frozenset({"XNAS.ITCH"}))),
    )
    return Obstacles(Policy("p", "UTC", Account("desk"), budgets, {s.name: s for s in streams}), streams)


def reached(budget: str, code: Code = "limit_reached", retry: datetime | None = None) -> Decision:
    return deny(code, f"budget {budget} is used up", budget=budget, retry_at_utc=retry)


# --- obstacles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["limit_reached", "frozen"])
def test_a_limit_stands_in_the_way_of_every_stream_that_counts_against_it(code: Code) -> None:
    found = obstacles()
    found.hear(News(cut=(reached("futures", code, NOW),)))
    cause = found.cause(["a", "b"])
    assert cause == Cause("money", "a", f"{code}: budget futures is used up", NOW)
    assert found.cause(["c"]) is None


def test_there_is_a_cause_only_when_no_stream_can_run() -> None:
    found = obstacles()
    found.hear(News(refused=(reached("futures"),)))
    assert found.cause(["a", "c"]) is None
    found.hear(News(refused=(reached("stocks"),)))
    assert found.cause(["a", "c"]) is not None
    assert found.cause([]) is None


def test_a_part_that_was_cut_off_stands_in_its_own_way_only() -> None:
    found = obstacles()
    found.hear(News(shed=((("b",), reached("futures", retry=NOW)),)))
    assert found.causes == (Cause("money", "b", "limit_reached: budget futures is used up", NOW),)
    assert found.cause(["a", "b"]) is None


@pytest.mark.parametrize(
    "code",
    [
        "not_covered",
        "window_closed",
        "would_exceed",
        "price_unknown",
        "ledger_unavailable",
        "approval_needed",
    ],
)
def test_what_is_not_about_money_or_vendor_stands_in_nobodys_way(code: Code) -> None:
    found = obstacles()
    found.hear(News(refused=(reached("futures", code),)))
    assert found.causes == ()
    assert money_cause("a", reached("futures", code)) is None


def test_the_vendors_refusal_of_a_live_logon_is_for_all_streams_of_the_dataset() -> None:
    found = obstacles()
    refusal = deny("not_entitled", "no licence")
    found.hear(News(vendor=(refusal,), vendor_live=(("GLBX.MDP3", refusal),)))
    assert [cause.stream for cause in found.causes] == ["a", "b"]
    assert found.cause(["b"]) == Cause("vendor", "b", "not_entitled: no licence")


def test_what_a_look_finds_takes_the_place_of_what_was_known() -> None:
    found = obstacles()
    found.hear(News(unreachable=(("XNAS.ITCH", "no connection"),)))
    found.learn("c", Cause("vendor", "c", "no licence"))
    assert found.cause(["c"]) == Cause("vendor", "c", "no licence")
    found.learn("c", None)
    assert found.causes == ()


def test_money_that_is_there_is_no_cause() -> None:
    assert money_cause("a", ALLOW) is None
    assert money_cause("a", reached("futures", retry=NOW)) == Cause(
        "money", "a", "limit_reached: budget futures is used up", NOW
    )


def test_a_site_tells_parts_that_were_cut_off_from_whole_connections() -> None:
    settings = Settings(None, "memory://", None, None, None, Path("data"), Path("cache"))
    site = GuardSite(Policy("p", "UTC", Account("desk"), (), {}), settings, ManualClock(NOW), only=None)
    part, whole = reached("futures"), reached("futures")
    site.outcome.shed.append((("b",), part))
    site.outcome.cut.extend([part, whole])
    news = site.news()
    assert (len(news.cut), news.cut[0] is whole, news.shed) == (1, True, ((("b",), part),))
    assert site.news() == News()


# --- looks ----------------------------------------------------------------------------------------------------


def test_looks_become_rarer_up_to_a_bound() -> None:
    looks = Looks({"money": (10.0, 40.0), "vendor": (1.0, 1.0), "unreachable": (1.0, 1.0)})
    cause = Cause("money", "a", "out")
    seen: list[int] = []
    now_s = 0
    while len(seen) < 5:
        at = NOW + timedelta(seconds=now_s)
        if looks.due(cause, now_s, at):
            seen.append(now_s)
            looks.plan("money", now_s, at)
        now_s += 1
    assert seen == [10, 30, 70, 110, 150]


def test_a_look_is_taken_at_the_instant_at_which_the_cause_may_end() -> None:
    looks = Looks()
    cause = Cause("money", "a", "out", NOW + timedelta(seconds=5))
    assert not looks.due(cause, 0, NOW)
    assert looks.next_in_s(cause, 0, NOW) == 5
    assert not looks.due(cause, 4, NOW + timedelta(seconds=4))
    assert looks.due(cause, 5, NOW + timedelta(seconds=5))
    looks.plan("money", 5, NOW + timedelta(seconds=5))
    assert not looks.due(cause, 6, NOW + timedelta(seconds=6))


def test_after_a_proven_run_a_cause_is_looked_at_soon_again() -> None:
    looks = Looks()
    cause = Cause("vendor", "a", "no licence")
    for now_s in (0.0, 30.0, 90.0):
        looks.plan("vendor", now_s, NOW)
    looks.rest()
    assert looks.next_in_s(cause, 90, NOW) is None
    assert not looks.due(cause, 100, NOW)
    assert looks.next_in_s(cause, 100, NOW) == 240
    looks.rest()
    looks.proven()
    assert not looks.due(cause, 500, NOW)
    assert looks.next_in_s(cause, 500, NOW) == 30


# --- fallbacks ------------------------------------------------------------------------------------------------


def test_the_fallbacks_of_several_streams_come_in_the_policys_order_each_once() -> None:
    one, two = Fallback("one", ("a",)), Fallback("two", ("b",))
    assert fallbacks_of([stream("a", "D", one), stream("b", "D", two, one)]) == (one, two)


def test_a_fallback_inherits_what_is_no_business_of_the_guards() -> None:
    environ = {
        "PATH": "/bin",
        "DATABENTO_API_KEY": KEY,
        "BUDGET_GUARD_LEDGER": "postgresql://me:secret@db/ledger",
        "BUDGET_GUARD_NOW": "2026-11-23T15:00:00Z",
        "COPY": f"key={KEY}",
        "PYTHONPATH": f"/a:{HOOK_DIR}:/b",
    }
    assert fallback_environment(environ, KEY) == {"PATH": "/bin", "COPY": "key=", "PYTHONPATH": "/a:/b"}


# --- restarts -------------------------------------------------------------------------------------------------


def test_no_more_restarts_than_allowed_in_any_hour() -> None:
    restarts = Restarts(2)
    taken = []
    for minute in range(200):
        now_s = minute * 60.0
        if restarts.allowed(now_s):
            restarts.take(now_s)
            restarts.proven()
            taken.append(now_s)
    for first, third in zip(taken, taken[2:], strict=False):
        assert third - first >= HOUR_S
    assert len(taken) == 8


def test_none_is_allowed_unless_asked_for() -> None:
    assert not Restarts(0).allowed(0)


def test_pauses_double_up_to_a_minute_and_begin_anew_after_a_proven_run() -> None:
    restarts = Restarts(100, spread=lambda: 1.0)
    pauses = [restarts.take(0) for _ in range(8)]
    assert pauses == [1, 2, 4, 8, 16, 32, MOST_S, MOST_S]
    restarts.proven()
    assert restarts.take(0) == FIRST_S


def test_pauses_are_spread() -> None:
    assert len({Restarts(1).take(0) for _ in range(5)}) > 1

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

import pytest

from budget_guard.markets.checks import find_problems
from budget_guard.policy.model import (
    Account,
    AlwaysClause,
    Budget,
    Edge,
    HoursClause,
    Limit,
    Match,
    Policy,
    SessionClause,
    Stream,
    WindowClause,
)
from budget_guard.policy.problems import Place, Problem
from tests.markets.build import NEW_YORK, hours, session, stream

LIMIT = Budget("all", (Limit("month", "usd", Decimal(10)),))
PER_SESSION = Budget("burst", (Limit("session", "usd", Decimal(1)),))


@dataclass(frozen=True)
class Written:
    """A policy whose places tell by their file which keys they were asked for."""

    policy: Policy | None
    readable: Policy | None

    def place_of(self, *keys: str | int) -> Place:
        return Place(".".join(map(str, keys)), 1, 1)


def policy_of(*streams: Stream, budgets: tuple[Budget, ...] = (LIMIT,)) -> Policy:
    return Policy("p", NEW_YORK, Account("a"), budgets, {listed.name: listed for listed in streams})


def problems(*streams: Stream, budgets: tuple[Budget, ...] = (LIMIT,)) -> list[Problem]:
    policy = policy_of(*streams, budgets=budgets)
    return find_problems(Written(policy, policy))


def only(*streams: Stream, budgets: tuple[Budget, ...] = (LIMIT,)) -> str:
    """The one problem, as `keys: message`."""
    [problem] = problems(*streams, budgets=budgets)
    return f"{problem.place.file}: {problem.message}"


def test_a_usual_policy_has_no_problem() -> None:
    assert (
        problems(stream(session("regular", 5, 5), hours("18:00-18:30", "sun", "mon")), budgets=(PER_SESSION,))
        == []
    )


def test_an_unknown_market_names_the_nearest() -> None:
    assert only(stream(session(), market="us-equity")) == (
        "streams.nq.market: unknown market 'us-equity'; did you mean 'us-equities'?"
    )


def test_a_dataset_without_a_market_says_what_is_known_and_what_would_help() -> None:
    found = only(stream(session(), dataset="IFEU.IMPACT"))
    assert found.startswith(
        "streams.nq.dataset: no market is known for dataset 'IFEU.IMPACT': ICE Futures Europe"
    )
    assert "`market:` (cme-equity-index, " in found
    assert "run `always`" in found


def test_a_named_market_makes_a_dataset_without_one_usable() -> None:
    assert problems(stream(session(), dataset="IFEU.IMPACT", market="us-equities")) == []


def test_a_market_that_could_not_be_sourced_says_why() -> None:
    found = only(stream(session(), market="cme-crypto"))
    assert found.startswith(
        "streams.nq.market: unknown market 'cme-crypto': CME announced trading around the clock"
    )


def test_hours_that_are_not_known_of_a_market_are_a_problem_of_their_clause() -> None:
    """The message names what is known instead."""
    found = only(stream(session("regular"), session("full"), dataset="XEUR.EOBI"))
    assert found.startswith("streams.nq.windows.1: the full hours of eurex are not known: ")
    assert found.endswith("; known: regular 08:00 to 22:00 Frankfurt time")


@pytest.mark.parametrize("clause", [session("regular", 5), session("regular", 0, 5), hours("01:00-10:00")])
def test_a_window_that_is_cut_because_more_is_not_known_is_noted(clause: WindowClause) -> None:
    [problem] = problems(stream(clause, dataset="XEUR.EOBI"))
    assert problem.severity == "note"
    assert problem.message.startswith(
        "this window is cut to the hours that are known of eurex, 08:00 to 22:00"
    )


@pytest.mark.parametrize("clause", [session("regular"), hours("03:00-10:00")])
def test_a_window_inside_the_known_hours_is_not_noted(clause: WindowClause) -> None:
    assert problems(stream(clause, dataset="XEUR.EOBI")) == []


@pytest.mark.parametrize("windows", [(AlwaysClause(),), ()])
def test_a_stream_whose_windows_need_no_calendar_needs_no_market(windows: tuple[WindowClause, ...]) -> None:
    assert problems(stream(*windows, dataset="IFEU.IMPACT")) == []


@pytest.mark.parametrize(
    ("clause", "why"),
    [
        (session(days=("sat", "sun")), "none is a Saturday or Sunday"),
        (SessionClause("full", only=frozenset({date(2027, 3, 26)})), "Fri 2027-03-26 (Good Friday)"),
        (SessionClause("full", only=frozenset({date(2028, 5, 2)})), "outside 2025-06-01 to 2027-12-31"),
        (
            SessionClause("full", Edge("close"), Edge("close", timedelta(hours=2))),
            "17:00 the day before to 16:00 CT",
        ),
        (hours("17:00-18:00"), "its hours never meet those of cme-equity-index"),
        (hours("10:00-11:00", "sat"), "its hours never meet"),
        (
            HoursClause(
                hours("09:00-10:00").start, hours("09:00-10:00").end, only=frozenset({date(2026, 12, 25)})
            ),
            "Fri 2026-12-25 (Christmas)",
        ),
    ],
)
def test_a_window_that_never_opens_is_a_problem_with_its_reason(clause: WindowClause, why: str) -> None:
    """The place is the clause's own, though the others of the stream do open."""
    found = only(stream(session(), clause))
    assert found.startswith("streams.nq.windows.1: this window never opens: ")
    assert why in found


def test_windows_beside_always_are_noted() -> None:
    [problem] = problems(stream(session(), AlwaysClause()))
    assert (problem.severity, problem.place.file) == ("note", "streams.nq.windows")


def test_a_session_limit_over_two_markets_is_a_problem() -> None:
    two = (stream(session(), name="nq"), stream(session(), dataset="XNAS.ITCH", name="qqq"))
    assert only(*two, budgets=(LIMIT, PER_SESSION)) == (
        "budgets.1.session: a session limit needs one market, but this budget matches streams of several: "
        "cme-equity-index (stream 'nq'), us-equities (stream 'qqq')"
    )


def test_a_session_limit_that_matches_one_market_is_none() -> None:
    two = (stream(session(), name="nq"), stream(session(), dataset="XNAS.ITCH", name="qqq"))
    matched = Budget("burst", PER_SESSION.limits, Match(stream=frozenset({"nq"})))
    assert problems(*two, budgets=(LIMIT, matched)) == []


def test_a_session_limit_over_a_stream_without_sessions_is_a_problem() -> None:
    found = only(stream(AlwaysClause(), dataset="IFEU.IMPACT"), budgets=(PER_SESSION,))
    assert found == "budgets.0.session: a session limit needs sessions: stream 'nq' has no known market"


def test_what_could_be_read_of_a_broken_policy_is_checked() -> None:
    """Its budgets are not: their matches may be incomplete."""
    readable = policy_of(
        stream(session(), market="us-equity"), stream(session(), name="a"), budgets=(PER_SESSION,)
    )
    assert [problem.place.file for problem in find_problems(Written(None, readable))] == ["streams.nq.market"]
    assert find_problems(Written(None, None)) == []

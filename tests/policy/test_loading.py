"""A policy file to the domain's values: every key of the dialect, its shorthands and its defaults."""

from __future__ import annotations

from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.errors import PolicyError
from budget_guard.loading import check_policies, check_policy, load_policy
from budget_guard.money import decimal_text
from budget_guard.policy.loading import load_document, parse_document
from budget_guard.policy.model import (
    Account,
    AlwaysClause,
    Budget,
    Credit,
    Edge,
    Fallback,
    HistoricalRules,
    HistoryCache,
    HoursClause,
    Limit,
    LiveBilling,
    Match,
    Policy,
    Recovery,
    SessionClause,
    Stream,
)
from budget_guard.policy.problems import Place, Problem, nearest

WHOLE = """\
version: 1
name: nq-futures
timezone: America/New_York            # wall-clock times

account:
  name: desk
  billing:
    GLBX.MDP3: {live: metered}
    XNAS.ITCH: {live: flat, plan: standard, license: 36.50 USD}
    OPRA.PILLAR: {live: none}
  prices:
    GLBX.MDP3: {live: {mbo: 2.16}, historical: {mbo: 1.80}}
  credits:
    - {amount: 125 USD, expires: 2027-03-01, covers: historical}
    - {amount: $10}

budgets:
  - name: account
    month: 200 USD
    day: 15 USD
    alerts: [50%, 80%, 95.5%]
  - name: glbx-live
    match: {dataset: GLBX.MDP3, mode: live}
    session: {usd: 8, hours: 8}
    month: {gib: 60, connections: 400}
  - name: some
    match: {stream: [nq-mbo, history], schema: [mbo, trades]}
    week: unlimited
    total: 60 GiB

streams:
  nq-mbo:
    dataset: GLBX.MDP3
    schema: mbo
    symbols: [NQ.v.0]
    stype_in: continuous
    market: cme-equity-index
    windows:
      - {session: regular, from: open - 5m, to: close + 5m}
      - {hours: "18:00-18:30", days: [sun, mon], skip: [2026-12-24]}
      - {session: full, only: 2026-12-16, days: fri}
    volume: {gib_per_session: 0.41}
    cheaper: [mbp-10, mbp-1, tbbo]
    recovery: {replay: 15m, spend: 0.50 USD, client_replay: 0m}
    fallback: [{name: barchart, run: ["python", "barchart_stream.py"]}]
  history:
    dataset: GLBX.MDP3
    schema: trades
    mode: historical
    symbols: ALL_SYMBOLS

historical:
  max_request: 5 USD
  approve_above: 2 USD
  all_symbols: true
"""


@pytest.mark.parametrize(
    ("written", "keep_days"),
    [
        ("{folder: kept}", 30),
        ("{folder: kept, keep_days: 7}", 7),
        ("{folder: kept, keep_days: unlimited}", None),
    ],
)
def test_answers_are_kept_where_the_policy_says_and_thirty_days_unless_it_says_more(
    written: str, keep_days: int | None
) -> None:
    text = WHOLE.replace("all_symbols: true", f"all_symbols: true\n  cache: {written}")
    assert loaded_policy(text).historical.cache == HistoryCache("kept", keep_days)


def loaded_policy(text: str) -> Policy:
    loaded = parse_document(text, "p.yaml")
    assert [str(problem) for problem in loaded.problems] == []
    assert loaded.policy is not None
    return loaded.policy


def test_every_key_of_the_dialect_reaches_the_domain() -> None:
    policy = loaded_policy(WHOLE)
    zone = "America/New_York"
    assert (policy.name, policy.timezone, policy.path) == ("nq-futures", zone, "p.yaml")
    assert policy.account == Account(
        name="desk",
        billing={
            "GLBX.MDP3": LiveBilling("metered"),
            "XNAS.ITCH": LiveBilling("flat", "standard", Decimal("36.50")),
            "OPRA.PILLAR": LiveBilling("none"),
        },
        prices={
            ("GLBX.MDP3", "live", "mbo"): Decimal("2.16"),
            ("GLBX.MDP3", "historical", "mbo"): Decimal("1.80"),
        },
        credits=(Credit(Decimal(125), date(2027, 3, 1), "historical"), Credit(Decimal(10))),
    )
    assert policy.budgets == (
        Budget(
            "account",
            (Limit("day", "usd", Decimal(15)), Limit("month", "usd", Decimal(200))),
            alerts=(Decimal("0.5"), Decimal("0.8"), Decimal("0.955")),
            timezone=zone,
        ),
        Budget(
            "glbx-live",
            (
                Limit("session", "usd", Decimal(8)),
                Limit("session", "hours", Decimal(8)),
                Limit("month", "gib", Decimal(60)),
                Limit("month", "connections", Decimal(400)),
            ),
            Match(dataset=frozenset({"GLBX.MDP3"}), mode=frozenset({"live"})),
            timezone=zone,
        ),
        Budget(
            "some",
            (Limit("week", "usd", None), Limit("total", "gib", Decimal(60))),
            Match(stream=frozenset({"nq-mbo", "history"}), schema=frozenset({"mbo", "trades"})),
            timezone=zone,
        ),
    )
    assert policy.streams["nq-mbo"] == Stream(
        name="nq-mbo",
        dataset="GLBX.MDP3",
        schema="mbo",
        symbols=("NQ.v.0",),
        stype_in="continuous",
        market="cme-equity-index",
        windows=(
            SessionClause(
                "regular", Edge("open", timedelta(minutes=-5)), Edge("close", timedelta(minutes=5))
            ),
            HoursClause(
                time(18), time(18, 30), days=frozenset({"sun", "mon"}), skip=frozenset({date(2026, 12, 24)})
            ),
            SessionClause("full", days=frozenset({"fri"}), only=frozenset({date(2026, 12, 16)})),
        ),
        gib_per_session=Decimal("0.41"),
        cheaper=("mbp-10", "mbp-1", "tbbo"),
        recovery=Recovery(timedelta(minutes=15), Decimal("0.50"), timedelta(0)),
        fallback=(Fallback("barchart", ("python", "barchart_stream.py")),),
    )
    assert policy.streams["history"] == Stream(
        "history", "GLBX.MDP3", "trades", ("ALL_SYMBOLS",), mode="historical"
    )
    assert policy.historical == HistoricalRules(Decimal(5), Decimal(2), all_symbols=True)


LEAST = """\
version: 1
name: small
budgets: [{name: all, month: 1 USD}]
streams: {a: {dataset: GLBX.MDP3, schema: mbo, symbols: ALL_SYMBOLS, windows: always}}
"""


def test_what_is_left_out_has_the_documented_default() -> None:
    policy = loaded_policy(LEAST)
    assert policy.timezone == "UTC"
    assert policy.account == Account("small")
    assert policy.historical == HistoricalRules(None, None, all_symbols=False)
    stream = policy.streams["a"]
    assert stream.windows == (AlwaysClause(),)
    assert (stream.mode, stream.stype_in, stream.market, stream.gib_per_session) == (
        "live",
        "raw_symbol",
        None,
        None,
    )
    assert stream.recovery == Recovery(timedelta(minutes=15), Decimal("0.50"), timedelta(0))


WINDOWS: dict[str, list[Any]] = {
    "always": [AlwaysClause()],
    "{session: full}": [SessionClause("full")],
    "[{session: full}, always]": [SessionClause("full"), AlwaysClause()],
    "{session: regular, from: open+30m}": [SessionClause("regular", Edge("open", timedelta(minutes=30)))],
    "{session: regular, from: close - 1h30m}": [
        SessionClause("regular", Edge("close", timedelta(minutes=-90)))
    ],
    "{hours: 22:00 - 2:00}": [HoursClause(time(22), time(2))],
    "{hours: 18:00-24:00}": [HoursClause(time(18), time(0))],
    "{hours: 00:00-24:00}": [HoursClause(time(0), time(0))],
}


@pytest.mark.parametrize(("written", "clauses"), WINDOWS.items())
def test_windows_in_every_form(written: str, clauses: list[Any]) -> None:
    text = LEAST.replace("name: small", "name: small\ntimezone: UTC")
    policy = loaded_policy(text.replace("windows: always", f"windows: {written}"))
    assert policy.streams["a"].windows == tuple(clauses)


LIMITS: dict[str, tuple[tuple[str, Decimal | None], ...]] = {
    "200 USD": (("usd", Decimal(200)),),
    "200USD": (("usd", Decimal(200)),),
    "$200": (("usd", Decimal(200)),),
    "$ 1,250.50": (("usd", Decimal("1250.50")),),
    "1_000 usd": (("usd", Decimal(1000)),),
    ".5 USD": (("usd", Decimal("0.5")),),
    "60 GiB": (("gib", Decimal(60)),),
    "8 hours": (("hours", Decimal(8)),),
    "400 connections": (("connections", Decimal(400)),),
    "unlimited": (("usd", None),),
    "{usd: unlimited, gib: 0.1}": (("usd", None), ("gib", Decimal("0.1"))),
}


@pytest.mark.parametrize(("written", "amounts"), LIMITS.items())
def test_limits_in_every_form(written: str, amounts: tuple[tuple[str, Decimal | None], ...]) -> None:
    text = LEAST.replace("[{name: all, month: 1 USD}]", f"\n  - name: all\n    month: {written}")
    (budget,) = loaded_policy(text).budgets
    assert tuple((limit.unit, limit.amount) for limit in budget.limits) == amounts


@settings(max_examples=100, deadline=None)
@given(st.decimals(min_value=Decimal("0.000000001"), max_value=Decimal("999999999"), places=9))
def test_amounts_are_exact_whatever_their_digits(amount: Decimal) -> None:
    """No float on the way: what is written is what is meant, to the last digit."""
    written = decimal_text(amount)
    policy = loaded_policy(LEAST.replace("month: 1 USD", f"month: {written} USD, total: {{gib: {written}}}"))
    assert [limit.amount for limit in policy.budgets[0].limits] == [amount, amount]


def test_symbols_are_taken_as_written() -> None:
    """Tickers that YAML 1.1 would read as true, numbers or null, and options with spaces."""
    text = LEAST.replace(
        "symbols: ALL_SYMBOLS", "symbols: [ON, NO, TRUE, 1E5, BRK.B, 'AAPL  261218C00250000', 007]"
    )
    symbols = ("ON", "NO", "TRUE", "1E5", "BRK.B", "AAPL  261218C00250000", "007")
    assert loaded_policy(text).streams["a"].symbols == symbols


def test_places_of_parts_for_those_who_add_problems() -> None:
    loaded = parse_document(WHOLE, "p.yaml")
    assert loaded.place_of("streams", "nq-mbo", "windows", 1) == Place("p.yaml", 40, 9)
    assert loaded.place_of("streams", "nq-mbo", "market") == Place("p.yaml", 37, 13)
    assert loaded.place_of("streams", "history", "market") == Place("p.yaml", 46, 3)
    assert loaded.place_of("budgets", 1, "session", "usd") == Place("p.yaml", 24, 20)
    always = parse_document(LEAST, "p.yaml")
    assert always.place_of("streams", "a", "windows", 0) == always.place_of("streams", "a", "windows")


def test_added_problems_are_sorted_in_and_leave_no_policy_while_notes_do() -> None:
    loaded = parse_document(LEAST, "p.yaml")
    note = Problem(Place("p.yaml", 4, 1), "worth saying", "note")
    assert loaded.with_problems([note]).policy == loaded.policy
    problem = Problem(Place("p.yaml", 2, 1), "wrong")
    worse = loaded.with_problems([note]).with_problems([problem])
    assert worse.policy is None
    assert worse.problems == (problem, note)
    assert worse.readable == loaded.policy


def test_what_is_sound_stays_readable_beside_a_problem() -> None:
    loaded = parse_document(WHOLE.replace("schema: trades", "schema: trade").replace("200 USD", "200"), "p")
    assert loaded.policy is None
    assert loaded.readable is not None
    assert list(loaded.readable.streams) == ["nq-mbo"]
    assert [budget.name for budget in loaded.readable.budgets] == ["glbx-live", "some"]


def test_a_policy_file_is_loaded_or_raises_with_every_problem_and_no_note(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(LEAST.replace("1 USD", "0 USD"))
    assert [problem.severity for problem in check_policy(path).problems] == ["note"]
    assert load_policy(path).path == str(path)
    assert load_policy(str(path)).name == "small"
    path.write_text(
        LEAST.replace("1 USD", "0 USD")
        .replace("schema: mbo", "schema: mb0")
        .replace("always", "{session: rth}")
    )
    with pytest.raises(PolicyError) as raised:
        load_policy(path)
    assert [problem.severity for problem in raised.value.problems] == ["problem", "problem"]
    assert "unknown schema 'mb0'; did you mean 'mbo'?" in str(raised.value)


def test_the_markets_own_problems_come_with_the_file_s(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        LEAST.replace("windows: always", "market: nowhere, windows: always").replace("1 USD", "1")
    )
    messages = [problem.message for problem in check_policy(path).problems]
    assert messages[0] == "'1' has no unit: write `1 USD`"
    assert messages[1].startswith("unknown market 'nowhere'")


def test_two_files_of_one_account_must_define_a_budget_alike(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("one.yaml", "two.yaml", "other.yaml"))
    one.write_text(LEAST)
    two.write_text(LEAST.replace("1 USD", "2 USD"))
    other.write_text(LEAST.replace("1 USD", "2 USD").replace("name: small", "name: other"))
    checked = check_policies([one, one, other, two])
    assert [len(loaded.problems) for loaded in checked] == [0, 0, 0, 1]
    assert str(checked[3].problems[0]).startswith(
        f"{two}:3:18: budget 'all' of account 'small' is defined differently at {one}:3:18"
    )


def test_loading_a_missing_file_is_a_problem_and_no_exception(tmp_path: Path) -> None:
    loaded = load_document(tmp_path / "none.yaml")
    assert (loaded.policy, loaded.readable) == (None, None)
    assert loaded.place_of("streams") == Place(str(tmp_path / "none.yaml"), 1, 1)
    assert check_policy(tmp_path / "none.yaml").problems == loaded.problems


YAML_PARTS = st.recursive(
    st.sampled_from(["200 USD", "8", "always", "mbo", "GLBX.MDP3", "", "x", "open - 5m", "50%", "true"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "month", "usd", "match", "windows", "session", "dataset", "symbols", "live", "z"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["version", "name", "account", "budgets", "streams", "historical"]), YAML_PARTS
    )
)
def test_whatever_is_written_gives_a_policy_or_a_problem(data: dict[str, Any]) -> None:
    loaded = parse_document(_flow(data), "p")
    assert (loaded.policy is None) == any(problem.severity == "problem" for problem in loaded.problems)
    assert list(loaded.problems) == sorted(loaded.problems)
    assert all("\n" not in problem.message for problem in loaded.problems)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return str(value) if value != "" else "''"


def test_the_nearest_valid_name_ignores_case_and_a_far_one_lists_what_is_valid() -> None:
    assert nearest("GLBX.mdp", ["GLBX.MDP3", "OPRA.PILLAR"]) == "; did you mean 'GLBX.MDP3'?"
    assert nearest("mb0", ["mbp-10", "mbo", "mbp-1"]) == "; did you mean 'mbo'?"
    assert nearest("zzz", ["b", "a"]) == "; valid: a, b"
    assert nearest("zzz", []) == ""
    assert nearest("zzz", [f"name{n}" for n in range(25)]) == ""

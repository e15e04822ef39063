"""Scenario files: everything a sandbox can be set up with, and every mistake with its place."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.clock import parse_instant
from budget_guard.sandbox.config import Credit, FlatPlan, Limits, Rights
from budget_guard.sandbox.faults.scenario import (
    ScenarioError,
    about,
    bundled_scenarios,
    load_scenario,
    parse_scenario,
)
from budget_guard.sandbox.server import running_sandbox
from tests.sandbox.bare_client import BareClient

WHOLE = """
about: Everything at once
seed: 7
rate: market
now: 2026-11-24T14:30:00Z
keys:
  db-first-11111:
  db-second-22222: {live: [GLBX.MDP3], historical: all}
  db-third-33333: {live: [], historical: []}
plans:
  GLBX.MDP3: {live: false, history_days: {L2: 31, trades: 365}}
  OPRA.PILLAR: {}
credits:
  - {usd: 125, expires: 2027-05-01, covers: historical}
  - {usd: 0.10}
prices:
  GLBX.MDP3: {historical: {mbo: 1.80, status: null}, live: {mbo: 2.160}}
  XCME.TEST: {live: {trades: 1}}
limits: {new_connections_per_s: none, metadata_per_s: 3}
records_per_session: {mbo: {NQ: 5_000, ES: 10}}
products: {GLBX.MDP3: [ZN]}
faults:
  - {do: http_error, on: metadata, status: 503, times: 2}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, "x.yaml")
    return list(caught.value.problems)


def test_a_scenario_is_a_configuration() -> None:
    """Every word of the language, with its amounts exactly as they were written."""
    config = parse_scenario(WHOLE, "x.yaml")
    assert (config.seed, config.rate) == (7, None)
    assert config.clock.now() - parse_instant("2026-11-24T14:30:00Z") < timedelta(seconds=20)
    assert config.keys == ("db-first-11111", "db-second-22222", "db-third-33333")
    assert config.rights == {
        "db-second-22222": Rights(live=frozenset({"GLBX.MDP3"})),
        "db-third-33333": Rights(frozenset(), frozenset()),
    }
    assert config.plans == {
        "GLBX.MDP3": FlatPlan(live=False, history_days={"mbp-10": 31, "trades": 365}),
        "OPRA.PILLAR": FlatPlan(),
    }
    assert config.credits == (
        Credit(Decimal(125), date(2027, 5, 1), "historical"),
        Credit(Decimal("0.10"), None, "all"),
    )
    glbx = config.prices["GLBX.MDP3"]
    assert (glbx.historical_price("status"), str(glbx.live_price("mbo"))) == (None, "2.160")
    assert glbx.historical_price("trades") == 28
    assert config.prices["XCME.TEST"].live_price("trades") == 1
    assert config.prices["XCME.TEST"].historical == {"trades": None}
    assert config.limits == Limits(new_connections_per_s=None, metadata_per_s=3)
    assert config.records_per_session == {("mbo", "NQ"): 5000, ("mbo", "ES"): 10}
    assert config.products == {"GLBX.MDP3": ("ZN",)}
    assert [fault.do for fault in config.faults] == ["http_error"]


def test_all_limits_can_be_lifted_and_keys_be_a_list() -> None:
    config = parse_scenario("limits: none\nkeys: [db-one-11111]\nrate: 0", "x.yaml")
    assert (config.limits, config.keys, config.rate) == (Limits.none(), ("db-one-11111",), 0)


def test_every_problem_is_told_with_its_place() -> None:
    """In the order of the file, with what would be right."""
    found = problems(
        """rate: fast
sede: 3
keys: {db-123456: {live: [X.Y]}}
plans: {GLBX.MDP3: {live: on, history_days: {L9: 3}}}
credits: [{covers: all}]
limits: {metadata_per_s: -1}
faults:
  - do: silense
  - {do: slow_link, after: 3 days}
  - 17
  - do: close
    do: reset
"""
    )
    assert [problem.split(" ")[0] for problem in found] == [
        "x.yaml:1:7:",
        "x.yaml:2:1:",
        "x.yaml:3:26:",
        "x.yaml:4:27:",
        "x.yaml:4:46:",
        "x.yaml:5:11:",
        "x.yaml:6:26:",
        "x.yaml:8:9:",
        "x.yaml:9:5:",
        "x.yaml:9:28:",
        "x.yaml:10:5:",
        "x.yaml:12:5:",
    ]
    assert "did you mean seed?" in found[1]
    assert "faults[0].do: silense is not known here; did you mean silence?" in found[7]
    assert found[6].endswith("limits.metadata_per_s should be a whole number, 0 or more; got -1")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "x.yaml:1:5: this is not YAML"),
        ("- 3", "x.yaml:1:1: should be a mapping"),
        ("keys: &a [*a]", "x.yaml:1:11: this is not YAML: aliases are not for scenarios"),
        ("seed: " + "[" * 50 + "]" * 50, "nested more than 20 deep"),
        ("[a]: 3", "names are words"),
        ("now: 2026-11-24T14:30", "now should be an instant, as 2026-11-23T14:30:00Z"),
        ("prices: {GLBX.MDP3: {live: {mboo: 1}}}", "did you mean mbo?"),
        ("credits: [{usd: .nan}]", "usd should be a number"),
        ("\x00", "this is not YAML"),
        (
            "faults: [{do: reset, dataset: GLBX.MPD3}]",
            "x.yaml:1:31: faults[0].dataset: names GLBX.MPD3, which is",
        ),
        ("faults: [{do: reset, key: nosuch}]", "faults[0].key: nosuch is the end of no key here"),
        ("faults: [{do: http_reset, on: metadata.foo}]", "x.yaml:1:31: faults[0].on should be all, one of"),
        ("records_per_session: {mbo: {NQQ: 5}}", "names NQQ, which is not traded here; did you mean NQ?"),
        (
            "products: {GLBX: [XY]}",
            "products.GLBX: names GLBX, which is not on offer; did you mean GLBX.MDP3?",
        ),
        ("plans: {OPRA.PILLR: {live: true}}", "did you mean OPRA.PILLAR?"),
        ("keys: {db-some-key-1: {live: [GLBX.MDP]}}", "did you mean GLBX.MDP3?"),
    ],
)
def test_what_is_no_scenario_is_explained(text: str, problem: str) -> None:
    assert any(problem in one for one in problems(text))


@settings(max_examples=150)
@given(st.text(alphabet=" \n-:[]{}&*'\"#|>!%,abdo0123456789.fseltk", max_size=60))
def test_no_text_is_more_than_problems(text: str) -> None:
    """Whatever is in the file, it is a configuration or a ScenarioError with a place."""
    try:
        parse_scenario(text, "x.yaml")
    except ScenarioError as error:
        found = error.problems
    else:
        found = ()
    assert all(one.startswith("x.yaml:") for one in found)


def test_a_file_that_is_not_there_names_the_bundled_ones(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"nope: cannot be read: .*stormy-day"):
        load_scenario("nope")
    with pytest.raises(ScenarioError, match="did you mean stormy-day"):
        load_scenario("stormyday")
    (tmp_path / "latin.yaml").write_bytes(b"about: caf\xe9")
    with pytest.raises(ScenarioError, match="not UTF-8"):
        load_scenario(tmp_path / "latin.yaml")


@pytest.mark.parametrize("name", bundled_scenarios())
def test_every_bundled_scenario_loads_and_says_what_it_is(name: str) -> None:
    assert load_scenario(name).faults
    assert about(bundled_scenarios()[name])


def test_a_scenarios_faults_are_armed_when_the_sandbox_starts(tmp_path: Path) -> None:
    """From a file to the wire."""
    path = tmp_path / "scenario.yaml"
    path.write_text("faults: [{do: reject_login, text: No.}]\n")
    with running_sandbox(load_scenario(path)) as sandbox, BareClient(sandbox) as client:
        assert client.reply == "success=0|error=No."
        assert sandbox.faults()["faults"][0]["struck"] == 1

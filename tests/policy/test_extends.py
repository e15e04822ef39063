"""`extends`: one account and its budgets, shared by several policies. What goes wrong with it is in `broken.txt`."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from budget_guard.cli.check import command
from budget_guard.errors import PolicyError
from budget_guard.loading import check_policies, check_policy, load_policy
from budget_guard.policy.extending import EXTENDS_MAX
from budget_guard.policy.model import Credit, Limit, LiveBilling, Policy
from budget_guard.policy.problems import Place

ACCOUNT = """\
version: 1
timezone: America/Chicago
account:
  name: desk
  billing: {GLBX.MDP3: {live: metered}}
  prices: {GLBX.MDP3: {live: {mbo: 2.16}}}
budgets:
  - {name: account, month: 200 USD, day: 20 USD}
  - {name: others, match: {stream: somebody-else}, month: 5 USD}
"""
POLICY = """\
version: 1
name: research
timezone: Europe/Berlin
extends: account.yaml
budgets:
  - {name: mine, match: {stream: es}, day: 10 USD}
streams:
  es: {dataset: GLBX.MDP3, schema: mbo, symbols: ES.v.0, stype_in: continuous, windows: always}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "account.yaml").write_text(ACCOUNT)
    (tmp_path / "policy.yaml").write_text(POLICY)
    return tmp_path


def loaded(folder: Path, *edits: tuple[str, str], account: str = ACCOUNT) -> Policy:
    text = POLICY
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    (folder / "account.yaml").write_text(account)
    (folder / "policy.yaml").write_text(text)
    return load_policy(folder / "policy.yaml")


def test_account_and_budgets_are_shared_and_nothing_else(folder: Path) -> None:
    policy = loaded(folder, account=ACCOUNT + "historical: {max_request: 1 USD}\n")
    assert (policy.name, policy.timezone, policy.account.name) == ("research", "Europe/Berlin", "desk")
    assert policy.account.billing == {"GLBX.MDP3": LiveBilling("metered")}
    assert policy.account.prices == {("GLBX.MDP3", "live", "mbo"): Decimal("2.16")}
    assert [budget.name for budget in policy.budgets] == ["account", "others", "mine"]
    assert list(policy.streams) == ["es"]
    assert policy.historical.max_request_usd is None
    assert policy.path == str(folder / "policy.yaml")


def test_each_budget_keeps_the_limits_and_the_time_zone_of_its_file(folder: Path) -> None:
    budgets = {budget.name: budget for budget in loaded(folder).budgets}
    assert budgets["account"].limits == (
        Limit("day", "usd", Decimal(20)),
        Limit("month", "usd", Decimal(200)),
    )
    assert budgets["account"].timezone == "America/Chicago"
    assert budgets["mine"].timezone == "Europe/Berlin"


def test_what_the_account_does_not_say_may_be_added(folder: Path) -> None:
    more = (
        "account:\n  name: desk\n"
        "  billing: {OPRA.PILLAR: {live: none}, GLBX.MDP3: {live: metered}}\n"
        "  prices: {GLBX.MDP3: {live: {trades: 33.60}}}\n"
        "  credits: [{amount: 125 USD}]\nbudgets:\n"
    )
    account = loaded(folder, ("budgets:\n", more)).account
    assert set(account.billing) == {"GLBX.MDP3", "OPRA.PILLAR"}
    assert {schema for _, _, schema in account.prices} == {"mbo", "trades"}
    assert account.credits == (Credit(Decimal(125)),)


def test_the_account_s_name_may_stand_in_either_file(folder: Path) -> None:
    nameless = ACCOUNT.replace("  name: desk\n", "")
    named = ("budgets:\n", "account: {name: mine}\nbudgets:\n")
    assert loaded(folder, named, account=nameless).account.name == "mine"
    with pytest.raises(PolicyError, match="needs a name of its own"):
        loaded(folder, account=nameless)


def test_a_chain_is_followed_from_the_folder_of_each_file(folder: Path) -> None:
    (folder / "firm").mkdir()
    (folder / "firm" / "firm.yaml").write_text(
        "version: 1\naccount: {credits: [{amount: 1 USD}]}\nbudgets: [{name: firm, month: 900 USD}]\n"
    )
    policy = loaded(folder, account=f"extends: firm/firm.yaml\n{ACCOUNT}")
    assert [budget.name for budget in policy.budgets] == ["firm", "account", "others", "mine"]
    assert [budget.timezone for budget in policy.budgets][:2] == ["UTC", "America/Chicago"]
    assert policy.account.credits == (Credit(Decimal(1)),)


def test_a_policy_with_streams_can_be_extended_for_its_account(folder: Path) -> None:
    streams = "name: live\nstreams: {nq: {dataset: GLBX.MDP3, schema: mbo, symbols: NQZ6, windows: always}}\n"
    policy = loaded(folder, account=ACCOUNT + streams)
    assert list(policy.streams) == ["es"]


def test_a_policy_needs_no_budget_of_its_own(folder: Path) -> None:
    own = "budgets:\n  - {name: mine, match: {stream: es}, day: 10 USD}\n"
    assert [budget.name for budget in loaded(folder, (own, "")).budgets] == ["account", "others"]


def test_places_of_shared_parts_are_those_in_their_file(folder: Path) -> None:
    found = check_policy(folder / "policy.yaml")
    account, policy = str(folder / "account.yaml"), str(folder / "policy.yaml")
    assert found.place_of("budgets", 0, "month") == Place(account, 8, 28)
    assert found.place_of("budgets", 2, "day") == Place(policy, 6, 44)
    assert found.place_of("account", "prices", "GLBX.MDP3", "live", "mbo") == Place(account, 6, 36)
    assert found.place_of("streams", "es") == Place(policy, 8, 7)


def test_more_files_in_a_row_than_the_bound_are_a_problem(tmp_path: Path) -> None:
    for number in range(EXTENDS_MAX + 2):
        (tmp_path / f"{number}.yaml").write_text(f"version: 1\nextends: {number + 1}.yaml\n")
    (tmp_path / "policy.yaml").write_text(POLICY.replace("account.yaml", "0.yaml"))
    problems = [problem.message for problem in check_policy(tmp_path / "policy.yaml").problems]
    assert problems == [f"more than {EXTENDS_MAX} files extend one another: share from fewer"]


def test_what_is_no_plain_file_is_never_opened(tmp_path: Path) -> None:
    """A pipe without a writer would keep the reader waiting forever."""
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "policy.yaml").write_text(POLICY.replace("account.yaml", "pipe.yaml"))
    (problem,) = check_policy(tmp_path / "policy.yaml").problems
    assert problem.message.startswith("'pipe.yaml' is not a plain file")


@pytest.mark.parametrize(
    "name", ['"a\\0b"', '"a\\nb"', "~", "/", "x" * 5000, "'~user'", "/dev/stdin", "../../../../.."]
)
def test_no_path_at_all_raises(name: str, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY.replace("account.yaml", name))
    (problem,) = check_policy(tmp_path / "policy.yaml").problems
    assert len(problem.message) < 200


def test_a_problem_in_a_shared_file_is_told_once_for_all_that_extend_it(folder: Path) -> None:
    (folder / "account.yaml").write_text(ACCOUNT.replace("200 USD", "200"))
    (folder / "other.yaml").write_text(POLICY.replace("name: research", "name: other"))
    result = CliRunner().invoke(
        command, [str(folder / "policy.yaml"), str(folder / "other.yaml")], standalone_mode=False
    )
    assert result.stdout.splitlines() == [f"{folder}/account.yaml:8:28: '200' has no unit: write `200 USD`"]
    assert result.stderr == "2 policies: 1 problem, no notes\n"
    assert result.return_value == 2


def test_policies_that_extend_one_file_agree_about_its_budgets(folder: Path) -> None:
    (folder / "other.yaml").write_text(
        POLICY.replace("name: mine", "name: others-own").replace("timezone: Europe/Berlin\n", "")
    )
    checked = check_policies([folder / "policy.yaml", folder / "other.yaml", folder / "account.yaml"])
    assert [[problem.severity for problem in one.problems] for one in checked] == [[], [], ["note"]]


def test_two_policies_of_one_account_may_not_define_a_budget_of_their_own_differently(folder: Path) -> None:
    (folder / "other.yaml").write_text(POLICY.replace("day: 10 USD", "day: 11 USD"))
    first, second = check_policies([folder / "policy.yaml", folder / "other.yaml"])
    assert first.problems == ()
    assert [str(problem) for problem in second.problems] == [
        f"{folder}/other.yaml:6:12: budget 'mine' of account 'desk' is defined differently at "
        f"{folder}/policy.yaml:6:12: give both the same limits, match and timezone, or different names"
    ]


def test_a_time_zone_makes_a_budget_another_only_where_days_or_weeks_begin_in_it(tmp_path: Path) -> None:
    text = POLICY.replace("extends: account.yaml\n", "account: {name: desk}\n")
    for limit, problems in (("day: 10 USD", 1), ("month: 10 USD", 0)):
        (tmp_path / "a.yaml").write_text(text.replace("day: 10 USD", limit))
        (tmp_path / "b.yaml").write_text(
            text.replace("day: 10 USD", limit).replace("Europe/Berlin", "Asia/Tokyo")
        )
        assert len(check_policies([tmp_path / "a.yaml", tmp_path / "b.yaml"])[1].problems) == problems


def test_two_policies_of_one_account_may_not_pay_for_a_dataset_in_two_ways(folder: Path) -> None:
    text = POLICY.replace(
        "extends: account.yaml\n", "account: {name: desk, billing: {GLBX.MDP3: {live: %s}}}\n"
    )
    (folder / "a.yaml").write_text(text % "metered")
    (folder / "b.yaml").write_text(text % "flat, plan: plus")
    problems = check_policies([folder / "a.yaml", folder / "b.yaml"])[1].problems
    assert [str(problem) for problem in problems] == [
        f"{folder}/b.yaml:4:44: live data of GLBX.MDP3 is billed to account 'desk' in another way at "
        f"{folder}/a.yaml:4:44: an account has one way; write it in one file and let the others extend that"
    ]


def test_streams_of_two_markets_may_not_share_a_session_limit_across_files(folder: Path) -> None:
    (folder / "account.yaml").write_text(
        ACCOUNT + "  - {name: session, match: {mode: live}, session: 5 USD}\n"
    )
    (folder / "other.yaml").write_text(
        POLICY.replace("name: mine", "name: other").replace(
            "GLBX.MDP3, schema: mbo, symbols: ES.v.0, stype_in: continuous",
            "XNAS.ITCH, schema: mbo, symbols: SPY",
        )
    )
    first, second = check_policies([folder / "policy.yaml", folder / "other.yaml"])
    assert first.problems == ()
    assert [str(problem) for problem in second.problems] == [
        f"{folder}/other.yaml:8:7: the session limit of budget 'session' needs one market: stream 'es' is of "
        f"us-equities, and the streams at {folder}/policy.yaml:8:7 of cme-equity-index"
    ]

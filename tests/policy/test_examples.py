"""The example policies: equal to the package's templates, free of problems, and what their comments say."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from budget_guard.loading import check_policies, check_policy, load_policy
from budget_guard.money import GIB, bytes_from_gib, cost_nano_usd, usd_from_nano
from budget_guard.planning.plan import plan
from budget_guard.policy.schema import policy_schema
from budget_guard.policy.templates import template_names, template_text
from tests.policy.explained import example_policies

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "policies"


def test_the_templates_in_the_package_and_the_examples_are_the_same_files() -> None:
    assert {path.stem: path.read_text() for path in EXAMPLES.glob("*.yaml")} == {
        name: template_text(name) for name in template_names()
    }


@pytest.mark.parametrize("name", template_names())
def test_an_example_has_no_problem_and_no_note(name: str) -> None:
    loaded = check_policy(EXAMPLES / f"{name}.yaml")
    assert loaded.problems == ()
    assert loaded.policy is not None
    assert loaded.policy.name == name


@pytest.mark.parametrize("path", example_policies(), ids=lambda path: path.stem)
def test_an_example_is_planned_and_its_verdict_is_known(path: Path) -> None:
    """By the bundled profiles and prices, without a key."""
    planned = plan(load_policy(path), "2026-11", now=datetime(2026, 11, 22, tzinfo=UTC), offline=True)
    assert planned.verdict == ("over" if path.stem == "full-feed" else "fits")


def test_the_policies_of_one_account_agree_about_it() -> None:
    folder = EXAMPLES / "desk"
    checked = check_policies(sorted(folder.glob("*.yaml")))
    assert [[problem.severity for problem in loaded.problems] for loaded in checked] == [["note"], [], []]
    names = {loaded.policy.account.name for loaded in checked if loaded.policy is not None}
    assert names == {"futures-desk"}


def test_no_two_examples_share_an_account_by_accident() -> None:
    checked = check_policies([*sorted(EXAMPLES.glob("*.yaml")), *sorted((EXAMPLES / "desk").glob("*.yaml"))])
    assert all(problem.severity == "note" for loaded in checked for problem in loaded.problems)


def test_the_full_feed_costs_what_its_comment_says() -> None:
    """15.9 GiB x 21 sessions x 2.16 USD: 721.22 USD, and 200 USD end during the sixth session."""
    policy = check_policy(EXAMPLES / "full-feed.yaml").policy
    assert policy is not None
    volume, price = (
        policy.streams["glbx-mbo"].gib_per_session,
        policy.account.prices["GLBX.MDP3", "live", "mbo"],
    )
    assert volume is not None
    month = usd_from_nano(cost_nano_usd(21 * bytes_from_gib(volume), price))
    assert round(month, 2) == Decimal("721.22")
    assert "721.22 USD" in template_text("full-feed")
    (limit,) = policy.budgets[0].limits
    assert limit.amount is not None
    assert 5 < limit.amount / (volume * price) < 6


def test_the_front_future_is_its_measured_day_in_gib() -> None:
    """0.44 GB of 10^9 bytes are 0.41 GiB, and less than a dollar a session at 2.16 USD."""
    policy = check_policy(EXAMPLES / "nq-futures.yaml").policy
    assert policy is not None
    volume = policy.streams["nq-mbo"].gib_per_session
    assert volume == round(Decimal("0.44e9") / GIB, 2)
    assert volume is not None
    assert volume * Decimal("2.16") < 1


def test_every_yaml_block_of_the_reference_that_is_a_whole_policy_passes_check(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "policy.md").read_text()
    blocks = re.findall(r"^```yaml\n(?:# (\S+\.yaml)\n)?(version:.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    paths = [tmp_path / (name or f"{number}.yaml") for number, (name, _) in enumerate(blocks)]
    for path, (_, block) in zip(paths, blocks, strict=True):
        path.write_text(block)
    for path in paths:
        expected = ["note"] if path.name == "account.yaml" else []
        assert [problem.severity for problem in check_policy(path).problems] == expected, path


def test_every_key_of_the_schema_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "policy.md").read_text()
    keys = {key for part in policy_schema()["$defs"].values() for key in part.get("properties", {})}
    assert {key for key in keys | set(policy_schema()["properties"]) if f"`{key}`" not in text} == set()

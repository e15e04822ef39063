"""The example policies: equal to the package's templates, free of problems, and what their comments say."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from budget_guard.loading import check_policy
from budget_guard.money import GIB, bytes_from_gib, cost_nano_usd, usd_from_nano
from budget_guard.policy.schema import policy_schema
from budget_guard.policy.templates import template_names, template_text

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
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    whole = [block for block in blocks if block.startswith("version:")]
    assert len(whole) >= 3
    for number, block in enumerate(whole):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        assert [str(problem) for problem in check_policy(path).problems] == []


def test_every_key_of_the_schema_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "policy.md").read_text()
    keys = {key for part in policy_schema()["$defs"].values() for key in part.get("properties", {})}
    assert {key for key in keys | set(policy_schema()["properties"]) if f"`{key}`" not in text} == set()

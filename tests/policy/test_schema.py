"""The JSON Schema describes the dialect: it takes what `check` takes and refuses what no policy may hold."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from budget_guard.policy.schema import policy_schema
from tests.policy.broken import SOUND, TABLE, Case, read_cases
from tests.policy.test_loading import WHOLE

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "policies").glob("*.yaml"))


def as_editor_sees(text: str) -> Any:
    """The file as a YAML 1.2 reader hands it to a validator: numbers, true/false and null, everything else text."""
    return _resolved(yaml.compose(text, Loader=yaml.BaseLoader))


def _resolved(node: yaml.Node | None) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _resolved(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_resolved(item) for item in node.value]
    assert isinstance(node, yaml.ScalarNode)
    if node.style is not None:
        return node.value
    if node.value in ("true", "false"):
        return node.value == "true"
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", node.value):
        return float(node.value) if "." in node.value else int(node.value)
    return None if node.value in ("", "~", "null") else node.value


def errors(document: Any) -> list[str]:
    return [error.json_path for error in Draft202012Validator(policy_schema()).iter_errors(document)]


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(policy_schema())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_example_policies_are_valid(path: Path) -> None:
    assert errors(as_editor_sees(path.read_text())) == []


def test_every_key_of_the_dialect_is_valid() -> None:
    assert errors(as_editor_sees(WHOLE)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("windows: [{session: regular, from: open - 5m, to: close + 5m}]", "windows: always"),
        ("windows: [{session: regular, from: open - 5m, to: close + 5m}]", "windows: {hours: 18:00-18:30}"),
        ("windows: [{session: regular, from: open - 5m, to: close + 5m}]", "windows: [always]"),
        ("symbols: [NQ.v.0]", "symbols: NQ.v.0"),
        ("symbols: [NQ.v.0]", "symbols: [5482]"),
        ("month: 200 USD", "month: unlimited"),
        ("month: 200 USD", "month: $200"),
        ("month: 200 USD", "month: 60 GiB"),
        ("month: 200 USD", "month: {usd: unlimited}"),
        ("max_request: 5 USD", "max_request: unlimited"),
    ],
)
def test_every_short_form_is_valid(old: str, new: str) -> None:
    assert old in SOUND
    assert errors(as_editor_sees(SOUND.replace(old, new))) == []


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("version: 1", "version: 2", "$.version"),
        ("month: 200 USD", "month: 200", "$.budgets[0].month"),
        ("month: 200 USD", "month: 200 EUR", "$.budgets[0].month"),
        ("month: 200 USD", "month: 60 GB", "$.budgets[0].month"),
        ("50%", "50", "$.budgets[0].alerts"),
        ("schema: mbo", "schema: mb0", "$.streams.nq.schema"),
        ("    stype_in:", "    stype:", "$.streams.nq"),
        ("dataset: GLBX.MDP3\n", "dataset: GLBX\n", "$.streams.nq.dataset"),
        ("[NQ.v.0]", "[]", "$.streams.nq.symbols"),
        ("session: regular", "session: rth", "$.streams.nq.windows"),
        ("replay: 15m", "replay: 15", "$.streams.nq.recovery.replay"),
        ("all_symbols: false", "all_symbols: no", "$.historical.all_symbols"),
        ("expires: 2027-03-01", "expires: 1.3.2027", "$.account.credits[0].expires"),
    ],
)
def test_what_check_refuses_by_its_shape_the_schema_refuses_at_the_same_place(
    old: str, new: str, path: str
) -> None:
    assert old in SOUND
    assert path in errors(as_editor_sees(SOUND.replace(old, new, 1)))


# Why a schema takes what `check` has a problem with; docs/policy.md says the same.
BLIND = {
    "between parts": "it sees one mapping at a time",
    "another file": "it sees one file",
    "the calendar": "it knows no market and no session",
    "a sum": "it does no arithmetic with durations, hours and dates",
    "a list of names": "time zones and markets are not in it: the lists change without it",
    "as JSON": "the difference is gone when the file has been read",
}


def is_yaml(text: str) -> bool:
    try:
        return isinstance(yaml.compose(text, Loader=yaml.BaseLoader), yaml.MappingNode)
    except yaml.YAMLError:
        return False


@pytest.mark.parametrize("case", read_cases(TABLE.read_text(encoding="utf-8")), ids=lambda case: case.name)
def test_the_schema_sees_every_broken_policy_but_those_it_cannot(case: Case) -> None:
    """A broken policy is refused by the schema or marked `blind` with the reason; what only has notes is valid."""
    if not is_yaml(case.text):
        assert case.blind is None
        return
    found = errors(as_editor_sees(case.text))
    if all(": note: " in line for line in case.said):
        assert found == []
    elif case.blind is None:
        assert found != []
    else:
        assert found == []
        assert case.blind in BLIND


def test_every_reason_why_the_schema_is_blind_occurs_and_is_in_the_reference() -> None:
    reasons = {case.blind for case in read_cases(TABLE.read_text(encoding="utf-8")) if case.blind}
    assert reasons == set(BLIND)
    reference = (ROOT / "docs" / "policy.md").read_text()
    assert {why for why in BLIND.values() if why not in " ".join(reference.split())} == set()


@pytest.mark.parametrize("key", ["version", "name", "budgets", "streams"])
def test_what_a_policy_needs_the_schema_requires(key: str) -> None:
    document = copy.deepcopy(as_editor_sees(SOUND))
    del document[key]
    assert errors(document) == ["$"]


def test_nothing_in_the_schema_is_nullable_since_an_empty_value_is_a_problem() -> None:
    assert '"null"' not in repr(policy_schema()).replace("'", '"')


def test_every_key_in_the_schema_says_what_it_is_or_shows_an_example() -> None:
    for part in policy_schema()["$defs"].values():
        for name, field in part.get("properties", {}).items():
            assert {"description", "examples", "$ref", "items", "default"} & set(field), name

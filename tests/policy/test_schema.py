"""The JSON Schema describes the dialect: it takes what `check` takes and refuses what no policy may hold."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from budget_guard.policy.reading import Plain, read_text
from budget_guard.policy.schema import policy_schema
from tests.policy.test_broken_policies import SOUND
from tests.policy.test_loading import WHOLE

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "policies").glob("*.yaml"))


def as_editor_sees(text: str) -> Any:
    """The file as a YAML 1.2 reader hands it to a validator: numbers and true/false, everything else text."""
    return _resolved(read_text(text, "p").data)


def _resolved(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item) for item in value]
    if isinstance(value, Plain) and value in ("true", "false"):
        return value == "true"
    if isinstance(value, Plain) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
        return float(value) if "." in value else int(value)
    return value


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
        ("50%", "50", "$.budgets[0].alerts[0]"),
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
    assert errors(as_editor_sees(SOUND.replace(old, new, 1))) == [path]


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

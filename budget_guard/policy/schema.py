"""The JSON Schema of the policy file, for editors and other programs."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from budget_guard.policy.document import PolicyPart

_HAS_ACCOUNT_NAME = {"properties": {"account": {"required": ["name"]}}, "required": ["account"]}

# A file with a named account and no streams is one that policies extend; any other is a policy, and is whole.
_WHOLE = {
    "if": {"not": {"required": ["streams"]}, **_HAS_ACCOUNT_NAME},
    "then": {"anyOf": [{"required": ["budgets"]}, {"required": ["extends"]}]},
    "else": {
        "required": ["name", "streams"],
        "if": {"not": {"required": ["extends"]}},
        "then": {"required": ["budgets"], "properties": {"budgets": {"minItems": 1}}},
    },
}


def policy_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of the file as a JSON or YAML 1.2 reader sees it: amounts as text, dates too.

    It describes shapes and words. Rules between parts, such as a budget that matches nothing, are `check`'s.
    """
    schema = _plain(PolicyPart.model_json_schema(by_alias=True))
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "budget-guard policy",
        **{key: value for key, value in schema.items() if key != "title"},
        **_WHOLE,
    }


def _plain(node: Any) -> Any:
    """Without what only Python means: titles made of class names, defaults of None, and null beside a type."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: {name: _plain(part) for name, part in value.items()}
        if key in ("properties", "$defs")
        else _plain(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
    choices = [choice for choice in kept.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        del kept["anyOf"]
        return choices[0] | kept
    return kept | {"anyOf": choices} if choices else kept

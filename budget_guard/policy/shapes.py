"""What the JSON Schema says beyond the types of single values: rules within one mapping, as `document` checks them."""

from __future__ import annotations

from typing import Any

from budget_guard.policy.model import ALL_SYMBOLS

_CONTINUOUS = r"^[^.\s]+\.[cnv]\.[0-9]+$"
_PARENT = r"^[^.\s]+\.[A-Z]+$"
_NOT_RAW = r"^[^.\s]+\.([cnv]\.[0-9]+|FUT|OPT)$"
_ID = r"^[0-9]+$"

NAMED: dict[str, Any] = {"propertyNames": {"pattern": r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"}}
# Upper bounds of what `check` reads: twelve digits before the point, nine after it.
NUMBER: dict[str, Any] = {"type": "number", "minimum": 0, "exclusiveMaximum": 10**12}


def _when(condition: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    return {"if": condition, "then": then}


def _is(key: str, value: str, *, default: bool = False) -> dict[str, Any]:
    """A condition: the key has this value, or, where it is the default, is not written."""
    condition: dict[str, Any] = {"properties": {key: {"const": value}}}
    return condition if default else condition | {"required": [key]}


def _no(*keys: str) -> dict[str, Any]:
    return {"not": {"anyOf": [{"required": [key]} for key in keys]}}


BILLING: dict[str, Any] = {
    "allOf": [
        _when(_is("live", "flat"), {"required": ["plan"]}),
        _when({"required": ["plan"]}, _is("live", "flat")),
        _when(_is("live", "none"), _no("license")),
        {"properties": {"connections": {"not": {"enum": [0, "0"]}}}},
    ]
}
LIMIT: dict[str, Any] = {"minProperties": 1}
BUDGET: dict[str, Any] = {
    "anyOf": [{"required": [period]} for period in ("session", "day", "week", "month", "total")]
}
WINDOW: dict[str, Any] = {
    "oneOf": [
        {"required": ["session"], **_no("hours")},
        {"required": ["hours"], **_no("session", "from", "to")},
    ]
}


def _each_symbol(symbol: dict[str, Any]) -> dict[str, Any]:
    """A rule for every symbol, in a list or alone. The whole dataset is always allowed."""
    one = {"anyOf": [{"const": ALL_SYMBOLS}, symbol]}
    return {"properties": {"symbols": {"if": {"type": "array"}, "then": {"items": one}, "else": one}}}


STREAM: dict[str, Any] = {
    "allOf": [
        _when(_is("mode", "live", default=True), {"required": ["windows"]}),
        _when(_is("stype_in", "continuous"), _each_symbol({"pattern": _CONTINUOUS})),
        _when(_is("stype_in", "parent"), _each_symbol({"pattern": _PARENT})),
        _when(
            _is("stype_in", "instrument_id"),
            _each_symbol({"if": {"type": "string"}, "then": {"pattern": _ID}}),
        ),
        _when(
            _is("stype_in", "raw_symbol", default=True),
            _each_symbol({"not": {"type": "string", "pattern": _NOT_RAW}}),
        ),
        {
            "properties": {
                "symbols": _when({"type": "array", "contains": {"const": ALL_SYMBOLS}}, {"maxItems": 1})
            }
        },
    ]
}

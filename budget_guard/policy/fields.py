"""The types of the policy file's values: what parses each, and how the JSON Schema describes it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from budget_guard.policy import scalars
from budget_guard.policy.model import AlertTo, Edge, Mode, NotBilled, SessionKind, Weekday
from budget_guard.policy.shapes import NUMBER
from budget_guard.policy.vocabulary import DATASETS, PLANS, SCHEMAS, STYPES_IN

Unlimited = Literal["unlimited"]

_SESSIONS: tuple[str, ...] = get_args(SessionKind)
_MODES: tuple[str, ...] = get_args(Mode)
_WEEKDAYS: tuple[str, ...] = get_args(Weekday)
_ALERTS_TO: tuple[str, ...] = get_args(AlertTo)
_NOT_BILLED: tuple[str, ...] = get_args(NotBilled)
_BILLINGS = ("metered", "none", "flat")

_WHOLE = r"([0-9]{1,3}(,[0-9]{3}){1,3}|[0-9](_?[0-9]){0,11})"
_AMOUNT = rf"({_WHOLE}(\.[0-9]{{1,9}})?|\.[0-9]{{1,9}})"
_USD = rf"\$\s*{_AMOUNT}(\s*[Uu][Ss][Dd])?|{_AMOUNT}\s*[Uu][Ss][Dd]"
_SIZE_OR_TIME = rf"{_AMOUNT}\s*([Gg][Ii][Bb]|[Hh][Oo][Uu][Rr][Ss])"
_CONNECTIONS = rf"{_WHOLE}\s*[Cc][Oo][Nn][Nn][Ee][Cc][Tt][Ii][Oo][Nn][Ss]"
_TIME = r"([01]?[0-9]|2[0-4]):[0-5][0-9]"
_DURATION = r"(?=[0-9])([0-9]{1,6}h)?\s*([0-9]{1,6}m)?\s*([0-9]{1,6}s)?"
_SYMBOL = r"^[^,|\s]([^,|]*[^,|\s])?$"
_NO_SYMBOL = {"type": "string", "pattern": r"^([Aa]ll[_-][Ss]ymbols|\*)$"}
_DAY = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
LIMIT_PATTERN = rf"^\s*(unlimited|{_USD}|{_SIZE_OR_TIME}|{_CONNECTIONS})\s*$"


def _text(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


def _number(**bounds: Any) -> dict[str, Any]:
    return NUMBER | bounds


def _or_unlimited(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [schema, {"const": scalars.UNLIMITED}]})


def _words(valid: tuple[str, ...]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(valid)})


def _one_of(what: str, valid: tuple[str, ...], example: str | None = None) -> PlainValidator:
    return PlainValidator(scalars.choice(what, valid, example))


Version = Annotated[int, PlainValidator(scalars.parse_version), WithJsonSchema({"const": 1})]
Flag = Annotated[bool, PlainValidator(scalars.parse_flag), WithJsonSchema({"type": "boolean"})]
Text = Annotated[str, PlainValidator(scalars.parse_text), _text(r"\S")]
Name = Annotated[str, PlainValidator(scalars.parse_name), _text(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Timezone = Annotated[str, PlainValidator(scalars.parse_timezone), _text(r"^\S+$")]
# An instrument id is a symbol too, and an editor takes it for a number.
Symbol = Annotated[
    str,
    PlainValidator(scalars.parse_symbol),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "pattern": _SYMBOL,
            "not": _NO_SYMBOL,
        }
    ),
]

Dataset = Annotated[str, _one_of("dataset", DATASETS, "GLBX.MDP3"), _words(DATASETS)]
Schema = Annotated[str, _one_of("schema", SCHEMAS), _words(SCHEMAS)]
StypeIn = Annotated[str, _one_of("stype_in", STYPES_IN), _words(STYPES_IN)]
ModeName = Annotated[Mode, _one_of("mode", _MODES), _words(_MODES)]
SessionName = Annotated[SessionKind, _one_of("session", _SESSIONS), _words(_SESSIONS)]
Day = Annotated[Weekday, _one_of("day", _WEEKDAYS), _words(_WEEKDAYS)]
AlertToName = Annotated[AlertTo, _one_of("place for alerts", _ALERTS_TO), _words(_ALERTS_TO)]
NotBilledName = Annotated[NotBilled, _one_of("part of a live stream", _NOT_BILLED), _words(_NOT_BILLED)]
BillingKind = Annotated[Literal["metered", "none", "flat"], _one_of("billing", _BILLINGS), _words(_BILLINGS)]
Plan = Annotated[str, _one_of("plan", PLANS), _words(PLANS)]

Price = Annotated[Decimal, PlainValidator(scalars.parse_number), WithJsonSchema(_number())]
Positive = Annotated[
    Decimal, PlainValidator(scalars.parse_positive), WithJsonSchema(_number(exclusiveMinimum=0))
]
Number = Annotated[Decimal | Unlimited, PlainValidator(scalars.parse_limit_number), _or_unlimited(_number())]
Count = Annotated[
    Decimal | Unlimited, PlainValidator(scalars.parse_count), _or_unlimited(_number(type="integer"))
]
Usd = Annotated[Decimal, PlainValidator(scalars.parse_usd), _text(rf"^\s*({_USD})\s*$")]
UsdOrUnlimited = Annotated[
    Decimal | Unlimited,
    PlainValidator(scalars.parse_usd_or_unlimited),
    _or_unlimited({"type": "string", "pattern": rf"^\s*({_USD})\s*$"}),
]
Percent = Annotated[
    Decimal,
    PlainValidator(scalars.parse_percent),
    _text(r"^\s*(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)\s*%\s*$"),
]
Duration = Annotated[
    timedelta,
    PlainValidator(scalars.parse_duration),
    _text(rf"^\s*{_DURATION}\s*$"),
]
SessionEdge = Annotated[
    Edge, PlainValidator(scalars.parse_edge), _text(rf"^\s*(open|close)\s*([+-]\s*{_DURATION})?\s*$")
]
Hours = Annotated[
    tuple[time, time], PlainValidator(scalars.parse_hours), _text(rf"^\s*{_TIME}\s*-\s*{_TIME}\s*$")
]
Date = Annotated[date, PlainValidator(scalars.parse_date), _text(_DAY)]


class Shorthand:
    """Lets a short form stand for the long one: `expand` turns it into that, `forms` lists both for the schema."""

    def __init__(
        self, expand: Callable[[Any], Any], forms: Callable[[JsonSchemaValue], list[JsonSchemaValue]]
    ) -> None:
        self._expand = expand
        self._forms = forms

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._expand, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": self._forms(handler(schema))}


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


# For a tuple: a single value may stand for a list of one. SOME: and there is at least one.
MANY = Shorthand(_as_list, lambda many: [many["items"], many])
SOME = (Field(min_length=1), MANY)

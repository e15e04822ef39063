"""The fields that a path takes, and everything that is wrong with those that came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from budget_guard.sandbox.historical.errors import InvalidFields, Problem

_U64_MAX = 2**64 - 1
# More digits than this are not read as a number at all: Python's own bound on such conversions.
_DIGITS_MAX = 4300


@dataclass(frozen=True, slots=True)
class Parameter:
    """A field by its name in a query; forms spell it `alias`, where they have another name for it.

    Text unless `whole`, which is a whole number, and then more than `above`.
    """

    name: str
    required: bool = False
    whole: bool = False
    above: int | None = None
    alias: str | None = None


RETRY = Parameter("retry", whole=True)
DATASET = Parameter("dataset", required=True)
SCHEMA = Parameter("schema", alias="schema_")
SYMBOLS = (Parameter("symbols"), Parameter("symbol"))
LIMIT = Parameter("limit", whole=True, above=0)
TIMES = (Parameter("start", required=True), Parameter("end"))
DATES = (Parameter("start_date"), Parameter("end_date"))
# What the three questions about a range take.
RANGE = (DATASET, *TIMES, *SYMBOLS, SCHEMA, Parameter("stype_in"), LIMIT, RETRY)
# What is sent takes; `limit` is text there.
DATA = (
    *(parameter for parameter in RANGE if parameter is not LIMIT),
    Parameter("limit"),
    *map(Parameter, ("stype_out", "encoding", "compression", "pretty_px", "pretty_ts", "map_symbols")),
)


def check_fields(parameters: Sequence[Parameter], fields: Mapping[str, str]) -> None:
    """Raises InvalidFields for everything that is missing or not of its type. Other fields are ignored."""
    problems = [problem for parameter in parameters for problem in _problems(parameter, fields)]
    if problems:
        raise InvalidFields(problems)


def _problems(parameter: Parameter, fields: Mapping[str, str]) -> Iterator[Problem]:
    text = fields.get(parameter.name) or (fields.get(parameter.alias) if parameter.alias else None)
    if not text:
        if parameter.required:
            yield Problem(parameter.name, "Field required", "missing")
        return
    if not parameter.whole:
        return
    sign, digits = text[:1] in "+-", text.lstrip("+-")
    if not digits.isascii() or not digits.isdigit() or len(text) - len(digits) > sign:
        yield Problem(
            parameter.name,
            "Input should be a valid integer, unable to parse string as an integer",
            "int_parsing",
        )
        return
    if len(digits) > _DIGITS_MAX:
        yield Problem(
            parameter.name,
            "Unable to parse input string as an integer, exceeded maximum size",
            "int_parsing_size",
        )
        return
    value = int(text)
    if parameter.above is not None and value <= parameter.above:
        yield Problem(parameter.name, f"Input should be greater than {parameter.above}", "greater_than")
    if parameter.above is not None and value > _U64_MAX:
        yield Problem(parameter.name, f"Input should be less than or equal to {_U64_MAX}", "less_than_equal")

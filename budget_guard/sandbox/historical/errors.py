"""The vendor's error answers: their names, their words and their shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_DOCS = "https://databento.com/docs/"
_DATASETS = _DOCS + "api-reference-historical/basics/datasets"
_SYMBOLOGY = _DOCS + "api-reference-historical/basics/symbology"
_TIMES = _DOCS + "standards-and-conventions/common-fields-enums-types"
_ERRORS = _DOCS + "api-reference-historical/basics/errors"

# The page that an error's answer points to, where one was seen in an answer.
_PAGES: Mapping[str, str] = {
    "data_end_after_available_end": _DATASETS,
    "data_start_after_available_end": _DATASETS,
    "data_start_before_available_start": _DATASETS,
    "data_schema_not_fully_available": _DATASETS,
    "data_time_range_start_on_or_after_end": _TIMES,
    "data_date_range_start_on_or_after_end": _TIMES,
    "dataset_unavailable_range": "https://databento.com/pricing",
    "symbology_invalid_request": _SYMBOLOGY,
    "symbology_invalid_symbol": _SYMBOLOGY,
}


class ApiError(Exception):
    """An answer with an error status; `case` is the vendor's name for it."""

    def __init__(
        self, status: int, case: str, message: str, payload: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.case = case
        self.payload = dict(payload or {})

    def body(self, place: str = "body") -> dict[str, Any]:
        """The answer's JSON; `place` is where the fields came from, "query" or "body"."""
        return {
            "detail": {
                "case": self.case,
                "message": str(self),
                "status_code": self.status,
                "docs": _PAGES.get(self.case, _ERRORS),
                "payload": self.payload,
            }
        }


@dataclass(frozen=True, slots=True)
class Problem:
    """A field that is wrong: its name, why, and the kind of mistake as the vendor's web framework names it."""

    field: str
    why: str
    kind: str = "value_error"


class InvalidFields(ApiError):
    """Fields that are missing or malformed: a list of what is wrong with each, and no case."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        text = "; ".join(f"{problem.field}: {problem.why}" for problem in self.problems)
        super().__init__(422, "", text)

    def body(self, place: str = "body") -> dict[str, Any]:
        return {
            "detail": [
                {"loc": [place, problem.field], "msg": problem.why, "type": problem.kind}
                for problem in self.problems
            ]
        }


def invalid(name: str, why: str, kind: str = "value_error") -> InvalidFields:
    """The answer for one malformed field."""
    return InvalidFields([Problem(name, why, kind)])


def not_one_of(name: str, allowed: Iterable[str]) -> InvalidFields:
    """The answer for a field whose value is not one of the known ones."""
    return invalid(name, "Input should be " + ", ".join(f"'{value}'" for value in allowed), "enum")


def unpriced(dataset: str, schema: str) -> ApiError:
    """The answer for data whose price nobody knows."""
    return ApiError(422, "data_price_unknown", f"{dataset} {schema} has no published price")


def unresolved(symbols: Iterable[str], stype_in: str, offered: str = "") -> ApiError:
    """The answer for a request none of whose symbols stands for anything; `offered` says what would."""
    if stype_in in ("parent", "continuous"):
        text = "Could not resolve smart symbols: " + ", ".join(list(symbols)[:5])
    else:
        text = "None of the symbols could be resolved"
    return ApiError(422, "symbology_invalid_request", f"{text}; there is {offered}" if offered else text)


class GatewayTimeout(ApiError):
    """504 as a proxy gives it: a page, not JSON."""

    def __init__(self) -> None:
        super().__init__(504, "", "504 Gateway Time-out")

"""Every path of the HTTP side against the vendor's interface description, version 0.167.1, in our own words.

For each path: its methods, its parameters (what is required, what is a number, what is meant when one is left out)
and the shape of its answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema
import pytest

from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.sandbox.historical.desk import Answer, ask, config

DAY = r"^\d{4}-\d\d-\d\d$"
INSTANT = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$"


def an_object(properties: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def a_list(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1, **more}


TEXT = {"type": "string", "minLength": 1}
BOUNDS = {"start": {"pattern": INSTANT, "type": "string"}, "end": {"pattern": INSTANT, "type": "string"}}
COUNT = {"type": "integer", "minimum": 1}
MAPPING = an_object(
    {
        "d0": {"type": "string", "pattern": DAY},
        "d1": {"type": "string", "pattern": DAY},
        "s": TEXT,
    }
)


@dataclass(frozen=True)
class Path:
    """What the vendor says of a path. `defaults` are the values that stand for what is left out."""

    name: str
    methods: frozenset[str]
    required: Mapping[str, str]
    answer: Mapping[str, Any]
    optional: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    numbers: frozenset[str] = frozenset({"retry"})

    @property
    def url(self) -> str:
        return f"/v0/{self.name}"


GET = frozenset({"GET"})
BOTH = frozenset({"GET", "POST"})
DATASET = {"dataset": "GLBX.MDP3"}
DATES = {"start_date": "2026-11-16", "end_date": "2026-11-18"}
RANGE: dict[str, Any] = {
    "methods": BOTH,
    "required": DATASET | {"start": "2026-11-19T14:30"},
    "optional": {"symbols": "NQZ6,ESZ6", "schema": "mbp-1", "stype_in": "raw_symbol"}
    | {"limit": "100", "end": "2026-11-19T14:31", "symbol": "NQZ6"},
    "defaults": {
        "symbols": "ALL_SYMBOLS",
        "schema": "trades",
        "stype_in": "raw_symbol",
        "end": "2026-11-19T14:31",
    },
    "numbers": frozenset({"limit", "retry"}),
}
PATHS = (
    Path(
        "metadata.list_publishers",
        GET,
        {},
        a_list(
            an_object({"publisher_id": COUNT, "dataset": TEXT, "venue": TEXT, "description": TEXT}),
            uniqueItems=True,
        ),
    ),
    Path("metadata.list_datasets", GET, {}, a_list(TEXT, uniqueItems=True), optional=DATES),
    Path("metadata.list_schemas", GET, DATASET, a_list(TEXT, uniqueItems=True)),
    Path(
        "metadata.list_fields",
        GET,
        {"schema": "mbo", "encoding": "dbn"},
        a_list(an_object({"name": TEXT, "type": TEXT}), uniqueItems=True),
    ),
    Path(
        "metadata.list_unit_prices",
        GET,
        DATASET,
        a_list(
            an_object(
                {
                    "mode": {"enum": ["historical", "historical-streaming", "live"]},
                    "unit_prices": {
                        "type": "object",
                        "minProperties": 1,
                        "additionalProperties": {"type": "number", "minimum": 0},
                    },
                }
            ),
            maxItems=3,
        ),
    ),
    Path(
        "metadata.get_dataset_range",
        GET,
        DATASET,
        an_object(
            {
                **BOUNDS,
                "schema": {"type": "object", "minProperties": 1, "additionalProperties": an_object(BOUNDS)},
            }
        ),
    ),
    Path(
        "metadata.get_dataset_condition",
        GET,
        DATASET,
        a_list(
            an_object(
                {
                    "date": {"type": "string", "pattern": DAY},
                    "condition": {"enum": ["available", "degraded", "pending", "missing"]},
                    "last_modified_date": {"type": ["string", "null"], "pattern": DAY},
                }
            )
        ),
        optional=DATES,
    ),
    Path("metadata.get_record_count", answer={"type": "integer", "minimum": 0}, **RANGE),
    Path("metadata.get_billable_size", answer={"type": "integer", "minimum": 0}, **RANGE),
    Path(
        "metadata.get_cost",
        answer={"type": "number", "minimum": 0},
        **{
            **RANGE,
            "optional": RANGE["optional"] | {"mode": "historical"},
            "defaults": RANGE["defaults"] | {"mode": "historical-streaming"},
        },
    ),
    Path(
        "symbology.resolve",
        BOTH,
        DATASET
        | {"symbols": "NQ.v.0,XX.v.0", "stype_in": "continuous", "stype_out": "instrument_id"}
        | {"start_date": "2026-09-01"},
        an_object(
            {
                "result": {"type": "object", "additionalProperties": {"type": "array", "items": MAPPING}},
                "symbols": a_list(TEXT),
                "stype_in": TEXT,
                "stype_out": TEXT,
                "start_date": {"type": "string", "pattern": DAY},
                "end_date": {"type": "string", "pattern": DAY},
                "partial": {"type": "array", "items": TEXT},
                "not_found": {"type": "array", "items": TEXT},
                "message": TEXT,
                "status": {"enum": [0, 1, 2]},
            }
        ),
        optional={"end_date": "2026-09-20"},
        defaults={"end_date": "2026-09-02"},
    ),
)
EVERY = pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.name))

REFUSAL = an_object(
    {
        "detail": an_object(
            {
                "case": {"type": "string", "pattern": "^[a-z_]+$"},
                "message": TEXT,
                "status_code": {"type": "integer"},
                "docs": {"type": "string", "pattern": "^https://databento.com/"},
                "payload": {"type": "object"},
            }
        )
    }
)
WRONG_FIELDS = an_object(
    {
        "detail": a_list(
            an_object(
                {
                    "loc": {
                        "type": "array",
                        "prefixItems": [{"enum": ["query", "body"]}, TEXT],
                        "minItems": 2,
                        "maxItems": 2,
                    },
                    "msg": TEXT,
                    "type": TEXT,
                }
            )
        )
    }
)
PLAIN = an_object({"detail": TEXT})


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(config()) as running:
        yield running


def wrong_fields(answer: Answer) -> dict[str, tuple[str, str]]:
    """Field -> (place, kind of mistake) of an answer that must be of that shape."""
    assert answer.status == 422
    jsonschema.validate(answer.body, WRONG_FIELDS)
    return {problem["loc"][1]: (problem["loc"][0], problem["type"]) for problem in answer.body["detail"]}


@EVERY
def test_every_method_answers_in_the_documented_shape(sandbox: Sandbox, path: Path) -> None:
    """With what is required alone, and with everything; by query and by form the same."""
    for fields in (dict(path.required), {**path.required, **path.optional, "retry": "1"}):
        answers = [ask(sandbox, method, path.url, **fields) for method in sorted(path.methods)]
        for answer in answers:
            assert answer.status == 200, answer.body
            assert answer.headers.get_content_type() == "application/json"
            jsonschema.validate(answer.body, path.answer)
        assert all(answer.body == answers[0].body for answer in answers)


@EVERY
def test_every_required_field_is_asked_for(sandbox: Sandbox, path: Path) -> None:
    """All that are missing at once, each by name and place, whether they are left out or empty."""
    for method in sorted(path.methods):
        place = "query" if method == "GET" else "body"
        missing = dict.fromkeys(path.required, (place, "missing"))
        if missing:
            assert wrong_fields(ask(sandbox, method, path.url)) == missing
        for name in path.required:
            answer = ask(sandbox, method, path.url, **(dict(path.required) | {name: ""}))
            assert wrong_fields(answer) == {name: (place, "missing")}


@EVERY
def test_numbers_are_numbers(sandbox: Sandbox, path: Path) -> None:
    """What is documented as a whole number takes nothing else; a limit is more than none."""
    for name in path.numbers:
        for text in ("ten", "1.5", "--1", "²"):
            answer = ask(sandbox, "GET", path.url, **{**path.required, name: text})
            assert wrong_fields(answer) == {name: ("query", "int_parsing")}
    if "limit" in path.numbers:
        for text, kind in (("0", "greater_than"), ("-5", "greater_than"), (str(2**64), "less_than_equal")):
            answer = ask(sandbox, "GET", path.url, **{**path.required, "limit": text})
            assert wrong_fields(answer) == {"limit": ("query", kind)}


@EVERY
def test_defaults_are_the_documented_ones(sandbox: Sandbox, path: Path) -> None:
    """To leave a field out is to give it its default; fields that nobody knows are ignored."""
    left_out = ask(sandbox, "GET", path.url, **path.required)
    given = ask(sandbox, "GET", path.url, **path.required, **path.defaults, unknown="1")
    assert left_out.body == given.body


@EVERY
def test_other_methods_are_not_allowed(sandbox: Sandbox, path: Path) -> None:
    """405, and which are."""
    for method in {"GET", "POST", "PUT", "DELETE"} - path.methods:
        answer = ask(sandbox, method, path.url, **path.required)
        assert (answer.status, answer.body) == (405, {"detail": "Method Not Allowed"})
        allowed = {name.strip() for name in answer.headers["Allow"].split(",")} - {"HEAD"}
        assert allowed == path.methods


@EVERY
def test_every_path_wants_a_key(sandbox: Sandbox, path: Path) -> None:
    """401 before anything else is looked at."""
    for key in ("", "db-wrong"):
        answer = ask(sandbox, "GET", path.url, key=key)
        assert answer.status == 401
        jsonschema.validate(answer.body, REFUSAL)
        assert answer.body["detail"]["case"] == "auth_authentication_failed"


@EVERY
def test_a_locked_account_is_refused_everywhere(path: Path) -> None:
    """403, for questions too."""
    with running_sandbox(config(locked=True)) as sandbox:
        answer = ask(sandbox, "GET", path.url, **path.required)
    assert (answer.status, answer.body["detail"]["case"]) == (403, "auth_account_locked")
    jsonschema.validate(answer.body, REFUSAL)


@pytest.mark.parametrize(
    "path", [path for path in PATHS if "dataset" in path.required], ids=lambda path: path.name
)
def test_datasets_that_are_not_there_are_not_found(sandbox: Sandbox, path: Path) -> None:
    """404, as every path that takes one documents."""
    answer = ask(sandbox, "GET", path.url, **(dict(path.required) | {"dataset": "NOPE.NOPE"}))
    assert answer.status == 404
    jsonschema.validate(answer.body, REFUSAL)


def test_forms_call_the_schema_by_either_name(sandbox: Sandbox) -> None:
    """The description says `schema_`, the clients send `schema`."""
    form = {"dataset": "GLBX.MDP3", "start": "2026-11-19T14:30", "symbols": "NQZ6"}
    url = "/v0/metadata.get_record_count"
    by_name = {
        (name, schema): ask(sandbox, "POST", url, **form, **{name: schema}).body
        for name in ("schema", "schema_")
        for schema in ("trades", "mbo")
    }
    assert by_name["schema", "trades"] == by_name["schema_", "trades"]
    assert by_name["schema", "mbo"] == by_name["schema_", "mbo"] > by_name["schema", "trades"]


def test_unknown_paths_are_not_found(sandbox: Sandbox) -> None:
    """In JSON, like everything."""
    for url in ("/v0/metadata.list_everything", "/v1/metadata.list_datasets", "/"):
        answer = ask(sandbox, "GET", url)
        assert (answer.status, answer.body) == (404, {"detail": "Not Found"})
        jsonschema.validate(answer.body, PLAIN)


def test_forms_that_are_too_large_are_refused(sandbox: Sandbox) -> None:
    """A megabyte is more than 2,000 symbols take."""
    answer = ask(sandbox, "POST", "/v0/metadata.get_cost", symbols="A" * 2**21)
    assert answer.status == 413
    jsonschema.validate(answer.body, PLAIN)


def test_every_answer_has_a_number_of_its_own(sandbox: Sandbox) -> None:
    """In a header, errors' too; support asks for it."""
    answers = [
        ask(sandbox, "GET", f"/v0/metadata.{name}") for name in ("list_datasets", "list_schemas", "none")
    ]
    numbers = {answer.headers["request-id"] for answer in answers}
    assert len(numbers) == 3
    assert all(numbers)


def test_a_gateway_that_gives_up_answers_with_a_page() -> None:
    """504 for more symbols than the threshold, and no JSON in it."""
    with running_sandbox(config(timeout_symbols=2)) as sandbox:
        fields = {"dataset": "GLBX.MDP3", "start": "2026-11-19T14:30", "stype_in": "continuous"}
        url = "/v0/metadata.get_record_count"
        few = ask(sandbox, "POST", url, **fields, symbols="NQ.v.0,ES.v.0")
        many = ask(sandbox, "POST", url, **fields, symbols="NQ.v.0,ES.v.0,YM.v.0")
    assert (few.status, many.status) == (200, 504)
    assert many.headers.get_content_type() == "text/html"
    assert b"504" in many.body

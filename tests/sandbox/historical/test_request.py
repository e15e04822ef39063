"""Forms: the vendor's defaults, and its errors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, cast

import pytest

from budget_guard.clock import ManualClock, ns_from_instant
from budget_guard.sandbox.account import Account
from budget_guard.sandbox.config import DEFAULT_KEY, SandboxConfig
from budget_guard.sandbox.historical.context import Call, Context
from budget_guard.sandbox.historical.errors import ApiError, InvalidFields
from budget_guard.sandbox.historical.reach import time_text
from budget_guard.sandbox.historical.request import Query, check_query, parse_day, parse_time

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
GOOD = {"dataset": "GLBX.MDP3", "start": "2026-11-19", "symbols": "NQ.v.0", "stype_in": "continuous"}


def ask(fields: Mapping[str, str], **config: Any) -> Query:
    """What a form asks for; nothing but the configuration matters to it."""
    settings = SandboxConfig(clock=ManualClock(NOW), **config)
    nothing = cast(Any, None)
    context = Context(settings, Account(settings), nothing, nothing, nothing, nothing)
    return check_query(context, Call(nothing, DEFAULT_KEY, fields))


def ns(*parts: int) -> int:
    return ns_from_instant(datetime(*parts, tzinfo=UTC))  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "instant", "unit"),
    [
        ("1795444201200205562", 1795444201200205562, 1),
        ("2026-11-19", ns(2026, 11, 19), 86_400 * 10**9),
        ("2026-11-19T14", ns(2026, 11, 19, 14), 3600 * 10**9),
        ("2026-11-19T14:30", ns(2026, 11, 19, 14, 30), 60 * 10**9),
        ("2026-11-19 14:30:05Z", ns(2026, 11, 19, 14, 30, 5), 10**9),
        ("2026-11-19T14:30:00-05:00", ns(2026, 11, 19, 19, 30), 10**9),
        ("2026-11-19T14:30:00.000000001+00:00", ns(2026, 11, 19, 14, 30) + 1, 1),
    ],
)
def test_times_are_read_to_the_nanosecond(text: str, instant: int, unit: int) -> None:
    """Every spelling that the clients send, and the unit it was written to."""
    assert parse_time(text) == (instant, unit)


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "2026-11-19T25:00"])
def test_what_is_not_a_time_is_an_error(text: str) -> None:
    """Never a guess."""
    with pytest.raises(ValueError):  # noqa: PT011 - the message is that of whichever parser stumbled
        parse_time(text)


def test_what_is_left_out_means_what_it_means_at_the_vendors() -> None:
    """Trades, all symbols, raw symbols, and an end filled forward from the start."""
    query = ask({"dataset": "GLBX.MDP3", "start": "2026-11-18"})
    assert (query.schema, query.symbols, query.stype_in) == ("trades", ("ALL_SYMBOLS",), "raw_symbol")
    assert (query.start_ns, query.end_ns, query.limit) == (ns(2026, 11, 18), ns(2026, 11, 19), None)


def test_a_filled_end_stops_at_now() -> None:
    """Today has only been until now."""
    query = ask(GOOD | {"start": "2026-11-20"})
    assert query.end_ns == ns(2026, 11, 20, 12)


@pytest.mark.parametrize(
    ("change", "case"),
    [
        ({"schema": "cmbp-1"}, "dataset_schema_not_supported"),
        ({"symbols": ",".join(f"A{i}.v.0" for i in range(2001))}, "symbology_invalid_request"),
        ({"dataset": "OPRA.PILLAR"}, "symbology_invalid_request"),
        ({"dataset": "XNAS.ITCH", "schema": "mbo", "stype_in": "parent"}, "symbology_invalid_request"),
        ({"start": "2009-01-01"}, "data_start_before_available_start"),
        ({"start": "2026-11-20T12:00"}, "data_start_after_available_end"),
        ({"end": "2026-11-20T12:00:00.000000001"}, "data_end_after_available_end"),
        ({"schema": "ohlcv-1d", "end": "2026-11-20T00:00:00.1"}, "data_schema_not_fully_available"),
        ({"end": "2026-11-19"}, "data_time_range_start_on_or_after_end"),
        ({"end": "2026-11-18"}, "data_time_range_start_on_or_after_end"),
    ],
)
def test_each_defect_has_the_vendors_case(change: dict[str, str], case: str) -> None:
    """All of them 422, with a sentence."""
    with pytest.raises(ApiError) as caught:
        ask(GOOD | change)
    detail = caught.value.body()["detail"]
    assert (detail["case"], detail["status_code"]) == (case, 422)
    assert detail["message"]


@pytest.mark.parametrize(
    ("change", "field", "kind"),
    [
        ({"dataset": ""}, "dataset", "missing"),
        ({"start": ""}, "start", "missing"),
        ({"start": "soon"}, "start", "value_error"),
        ({"start": "9" * 30}, "start", "value_error"),
        ({"end": "2026-13-01"}, "end", "value_error"),
        ({"limit": "0"}, "limit", "value_error"),
        ({"limit": "-1"}, "limit", "value_error"),
        ({"schema": "mbp-7"}, "schema", "enum"),
        ({"stype_in": "isin"}, "stype_in", "enum"),
    ],
)
def test_a_malformed_field_is_named(change: dict[str, str], field: str, kind: str) -> None:
    """422 with a list: where the field was, what is wrong with it, and the kind of mistake."""
    with pytest.raises(InvalidFields) as caught:
        ask(GOOD | change)
    (problem,) = caught.value.body("query")["detail"]
    assert (problem["loc"], problem["type"]) == (["query", field], kind)
    assert problem["msg"]


@pytest.mark.parametrize(
    ("stype_in", "symbol"),
    [
        ("parent", "NQ"),
        ("parent", "NQ.v.0"),
        ("continuous", "NQ"),
        ("continuous", "NQ.x.0"),
        ("instrument_id", "NQ"),
    ],
)
def test_symbols_are_of_their_kind(stype_in: str, symbol: str) -> None:
    """One that cannot be of its symbology is 400, in the vendor's words."""
    with pytest.raises(ApiError) as caught:
        ask(GOOD | {"stype_in": stype_in, "symbols": f"{symbol},ALL_SYMBOLS"})
    assert (caught.value.status, caught.value.case) == (400, "symbology_invalid_symbol")
    assert str(caught.value).startswith(
        f"Invalid format for `{stype_in}` symbol '{symbol}', expected format: "
    )


def test_a_dataset_that_is_not_on_offer_is_not_found() -> None:
    """404, and what there is."""
    with pytest.raises(ApiError, match=r"one of .*GLBX\.MDP3") as caught:
        ask(GOOD | {"dataset": "NOPE.NOPE"})
    assert caught.value.status == 404


def test_very_long_symbol_lists_time_out_where_that_is_asked_for() -> None:
    """504, from one symbol more than the threshold on; without one, never."""
    many = GOOD | {"symbols": "NQ.v.0,NQ.v.1,ES.v.0"}
    assert len(ask(many).symbols) == len(ask(many, timeout_symbols=3).symbols) == 3
    with pytest.raises(ApiError) as caught:
        ask(many, timeout_symbols=2)
    assert caught.value.status == 504


def test_days_are_dates_or_the_default() -> None:
    """A date field may carry a time; one that is left out may have a default."""
    assert parse_day({"start_date": "2026-11-19T00:00"}, "start_date") == date(2026, 11, 19)
    assert parse_day({}, "end_date", date(2026, 1, 2)) == date(2026, 1, 2)
    with pytest.raises(ApiError, match="not a date"):
        parse_day({"start_date": "soon"}, "start_date")


def test_times_are_written_to_the_nanosecond() -> None:
    """As the vendor does."""
    assert time_text(ns(2026, 11, 19, 14, 30) + 5) == "2026-11-19T14:30:00.000000005Z"

"""Canonical forms: the same for every way to write the same request, and different for any other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.clock import ns_from_instant
from budget_guard.gateway.historical.form import FormError, canonical_of_job, parse_range_request

BASE = {
    "dataset": "GLBX.MDP3",
    "schema": "mbo",
    "symbols": "NQ.v.0,ES.v.0",
    "stype_in": "continuous",
    "start": "2026-11-20T15:00",
    "end": "2026-11-20T16:00",
    "encoding": "dbn",
}
START = datetime(2026, 11, 20, 15, tzinfo=UTC)
# Every field of a batch form: what it is when it is left out, and something else.
OTHERS = {
    "dataset": "XNAS.ITCH",
    "schema": "trades",
    "symbols": "NQ.v.0",
    "stype_in": "raw_symbol",
    "stype_out": "raw_symbol",
    "start": "2026-11-20T14:59",
    "end": "2026-11-20T16:01",
    "limit": "7",
    "encoding": "json",
    "compression": "zstd",
    "pretty_px": "true",
    "pretty_ts": "True",
    "map_symbols": "1",
    "split_symbols": "yes",
    "split_duration": "week",
    "split_size": "1000000000",
    "packaging": "zip",
    "delivery": "s3",
}


def form_of(fields: dict[str, str], *, batch: bool = True) -> str:
    return parse_range_request(fields, batch=batch).canonical


def ways(instant: datetime) -> st.SearchStrategy[str]:
    """Some of the ways to write an instant."""
    naive = instant.replace(tzinfo=None)
    return st.sampled_from(
        [
            naive.isoformat(),
            naive.isoformat(" "),
            f"{naive.isoformat()}Z",
            f"{naive.isoformat()}.000000000",
            (instant + timedelta(hours=-5)).replace(tzinfo=None).isoformat() + "-05:00",
            (instant + timedelta(hours=9)).replace(tzinfo=None).isoformat() + "+0900",
            str(ns_from_instant(instant)),
        ]
    )


defaults = st.fixed_dictionaries(
    {},
    optional={
        "stype_out": st.just("instrument_id"),
        "compression": st.sampled_from(["none", ""]),
        "pretty_px": st.sampled_from(["false", "False", "0", "", "no"]),
        "pretty_ts": st.sampled_from(["false", "off"]),
        "map_symbols": st.sampled_from(["n", "f"]),
        "split_symbols": st.sampled_from(["False", ""]),
        "split_duration": st.sampled_from(["day", ""]),
        "split_size": st.just(""),
        "packaging": st.sampled_from(["none", ""]),
        "delivery": st.just("download"),
        "limit": st.just(""),
        "retry": st.just("3"),
        "user-agent": st.just("Databento/0.87"),
    },
)


@given(
    st.lists(st.sampled_from(["NQ.v.0", "ES.v.0"]), min_size=2, max_size=5),
    ways(START),
    ways(START + timedelta(hours=1)),
    st.sampled_from(["schema", "schema_"]),
    st.sampled_from(["symbols", "symbol"]),
    defaults,
    st.randoms(),
)
def test_every_way_to_write_a_request_has_one_form(
    symbols: list[str], start: str, end: str, schema: str, name: str, more: dict[str, str], chance: Any
) -> None:
    fields = {
        "dataset": "GLBX.MDP3",
        schema: "mbo",
        name: ",".join(dict.fromkeys([*symbols, "NQ.v.0", "ES.v.0"])),
        "stype_in": "continuous",
        "start": start,
        "end": end,
        "encoding": "dbn",
        **more,
    }
    shuffled = list(fields.items())
    chance.shuffle(shuffled)
    assert form_of(dict(shuffled)) == form_of(BASE)


@pytest.mark.parametrize("name", OTHERS)
def test_whatever_is_different_makes_another_form(name: str) -> None:
    assert form_of(BASE | {name: OTHERS[name]}) != form_of(BASE)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_instants_are_told_apart_to_the_microsecond(first: int, second: int) -> None:
    forms = [
        form_of(BASE | {"start": (START + timedelta(microseconds=one)).isoformat()})
        for one in (first, second)
    ]
    assert (forms[0] == forms[1]) is (first == second)


def test_a_missing_end_is_the_one_that_the_vendor_fills_in() -> None:
    without = {name: value for name, value in BASE.items() if name != "end"} | {"start": "2026-11-20T15"}
    assert form_of(without) == form_of(BASE)


def test_the_form_of_a_job_is_the_form_of_its_submission() -> None:
    """The vendor tells of `none` as null, of symbols as one text, and of instants in nanoseconds."""
    job = {
        "id": "GLBX-20261124-X",
        "state": "done",
        "cost_usd": 0.01,
        "dataset": "GLBX.MDP3",
        "symbols": "ES.v.0,NQ.v.0",
        "stype_in": "continuous",
        "stype_out": "instrument_id",
        "schema": "mbo",
        "start": "2026-11-20T15:00:00.000000000Z",
        "end": "2026-11-20T16:00:00.000000000Z",
        "limit": None,
        "encoding": "dbn",
        "compression": None,
        "pretty_px": False,
        "pretty_ts": False,
        "map_symbols": False,
        "split_symbols": False,
        "split_duration": "day",
        "split_size": None,
        "packaging": None,
        "delivery": "download",
    }
    assert canonical_of_job(job) == form_of(BASE)
    assert canonical_of_job(job | {"symbols": ["NQ.v.0", "ES.v.0"]}) == form_of(BASE)
    whole = form_of(BASE | {"split_duration": "none", "compression": "zstd", "limit": "5"})
    assert canonical_of_job(job | {"split_duration": None, "compression": "zstd", "limit": 5}) == whole


def test_what_a_stream_does_not_know_is_refused_though_a_job_has_it() -> None:
    with pytest.raises(FormError, match="'split_duration' is not known here"):
        form_of(BASE | {"split_duration": "day"}, batch=False)


def test_one_field_cannot_say_two_things() -> None:
    with pytest.raises(FormError, match="two different values for schema"):
        form_of(BASE | {"schema_": "trades"})
    assert form_of(BASE | {"schema_": "mbo"}) == form_of(BASE)

"""What symbols stand for: the kinds that turn into one another, the days, and what was not found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from databento.common.error import BentoClientError
from databento.historical.api.symbology import SymbologyHttpAPI

from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.sandbox.historical.desk import ask, config

STYPES = ("raw_symbol", "instrument_id", "continuous", "parent")
EXAMPLES = {"raw_symbol": "NQZ6", "instrument_id": "1", "continuous": "NQ.v.0", "parent": "NQ.FUT"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(config()) as running:
        yield running


@pytest.fixture
def api(sandbox: Sandbox) -> SymbologyHttpAPI:
    return SymbologyHttpAPI(key=sandbox.key, gateway=sandbox.http_url)


def resolve(api: SymbologyHttpAPI, symbols: str | list[str], **changes: Any) -> dict[str, Any]:
    """CME symbols to instrument ids over a September with a roll in it, unless said otherwise."""
    query = {
        "dataset": "GLBX.MDP3",
        "stype_in": "continuous",
        "stype_out": "instrument_id",
        "start_date": "2026-09-01",
        "end_date": "2026-10-01",
    }
    return api.resolve(symbols=symbols, **(query | changes))


def test_a_continuous_symbol_follows_the_roll(api: SymbologyHttpAPI) -> None:
    """It stands for one contract up to the roll and for the next from then on; ids turn back into names."""
    answer = resolve(api, ["NQ.v.0", "XX.v.0"])
    first, second = answer["result"]["NQ.v.0"]
    assert (first["d0"], second["d1"]) == ("2026-09-01", "2026-10-01")
    assert first["d1"] == second["d0"]
    names = resolve(api, [first["s"], second["s"]], stype_in="instrument_id", stype_out="raw_symbol")
    assert [names["result"][symbol["s"]][0]["s"] for symbol in (first, second)] == ["NQU6", "NQZ6"]


def test_what_is_not_found_is_listed_with_200(sandbox: Sandbox, api: SymbologyHttpAPI) -> None:
    """As a symbol without intervals, and by name; a status of 2 says so, 0 that all is well."""
    answer = resolve(api, ["NQ.v.0", "XX.v.0"])
    assert answer["result"]["XX.v.0"] == []
    assert (answer["not_found"], answer["partial"]) == (["XX.v.0"], [])
    assert (answer["status"], answer["message"]) == (2, "Not found")
    assert resolve(api, ["XX.v.0"])["not_found"] == ["XX.v.0"]
    assert [resolve(api, "NQ.v.0")[name] for name in ("status", "message")] == [0, "OK"]


def test_what_is_found_on_some_days_only_is_partial(api: SymbologyHttpAPI) -> None:
    """A contract that expires within the dates."""
    answer = resolve(
        api, ["NQU6", "NQZ6"], stype_in="raw_symbol", start_date="2026-09-01", end_date="2026-11-01"
    )
    assert (answer["partial"], answer["not_found"]) == (["NQU6"], [])
    assert (answer["status"], answer["message"]) == (1, "Partially resolved")
    assert answer["result"]["NQU6"][-1]["d1"] < "2026-11-01"


def test_a_parent_and_all_symbols_stand_for_many(api: SymbologyHttpAPI) -> None:
    """Each of them by its own name where there is no other."""
    one_day = {"start_date": "2026-09-02", "end_date": "2026-09-03"}
    everything = resolve(api, "ALL_SYMBOLS", stype_in="raw_symbol", **one_day)
    assert {"NQU6", "ESU6"} <= set(everything["result"])
    assert "ALL_SYMBOLS" not in everything["result"]
    futures = resolve(api, "NQ.FUT", stype_in="parent", **one_day)["result"]
    assert len([interval for found in futures.values() for interval in found]) > 1


def test_the_answer_repeats_the_question(api: SymbologyHttpAPI) -> None:
    """Its symbols, symbologies and dates; without an end the dates are one day."""
    answer = resolve(api, ["NQ.v.0", "ES.v.0"], end_date=None)
    assert answer["symbols"] == ["NQ.v.0", "ES.v.0"]
    assert (answer["stype_in"], answer["stype_out"]) == ("continuous", "instrument_id")
    assert (answer["start_date"], answer["end_date"]) == ("2026-09-01", "2026-09-02")


# What the vendor's documentation ticks, by dataset; every other combination is refused.
ALLOWED = {
    ("GLBX.MDP3", "raw_symbol", "instrument_id"),
    ("GLBX.MDP3", "instrument_id", "instrument_id"),
    ("GLBX.MDP3", "instrument_id", "raw_symbol"),
    ("GLBX.MDP3", "continuous", "instrument_id"),
    ("GLBX.MDP3", "parent", "instrument_id"),
    ("OPRA.PILLAR", "raw_symbol", "instrument_id"),
    ("OPRA.PILLAR", "instrument_id", "instrument_id"),
    ("OPRA.PILLAR", "instrument_id", "raw_symbol"),
    ("OPRA.PILLAR", "parent", "instrument_id"),
    ("EQUS.MINI", "raw_symbol", "instrument_id"),
    ("EQUS.MINI", "instrument_id", "instrument_id"),
    ("EQUS.MINI", "instrument_id", "raw_symbol"),
}


@pytest.mark.parametrize("dataset", ["GLBX.MDP3", "OPRA.PILLAR", "EQUS.MINI"])
def test_symbologies_turn_into_one_another_as_documented(sandbox: Sandbox, dataset: str) -> None:
    """And into nothing else: 422, by name."""
    for stype_in in STYPES:
        for stype_out in STYPES:
            answer = ask(
                sandbox,
                "POST",
                "/v0/symbology.resolve",
                dataset=dataset,
                symbols=EXAMPLES[stype_in],
                stype_in=stype_in,
                stype_out=stype_out,
                start_date="2026-09-01",
            )
            if (dataset, stype_in, stype_out) in ALLOWED:
                assert answer.status == 200, answer.body
            else:
                assert answer.status == 422
                assert answer.body["detail"]["case"] == "symbology_invalid_request"


@pytest.mark.parametrize(
    ("changes", "status", "case"),
    [
        ({"end_date": "2026-09-01"}, 422, "data_date_range_start_on_or_after_end"),
        ({"start_date": "2010-06-05"}, 422, "data_start_before_available_start"),
        ({"end_date": "2026-11-22"}, 422, "dataset_unavailable_range"),
        ({"symbols": [f"A{number}.v.0" for number in range(2001)]}, 422, "symbology_invalid_request"),
        ({"symbols": "NQ"}, 400, "symbology_invalid_symbol"),
        ({"dataset": "NOPE.NOPE"}, 404, "dataset_not_found"),
    ],
)
def test_what_cannot_be_resolved_is_refused(
    api: SymbologyHttpAPI, changes: dict[str, Any], status: int, case: str
) -> None:
    """Each with the vendor's name for it."""
    symbols = changes.pop("symbols", "NQ.v.0") if "symbols" in changes else "NQ.v.0"
    with pytest.raises(BentoClientError) as caught:
        resolve(api, symbols, **changes)
    assert caught.value.http_status == status
    assert caught.value.json_body is not None
    assert caught.value.json_body["detail"]["case"] == case


def test_two_thousand_symbols_are_not_too_many(api: SymbologyHttpAPI) -> None:
    """The vendor's own limit."""
    answer = resolve(api, [f"A{number}.v.0" for number in range(2000)], end_date=None)
    assert len(answer["not_found"]) == 2000

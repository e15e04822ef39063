"""The page of proofs is what is measured: a part of it here, all of it by `python -m tests.sandbox.proof`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from budget_guard.sandbox.faults.model import KINDS
from budget_guard.sandbox.market.records import SPECS
from tests.sandbox.proof import PAGE, way_lines
from tests.sandbox.proving.faults import cases_of
from tests.sandbox.proving.outcomes import Outcome, said
from tests.sandbox.proving.ways import LIVE_WAYS, REPLAY_WAYS, Row

TEXT = PAGE.read_text(encoding="utf-8")
WAYS, _, FAULTS = TEXT.partition("## Every fault")
# Quick ones: bars, events, options, what comes once a day; a stream, a login, a download, an answer.
QUICK_SCHEMAS = ("ohlcv-1d", "status", "tcbbo", "definition", "cbbo-1m")
QUICK_FAULTS = ("close", "unknown_record", "reject_login", "break_history", "missing_price")


def rows_of(table: str, name: str) -> list[str]:
    return [line for line in table.splitlines() if line.startswith(f"| `{name}` |")]


@pytest.mark.parametrize("schema", SPECS)
def test_every_schema_is_equal_in_every_way(schema: str) -> None:
    """On the page: no row differs, and no way is left out."""
    rows = rows_of(WAYS, schema)
    assert [row for row in rows if not row.endswith("| equal |")] == []
    named = {way for row in rows for way in row.split(" | ")[1].split("; ")}
    others = {"quote", "`get_range`", "`get_range` to a file", "HTTP without compression", "batch"}
    assert named == {*LIVE_WAYS, *REPLAY_WAYS, *others}


@pytest.mark.parametrize("fault", KINDS)
def test_every_fault_was_tried(fault: str) -> None:
    """On the page: with everything that is tried with it."""
    places = [place for row in rows_of(FAULTS, fault) for place in row.split(" | ")[1].split("; ")]
    assert sorted(places) == sorted(case.where for case in cases_of(fault))


@pytest.mark.parametrize("schema", QUICK_SCHEMAS)
def test_the_ways_are_what_is_measured(schema: str) -> None:
    assert way_lines([schema])[2:] == rows_of(WAYS, schema)


def test_the_outcomes_of_faults_are_what_is_measured() -> None:
    """In a process that may fork."""
    command = [sys.executable, "-m", "tests.sandbox.proof", "--faults", ",".join(QUICK_FAULTS)]
    measured = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120, cwd=PAGE.parents[1]
    )
    expected = [row for fault in QUICK_FAULTS for row in rows_of(FAULTS, fault)]
    assert measured.stdout.splitlines()[2:] == expected


def test_a_row_is_equal_only_if_all_of_it_is() -> None:
    """One record, one byte, one byte of the bill, one of control, or one other record: each is seen."""
    row = Row("trades", ("live",), 10, 480, 10, 480, 480, 320, 320, True)
    assert row.equal
    unequal = (
        {"records": 9},
        {"size_bytes": 479},
        {"billed_bytes": 481},
        {"control_billed": 319},
        {"same": False},
    )
    assert not any(replace(row, **change).equal for change in unequal)


def test_an_outcome_counts_each_kind_of_loss() -> None:
    assert Outcome("reset", "loop", "goes on", lost=1500, doubled=3).records == "1,500 lost, 3 doubled"
    assert Outcome("delay", "loop", "goes on", lost=0, beyond=0).records == "none"
    assert Outcome("http_error", "get_cost", "raises").records == ""


def test_what_a_client_says_is_the_same_at_every_run() -> None:
    """Ports, request ids and seconds are left out."""
    error = ValueError("Request 0123456789abcdef0123456789abcdef: 127.0.0.1:4711 is silent for 16 second(s)")
    assert said(error) == "ValueError: HOST:PORT is silent for N second(s)"


def test_a_fault_without_a_case_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new fault of the language cannot be forgotten."""
    monkeypatch.setitem(KINDS, "new", replace(KINDS["price"]))
    with pytest.raises(LookupError, match="new"):
        cases_of("new")

"""The list of gaps, for people and for programs."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console

from budget_guard.backfill.model import GapList, GapRow, Price
from budget_guard.render.gaps import remarks, render_gaps, render_json, span_text
from tests.ledger.samples import gap

START = gap().start_utc


def shown(gaps: GapList) -> str:
    console = Console(width=80, file=StringIO())
    with console.capture() as capture:
        console.print(render_gaps(gaps))
    return capture.get()


def some() -> GapList:
    later = START + timedelta(hours=3)
    return GapList(
        "desk",
        "2026-11",
        (
            GapRow(gap("3f2a9c11d0e84b7f", end_utc=START + timedelta(seconds=8.9)), Price(1000, 1_700_000)),
            GapRow(
                gap("99aa", start_utc=later, end_utc=later + timedelta(days=1)), trouble="too recent: wait"
            ),
            GapRow(gap("77bb", mended="replayed")),
            GapRow(gap("55cc", mended="filled: 7 records, /data/" + 9 * "long-name-" + ".dbn.zst")),
        ),
    )


def test_a_gap_is_a_line_with_its_bounds_length_state_and_price() -> None:
    lines = shown(some()).splitlines()
    assert lines[0] == "gaps of account desk that began in 2026-11, in UTC"
    (first,) = (line.split() for line in lines if line.startswith(" 3f2a9c11 "))
    assert first[-4:] == ["8.9", "s", "open", "$0.0017"]
    assert max(map(len, lines)) <= 80
    assert f"{START:%Y-%m-%d %H:%M:%S}  {START + timedelta(seconds=8.9):%H:%M:%S}" in shown(
        GapList("desk", None, some().rows[:1])
    )


def test_a_gap_that_ends_on_another_day_says_which() -> None:
    ends = START + timedelta(hours=27)
    lines = shown(GapList("desk", None, (GapRow(gap("99aa", end_utc=ends)),))).splitlines()
    (number,) = (number for number, line in enumerate(lines) if line.startswith(" 99aa "))
    assert f"{START:%Y-%m-%d}  {ends:%Y-%m-%d}" in lines[number]
    assert lines[number + 1].split() == [f"{START:%H:%M:%S}", f"{ends:%H:%M:%S}"]


@pytest.mark.parametrize(
    "end", [timedelta(milliseconds=9), timedelta(minutes=59, seconds=59), timedelta(hours=27)]
)
def test_ids_states_lengths_and_prices_are_whole_in_80_columns(end: timedelta) -> None:
    """However small a price is and long a stream's name: dates and names are what takes another line."""
    long = gap("3f2a9c11d0e8", stream="opra-es-options", schema="cmbp-1", end_utc=START + end)
    replayed = GapRow(gap("77bb", mended="replayed"))
    lines = shown(GapList("desk", None, (GapRow(long, Price(1, 6290)), replayed))).splitlines()
    assert max(map(len, lines)) <= 80
    (first,) = (line for line in lines if line.startswith(" 3f2a9c11 "))
    assert " ".join(first.split()).endswith(f" {span_text(end)} open $0.00000629")
    bounds = {f"{START:%Y-%m-%d}", f"{START:%H:%M:%S}", f"{START + end:%Y-%m-%d}", f"{START + end:%H:%M:%S}"}
    assert bounds <= set(" ".join(lines).split())


def test_what_hinders_is_said_and_where_the_file_is_and_what_all_cost() -> None:
    assert list(remarks(some())) == [
        "99aa: too recent: wait",
        "55cc: filled: 7 records, /data/" + 9 * "long-name-" + ".dbn.zst",
        "to fill 1 gap costs $0.0017, as quoted by the vendor now",
    ]


def test_no_gap_is_said_too() -> None:
    assert shown(GapList("desk", None, ())).strip() == "no gaps of account desk"


def test_json_has_exact_figures_and_null_for_what_nobody_knows() -> None:
    found = json.loads(render_json(some()))
    assert (found["open"], found["total_usd"]) == (2, "0.0017")
    first, second = found["gaps"][:2]
    assert (first["seconds"], first["size_bytes"], first["cost_usd"]) == ("8.9", 1000, "0.0017")
    assert (second["cost_usd"], second["trouble"]) == (None, "too recent: wait")
    assert [row["state"] for row in found["gaps"]] == ["open", "open", "replayed", "filled"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.000001, "0.001 ms"),
        (0.0089, "8.9 ms"),
        (0.42, "420 ms"),
        (0.9996, "1.0 s"),
        (12.5, "12.5 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
    ],
)
def test_a_length_is_short(seconds: float, text: str) -> None:
    assert span_text(timedelta(seconds=seconds)) == text

"""Faults in a rehearsal: they last as long as they say by the market's time, none is jumped over, all are told of."""

from __future__ import annotations

from tests.rehearsal.conftest import Desk
from tests.rehearsal.programs import READ_ALL, python


def scenario(desk: Desk, *faults: str) -> list[str]:
    """The options for a scenario in the desk's folder."""
    lines = "".join(f"  - {{{fault}}}\n" for fault in faults)
    (desk.folder / "faults.yaml").write_text(f"about: Faults\nfaults:\n{lines}")
    return ["--scenario", "faults.yaml"]


def test_a_silence_holds_back_what_it_lasts_and_no_more(desk: Desk) -> None:
    """Two seconds of the market, though its minutes are played in none: what was held comes afterwards."""
    report = desk.report(*scenario(desk, "do: silence, after: 50 records, for: 2s"), program=python(READ_ALL))
    (use,) = report["uses"]
    assert use["missed_records"] == 0
    assert use["records"] > 100


def test_a_restart_costs_what_it_lasts_and_no_more(desk: Desk) -> None:
    report = desk.report(*scenario(desk, "do: gateway_restart, at: +10m, for: 2s"), program=python(READ_ALL))
    (use,) = report["uses"]
    assert use["connections"] == 2
    assert use["missed_records"] == 0

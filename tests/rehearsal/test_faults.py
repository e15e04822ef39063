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


def test_a_day_of_which_much_is_missed_is_no_ground_for_a_verdict(desk: Desk) -> None:
    """Ten minutes of records are lost, and no gap is known to anybody: the month is a lower bound, and unknown."""
    options = scenario(desk, "do: heartbeats_only, at: +10m, for: 10m", "do: reset, at: +5h")
    report = desk.report(*options, program=python(READ_ALL), code=6)
    assert report["verdict"] == "unknown"
    assert report["projection"]["lower_bound"] is True
    (missed,) = report["missed"]
    assert 0.2 < float(missed["share"]) < 0.5
    assert "a month cannot be judged from sessions of which" in report["notes"][0]
    lost, reset = report["faults"]
    # It strikes with the first record that it takes.
    assert lost["struck"] == 1 and "2026-11-23T15:10:00Z" <= lost["first_utc"] < "2026-11-23T15:20:00Z"
    assert (reset["struck"], reset["first_utc"]) == (0, None)


def test_what_was_missed_and_what_never_struck_is_said_loudly(desk: Desk) -> None:
    options = scenario(desk, "do: unpaid, at: +10m", "do: reset, at: +5h")
    done = desk.rehearse(*options, program=python(READ_ALL))
    assert done.returncode == 6
    said = " ".join(done.stderr.split())
    assert "MISSED: " in said and "% of nq, " in said and "records that the market had in the windows" in said
    assert "1 of 2 faults never struck" in said
    assert "at least $" in said


def test_a_fault_shorter_than_the_clocks_steps_strikes(desk: Desk) -> None:
    report = desk.report(*scenario(desk, "do: silence, at: +17m, for: 1s"), program=python(READ_ALL))
    (fault,) = report["faults"]
    assert (fault["struck"], fault["first_utc"]) == (1, "2026-11-23T15:17:00Z")


def test_a_bill_above_the_ledger_is_never_called_fitting(desk: Desk) -> None:
    """A price that changes under an open connection is one that the guard cannot know."""
    dear = "do: price, dataset: GLBX.MDP3, schema: trades, mode: live, usd_per_gib: 90, at: +10m"
    report = desk.report(*scenario(desk, dear), program=python(READ_ALL), code=1)
    assert report["totals"]["bill_within_ledger"] is False
    assert report["verdict"] == "unknown"
    assert "the sandbox billed more than the ledger has booked" in report["notes"]

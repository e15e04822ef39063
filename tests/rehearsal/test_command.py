"""`budget-guard rehearse`: short windows of small markets, played as a user would."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from budget_guard.cli.rehearse import command
from budget_guard.ledger.store import open_ledger
from budget_guard.sandbox import SandboxConfig, running_sandbox
from tests.rehearsal.conftest import POLICY, REAL_KEY, Desk
from tests.rehearsal.programs import CRASH, ENVIRONMENT, HISTORY, IDLE, LINGER, READ_ALL, TELL, python

ROOT = Path(__file__).parents[2]

TIMEOUT_S = 90.0


def test_a_quiet_policy_misses_nothing_and_bills_what_it_books(desk: Desk) -> None:
    """Two windows of half an hour; the clock stops at each close, so not a record is lost or bought too many."""
    report = desk.report("--days", "2", program=python(READ_ALL))
    assert report["sessions"] == ["2026-11-23", "2026-11-24"]
    assert [use["missed_records"] for use in report["uses"]] == [0, 0]
    for use in report["uses"]:
        assert (use["open_hours"], use["connected_hours"], use["reconnections"]) == ("0.5", "0.5", 0)
        assert use["records"] > 100
        assert Decimal(0) < Decimal(use["bill_usd"]) <= Decimal(use["spent_usd"])
    assert report["totals"]["bill_within_ledger"] is True
    assert report["refused"] == report["gaps"] == []
    assert [(run["exit_code"], run["ended"]) for run in report["runs"]] == [(0, "by itself")] * 2
    assert [run["end_utc"] for run in report["runs"]] == ["2026-11-23T15:30:00Z", "2026-11-24T15:30:00Z"]
    assert report["verdict"] == "fits"


def test_a_month_is_projected_from_the_sessions_played(desk: Desk) -> None:
    report = desk.report(program=python(READ_ALL))
    month = next(limit for limit in report["limits"] if limit["period"] == "month")
    # Monday to Wednesday in November 2026: five, four and four of them, no holiday among them.
    assert report["projection"] == {"month": "2026-11", "month_sessions": 13, "lower_bound": False}
    assert Decimal(month["projected"]) == 13 * Decimal(month["most"])


def test_hours_are_the_markets_hours(desk: Desk) -> None:
    """Half an hour is half an hour of a limit, though it is played in a second."""
    report = desk.report(program=python(READ_ALL))
    hours = next(limit for limit in report["limits"] if limit["unit"] == "hours")
    assert Decimal("0.4999") < Decimal(hours["most"]) <= Decimal("0.5")


def test_a_limit_that_ends_a_stream_is_in_the_report_with_its_time(desk: Desk) -> None:
    desk.policy.write_text(POLICY.replace("{hours: 4}", "{hours: 0.25}"))
    report = desk.report(program=python(READ_ALL), code=4)
    (cut,) = report["refused"]
    assert (cut["kind"], cut["stream"], cut["code"]) == ("cut", "nq", "limit_reached")
    # A connection keeps 15 s of its hours for its ending.
    assert "2026-11-23T15:14:" in cut["first_utc"]
    assert report["uses"][0]["missed_records"] > 0
    reached = {limit["unit"]: limit["reached_utc"] for limit in report["limits"]}
    assert reached["hours"] == cut["first_utc"]
    assert reached["usd"] is None
    assert report["verdict"] == "over"
    assert any("lower bound" in note for note in report["notes"])


def test_a_stream_that_may_not_even_start_is_refused_in_every_window(desk: Desk) -> None:
    desk.policy.write_text(POLICY.replace("{hours: 4}", "0.01 USD"))
    report = desk.report("--days", "2", program=python(READ_ALL), code=4)
    assert {row["session"] for row in report["refused"]} == {"2026-11-23", "2026-11-24"}
    assert {(row["kind"], row["code"]) for row in report["refused"]} == {("refused", "limit_reached")}
    assert report["totals"]["spent_usd"] == "0"


def test_a_program_that_crashes_is_started_again_at_the_next_window_only(desk: Desk) -> None:
    """What it misses meanwhile is counted."""
    report = desk.report("--days", "2", program=python(CRASH), code=3)
    assert [run["exit_code"] for run in report["runs"]] == [3, 3]
    assert all(use["missed_records"] > 100 for use in report["uses"])
    assert report["totals"]["bill_within_ledger"] is True


def test_history_is_a_row_of_its_own_beside_the_live_data(desk: Desk) -> None:
    """A download waits for nobody's clock, and one that is too dear is refused at its instant."""
    desk.policy.write_text(POLICY + "historical: {max_request: 0.002 USD}\n")
    report = desk.report(program=python(HISTORY), code=4)
    live, history = report["uses"]
    assert (history["stream"], history["mode"], history["missed_records"]) == ("nq", "historical", None)
    assert Decimal(0) < Decimal(history["bill_usd"]) <= Decimal(history["spent_usd"])
    assert live["records"] > 100
    (refused,) = report["refused"]
    assert (refused["kind"], refused["code"]) == ("refused", "would_exceed")
    assert refused["first_utc"].startswith("2026-11-23T15:00:")


def test_what_goes_wrong_in_a_scenario_is_mended_and_listed(desk: Desk) -> None:
    (desk.folder / "reset.yaml").write_text(
        "about: One reset\nfaults:\n  - {do: reset, after: 100 records}\n"
    )
    report = desk.report("--scenario", "reset.yaml", program=python(READ_ALL))
    (use,) = report["uses"]
    assert (use["connections"], use["reconnections"]) == (2, 1)
    (gap,) = report["gaps"]
    assert gap["mended"] == "replayed"
    assert report["totals"]["bill_within_ledger"] is True


def test_recorded_days_are_played_from_the_first_record_on(desk: Desk) -> None:
    """The market is what the file holds: of a window that it covers, nothing is missed."""
    with running_sandbox(SandboxConfig(records_per_session={("trades", "NQ"): 5000})) as sandbox:
        store = sandbox.historical().timeseries.get_range(
            "GLBX.MDP3",
            schema="trades",
            symbols="NQ.v.0",
            stype_in="continuous",
            start="2026-03-10T13:30",
            end="2026-03-10T15:00",
        )
        store.to_file(desk.folder / "day.dbn.zst")
    arguments = ["rehearse", str(desk.policy), "--replay", "day.dbn.zst", "--format", "json", "--"]
    done = desk.run([*arguments, *python(READ_ALL)])
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["sessions"], report["source"]) == (["2026-03-10"], "recorded (day.dbn.zst)")
    (use,) = report["uses"]
    assert use["records"] > 0 and use["missed_records"] == 0


def test_a_recording_without_the_streams_schema_is_no_ground_for_a_verdict(desk: Desk) -> None:
    """The subscription is refused: there was a connection, and nothing on it."""
    with running_sandbox(SandboxConfig(records_per_session={("mbo", "NQ"): 5000})) as sandbox:
        store = sandbox.historical().timeseries.get_range(
            "GLBX.MDP3",
            schema="mbo",
            symbols="NQ.v.0",
            stype_in="continuous",
            start="2026-03-10T13:30",
            end="2026-03-10T15:00",
        )
        store.to_file(desk.folder / "day.dbn.zst")
    arguments = ["rehearse", str(desk.policy), "--replay", "day.dbn.zst", "--format", "json", "--"]
    done = desk.run([*arguments, *python(READ_ALL)])
    report = json.loads(done.stdout)
    assert report["verdict"] == "unknown"
    assert "no data was delivered" in report["notes"]
    assert report["synthetic"] is False and report["seed"] is None
    assert report["runs"][0]["connected"] is True
    assert done.returncode == 6


def test_a_day_without_a_session_is_said_to_be_none(desk: Desk) -> None:
    arguments = ["rehearse", str(desk.policy), "--from", "2026-11-21", "--", *python(IDLE)]
    done = desk.run(arguments)
    assert "no window opens on 2026-11-21: the first session played is 2026-11-23" in done.stderr


def test_the_example_strategy_runs_unchanged(desk: Desk) -> None:
    """With the vendor's own client, which knows of nothing."""
    desk.policy.write_text(POLICY.replace("schema: trades", "schema: mbo"))
    done = desk.rehearse(program=[sys.executable, str(ROOT / "docs" / "examples" / "my_strategy.py")])
    assert done.returncode == 0, done.stderr
    assert " trades made " in done.stdout


def test_the_page_names_every_option() -> None:
    page = (ROOT / "docs" / "rehearsal.md").read_text(encoding="utf-8")
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    assert [name for name in sorted(options) if name not in page] == []


def test_a_program_that_does_not_end_is_ended_at_the_close(desk: Desk) -> None:
    report = desk.report("--days", "1", "--patience", "0.5", program=python(LINGER))
    (run,) = report["runs"]
    assert run["ended"] == "at the close"
    assert report["uses"][0]["missed_records"] == 0


def test_a_program_that_never_connects_is_said_so(desk: Desk) -> None:
    report = desk.report(program=python(IDLE), code=6)
    assert report["runs"][0]["connected"] is False
    assert report["verdict"] == "unknown"


def test_how_far_it_has_come_is_said_now_and_then(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budget_guard.cli.rehearse._LINE_EVERY_S", 0.0)
    monkeypatch.setattr("budget_guard.rehearsal.play.SHOW_S", 0.0)
    done = desk.rehearse(program=python(READ_ALL))
    assert "budget-guard: 2026-11-23: 15:" in done.stderr
    assert " of 15:30 UTC, " in done.stderr


def test_the_programs_output_stays_its_own_and_the_report_is_beside_it(desk: Desk) -> None:
    done = desk.rehearse(program=python(READ_ALL))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("read ")
    assert len(done.stdout.splitlines()) == 1
    assert "by session and stream" in done.stderr
    assert "all data is synthetic" in done.stderr


def test_the_program_sees_neither_the_real_key_nor_the_real_ledger(desk: Desk) -> None:
    done = desk.rehearse(program=python(ENVIRONMENT))
    environment = json.loads(done.stdout)
    assert REAL_KEY not in done.stdout + done.stderr
    assert environment["DATABENTO_API_KEY"]
    assert environment["BUDGET_GUARD_RELAY"].startswith("127.0.0.1:")
    assert "BUDGET_GUARD_LEDGER" not in environment
    assert not (desk.folder / "real.sqlite").exists()


def test_report_and_ledger_are_kept_on_request(desk: Desk) -> None:
    done = desk.rehearse("--output", "out", program=python(READ_ALL))
    assert done.returncode == 0, done.stderr
    kept = {path.name for path in (desk.folder / "out").iterdir()}
    assert kept == {"rehearsal-short.md", "rehearsal-short.json", "rehearsal-short.sqlite"}
    with closing(open_ledger(f"sqlite:///{desk.folder}/out/rehearsal-short.sqlite")) as ledger:
        assert len(ledger.entries("desk", "2026-11")) == 1
        assert ledger.is_rehearsal()
    assert "| 2026-11-23 | nq | 0 h 30 |" in (desk.folder / "out" / "rehearsal-short.md").read_text()


def test_an_interrupted_rehearsal_reports_what_it_played(desk: Desk) -> None:
    arguments = [
        "rehearse",
        str(desk.policy),
        "--from",
        "2026-11-23",
        "--days",
        "3",
        "--format",
        "json",
        "--",
    ]
    running = subprocess.Popen(
        [sys.executable, "-m", "budget_guard", *arguments, *python(TELL)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("ready"):
            break
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 130, err
    report = json.loads(out)
    assert report["interrupted"] is True
    assert report["runs"][0]["ended"] == "interrupted"
    assert (report["planned_sessions"], len(report["sessions"])) == (3, 1)
    # A part of a day is no day: nothing is projected from it.
    assert report["verdict"] == "unknown"
    assert [limit["projected"] for limit in report["limits"]] == [None, None]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--days", "0"], "0 is not in the range"),
        (["--from", "tomorrow"], "write it as 2026-11-23"),
        (["--stream", "es"], "no stream 'es' in the policy; it has nq"),
    ],
)
def test_a_wrong_option_is_explained(desk: Desk, options: list[str], says: str) -> None:
    done = desk.rehearse(*options, program=python(IDLE))
    assert done.returncode == 2
    assert says in done.stderr


def test_a_policy_with_problems_is_not_rehearsed(desk: Desk) -> None:
    desk.policy.write_text(POLICY.replace("schema: trades", "schema: trdes"))
    done = desk.rehearse(program=python(IDLE))
    assert done.returncode == 2
    assert "policy.yaml:10:13:" in done.stderr
    assert done.stdout == ""


def test_a_program_that_is_not_there_is_said_so(desk: Desk) -> None:
    done = desk.rehearse(program=["no-such-program"])
    assert done.returncode == 2
    assert "cannot run no-such-program" in done.stderr


def test_a_policy_without_live_streams_has_nothing_to_rehearse(desk: Desk) -> None:
    history = POLICY.replace("stype_in: continuous\n", "stype_in: continuous\n    mode: historical\n")
    desk.policy.write_text(
        history.replace('    windows: {hours: "10:00-10:30", days: [mon, tue, wed]}\n', "")
    )
    done = desk.rehearse(program=python(IDLE))
    assert done.returncode == 2
    assert "no live stream" in done.stderr

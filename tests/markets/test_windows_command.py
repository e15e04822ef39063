from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from budget_guard.cli.windows import command

POLICY = """
version: 1
name: nq-futures
timezone: America/New_York
budgets:
  - name: account
    month: 200 USD
streams:
  nq-mbo:
    dataset: GLBX.MDP3
    schema: mbo
    symbols: [NQ.v.0]
    stype_in: continuous
    windows:
      - {session: regular, from: open - 5m, to: close + 5m}
  qqq:
    dataset: XNAS.ITCH
    schema: trades
    symbols: [QQQ]
    windows:
      - {session: extended}
"""


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A policy file, and a clock that rehearses the Monday of Thanksgiving week."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("BUDGET_GUARD_LIVE_GATEWAY", "127.0.0.1:13000")
    monkeypatch.setenv("BUDGET_GUARD_NOW", "2026-11-23T14:00:00Z")
    monkeypatch.delenv("BUDGET_GUARD_HISTORICAL_GATEWAY", raising=False)
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(command, list(arguments))


def test_json_is_the_stable_shape_alone_on_stdout(policy: str) -> None:
    done = run(policy, "--from", "2026-11-26", "--to", "2026-11-27", "--format", "json")
    assert done.stderr == ""
    assert json.loads(done.stdout) == [
        {
            "stream": "nq-mbo",
            "session": "2026-11-27",
            "open_utc": "2026-11-27T14:25:00Z",
            "close_utc": "2026-11-27T18:15:00Z",
            "notes": ["early close 12:15 CT (day after Thanksgiving)"],
        },
        {
            "stream": "qqq",
            "session": "2026-11-27",
            "open_utc": "2026-11-27T09:00:00Z",
            "close_utc": "2026-11-27T22:00:00Z",
            "notes": ["early close 13:00 ET (day after Thanksgiving)"],
        },
    ]


def test_the_default_is_today_and_the_six_days_after_it(policy: str) -> None:
    rows = json.loads(run(policy, "--stream", "qqq", "--format", "json").stdout)
    assert [date.fromisoformat(row["session"]).day for row in rows] == [23, 24, 25, 27]


def test_the_table_tells_why_a_weekday_has_no_window(policy: str) -> None:
    table = run(policy).stdout
    assert "Thu 2026-11-26" in table
    assert "no regular hours; early close 12:00 CT (Thanksgiving)" in table
    assert "closed: Thanksgiving" in table


def test_the_table_shows_both_clocks_and_the_sum(policy: str) -> None:
    lines = run(policy, "--stream", "nq-mbo", "--to", "2026-11-24").stdout.splitlines()
    assert lines[0].strip() == "nq-mbo: GLBX.MDP3 mbo, hours of cme-equity-index"
    assert any(line.split() == ["session", "America/New_York", "UTC", "hours", "notes"] for line in lines)
    assert any(line.split() == ["Mon", "2026-11-23", "09:25-16:05", "14:25-21:05", "6:40"] for line in lines)
    assert any(line.split() == ["2", "windows", "13:20"] for line in lines)


def test_the_table_keeps_dates_and_times_whole_on_a_narrow_terminal(policy: str) -> None:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(command, [policy])
    assert "Mon 09:00-Tue 01:00" in done.stdout
    assert "…" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--stream", "nq-mb"), "no stream 'nq-mb'; did you mean 'nq-mbo'?"),
        (("--from", "2026-11-30", "--to", "2026-11-23"), "--to 2026-11-23 is before --from 2026-11-30"),
        (("--from", "30.11.2026"), "does not match the format"),
    ],
)
def test_wrong_usage_says_what_was_wrong(policy: str, arguments: tuple[str, ...], message: str) -> None:
    done = run(policy, *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_dates_that_nobody_checked_are_an_error_and_not_a_guess(policy: str) -> None:
    done = run(policy, "--from", "2027-12-30", "--to", "2028-01-05")
    assert "2028-01-05" in str(done.exception)
    assert done.stdout == ""


def test_the_picture_shows_the_whole_month(policy: str) -> None:
    lines = run(policy, "--stream", "nq-mbo").stdout.splitlines()
    assert lines[2].strip() == "November 2026"
    assert lines[8].rstrip() == "23#   24#   25#   26-   27/   28 r  29"
    assert lines[-1].startswith(
        "# open  / open, short session  - no window  ~ clocks change  r gateways restart"
    )


def test_a_calendar_file_is_alone_on_stdout(policy: str) -> None:
    done = run(policy, "--format", "ics")
    assert done.stderr == ""
    assert done.stdout_bytes.startswith(b"BEGIN:VCALENDAR\r\n")
    assert done.stdout_bytes.endswith(b"END:VCALENDAR\r\n")
    assert done.stdout_bytes.count(b"BEGIN:VEVENT") == 8
    assert b"DTSTAMP:20261123T1400" in done.stdout_bytes


def test_the_calendar_library_for_files_is_not_needed_for_the_table() -> None:
    ask = "import sys; import budget_guard.cli.windows; print('icalendar' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"

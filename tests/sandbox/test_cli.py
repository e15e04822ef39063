"""`budget-guard sandbox` as a child process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from budget_guard.cli.sandbox import command
from budget_guard.sandbox.config import SandboxConfig
from tests.sandbox.bare_client import NQ_MBO, BareClient

COMMAND = [sys.executable, "-c", "from budget_guard.cli import main; main()", "sandbox"]
EPHEMERAL = ["--live-port", "0", "--http-port", "0"]


@contextmanager
def child(*options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *EPHEMERAL, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_and_ends_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    """One JSON line when it is ready; a signal ends it with code 0 and a whole bill on disk."""
    path = tmp_path / "bill.json"
    with child("--format", "json", "--now", "2026-11-23T14:30:00Z", "--bill", str(path)) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        bill = json.load(urllib.request.urlopen(f"{facts['http_url']}/bill"))
        assert bill["at_utc"].startswith("2026-11-23T14:30:")
        assert facts["live_port"] != facts["http_port"]
        assert facts["synthetic"] is True
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, "")
        assert "billed 0 bytes" in err
    assert json.loads(path.read_text())["connections"] == []


def test_the_bill_on_disk_survives_a_kill(tmp_path: Path) -> None:
    """Killed in mid-stream, the sandbox leaves a whole bill of a moment ago."""
    path = tmp_path / "bill.json"
    with child("--format", "json", "--bill", str(path)) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        with BareClient(facts["live_port"], NQ_MBO, key=facts["key"]) as client:
            client.start()
            while json.loads(path.read_text())["bytes"] == 0:
                client.record()
            process.kill()
            process.wait(timeout=20)
    bill = json.loads(path.read_text())
    assert bill["connections"][0]["schemas"]["mbo"]["usd_per_gib"] == "2.16"
    left = sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("."))
    assert left == ["bill.json", "bill.json.counters", "bill.json.journal"]


def test_people_get_the_lines_to_copy() -> None:
    """The environment that points the guard at it."""
    with child("--key", "db-mine-12345") as process:
        assert process.stdout is not None
        text = "".join(process.stdout.readline() for _ in range(5))
        process.terminate()
        process.communicate(timeout=20)
    assert "DATABENTO_API_KEY=db-mine-12345" in text
    assert "BUDGET_GUARD_LIVE_GATEWAY=127.0.0.1:" in text
    assert "BUDGET_GUARD_HISTORICAL_GATEWAY=http://127.0.0.1:" in text


def test_a_scenario_sets_it_up_and_the_command_line_goes_first(tmp_path: Path) -> None:
    """The scenario's key, fault and clock; the instant that is given beside it."""
    path = tmp_path / "scenario.yaml"
    path.write_text(
        "now: 2026-11-23T14:30:00Z\nkeys: [db-mine-12345]\nfaults: [{do: reject_login, text: No.}]\n"
    )
    options = ("--scenario", str(path), "--now", "2026-12-01T12:00:00Z", "--format", "json")
    with child(*options) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        with BareClient(facts["live_port"], key="db-mine-12345") as client:
            assert client.reply == "success=0|error=No."
        process.terminate()
        process.communicate(timeout=20)
    assert facts["key"] == "db-mine-12345"
    assert facts["now_utc"].startswith("2026-12-01T12:00:")


def test_bundled_scenarios_are_listed() -> None:
    """By name, with what each says of itself."""
    result = CliRunner().invoke(command, ["--scenario", "list"])
    assert result.exit_code == 0
    assert "stormy-day      A live feed on a bad day" in result.output


def test_mistakes_in_a_scenario_are_told_with_their_places(tmp_path: Path) -> None:
    """All of them, as a usage error."""
    path = tmp_path / "scenario.yaml"
    path.write_text("sede: 3\nfaults:\n  - do: silense\n")
    result = CliRunner().invoke(command, ["--scenario", str(path)])
    assert result.exit_code != 0
    assert "scenario.yaml:1:1: sede is not known here" in result.output
    assert (
        "scenario.yaml:3:9: faults[0].do: silense is not known here; did you mean silence?" in result.output
    )


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--scenario", "nope"], "give a file, or one of"),
        (["--rate", "fast"], "'fast' should be records/s"),
        (["--rate", "3000000"], "rate is 3000000"),
        (["--slot-ms", "3"], "slot_ms is 3"),
        (["--now", "2026-11-23T14:30"], "has no time zone"),
        (["--now", "yesterday"], "'yesterday' is no instant: write it as 2026-11-23T14:30:00Z"),
        (["--live", "GLBX"], "live names GLBX, which is not on offer; did you mean GLBX.MDP3?"),
        (["--scenario", "stormyday"], "did you mean stormy-day?"),
        (["--key", "a|b"], "without '|'"),
        (["--host", "203.0.113.1"], "cannot run the sandbox"),
    ],
)
def test_what_cannot_be_is_explained(options: list[str], error: str) -> None:
    """Wrong options are named, with what would be right."""
    result = CliRunner().invoke(command, [*EPHEMERAL, *options])
    assert result.exit_code != 0
    assert error in result.output


def test_a_send_buffer_beyond_what_is_assumed_is_refused() -> None:
    """The vendor's queue is assumed to be at most 4 MiB; the sandbox's may not be more."""
    with pytest.raises(ValueError, match="at most 4 MiB"):
        SandboxConfig(send_buffer_bytes=2**22 + 1)

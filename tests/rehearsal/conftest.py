"""What the tests of `budget-guard rehearse` share: a folder, a policy with short windows, and the command in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from budget_guard.cli import main

REAL_KEY = "db-the-real-key-of-a-real-account"

# A few thousand trades a session, of which the windows see half an hour.
POLICY = """\
version: 1
name: short
timezone: America/New_York
account: {name: desk}
budgets:
  - {name: account, month: 200 USD, session: {hours: 4}}
streams:
  nq:
    dataset: GLBX.MDP3
    schema: trades
    symbols: [NQ.v.0]
    stype_in: continuous
    windows: {hours: "10:00-10:30", days: [mon, tue, wed]}
    volume: {gib_per_session: 0.001}
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calendars, worked out once."""
    return tmp_path_factory.mktemp("cache")


@dataclass
class Done:
    """How a command ended, and what it and its program said."""

    returncode: int
    stdout: str
    stderr: str


class Desk:
    """A folder with a policy, and the command in it: in this process, which has everything imported already."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.policy = folder / "policy.yaml"
        self.policy.write_text(POLICY)
        self._capture = capture

    def rehearse(self, *options: str, program: list[str]) -> Done:
        """The command with its output, the first session being that of a Monday."""
        arguments = ["rehearse", str(self.policy), "--from", "2026-11-23", *options, "--", *program]
        return self.run(arguments)

    def run(self, arguments: list[str]) -> Done:
        self._capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = self._capture.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    def report(self, *options: str, program: list[str], code: int = 0) -> dict[str, Any]:
        done = self.rehearse("--format", "json", *options, program=program)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def desk(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Desk:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(cache),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "DATABENTO_API_KEY": REAL_KEY,
        "MY_COPY": f"key={REAL_KEY}",
        "BUDGET_GUARD_LEDGER": f"sqlite:///{tmp_path}/real.sqlite",
    }.items():
        monkeypatch.setenv(name, value)
    return Desk(tmp_path, capfd)

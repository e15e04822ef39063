"""A sandbox as the vendor, and the environment in which a command or a program meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from budget_guard.clock import RehearsalClock, instant_text
from budget_guard.ledger.model import Entry, Hold, Ledger
from budget_guard.ledger.store import open_ledger
from budget_guard.policy.loading import parse_document
from budget_guard.policy.model import Policy
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.server import Sandbox, running_sandbox

# A Monday, ten in New York: inside the regular session.
NOW = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
TIMEOUT_S = 60.0

POLICY = """\
version: 1
name: rehearsal
timezone: America/New_York
account: {name: desk}
budgets:
  - {name: account, month: 200 USD}
streams:
  nq:
    dataset: GLBX.MDP3
    schema: mbo
    symbols: [NQ.v.0]
    stype_in: continuous
    windows: {session: regular}
historical: {max_request: 5 USD, approve_above: 0 USD}
"""


@dataclass
class Rehearsal:
    """A sandbox and a folder with a policy, a ledger and caches of its own."""

    sandbox: Sandbox
    folder: Path
    now: datetime = NOW

    @property
    def policy(self) -> Path:
        return self.folder / "policy.yaml"

    @property
    def ledger_url(self) -> str:
        return f"sqlite:///{self.folder}/data/ledger.sqlite"

    def env(self, **changes: str | None) -> dict[str, str]:
        """The environment for a command; a change of None leaves a variable out."""
        kept = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "COVERAGE_PROCESS_START")
        variables: dict[str, str | None] = {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "HOME": str(self.folder),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "XDG_CACHE_HOME": str(self.folder.parent / "cache"),
            "DATABENTO_API_KEY": self.sandbox.key,
            "BUDGET_GUARD_LEDGER": self.ledger_url,
            "BUDGET_GUARD_LIVE_GATEWAY": f"127.0.0.1:{self.sandbox.live_port}",
            "BUDGET_GUARD_HISTORICAL_GATEWAY": self.sandbox.http_url,
            "BUDGET_GUARD_NOW": instant_text(self.now),
            **changes,
        }
        return {name: value for name, value in variables.items() if value is not None}

    def guard(
        self, *arguments: str, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """`budget-guard ARGUMENTS`, run to its end."""
        command = [sys.executable, "-m", "budget_guard", *arguments]
        chosen = self.env() if env is None else dict(env)
        return subprocess.run(
            command, capture_output=True, text=True, env=chosen, timeout=TIMEOUT_S, cwd=self.folder, **options
        )

    def run(
        self, command: Sequence[str], *options: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`budget-guard run POLICY OPTIONS -- COMMAND`."""
        return self.guard("run", str(self.policy), *options, "--", *command, env=env)

    def start(self, command: Sequence[str], *options: str, **popen: Any) -> subprocess.Popen[str]:
        """The same, running on; both outputs are pipes."""
        arguments = [sys.executable, "-m", "budget_guard", "run", str(self.policy), *options, "--", *command]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
        return subprocess.Popen(arguments, text=True, env=self.env(), cwd=self.folder, **pipes)

    def python(
        self, code: str, *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """A Python program of its own, in this environment."""
        chosen = self.env() if env is None else dict(env)
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=chosen,
            timeout=TIMEOUT_S,
            cwd=self.folder,
            **options,
        )

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        opened = open_ledger(self.ledger_url)
        try:
            yield opened
        finally:
            opened.close()

    def entries(self) -> list[Entry]:
        with self.ledger() as ledger:
            return ledger.entries("desk", "2026-11")

    def open_holds(self) -> list[Hold]:
        with self.ledger() as ledger:
            return ledger.open_holds()


@contextmanager
def rehearsing(folder: Path, policy: str = POLICY, **sandbox: Any) -> Iterator[Rehearsal]:
    """A rehearsal in a folder of its own; `sandbox` sets up the vendor's side."""
    sandbox.setdefault("limits", Limits.none())
    with running_sandbox(SandboxConfig(clock=RehearsalClock(NOW), **sandbox)) as vendor:
        rehearsal = Rehearsal(vendor, folder)
        rehearsal.policy.write_text(policy)
        yield rehearsal


def read_policy(text: str = POLICY) -> Policy:
    policy = parse_document(text).policy
    assert policy is not None
    return policy


@contextmanager
def ready(rehearsal: Rehearsal, command: Sequence[str], *options: str) -> Iterator[subprocess.Popen[str]]:
    """`run` with a program that has said `ready`."""
    process = rehearsal.start(command, *options, start_new_session=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()

"""A local Databento in a process of its own, and the environment in which programs meet it, guarded or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from budget_guard.clock import instant_text

# A Tuesday, half past nine in Chicago.
NOW = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)

POLICY = """\
version: 1
name: bench
timezone: UTC
account: {{name: bench, billing: {{GLBX.MDP3: {{connections: unlimited}}}}}}
budgets:
  - {{name: account, month: {month_usd} USD}}
streams:
"""
STREAM = """\
  nq-{schema}:
    dataset: GLBX.MDP3
    schema: {schema}
    symbols: [NQ.v.0]
    stype_in: continuous
    windows: always
"""


@dataclass(frozen=True, slots=True)
class Vendor:
    """A running sandbox."""

    process: subprocess.Popen[str]
    key: str
    live_gateway: str
    http_url: str

    def bill(self) -> dict[str, Any]:
        """What it has billed so far."""
        with urllib.request.urlopen(f"{self.http_url}/bill", timeout=20) as answer:
            bill: dict[str, Any] = json.load(answer)
        return bill


@contextmanager
def running_vendor(
    rate: int = 0, host: str = "127.0.0.1", now: datetime | None = NOW, slot_ms: int = 10
) -> Iterator[Vendor]:
    """A sandbox as a child process; `rate` 0 sends as fast as it is read, `now` None is the machine's own time."""
    command = [sys.executable, "-m", "budget_guard", "sandbox", "--live-port", "0", "--http-port", "0"]
    command += ["--host", host, "--rate", str(rate), "--slot-ms", str(slot_ms), "--format", "json"]
    command += [] if now is None else ["--now", instant_text(now)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        facts = json.loads(process.stdout.readline())
        yield Vendor(process, facts["key"], facts["live_gateway"], facts["http_url"])
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder with a policy, and with a ledger and caches of its own."""

    vendor: Vendor
    folder: Path

    @classmethod
    def set_up(cls, vendor: Vendor, folder: Path, month_usd: str, schemas: Sequence[str] = ("mbo",)) -> Desk:
        folder.mkdir(parents=True, exist_ok=True)
        desk = cls(vendor, folder)
        streams = "".join(STREAM.format(schema=schema) for schema in schemas)
        desk.policy.write_text(POLICY.format(month_usd=month_usd) + streams)
        return desk

    @property
    def policy(self) -> Path:
        return self.folder / "policy.yaml"

    @property
    def ledger_url(self) -> str:
        return f"sqlite:///{self.folder}/ledger.sqlite"

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "XDG_DATA_HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder.parent / "cache"),
            "DATABENTO_API_KEY": self.vendor.key,
            "BUDGET_GUARD_LEDGER": self.ledger_url,
            "BUDGET_GUARD_LIVE_GATEWAY": self.vendor.live_gateway,
            "BUDGET_GUARD_HISTORICAL_GATEWAY": self.vendor.http_url,
            "BUDGET_GUARD_NOW": instant_text(NOW),
        }

    def start(self, program: list[str], *, guarded: bool) -> subprocess.Popen[str]:
        """A program, behind `budget-guard run` or as it is; its stdout is a pipe."""
        guard = [sys.executable, "-m", "budget_guard", "run", str(self.policy), "--"] if guarded else []
        return subprocess.Popen(
            [*guard, *program],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def children(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    with suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        return [int(child) for task in tasks for child in task.read_text().split()]
    return []

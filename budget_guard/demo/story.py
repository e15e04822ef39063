"""The demonstration: the real commands against a local Databento, and three figures that have to agree.

The plan, the stream, the requests and the review are the commands that a user would type, run as processes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from budget_guard.clock import RehearsalClock, instant_text, month_of
from budget_guard.ledger.model import Entry, Ledger
from budget_guard.ledger.store import open_ledger
from budget_guard.money import decimal_text, usd_from_nano
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.server import Sandbox, running_sandbox

HERE = Path(__file__).parent
# A Monday morning in New York, inside the regular session.
STARTS_UTC = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
RATE = 100_000
LIMIT_USD = Decimal("0.06")  # `live-session` in policy.yaml
ACCOUNT = "demo"


@dataclass(frozen=True, slots=True)
class Figures:
    """What the sandbox billed for live data, what the ledger says, and what the policy allows, in USD."""

    bill_usd: Decimal
    ledger_usd: Decimal
    limit_usd: Decimal
    bill_all_usd: Decimal
    ledger_all_usd: Decimal

    @property
    def hold(self) -> bool:
        """Vendor's bill <= ledger <= limit."""
        return (
            Decimal(0) < self.bill_usd <= self.ledger_usd <= self.limit_usd
            and self.bill_all_usd <= self.ledger_all_usd
        )


class DemoFailed(Exception):
    """A step did not end as it should."""


def tell(output: Path, say: Callable[[str], None]) -> Figures:
    """Run the demonstration and leave its reports in `output`. Raises DemoFailed."""
    output.mkdir(parents=True, exist_ok=True)
    clock = RehearsalClock(STARTS_UTC)
    config = SandboxConfig(clock=clock, rate=RATE)
    with (
        tempfile.TemporaryDirectory(prefix="budget-guard-demo-") as folder,
        running_sandbox(config) as sandbox,
    ):
        home = Path(folder)
        policy = home / "policy.yaml"
        shutil.copyfile(HERE / "policy.yaml", policy)
        stage = _Stage(home, sandbox, clock, say)
        _play(stage, policy, output)
        return _figures(stage.ledger_url, sandbox.bill())


def _play(stage: _Stage, policy: Path, output: Path) -> None:
    month = month_of(STARTS_UTC)
    stage.heading("What would this policy cost in a month?")
    stage.command(["plan", str(policy), "--month", month, "--output", str(output)])
    stage.heading("A program streams behind the guard, unchanged, until a session limit of $0.06 ends it")
    stage.command(["run", str(policy), "--", sys.executable, str(HERE / "stream.py")], code=4)
    stage.heading("Another asks for history: a minute is bought, a month is refused")
    stage.command(["run", str(policy), "--", sys.executable, str(HERE / "history.py")], code=4)
    stage.heading("What is left?")
    stage.command(["status", str(policy)])
    stage.heading("The month in review")
    stage.command(["review", str(policy), "--month", month, "--output", str(output)])


class _Stage:
    """Where the commands run: a home, a ledger and a clock of their own."""

    def __init__(
        self, home: Path, sandbox: Sandbox, clock: RehearsalClock, say: Callable[[str], None]
    ) -> None:
        self._sandbox = sandbox
        self._clock = clock
        self._say = say
        self._home = home
        self.ledger_url = f"sqlite:///{home / 'ledger.sqlite'}"

    def heading(self, text: str) -> None:
        self._say(f"\n== {text}")

    def command(self, arguments: Sequence[str], *, code: int = 0) -> None:
        """Run a budget-guard command. Raises DemoFailed when it does not end with `code`."""
        shown = " ".join(Path(word).name if word.startswith("/") else word for word in arguments)
        self._say(f"$ budget-guard {shown}\n")
        ended = subprocess.run(
            [sys.executable, "-m", "budget_guard", *arguments], env=self._environment(), check=False
        )
        if ended.returncode != code:
            raise DemoFailed(f"budget-guard {shown} ended with {ended.returncode}, not {code}")

    def _environment(self) -> Mapping[str, str]:
        """The guard before the sandbox, on its clock, and nothing of the user's own."""
        kept = {name: os.environ[name] for name in ("PATH", "TERM", "COLUMNS", "LANG") if name in os.environ}
        return kept | {
            "HOME": str(self._home),
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            "PYTHONWARNINGS": "ignore",
            "DATABENTO_API_KEY": self._sandbox.key,
            "BUDGET_GUARD_LEDGER": self.ledger_url,
            "BUDGET_GUARD_LIVE_GATEWAY": f"127.0.0.1:{self._sandbox.live_port}",
            "BUDGET_GUARD_HISTORICAL_GATEWAY": self._sandbox.http_url,
            "BUDGET_GUARD_NOW": instant_text(self._clock.now()),
        }


def _figures(ledger_url: str, bill: Mapping[str, Any]) -> Figures:
    ledger = open_ledger(ledger_url)
    try:
        entries = ledger.entries(ACCOUNT, month_of(STARTS_UTC))
        _require_closed(ledger)
    finally:
        ledger.close()
    live = [row for row in bill["by_usage"] if row["mode"] == "live"]
    return Figures(
        bill_usd=sum((Decimal(row["cost_usd"]) for row in live), Decimal(0)),
        ledger_usd=_booked_usd([entry for entry in entries if entry.mode == "live"]),
        limit_usd=LIMIT_USD,
        bill_all_usd=Decimal(bill["cost_usd"]),
        ledger_all_usd=_booked_usd(entries),
    )


def _require_closed(ledger: Ledger) -> None:
    if ledger.open_holds(ACCOUNT):
        raise DemoFailed("a hold was left open")


def _booked_usd(entries: list[Entry]) -> Decimal:
    return usd_from_nano(sum(entry.cost_nano_usd + entry.residual_nano_usd for entry in entries))


def figures_json(figures: Figures) -> str:
    """The figures as the report keeps them."""
    return json.dumps(
        {
            "synthetic": True,
            "live": {
                "bill_usd": decimal_text(figures.bill_usd),
                "ledger_usd": decimal_text(figures.ledger_usd),
                "limit_usd": decimal_text(figures.limit_usd),
            },
            "all": {
                "bill_usd": decimal_text(figures.bill_all_usd),
                "ledger_usd": decimal_text(figures.ledger_all_usd),
            },
            "hold": figures.hold,
        },
        indent=2,
    )

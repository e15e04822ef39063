"""Ctrl-C in the middle of a plan: the program ends at once with 130, and what was answered is not asked again."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from budget_guard.clock import RehearsalClock, parse_instant
from budget_guard.planning.plan import plan
from budget_guard.vendor.cache import MetadataCache
from budget_guard.vendor.client import WORKERS, VendorClient
from tests.planning.desk import policy, stream
from tests.vendor.server import Answer, Asked, PlayedServer, played_server

KEY = "db-TestTestTestTestTestTestTest1"
NOW = "2026-11-22T12:00:00Z"
ANSWERED = 5
POLICY = """version: 1
name: p
timezone: America/New_York
budgets: [{name: b, month: 200 USD}]
streams:
  nq-mbo: {dataset: GLBX.MDP3, schema: mbo, symbols: NQ.v.0, stype_in: continuous, windows: {session: regular}}
"""
# The parent may ignore SIGINT, which a child inherits; a program on a terminal does not.
PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from budget_guard.cli import main; main(['plan', {path!r}, '--month', '2026-12'])"
)


class Vendor:
    """Answers prices, the range and a few sizes; then it stops answering until it is told to go on."""

    def __init__(self) -> None:
        self.stuck = threading.Event()
        self.go_on = threading.Event()
        self._lock = threading.Lock()
        self._sizes = 0
        self._waiting = 0

    def __call__(self, asked: Asked) -> Answer:
        if asked.call == "list_unit_prices":
            return Answer([{"mode": "live", "unit_prices": {"mbo": 2.16}}])
        if asked.call == "get_dataset_range":
            return Answer({"start": "2010-06-06T00:00:00Z", "end": "2026-11-22T00:00:00Z"})
        with self._lock:
            self._sizes += 1
            answered = self._sizes <= ANSWERED
            self._waiting += not answered
            if self._waiting == WORKERS:
                self.stuck.set()
        if not answered:
            self.go_on.wait(60)
        return Answer(1000)


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    made = Vendor()
    yield made
    made.go_on.set()


def environment(url: str, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "DATABENTO_API_KEY": KEY,
        "BUDGET_GUARD_HISTORICAL_GATEWAY": url,
        "BUDGET_GUARD_NOW": NOW,
        "XDG_CACHE_HOME": str(folder),
    }


def sizes_asked(server: PlayedServer) -> list[str]:
    return [asked.params["start"] for asked in server.asked if asked.call == "get_billable_size"]


def test_an_interrupted_plan_keeps_what_it_has(tmp_path: Path, vendor: Vendor) -> None:
    """130 while eight requests hang; the cache is whole and holds the answers; the next plan asks only for the rest."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY, encoding="utf-8")
    with played_server(vendor) as server:
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(path=str(path))],
            env=environment(server.url, tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert vendor.stuck.wait(60)
            program.send_signal(signal.SIGINT)
            out, err = program.communicate(timeout=15)
        finally:
            program.kill()
        assert (program.returncode, out, err.strip()) == (130, "", "interrupted")

        cache_path = tmp_path / "budget-guard" / "metadata.sqlite"
        with closing(sqlite3.connect(cache_path)) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert raw.execute("SELECT count(*) FROM answers").fetchone() == (ANSWERED + 2,)

        vendor.go_on.set()
        server.asked.clear()
        cache, clock = MetadataCache(cache_path), RehearsalClock(parse_instant(NOW))
        client = VendorClient(KEY, server.url, cache=cache, clock=clock)
        result = plan(policy(stream()), "2026-12", now=parse_instant(NOW), vendor=client)
        cache.close()
        assert result.total is not None
        samples = 2 * 10  # ordinary days and early closes
        assert len(sizes_asked(server)) == samples - ANSWERED

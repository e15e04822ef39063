"""How every test runs, and a ledger and a sandbox for those that want one.

Properties are never failed for a slow machine, and the CI runs the same examples each time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from budget_guard.ledger.store import SqlLedger, open_ledger
from tests.streaming.rehearsal import Rehearsal, rehearsing

settings.register_profile(
    "steady",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
settings.load_profile("steady")

# A shell starts what runs in its background with some of these ignored, `nohup` does with the last, and every program
# under test would inherit that.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of a ledger in a file of the test's own."""
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def ledger(url: str) -> Iterator[SqlLedger]:
    opened = open_ledger(url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """One sandbox for a module."""
    with rehearsing(tmp_path_factory.mktemp("vendor")) as rehearsal:
        yield rehearsal

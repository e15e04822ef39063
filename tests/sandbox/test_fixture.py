"""The sandbox as other projects' tests get it: one line in their conftest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import budget_guard.sandbox

CONFTEST = 'pytest_plugins = ["budget_guard.sandbox.fixture"]\n'
# What a test of theirs may look like: it starts clients that nobody had to patch.
LIVE = """
def first_trades(client, count):
    client.subscribe(dataset="GLBX.MDP3", schema="trades", symbols="NQ.v.0", stype_in="continuous")
    found = []
    for record in client:
        if type(record).__name__ == "TradeMsg":
            found.append(record)
            if len(found) == count:
                client.stop()
                return found
"""


class Project:
    """A project with a conftest and a test file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("conftest.py", CONFTEST)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def test(self, text: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Their tests, run as they would run them."""
        self.write("test_theirs.py", text)
        kept = ("PATH", "PYTHONPATH", "VIRTUAL_ENV")
        environ = {name: os.environ[name] for name in kept if name in os.environ}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider", *options],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**environ, "HOME": str(self.folder)},
            timeout=90,
        )

    def passes(self, text: str) -> None:
        done = self.test(text)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_vendors_own_clients_are_pointed_at_it(project: Project) -> None:
    """Live and historical, with nothing patched, and the bill says what they came to."""
    project.passes(
        LIVE
        + """
def test_live(databento_sandbox):
    trades = first_trades(databento_sandbox.live(), 20)
    assert len(trades) == 20
    databento_sandbox.wait_for(lambda bill: bill["bytes"] >= 20 * 48)

def test_historical(databento_sandbox):
    client = databento_sandbox.historical()
    window = dict(symbols="NQ.v.0", stype_in="continuous", start="2026-03-10T14:30", end="2026-03-10T14:31")
    size = client.metadata.get_billable_size("GLBX.MDP3", schema="trades", **window)
    store = client.timeseries.get_range("GLBX.MDP3", schema="trades", **window)
    assert store.to_ndarray().nbytes == size > 0
    assert client.symbology.resolve("GLBX.MDP3", ["NQ.v.0"], "continuous", "instrument_id", "2026-03-10")["result"]
    assert databento_sandbox.bill()["bytes"] == size
"""
    )


def test_a_marker_sets_it_up(project: Project) -> None:
    """Fields of its configuration, its clock, a bundled scenario or one beside the test; nothing without a marker."""
    project.write("bad-day.yaml", "about: A bad day\nseed: 77\n")
    project.passes(
        """
import pytest

@pytest.mark.databento_sandbox(rate=17, seed=4, now="2026-11-23T15:00:00Z")
def test_fields(databento_sandbox):
    assert (databento_sandbox.config.rate, databento_sandbox.config.seed) == (17, 4)
    assert databento_sandbox.config.clock.now().isoformat().startswith("2026-11-23T15:00")

@pytest.mark.databento_sandbox("stormy-day", seed=9)
def test_bundled(databento_sandbox):
    assert databento_sandbox.config.faults and databento_sandbox.config.seed == 9

@pytest.mark.databento_sandbox("bad-day.yaml")
def test_own(databento_sandbox):
    assert databento_sandbox.config.seed == 77

def test_plain(databento_sandbox):
    assert databento_sandbox.config.faults == () and databento_sandbox.config.seed == 0
"""
    )


def test_a_project_may_set_it_up_by_a_fixture_of_its_own(project: Project) -> None:
    project.passes(
        """
import dataclasses
import pytest

@pytest.fixture
def databento_sandbox_config(databento_sandbox_config):
    return dataclasses.replace(databento_sandbox_config, rate=5)

@pytest.mark.databento_sandbox(seed=3)
def test_both(databento_sandbox):
    assert (databento_sandbox.config.rate, databento_sandbox.config.seed) == (5, 3)
"""
    )


def test_the_environment_holds_its_key_for_the_length_of_a_test(project: Project) -> None:
    project.passes(
        """
import os

def test_within(databento_environ):
    assert os.environ["DATABENTO_API_KEY"] == databento_environ.key
    assert os.environ["BUDGET_GUARD_HISTORICAL_GATEWAY"] == databento_environ.http_url
    assert os.environ["BUDGET_GUARD_LIVE_GATEWAY"].startswith("127.0.0.1:")

def test_without():
    assert "DATABENTO_API_KEY" not in os.environ
"""
    )


@pytest.mark.parametrize(
    ("marker", "says"),
    [
        ("rat=5", "a sandbox has no field 'rat'; did you mean rate?"),
        ("rate=-1", "rate is -1"),
        ("now='2026-11-23T15:00:00'", "has no time zone"),
        ("'no-such-scenario'", "no-such-scenario"),
        ("'stormy-day', 'unpaid'", "takes one scenario"),
    ],
)
def test_a_marker_that_cannot_be_right_is_explained(project: Project, marker: str, says: str) -> None:
    done = project.test(
        f"""
import pytest

@pytest.mark.databento_sandbox({marker})
def test_it(databento_sandbox):
    pass
"""
    )
    assert done.returncode == 1
    assert says in done.stdout


def test_the_package_offers_its_names_and_brings_nothing_heavy() -> None:
    assert set(budget_guard.sandbox.__all__) <= set(dir(budget_guard.sandbox))
    for name in budget_guard.sandbox.__all__:
        assert getattr(budget_guard.sandbox, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = budget_guard.sandbox.nothing


def test_a_project_pays_for_the_sandbox_only_in_tests_that_use_it() -> None:
    """The plugin itself imports nothing of the vendor's client and nothing of the server."""
    code = (
        "import sys; import budget_guard.sandbox.fixture; "
        "print(*(name for name in ('databento', 'numpy', 'aiohttp', 'pandas') if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []


def test_nothing_but_the_plugin_needs_pytest() -> None:
    code = (
        "import sys; import budget_guard.cli.sandbox, budget_guard.cli.rehearse, budget_guard.sandbox.server; "
        "from budget_guard.sandbox import *; print('pytest' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False"]

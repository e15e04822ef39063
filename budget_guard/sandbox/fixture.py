"""A sandbox as a pytest fixture. In a `conftest.py`: `pytest_plugins = ["budget_guard.sandbox.fixture"]`.

    def test_my_strategy(databento_sandbox):
        client = databento_sandbox.live()
        client.subscribe("GLBX.MDP3", "trades", "NQ.v.0", "continuous")
        ...

    @pytest.mark.databento_sandbox("stormy-day", rate=100)
    def test_a_bad_day(databento_sandbox): ...

The marker takes a scenario (a file beside the test, or a bundled one's name), the fields of `SandboxConfig`, and `now=`
for where the clock starts. A fixture of one's own named `databento_sandbox_config` replaces or changes all of that.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from budget_guard.sandbox.config import SandboxConfig
    from budget_guard.sandbox.server import Sandbox

MARKER = "databento_sandbox"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(scenario=None, *, now=None, **fields): how the test's local Databento is set up: a scenario's file "
        "or name, the instant at which its clock starts, and fields of SandboxConfig",
    )


@pytest.fixture
def databento_sandbox_config(request: pytest.FixtureRequest) -> SandboxConfig:
    """How the sandbox of a test is set up: as its marker says, without one by the defaults."""
    from budget_guard.sandbox.config import SandboxConfig

    marker = request.node.get_closest_marker(MARKER)
    if marker is None:
        return SandboxConfig()
    if len(marker.args) > 1:
        raise pytest.UsageError(f"{MARKER} takes one scenario; got {len(marker.args)} values without a name")
    fields = dict(marker.kwargs)
    scenario = marker.args[0] if marker.args else fields.pop("scenario", None)
    base = SandboxConfig() if scenario is None else _scenario(request.path.parent, scenario)
    return _with_fields(base, fields)


@pytest.fixture
def databento_sandbox(databento_sandbox_config: SandboxConfig) -> Iterator[Sandbox]:
    """A running local Databento, for one test; its ports are free ones.

    `live()` and `historical()` are the vendor's own clients, pointed at it; `bill()` is what they came to.
    """
    from budget_guard.sandbox.server import running_sandbox

    with running_sandbox(databento_sandbox_config) as sandbox:
        yield sandbox


@pytest.fixture
def databento_environ(databento_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The sandbox, with its key in DATABENTO_API_KEY, where the vendor's clients look for theirs.

    They look nowhere for a gateway: a program under test has to take one, or a client. budget-guard's own commands
    and mounts find the sandbox by the other two variables.
    """
    host, port = databento_sandbox.live_gateway
    monkeypatch.setenv("DATABENTO_API_KEY", databento_sandbox.key)
    monkeypatch.setenv("BUDGET_GUARD_LIVE_GATEWAY", f"{host}:{port}")
    monkeypatch.setenv("BUDGET_GUARD_HISTORICAL_GATEWAY", databento_sandbox.http_url)
    return databento_sandbox


def _scenario(folder: Path, source: str | Path) -> SandboxConfig:
    from budget_guard.sandbox.faults.scenario import ScenarioError, load_scenario

    beside = folder / source
    try:
        return load_scenario(beside if beside.is_file() else source)
    except ScenarioError as error:
        raise pytest.UsageError(f"{MARKER}: {error}") from None


def _with_fields(base: SandboxConfig, fields: dict[str, Any]) -> SandboxConfig:
    from budget_guard.clock import RehearsalClock, parse_instant

    now = fields.pop("now", None)
    known = [field.name for field in dataclasses.fields(base)]
    for name in fields:
        if name not in known:
            nearest = difflib.get_close_matches(name, [*known, "now", "scenario"], 1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise pytest.UsageError(f"{MARKER}: a sandbox has no field {name!r}{hint}")
    try:
        if now is not None:
            start = now if isinstance(now, datetime) else parse_instant(now)
            fields["clock"] = RehearsalClock(start)
        return dataclasses.replace(base, **fields)
    except ValueError as error:
        raise pytest.UsageError(f"{MARKER}: {error}") from None

"""The environment as the package reads it: what is wrong is named, with what would be right."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from budget_guard.clock import RehearsalClock, SystemClock
from budget_guard.errors import SettingsError
from budget_guard.settings import load_settings

LOCAL = {
    "BUDGET_GUARD_LIVE_GATEWAY": "127.0.0.1:13000",
    "BUDGET_GUARD_HISTORICAL_GATEWAY": "http://127.0.0.1:8080",
}
NOW = "2026-11-23T15:00:00Z"


def test_an_empty_environment_means_the_vendor_and_a_ledger_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = load_settings({})
    assert (found.key, found.live_gateway, found.historical_gateway, found.now) == (None, None, None, None)
    assert found.ledger_url == f"sqlite:///{tmp_path}/data/budget-guard/ledger.sqlite"
    assert found.cache_dir == tmp_path / "cache" / "budget-guard"
    assert isinstance(found.clock(), SystemClock)
    assert not found.rehearsal
    assert not found.upstream_is_local


def test_every_variable_is_read() -> None:
    found = load_settings(
        {
            **LOCAL,
            "DATABENTO_API_KEY": "db-key",
            "BUDGET_GUARD_LEDGER": "sqlite:////tmp/l.sqlite",
            "BUDGET_GUARD_NOW": NOW,
        }
    )
    assert (found.key, found.ledger_url) == ("db-key", "sqlite:////tmp/l.sqlite")
    assert (found.live_gateway, found.historical_gateway) == (("127.0.0.1", 13000), "http://127.0.0.1:8080")
    assert found.now == datetime(2026, 11, 23, 15, tzinfo=UTC)
    assert isinstance(found.clock(), RehearsalClock)
    assert found.rehearsal
    assert found.upstream_is_local


def test_a_variable_that_is_empty_is_not_set() -> None:
    names = ("DATABENTO_API_KEY", "BUDGET_GUARD_LEDGER", *LOCAL, "BUDGET_GUARD_NOW")
    assert load_settings(dict.fromkeys(names, "")) == load_settings({})


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("gateway.example:13000", ("gateway.example", 13000)),
        ("[::1]:13000", ("::1", 13000)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_a_live_gateway_is_a_host_and_a_port(text: str, read: tuple[str, int]) -> None:
    assert load_settings({"BUDGET_GUARD_LIVE_GATEWAY": text}).live_gateway == read


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "127.0.0.1:", ":13000", "host:0", "host:65536", "host:-1", "host:x", "host:１３", "::1"],
)
def test_any_other_live_gateway_is_told_what_would_be_right(text: str) -> None:
    with pytest.raises(SettingsError, match=r"BUDGET_GUARD_LIVE_GATEWAY is .* it should be host:port"):
        load_settings({"BUDGET_GUARD_LIVE_GATEWAY": text})


def test_a_historical_gateway_is_a_base_url_without_a_last_slash() -> None:
    found = load_settings({"BUDGET_GUARD_HISTORICAL_GATEWAY": "https://proxy.example/databento/"})
    assert found.historical_gateway == "https://proxy.example/databento"


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:8080", "ftp://host", "http://", "/path", "http://host:x", "http://[::1", "http://host:99999"],
)
def test_any_other_historical_gateway_is_told_what_would_be_right(text: str) -> None:
    with pytest.raises(SettingsError, match=r"BUDGET_GUARD_HISTORICAL_GATEWAY is .* it should be a base URL"):
        load_settings({"BUDGET_GUARD_HISTORICAL_GATEWAY": text})


@pytest.mark.parametrize("text", ["yesterday", "2026-11-23", "2026-11-23T15:00:00"])
def test_a_rehearsal_starts_at_an_instant_with_a_time_zone(text: str) -> None:
    with pytest.raises(SettingsError, match="BUDGET_GUARD_NOW: "):
        load_settings({**LOCAL, "BUDGET_GUARD_NOW": text})


@pytest.mark.parametrize(
    "gateways",
    [
        {},
        {"BUDGET_GUARD_LIVE_GATEWAY": "gateway.example:13000"},
        {**LOCAL, "BUDGET_GUARD_LIVE_GATEWAY": "gateway.example:13000"},
        {**LOCAL, "BUDGET_GUARD_HISTORICAL_GATEWAY": "https://hist.databento.com"},
        {**LOCAL, "BUDGET_GUARD_HISTORICAL_GATEWAY": "http://127.0.0.1.example"},
    ],
)
def test_a_rehearsal_needs_upstreams_on_this_machine(gateways: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="BUDGET_GUARD_NOW is for rehearsals"):
        load_settings({**gateways, "BUDGET_GUARD_NOW": NOW})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_every_name_of_the_loopback_will_do(host: str) -> None:
    gateways = {
        "BUDGET_GUARD_LIVE_GATEWAY": f"{host}:13000",
        "BUDGET_GUARD_HISTORICAL_GATEWAY": f"http://{host}:8080",
    }
    assert load_settings({**gateways, "BUDGET_GUARD_NOW": NOW}).upstream_is_local


def test_one_upstream_of_the_vendors_own_is_not_local() -> None:
    for name in LOCAL:
        assert not load_settings({name: LOCAL[name]}).upstream_is_local

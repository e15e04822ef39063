"""The environment is read once, and what cannot be used is refused by its name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from budget_guard.clock import RehearsalClock, SystemClock
from budget_guard.errors import SettingsError
from budget_guard.settings import load_settings

LOCAL = {
    "BUDGET_GUARD_LIVE_GATEWAY": "127.0.0.1:13000",
    "BUDGET_GUARD_HISTORICAL_GATEWAY": "http://localhost:8080/",
}
ELSEWHERE = {
    "BUDGET_GUARD_LIVE_GATEWAY": "gateway.example:13000",
    "BUDGET_GUARD_HISTORICAL_GATEWAY": "https://gateway.example",
}


def test_an_empty_environment_is_the_vendor_the_real_clock_and_the_users_own_ledger() -> None:
    settings = load_settings({})
    assert (settings.key, settings.live_gateway, settings.historical_gateway) == (None, None, None)
    assert isinstance(settings.clock(), SystemClock)
    assert settings.ledger_url == f"sqlite:///{settings.data_dir / 'ledger.sqlite'}"


def test_gateways_are_taken_apart_and_a_trailing_slash_is_dropped() -> None:
    settings = load_settings(LOCAL)
    assert settings.live_gateway == ("127.0.0.1", 13000)
    assert settings.historical_gateway == "http://localhost:8080"


def test_what_local_servers_sell_does_not_meet_real_spending_in_the_default_ledger() -> None:
    assert load_settings(LOCAL).ledger_url.endswith("ledger-local.sqlite")
    assert load_settings(ELSEWHERE).ledger_url.endswith("/ledger.sqlite")


def test_a_ledger_that_is_named_is_used() -> None:
    assert (
        load_settings({**LOCAL, "BUDGET_GUARD_LEDGER": "sqlite:////x.sqlite"}).ledger_url
        == "sqlite:////x.sqlite"
    )


def test_a_rehearsal_starts_its_clock_at_the_instant_given() -> None:
    settings = load_settings({**LOCAL, "BUDGET_GUARD_NOW": "2026-11-23T15:00:00Z"})
    clock = settings.clock()
    assert isinstance(clock, RehearsalClock)
    assert settings.rehearsal
    assert clock.now() >= datetime(2026, 11, 23, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    "gateways", [{}, ELSEWHERE, {**LOCAL, "BUDGET_GUARD_LIVE_GATEWAY": "10.0.0.1:13000"}]
)
def test_a_rehearsal_needs_upstreams_on_the_loopback_and_no_others(gateways: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="BUDGET_GUARD_NOW is for rehearsals"):
        load_settings({**gateways, "BUDGET_GUARD_NOW": "2026-11-23T15:00:00Z"})


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("BUDGET_GUARD_LIVE_GATEWAY", "localhost", "it should be host:port"),
        ("BUDGET_GUARD_LIVE_GATEWAY", "localhost:0", "it should be host:port"),
        ("BUDGET_GUARD_LIVE_GATEWAY", "localhost:99999", "it should be host:port"),
        ("BUDGET_GUARD_LIVE_GATEWAY", ":13000", "it should be host:port"),
        ("BUDGET_GUARD_HISTORICAL_GATEWAY", "localhost:8080", "it should be a base URL"),
        ("BUDGET_GUARD_HISTORICAL_GATEWAY", "ftp://localhost", "it should be a base URL"),
        ("BUDGET_GUARD_NOW", "yesterday", "BUDGET_GUARD_NOW"),
        ("BUDGET_GUARD_NOW", "2026-11-23T15:00:00", "has no time zone"),
    ],
)
def test_a_variable_that_cannot_be_used_is_refused_by_name_and_says_what_would_be_right(
    name: str, text: str, says: str
) -> None:
    with pytest.raises(SettingsError, match=says) as raised:
        load_settings({**LOCAL, name: text})
    assert name in str(raised.value)

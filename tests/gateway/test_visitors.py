"""Strangers at the doors: slowed down, logged once, forgotten in time, and never many."""

from __future__ import annotations

import logging

import pytest

from budget_guard.gateway import visitors
from budget_guard.gateway.visitors import FREE_TRIES, MOST_DELAY_S, PLACES_MAX, QUIET_S, Visitors, network_of


class Time:
    """A clock that is told the time."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def test_a_few_bad_logons_are_answered_at_once_and_more_ever_slower(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = Visitors(Time())
    delays = [found.bad_logon("192.0.2.1", "relay", "why") for _ in range(FREE_TRIES + 20)]
    assert delays[:FREE_TRIES] == [0.0] * FREE_TRIES
    assert delays[FREE_TRIES:] == sorted(delays[FREE_TRIES:])
    assert delays[FREE_TRIES] > 0 and delays[-1] == MOST_DELAY_S


def test_a_flood_is_logged_once_and_summed_up_later(caplog: pytest.LogCaptureFixture) -> None:
    time = Time()
    found = Visitors(time)
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            found.bad_logon("192.0.2.1", "relay", "why")
        assert [record.getMessage() for record in caplog.records] == [
            "a bad logon at the relay from 192.0.2.1: why"
        ]
        time.s = QUIET_S + 1
        found.bad_logon("192.0.2.1", "relay", "why")
    assert caplog.records[1].getMessage() == "999 more bad logons from 192.0.2.1"


def test_who_was_quiet_starts_anew(caplog: pytest.LogCaptureFixture) -> None:
    time = Time()
    found = Visitors(time)
    for _ in range(50):
        found.bad_logon("192.0.2.1", "relay", "why")
    time.s = QUIET_S + 1
    assert found.bad_logon("192.0.2.1", "relay", "why") == 0.0


def test_one_address_does_not_slow_another(caplog: pytest.LogCaptureFixture) -> None:
    found = Visitors(Time())
    for _ in range(50):
        found.bad_logon("192.0.2.1", "relay", "why")
    assert found.bad_logon("192.0.2.2", "relay", "why") == 0.0


def test_a_flood_from_many_addresses_does_not_grow(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(visitors, "ADDRESSES_MAX", 10)
    found = Visitors(Time())
    for n in range(1000):
        found.bad_logon(f"192.0.{n // 250}.{n % 250}", "relay", "why")
    assert len(found._tries) == 10


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_an_address_counts_as_what_one_machine_may_choose_from(address: str, network: str) -> None:
    assert network_of(address) == network


def test_a_token_has_so_many_places_at_each_door_and_gets_them_back() -> None:
    found = Visitors(Time())
    assert all(found.take_place("relay", "a") for _ in range(PLACES_MAX))
    assert not found.take_place("relay", "a")
    assert found.take_place("relay", "b")
    assert found.take_place("door", "a")
    found.give_place("relay", "a")
    assert found.take_place("relay", "a")
    for _ in range(PLACES_MAX):
        found.give_place("relay", "a")
    for door, token in (("relay", "b"), ("door", "a")):
        found.give_place(door, token)
    assert not found._places

"""Shares of limits are told once, by whoever sees them passed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.guard.alerts import Alerts
from budget_guard.money import NANO
from tests.guard.samples import ACCOUNT, counted

SHARES = (Decimal("0.5"), Decimal("0.8"), Decimal("0.95"))
WATCHED = replace(ACCOUNT, alerts=SHARES)
LIMIT = counted("usd", 200 * NANO)


def told(alerts: Alerts, *spent_usd: int) -> list[str]:
    for spent in spent_usd:
        alerts.look([LIMIT], {LIMIT.key: spent * NANO})
    return [alert.text for alert in alerts.told]


def test_each_share_is_told_once_and_only_the_highest_that_was_passed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    alerts = Alerts([WATCHED])
    assert told(alerts, 0, 99) == []
    assert told(alerts, 100, 101, 120) == [
        "budget account has passed 50% of its limit: $100.00 of $200.00 this month"
    ]
    assert len(told(alerts, 195)) == 2, "80% and 95% at once are one alert"
    assert "passed 95% of its limit: $195.00" in alerts.told[-1].text
    assert len(told(alerts, 200, 150, 199)) == 2
    assert caplog.messages == [alert.text for alert in alerts.told]


def test_what_was_passed_before_a_program_looked_first_is_not_told_again() -> None:
    assert told(Alerts([WATCHED]), 170, 171) == []
    assert len(told(Alerts([WATCHED]), 170, 191)) == 1


def test_a_budget_says_who_hears_of_it(caplog: pytest.LogCaptureFixture) -> None:
    alerts = Alerts([replace(WATCHED, alerts_to=frozenset({"client"}))])
    told(alerts, 0, 110)
    assert [alert.to_clients for alert in alerts.told] == [True]
    assert caplog.messages == []


def test_another_period_is_told_of_anew() -> None:
    alerts = Alerts([WATCHED])
    told(alerts, 0, 110)
    later = replace(LIMIT, key=replace(LIMIT.key, period="day"))
    alerts.look([later], {later.key: 0})
    alerts.look([later], {later.key: 110 * NANO})
    assert len(alerts.told) == 2


def test_what_has_no_limit_or_no_alerts_is_never_told_of() -> None:
    alerts = Alerts([ACCOUNT])
    alerts.look([LIMIT], {LIMIT.key: 0})
    alerts.look([LIMIT], {LIMIT.key: 200 * NANO})
    unlimited = Alerts([WATCHED])
    for spent in (0, 10**18):
        unlimited.look([replace(LIMIT, limit=None)], {LIMIT.key: spent})
    assert alerts.told == unlimited.told == []


@given(st.lists(st.integers(0, 250), min_size=1, max_size=30))
def test_no_share_is_told_twice_whatever_the_order_of_looks(spends: list[int]) -> None:
    alerts = Alerts([WATCHED])
    texts = told(alerts, *spends)
    shares = [text.split("passed ")[1].split("%")[0] for text in texts]
    assert len(set(shares)) == len(shares)
    assert [Decimal(share) for share in shares] == sorted(Decimal(share) for share in shares)

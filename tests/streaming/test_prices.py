"""A guard that runs for weeks does not go on with the prices of its first day."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from budget_guard.clock import ManualClock
from budget_guard.errors import VendorUnavailable
from budget_guard.pricing.book import PriceBook
from budget_guard.streaming.prices import RenewedPrices

HOUR_S = 3600
NOW = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)


def book(usd: str) -> PriceBook:
    return PriceBook(vendor={"GLBX.MDP3": {"live": {"mbo": Decimal(usd)}}})


def live_mbo(prices: RenewedPrices) -> Decimal:
    found = prices.price("GLBX.MDP3", "mbo", "live")
    assert found is not None
    return found.usd_per_gib


def test_prices_are_read_again_once_they_are_an_hour_old() -> None:
    clock, given = ManualClock(NOW), [book("2.40")]
    prices = RenewedPrices(book("2.16"), lambda: given.pop(0), clock)
    clock.advance(HOUR_S - 1)
    assert live_mbo(prices) == Decimal("2.16")
    clock.advance(1)
    assert live_mbo(prices) == Decimal("2.40")
    assert given == []


def test_when_the_vendor_cannot_be_asked_the_last_prices_stay_and_it_is_asked_later() -> None:
    clock = ManualClock(NOW)
    outcomes: list[PriceBook | Exception] = [
        VendorUnavailable("down", advice="later"),
        book("2.40"),
    ]

    def fetch() -> PriceBook:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    prices = RenewedPrices(book("2.16"), fetch, clock)
    clock.advance(HOUR_S)
    assert live_mbo(prices) == Decimal("2.16")
    assert len(outcomes) == 1
    assert live_mbo(prices) == Decimal("2.16")  # not asked again at once
    clock.advance(600)
    assert live_mbo(prices) == Decimal("2.40")


def test_prices_that_are_doubted_are_read_again_at_once_but_not_every_time() -> None:
    """A quote above the list may come of a price that has risen, and of a short range that is quoted too high."""
    clock, given = ManualClock(NOW), [book("2.40"), book("2.50")]
    prices = RenewedPrices(book("2.16"), lambda: given.pop(0), clock)
    prices.doubt()
    assert live_mbo(prices) == Decimal("2.40")
    prices.doubt()
    assert live_mbo(prices) == Decimal("2.40")
    clock.advance(60)
    prices.doubt()
    assert live_mbo(prices) == Decimal("2.50")

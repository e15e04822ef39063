"""The account's prices, read again every hour: a guard may run for weeks, and a price may change in between."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from budget_guard.clock import Clock
from budget_guard.errors import VendorError
from budget_guard.policy.model import Mode
from budget_guard.pricing.book import PriceBook
from budget_guard.pricing.model import DataRange, UnitPrice

log = logging.getLogger(__name__)

MAX_AGE = timedelta(hours=1)
# After an attempt that failed, the prices at hand serve for this long before the next.
RETRY_AFTER = timedelta(minutes=10)
# A quote may be above the list for other reasons: the vendor's quotes overstate short ranges.
DOUBT_EVERY = timedelta(minutes=1)


class RenewedPrices:
    """A price book that is fetched again when it is an hour old.

    A hold keeps the price that it was opened at; the next one, at the latest of the next day's period, takes the
    newer. When the vendor cannot be asked, the last prices stay in force, and a warning says so.
    """

    def __init__(self, first: PriceBook, fetch: Callable[[], PriceBook], clock: Clock) -> None:
        """`first` serves for an hour; `fetch` raises VendorError rather than fall back on a price sheet."""
        self._book = first
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._next_utc: datetime = clock.now() + MAX_AGE
        self._doubted_utc: datetime | None = None

    def price(self, dataset: str, schema: str, mode: Mode) -> UnitPrice | None:
        """As `PriceBook.price`."""
        return self._current().price(dataset, schema, mode)

    def price_whole(self, data_range: DataRange, at: datetime) -> UnitPrice | None:
        """As `PriceBook.price_whole`."""
        return self._current().price_whole(data_range, at)

    def doubt(self) -> None:
        """The vendor has quoted more than these prices say: read them again, but not at every request that is."""
        with self._lock:
            now = self._clock.now()
            if self._doubted_utc is None or now - self._doubted_utc >= DOUBT_EVERY:
                self._doubted_utc = self._next_utc = now

    def _current(self) -> PriceBook:
        with self._lock:
            now = self._clock.now()
            if now >= self._next_utc:
                try:
                    self._book = self._fetch()
                    self._next_utc = now + MAX_AGE
                except VendorError as error:
                    self._next_utc = now + RETRY_AFTER
                    log.warning("prices could not be read again, the last ones stay in force: %s", error)
            return self._book

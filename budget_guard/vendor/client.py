"""Databento's free metadata, asked politely: paced, retried, cached, and exact from the first digit."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import tenacity

from budget_guard.clock import Clock
from budget_guard.errors import VendorError
from budget_guard.money import usd_from_vendor
from budget_guard.pricing.model import DataRange
from budget_guard.pricing.ranges import canonical
from budget_guard.vendor.cache import MetadataCache, cache_key
from budget_guard.vendor.errors import is_transient, not_understood, retry_after_s, vendor_error
from budget_guard.vendor.pacing import Pacer

Answer = TypeVar("Answer")

PRICES_MAX_AGE = timedelta(hours=24)
RANGES_MAX_AGE = timedelta(minutes=10)
# Past data is complete, and its size final, when it is older than this.
FINAL_AFTER = timedelta(hours=24)

ATTEMPTS = 5
WORKERS = 8
TIMEOUT_S = 20.0
# A longer Retry-After is reported at once instead of slept through.
LONGEST_WAIT_S = 30.0
_FIRST_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class DatasetRange:
    """What this key may see of a dataset, half-open; some schemas begin later or end earlier than the whole."""

    start_utc: datetime
    end_utc: datetime
    by_schema: Mapping[str, tuple[datetime, datetime]] = field(default_factory=dict)

    def of(self, schema: str) -> tuple[datetime, datetime]:
        """The schema's own range where the vendor gave one, else the dataset's."""
        return self.by_schema.get(schema, (self.start_utc, self.end_utc))


class _Transient(Exception):
    """A failed attempt that is worth another; `wait_s` is what the vendor asked for."""

    def __init__(self, error: VendorError, wait_s: float | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s


class VendorClient:
    """The metadata calls that a plan and a quote need. Threads may share one; the cache stays the caller's to close.

    Every method raises a `VendorError` that says what to do. `gateway` None is the vendor's own. Neither the
    cache nor any message holds the key.
    """

    def __init__(
        self,
        key: str,
        gateway: str | None = None,
        *,
        cache: MetadataCache,
        clock: Clock,
        pacer: Pacer | None = None,
        sleep: Callable[[float], None] = time.sleep,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        from databento.common.enums import HistoricalGateway
        from databento.historical.api.metadata import MetadataHttpAPI

        self.gateway = (gateway or HistoricalGateway.BO1.value).rstrip("/")
        self._api = MetadataHttpAPI(key=key, gateway=self.gateway)
        self._api.TIMEOUT = timeout_s  # type: ignore[assignment]  # requests takes fractions too
        self._cache = cache
        self._clock = clock
        self._sleep = sleep
        self._pacer = pacer or Pacer(clock, sleep=sleep)
        self._fingerprint = hashlib.sha256(f"budget-guard {key}".encode()).hexdigest()[:16]

    def fetch_unit_prices(self, dataset: str) -> dict[str, dict[str, Decimal]]:
        """USD per GiB by vendor mode (`live`, `historical-streaming`, `historical`) and schema."""
        answer = self._ask(
            ("list_unit_prices", dataset),
            lambda: self._api.list_unit_prices(dataset),
            _parse_unit_prices,
            max_age=PRICES_MAX_AGE,
        )
        return {
            mode: {schema: usd_from_vendor(price) for schema, price in prices.items()}
            for mode, prices in answer.items()
        }

    def unit_prices_read_utc(self, dataset: str) -> datetime | None:
        """When the prices that `fetch_unit_prices` gives were read, or None if they were not."""
        key = self._key(("list_unit_prices", dataset))
        cached = self._cache.get(key, self._clock.now(), PRICES_MAX_AGE)
        return None if cached is None else cached.stored_utc

    def fetch_billable_size(self, data_range: DataRange) -> int:
        """The bytes that the vendor would bill for a past range."""
        return self._ask_range("get_billable_size", self._api.get_billable_size, _parse_size, data_range)

    def fetch_billable_sizes(
        self, ranges: Sequence[DataRange], progress: Callable[[], None] | None = None
    ) -> list[int]:
        """Several sizes at once, in order; `progress` is called after each. The first error ends them all."""

        def fetch(data_range: DataRange) -> int:
            size = self.fetch_billable_size(data_range)
            if progress is not None:
                progress()
            return size

        pool = ThreadPoolExecutor(max_workers=WORKERS)
        try:
            return list(pool.map(fetch, ranges))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def fetch_cost(self, data_range: DataRange) -> Decimal:
        """The vendor's quote in USD for *historical* data: an upper bound, and no quote of live data."""
        # Past sizes are final; past costs are not, since prices move.
        text = self._ask_range("get_cost", self._api.get_cost, _parse_cost, data_range, PRICES_MAX_AGE)
        return usd_from_vendor(text)

    def fetch_dataset_range(self, dataset: str) -> DatasetRange:
        """What this key may see, by the vendor's word and its own recency rules."""
        answer = self._ask(
            ("get_dataset_range", dataset),
            lambda: self._api.get_dataset_range(dataset),
            _checked_dataset_range,
            max_age=RANGES_MAX_AGE,
        )
        return _parse_dataset_range(answer)

    def fetch_schemas(self, dataset: str) -> list[str]:
        """The schemas that a dataset has."""
        return self._ask(
            ("list_schemas", dataset),
            lambda: self._api.list_schemas(dataset),
            _parse_names,
            max_age=PRICES_MAX_AGE,
        )

    def _ask_range(
        self,
        name: str,
        call: Callable[..., Any],
        parse: Callable[[Any], Answer],
        data_range: DataRange,
        max_age: timedelta | None = None,
    ) -> Answer:
        """The answer for a range, kept for `max_age` (None: for ever) once the range's data is final."""
        same = canonical(data_range)
        question = (
            name,
            same.dataset,
            same.schema,
            same.symbols,
            same.stype_in,
            same.start_utc.isoformat(),
            same.end_utc.isoformat(),
        )
        final = data_range.end_utc <= self._clock.now() - FINAL_AFTER
        return self._ask(
            question,
            lambda: call(
                dataset=data_range.dataset,
                start=data_range.start_utc,
                end=data_range.end_utc,
                symbols=list(data_range.symbols),
                schema=data_range.schema,
                stype_in=data_range.stype_in,
            ),
            parse,
            max_age=max_age if final else timedelta(0),
        )

    def _ask(
        self,
        question: tuple[object, ...],
        call: Callable[[], Any],
        parse: Callable[[Any], Answer],
        *,
        max_age: timedelta | None,
    ) -> Answer:
        """The parsed answer, from the cache when it is young enough; `parse` gives JSON values back."""
        key = self._key(question)
        cached = self._cache.get(key, self._clock.now(), max_age)
        if cached is not None:
            answer: Answer = cached.value
            return answer
        answer = self._retrying(lambda: parse(call()))
        if max_age != timedelta(0):
            self._cache.put(key, answer, self._clock.now())
        return answer

    def _key(self, question: tuple[object, ...]) -> str:
        return cache_key(self.gateway, self._fingerprint, *question)

    def _retrying(self, attempt: Callable[[], Answer]) -> Answer:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Transient),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=_wait_s,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            answer: Answer = retrying(self._attempt, attempt)
            return answer
        except _Transient as last:
            raise last.error from None

    def _attempt(self, attempt: Callable[[], Answer]) -> Answer:
        self._pacer.wait()
        try:
            return attempt()
        except Exception as raised:
            error = vendor_error(raised)
            wait_s = retry_after_s(getattr(raised, "headers", {}), self._clock.now())
            if not is_transient(error) or (wait_s or 0) > LONGEST_WAIT_S:
                raise error from raised
            if wait_s is not None:
                self._pacer.hold(wait_s)
            raise _Transient(error, wait_s) from raised


def _wait_s(state: tenacity.RetryCallState) -> float:
    """What the vendor asked for, else twice as long each time, with jitter so that threads do not march in step."""
    raised = state.outcome.exception() if state.outcome is not None else None
    if isinstance(raised, _Transient) and raised.wait_s is not None:
        return raised.wait_s
    longest: float = _FIRST_WAIT_S * 2 ** (state.attempt_number - 1)
    return random.uniform(longest / 2, longest)


def _parse_unit_prices(answer: Any) -> dict[str, dict[str, str]]:
    """Prices as decimal text, which is how the cache keeps them."""
    if not isinstance(answer, list):
        raise not_understood("list_unit_prices is not a list")
    prices: dict[str, dict[str, str]] = {}
    for row in answer:
        modes = prices.setdefault(str(row["mode"]), {})
        for schema, price in row["unit_prices"].items():
            modes[schema] = _parse_cost(price)
    return prices


def _parse_cost(answer: Any) -> str:
    amount = usd_from_vendor(answer)
    if amount < 0:
        raise not_understood(f"an amount below zero: {amount}")
    return str(amount)


def _parse_size(answer: Any) -> int:
    if isinstance(answer, bool) or not isinstance(answer, int) or answer < 0:
        raise not_understood(f"a size of {answer!r}")
    return answer


def _parse_names(answer: Any) -> list[str]:
    if not isinstance(answer, list):
        raise not_understood("a list of names was expected")
    return [str(name) for name in answer]


def _checked_dataset_range(answer: Any) -> dict[str, Any]:
    _parse_dataset_range(answer)
    checked: dict[str, Any] = answer
    return checked


def _parse_dataset_range(answer: Any) -> DatasetRange:
    by_schema = {
        schema: (_parse_vendor_instant(row["start"]), _parse_vendor_instant(row["end"]))
        for schema, row in (answer.get("schema") or {}).items()
    }
    return DatasetRange(
        _parse_vendor_instant(answer["start"]), _parse_vendor_instant(answer["end"]), by_schema
    )


def _parse_vendor_instant(text: str) -> datetime:
    """ISO time, cut to microseconds; without an offset it is UTC, as the vendor documents."""
    instant = datetime.fromisoformat(text)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)

"""Databento's free metadata, asked politely: paced, retried, cached, and exact from the first digit."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import tenacity

from budget_guard.clock import Clock
from budget_guard.errors import VendorError, VendorUnavailable
from budget_guard.money import usd_from_vendor
from budget_guard.pricing.model import DataRange
from budget_guard.pricing.ranges import canonical, halves
from budget_guard.vendor.answers import (
    DatasetRange,
    checked_dataset_range,
    parse_cost,
    parse_dataset_range,
    parse_names,
    parse_size,
    parse_unit_prices,
)
from budget_guard.vendor.cache import MetadataCache, cache_key
from budget_guard.vendor.errors import is_transient, retry_after_s, took_too_long, vendor_error
from budget_guard.vendor.pacing import Pacer
from budget_guard.vendor.workers import map_in_order

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
# A question about more symbols than this that takes too long is asked again in two halves.
SPLIT_ABOVE = 100


class _Transient(Exception):
    """A failed attempt that is worth another; `wait_s` is what the vendor asked for."""

    def __init__(self, error: VendorError, wait_s: float | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s


class VendorClient:
    """The metadata calls that a plan and a quote need. Threads may share one; the cache stays the caller's to close.

    Every method raises a `VendorError` that says what to do. `gateway` None is the vendor's own. Neither the
    cache nor any message holds the key. With `refresh` every question is asked once more, whatever is kept. Unit prices
    and costs are asked for again after `prices_kept`: a plan may be a day behind, what spends money may not.
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
        refresh: bool = False,
        prices_kept: timedelta = PRICES_MAX_AGE,
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
        self._slots = threading.BoundedSemaphore(WORKERS)
        self._refresh = refresh
        self._prices_kept = prices_kept
        self._renewed: set[str] = set()
        self._wrong: set[str] = set()
        self._key_text = key
        self._fingerprint = hashlib.sha256(f"budget-guard {key}".encode()).hexdigest()[:16]

    def fetch_unit_prices(self, dataset: str) -> dict[str, dict[str, Decimal]]:
        """USD per GiB by vendor mode (`live`, `historical-streaming`, `historical`) and schema."""
        answer = self._ask(
            ("list_unit_prices", dataset),
            lambda: self._retrying(lambda: parse_unit_prices(self._api.list_unit_prices(dataset))),
            max_age=self._prices_kept,
        )
        return _unit_prices(answer)

    def kept_unit_prices(self, dataset: str) -> dict[str, dict[str, Decimal]] | None:
        """The unit prices that were read in the last day, without asking; None where there are none."""
        key = self._key(("list_unit_prices", dataset))
        cached = self._cache.get(key, self._clock.now(), PRICES_MAX_AGE)
        return None if cached is None else _unit_prices(cached.value)

    def unit_prices_read_utc(self, dataset: str) -> datetime | None:
        """When the prices that `fetch_unit_prices` gives were read, or None if they were not."""
        return self._stored_utc(("list_unit_prices", dataset), PRICES_MAX_AGE)

    def fetch_billable_size(self, data_range: DataRange) -> int:
        """The bytes that the vendor would bill for a past range."""
        return int(self._ask_range("get_billable_size", parse_size, data_range))

    def size_asked_utc(self, data_range: DataRange) -> datetime | None:
        """When the size that `fetch_billable_size` gives was asked for; None when it is not kept."""
        return self._stored_utc(_range_question("get_billable_size", data_range))

    def fetch_billable_sizes(
        self, ranges: Sequence[DataRange], progress: Callable[[], None] | None = None
    ) -> list[int]:
        """Several sizes at once, in order; `progress` is called after each. The first error ends them all."""
        return map_in_order(self.fetch_billable_size, ranges, workers=WORKERS, done=progress)

    def fetch_cost(self, data_range: DataRange) -> Decimal:
        """The vendor's quote in USD for *historical* data: an upper bound, and no quote of live data."""
        # Past sizes are final; past costs are not, since prices move.
        return self._ask_range("get_cost", parse_cost, data_range, self._prices_kept)

    def forget(self, data_range: DataRange) -> None:
        """Ask about a range again when it is next asked about: what is kept of it has turned out to be wrong."""
        self._wrong |= {
            self._key(_range_question(name, data_range)) for name in ("get_billable_size", "get_cost")
        }

    def fetch_dataset_range(self, dataset: str, *, fresh: bool = False) -> DatasetRange:
        """What this key may see, by the vendor's word and its own recency rules; `fresh` asks whatever is kept."""
        question = ("get_dataset_range", dataset)
        if fresh:
            self._wrong.add(self._key(question))
        answer = self._ask(
            question,
            lambda: self._retrying(lambda: checked_dataset_range(self._api.get_dataset_range(dataset))),
            max_age=RANGES_MAX_AGE,
        )
        return parse_dataset_range(answer)

    def fetch_datasets(self) -> list[str]:
        """The datasets that the vendor has, whatever this key may use of them."""
        return self._ask(
            ("list_datasets",),
            lambda: self._retrying(lambda: parse_names(self._api.list_datasets())),
            max_age=PRICES_MAX_AGE,
        )

    def fetch_schemas(self, dataset: str) -> list[str]:
        """The schemas that a dataset has."""
        return self._ask(
            ("list_schemas", dataset),
            lambda: self._retrying(lambda: parse_names(self._api.list_schemas(dataset))),
            max_age=PRICES_MAX_AGE,
        )

    def _ask_range(
        self,
        name: str,
        parse: Callable[[Any], Decimal],
        data_range: DataRange,
        max_age: timedelta | None = None,
    ) -> Decimal:
        """The figure of a range, kept for `max_age` (None: for ever) once the range's data is final."""
        if not data_range.symbols:
            raise ValueError("a range without symbols would be the whole dataset to the vendor")
        call = getattr(self._api, name)
        final = data_range.end_utc <= self._clock.now() - FINAL_AFTER
        return Decimal(
            self._ask(
                _range_question(name, data_range),
                lambda: str(self._fetch_range(call, parse, data_range)),
                max_age=max_age if final else timedelta(0),
                keep=final,
            )
        )

    def _fetch_range(
        self, call: Callable[..., Any], parse: Callable[[Any], Decimal], data_range: DataRange
    ) -> Decimal:
        """The figure of a range; a long list of symbols that takes too long is halved, and the halves summed."""
        many = len(data_range.symbols) > SPLIT_ABOVE
        try:
            return self._retrying(
                lambda: parse(
                    call(
                        dataset=data_range.dataset,
                        start=data_range.start_utc,
                        end=data_range.end_utc,
                        symbols=list(data_range.symbols),
                        schema=data_range.schema,
                        stype_in=data_range.stype_in,
                    )
                ),
                give_up=took_too_long if many else None,
            )
        except VendorUnavailable as error:
            if not many or not took_too_long(error):
                raise
        return sum((self._fetch_range(call, parse, half) for half in halves(data_range)), Decimal(0))

    def _ask(
        self,
        question: tuple[object, ...],
        fetch: Callable[[], Answer],
        *,
        max_age: timedelta | None,
        keep: bool = True,
    ) -> Answer:
        """The answer as JSON values, from the cache when it is young enough; a new one is kept if it may be."""
        key = self._key(question)
        cached = self._cache.get(key, self._clock.now(), max_age)
        if cached is not None and key not in self._wrong and (not self._refresh or key in self._renewed):
            answer: Answer = cached.value
            return answer
        answer = fetch()
        if self._refresh:
            self._renewed.add(key)
        if keep:
            self._cache.put(key, answer, self._clock.now())
        self._wrong.discard(key)
        return answer

    def _stored_utc(self, question: tuple[object, ...], max_age: timedelta | None = None) -> datetime | None:
        cached = self._cache.get(self._key(question), self._clock.now(), max_age)
        return None if cached is None else cached.stored_utc

    def _key(self, question: tuple[object, ...]) -> str:
        return cache_key(self.gateway, self._fingerprint, *question)

    def _retrying(
        self, attempt: Callable[[], Answer], give_up: Callable[[VendorError], bool] | None = None
    ) -> Answer:
        """The attempt's answer, after as many tries as are worth it; `give_up` says which errors are not."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Transient),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=_wait_s,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            answer: Answer = retrying(self._attempt, attempt, give_up or (lambda error: False))
            return answer
        except _Transient as last:
            raise last.error from None

    def _attempt(self, attempt: Callable[[], Answer], give_up: Callable[[VendorError], bool]) -> Answer:
        with self._slots:
            self._pacer.wait()
            try:
                return attempt()
            except Exception as raised:
                error = vendor_error(raised, key=self._key_text)
                wait_s = retry_after_s(getattr(raised, "headers", {}), self._clock.now())
                if not is_transient(error) or give_up(error) or (wait_s or 0) > LONGEST_WAIT_S:
                    raise error from raised
                if wait_s is not None:
                    self._pacer.hold(wait_s)
                raise _Transient(error, wait_s) from raised


def _unit_prices(answer: dict[str, dict[str, str]]) -> dict[str, dict[str, Decimal]]:
    return {
        mode: {schema: usd_from_vendor(price) for schema, price in prices.items()}
        for mode, prices in answer.items()
    }


def _range_question(name: str, data_range: DataRange) -> tuple[object, ...]:
    same = canonical(data_range)
    return (
        name,
        same.dataset,
        same.schema,
        same.symbols,
        same.stype_in,
        same.start_utc.isoformat(),
        same.end_utc.isoformat(),
    )


def _wait_s(state: tenacity.RetryCallState) -> float:
    """What the vendor asked for, else twice as long each time, with jitter so that threads do not march in step."""
    raised = state.outcome.exception() if state.outcome is not None else None
    if isinstance(raised, _Transient) and raised.wait_s is not None:
        return raised.wait_s
    longest: float = _FIRST_WAIT_S * 2 ** (state.attempt_number - 1)
    return random.uniform(longest / 2, longest)

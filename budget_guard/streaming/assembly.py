"""Puts a guard together from a policy and the settings: ledger, prices, calendars, vendor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from budget_guard.clock import Clock
from budget_guard.errors import KeyRejected, SettingsError, VendorError
from budget_guard.guard.guard import Guard, Prices
from budget_guard.ledger.model import Ledger
from budget_guard.ledger.opening import open_for_use
from budget_guard.ledger.whereabouts import Whereabouts, note_ledger
from budget_guard.markets.model import Interval
from budget_guard.markets.windows import WindowBook
from budget_guard.policy.model import Policy, Stream
from budget_guard.pricing.book import PriceBook, price_book
from budget_guard.settings import Settings
from budget_guard.streaming.prices import RenewedPrices

if TYPE_CHECKING:
    from budget_guard.gateway.historical.room import KeepingTerms
    from budget_guard.gateway.host import GatewayHost, Listen
    from budget_guard.gateway.token_store import TokenStore
    from budget_guard.guard.quote import Quote
    from budget_guard.vendor.cache import MetadataCache
    from budget_guard.vendor.client import VendorClient

log = logging.getLogger(__name__)

# Nobody keeps anything for longer than a century.
_DAYS_MAX = 36_500


class StreamWindows:
    """A stream's window book as the guard asks it, from any thread.

    One question at a time in the whole process: the first one may bring the calendar library, which is not made
    for threads. All others are answered in microseconds.
    """

    _asking = Lock()

    def __init__(self, book: WindowBook) -> None:
        self._book = book

    def covering(self, at: datetime) -> Interval | None:
        with self._asking:
            return self._book.covering(at)

    def next_open(self, at: datetime) -> datetime | None:
        with self._asking:
            return self._book.next_open(at)

    def session_interval(self, at: datetime) -> Interval:
        with self._asking:
            period = self._book.session_at(at)
        return Interval(period.start_utc, period.end_utc)


@dataclass(frozen=True, slots=True)
class OpenGuard:
    """A guard over an open ledger."""

    guard: Guard
    ledger: Ledger
    clock: Clock


def open_guard(policy: Policy, settings: Settings, clock: Clock, prices: Prices | None = None) -> OpenGuard:
    """Open the ledger, settle what dead owners left, and join everything. Raises LedgerError.

    Without `prices` the policy's own and the bundled sheet's are used.
    """
    opened = open_for_use(
        settings.ledger_url,
        settings.data_dir,
        clock=clock,
        rehearsal=settings.rehearsal,
        spends_really=not settings.upstream_is_local,
    )
    for found in opened.recovered:
        log.warning("%s", found.message)
    if not (settings.upstream_is_local or settings.rehearsal):
        here = Whereabouts(opened.ledger.identity, opened.ledger.place)
        moved = note_ledger(settings.data_dir, policy.account.name, here, clock.now())
        if moved is not None:
            log.warning("%s", moved)
    guard = Guard(
        policy,
        ledger=opened.ledger,
        clock=clock,
        prices=prices or price_book(policy.account.prices, policy.account.billing),
        windows=partial(stream_windows, policy, settings),
        meter_dir=opened.meter_dir,
        host=opened.host,
        may_lose_commits=opened.may_lose_commits,
    )
    return OpenGuard(guard, opened.ledger, clock)


def stream_windows(policy: Policy, settings: Settings, stream: Stream) -> StreamWindows:
    """A stream's windows, compiled once per machine."""
    return StreamWindows(WindowBook(stream, policy.timezone, cache_dir=settings.cache_dir))


def metadata_cache(settings: Settings) -> MetadataCache:
    """What the vendor's metadata has already answered on this machine."""
    from budget_guard.vendor.cache import MetadataCache

    return MetadataCache(settings.metadata_path)


def fetch_prices(policy: Policy, vendor: VendorClient, *, strict: bool = False) -> PriceBook:
    """The account's own prices for every dataset of the policy.

    Where the vendor gives none: what it said in the last day, or else the bundled sheet. Raises
    KeyRejected: a wrong key is no reason to go on with list prices. `strict` raises every VendorError.
    """
    listed: dict[str, dict[str, dict[str, Decimal]]] = {}
    for dataset in sorted({stream.dataset for stream in policy.streams.values()}):
        try:
            listed[dataset] = vendor.fetch_unit_prices(dataset)
        except KeyRejected:
            raise
        except VendorError as error:
            if strict:
                raise
            kept = vendor.kept_unit_prices(dataset)
            if kept is not None:
                listed[dataset] = kept
            place = "the bundled sheet" if kept is None else "the last day's answer"
            log.warning("prices of %s come from %s: %s", dataset, place, error)
    read = {dataset: vendor.unit_prices_read_utc(dataset) for dataset in listed}
    known = {dataset: when for dataset, when in read.items() if when is not None}
    return price_book(policy.account.prices, policy.account.billing, listed, known)


@dataclass(frozen=True, slots=True)
class OpenGateway:
    """A gateway that listens, and the guard behind it."""

    host: GatewayHost
    opened: OpenGuard
    cache: MetadataCache

    def close(self) -> bool:
        """End and settle everything, then close the ledger; False when not all ended in time. Safe to call twice."""
        try:
            self.host.stop()
        except TimeoutError:
            log.error("some connections did not end in time; what they used is settled at the next start")
            return False
        finally:
            self.opened.ledger.close()
            self.cache.close()
        return True


def open_gateway(
    policy: Policy,
    settings: Settings,
    clock: Clock,
    *,
    approve: Callable[[Quote], bool] | None = None,
    look_every_s: float | None = None,
    listen: Listen | None = None,
    tokens: TokenStore | None = None,
) -> OpenGateway:
    """A gateway for this policy, on the loopback unless `listen` says otherwise. With `tokens` it is a service.

    Raises SettingsError, LedgerError, VendorError, TokenError, and OSError when it cannot listen.
    `look_every_s` is how often its connections look at the clock, which a rehearsal's clock outruns.
    """
    from budget_guard.gateway.historical.door import VENDOR_URL, DoorTerms
    from budget_guard.gateway.host import GatewayHost
    from budget_guard.gateway.live.upstream import Endpoint
    from budget_guard.vendor.client import VendorClient
    from budget_guard.vendor.pacing import Pacer

    require_safe_rehearsal(settings)
    key = _require_key(settings)
    with ExitStack() as undo:
        cache = metadata_cache(settings)
        undo.callback(cache.close)
        # Questions of the guard's own and those that it passes on share the vendor's one limit.
        pacer = Pacer(clock)
        vendor = VendorClient(
            key,
            settings.historical_gateway,
            cache=cache,
            clock=clock,
            pacer=pacer,
            prices_kept=timedelta(0),
        )
        renew = partial(fetch_prices, policy, vendor, strict=True)
        prices = RenewedPrices(fetch_prices(policy, vendor), renew, clock)
        opened = open_guard(policy, settings, clock, prices)
        undo.callback(opened.ledger.close)
        door = DoorTerms(
            vendor,
            settings.historical_gateway or VENDOR_URL,
            approve,
            pacer.wait,
            keeping_terms(policy),
            prices.doubt,
        )
        host = GatewayHost(
            opened.guard,
            key=key,
            live=Endpoint(*(settings.live_gateway or ())),
            door=door,
            look_every_s=look_every_s,
            listen=listen,
            store=tokens,
        )
        host.start()
        undo.pop_all()
    return OpenGateway(host, opened, cache)


def _require_key(settings: Settings) -> str:
    """Raises KeyRejected: there is nothing to guard without one."""
    if settings.key is None:
        raise KeyRejected(
            "DATABENTO_API_KEY is not set", advice="set it to the key that the guard is to stand in front of"
        )
    return settings.key


def history_folder(policy: Policy) -> Path | None:
    """Where a policy's answers are kept; a relative folder starts at the policy's own."""
    cache = policy.historical.cache
    if cache is None:
        return None
    beside = Path() if policy.path is None else Path(policy.path).parent
    return (beside / Path(cache.folder).expanduser()).absolute()


def keeping_terms(policy: Policy) -> KeepingTerms | None:
    from budget_guard.gateway.historical.room import KeepingTerms

    folder, cache = history_folder(policy), policy.historical.cache
    if folder is None or cache is None:
        return None
    days = None if cache.keep_days is None else timedelta(days=min(cache.keep_days, _DAYS_MAX))
    return KeepingTerms(folder, days)


def require_safe_rehearsal(settings: Settings) -> None:
    """Raise SettingsError for a rehearsal in which a request could still reach the vendor."""
    if settings.rehearsal and not settings.upstream_is_local:
        live = settings.live_gateway is None
        raise SettingsError(
            f"BUDGET_GUARD_NOW is set and {'BUDGET_GUARD_LIVE_GATEWAY' if live else 'BUDGET_GUARD_HISTORICAL_GATEWAY'} "
            "is not: a rehearsal may not reach the vendor, so point both at this machine's loopback"
        )

"""What Python users call for a plan or a review: the same answers as the commands give, as values.

The environment says which key, ledger and upstream are used (see `budget_guard.settings`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from budget_guard.clock import month_bounds, month_of
from budget_guard.loading import load_policy
from budget_guard.policy.model import Policy
from budget_guard.settings import Settings, load_settings

if TYPE_CHECKING:
    from budget_guard.ledger.recovery import Recovered
    from budget_guard.planning.asking import Progress
    from budget_guard.planning.model import Plan, PriceReport
    from budget_guard.reviewing.model import Review
    from budget_guard.vendor.client import VendorClient


def plan(
    policy: Policy | str | Path,
    month: str | None = None,
    *,
    offline: bool = False,
    refresh: bool = False,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Plan:
    """What a billing month (`YYYY-MM`, UTC; default the current one) of a policy will cost.

    Without a key, or `offline`, nobody is asked: the policy's own figures and the bundled sheet and profiles are
    used. With `refresh` the vendor is asked again for what is kept on disk. A figure that nobody knows is None,
    with its reason, and makes the verdict "unknown".

    Raises PolicyError, SettingsError, CalendarUnknown; ValueError for what is no month; KeyRejected and
    PaymentRequired when the vendor says so.
    """
    from budget_guard.planning.calendar import market_calendar
    from budget_guard.planning.plan import plan as make_plan

    settings = settings or load_settings()
    loaded = policy if isinstance(policy, Policy) else load_policy(policy, cache_dir=settings.cache_dir)
    now = settings.clock().now()
    month = _checked_month(month or month_of(now))
    with open_metadata(settings, offline=offline, refresh=refresh) as vendor:
        return make_plan(
            loaded,
            month,
            now=now,
            vendor=vendor,
            offline=offline,
            calendar=market_calendar(settings.cache_dir),
            progress=progress,
        )


def prices(
    policy: Policy | str | Path | None = None,
    *,
    offline: bool = False,
    refresh: bool = False,
    settings: Settings | None = None,
) -> PriceReport:
    """Every price of a policy, or of the whole bundled sheet: which applies, where it comes from, and which lost.

    Raises PolicyError, SettingsError; KeyRejected and PaymentRequired when the vendor says so.
    """
    from budget_guard.planning.asking import Desk
    from budget_guard.planning.prices import price_report

    settings = settings or load_settings()
    loaded = policy if policy is None or isinstance(policy, Policy) else load_policy(policy)
    with open_metadata(settings, offline=offline, refresh=refresh) as vendor:
        now = settings.clock().now()
        return price_report(loaded, None if vendor is None else Desk(vendor, now), now)


def review(
    policy: Policy | str | Path,
    month: str | None = None,
    *,
    plan_usd: Decimal | None = None,
    settings: Settings | None = None,
    on_recovered: Callable[[Recovered], None] | None = None,
) -> Review:
    """What a billing month (`YYYY-MM`, UTC; default the current one) of a policy's account came to.

    What programs that died left in the ledger is settled first; `on_recovered` hears of each.

    Raises PolicyError, SettingsError, LedgerError; ValueError for what is no month.
    """
    from budget_guard.ledger.backends import need_file
    from budget_guard.ledger.opening import open_for_use
    from budget_guard.reviewing.review import review as make_review

    settings = settings or load_settings()
    loaded = policy if isinstance(policy, Policy) else load_policy(policy, cache_dir=settings.cache_dir)
    clock = settings.clock()
    month = _checked_month(month or month_of(clock.now()))
    need_file(settings.ledger_url)
    opened = open_for_use(settings.ledger_url, settings.data_dir, clock=clock, rehearsal=settings.rehearsal)
    try:
        for recovered in opened.recovered:
            if on_recovered is not None:
                on_recovered(recovered)
        return make_review(loaded, opened.ledger, month, now=clock.now(), plan_usd=plan_usd)
    finally:
        opened.ledger.close()


def _checked_month(month: str) -> str:
    """Raises ValueError unless it is `YYYY-MM`."""
    month_bounds(month)
    return month


@contextmanager
def open_metadata(
    settings: Settings, *, offline: bool = False, refresh: bool = False
) -> Iterator[VendorClient | None]:
    """The vendor's metadata for the key in the environment, kept on disk; None without a key, or offline."""
    if offline or settings.key is None:
        yield None
        return
    from budget_guard.vendor.cache import MetadataCache
    from budget_guard.vendor.client import VendorClient

    cache = MetadataCache(settings.metadata_path)
    try:
        yield VendorClient(
            settings.key,
            settings.historical_gateway,
            cache=cache,
            clock=settings.clock(),
            refresh=refresh,
        )
    finally:
        cache.close()

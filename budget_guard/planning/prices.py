"""Every price that applies to a policy, where it comes from, and which other price it won over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal

from budget_guard.planning.asking import Desk
from budget_guard.planning.model import PlanTerms, PriceReport, PriceRow, ReachRow, Unknown
from budget_guard.policy.model import Account, LiveBilling, Mode, Policy
from budget_guard.pricing.book import PriceBook, price_book
from budget_guard.pricing.history import HISTORY_SOURCE, LEVELS, plan_history
from budget_guard.pricing.sheet import (
    PLAN_FAMILIES,
    PLAN_FEES_SOURCE,
    SHEET,
    VENUE_LICENCES,
    plan_family,
    plan_fee,
)

_MODES: tuple[Mode, ...] = ("live", "historical")
_NO_ACCOUNT = Account("")
_ZERO = Decimal(0)

# (dataset, schema) -> the streams that use it, by mode.
_Used = dict[tuple[str, str], dict[Mode, list[str]]]


def price_report(policy: Policy | None, desk: Desk | None, now: datetime) -> PriceReport:
    """The prices of a policy's schemas and of those under `cheaper:`; without a policy, of everything known.

    Raises KeyRejected and PaymentRequired when the vendor says so.
    """
    account = _NO_ACCOUNT if policy is None else policy.account
    datasets = _datasets(policy)
    book = book_of(account, datasets, desk)
    used = _used(policy)
    rows = [
        _row(book, dataset, schema, mode, used.get((dataset, schema), {}).get(mode, ()), now)
        for dataset in datasets
        for schema in _schemas(book, dataset, policy, used)
        for mode in _MODES
    ]
    plans = _all_plans(now) if policy is None else _plans_of(policy, now)
    return PriceReport(
        policy=None if policy is None else policy.name,
        at_utc=now,
        source=_source(desk),
        rows=tuple(row for row in rows if policy is not None or row.price is not None),
        plans=tuple(plans),
        notes=() if desk is None else tuple(dict.fromkeys(desk.notes)),
    )


def book_of(account: Account, datasets: Sequence[str], desk: Desk | None) -> PriceBook:
    """Every price of an account: its own, the vendor's for these datasets if there is a desk to ask, the sheet's."""
    if desk is None:
        return price_book(account.prices, account.billing)
    listed = desk.unit_prices(datasets)
    return price_book(account.prices, account.billing, listed, desk.prices_read_utc(listed))


def why_no_price(book: PriceBook, dataset: str, schema: str, mode: Mode) -> Unknown:
    """The reason that stands where a price does not."""
    if mode == "live" and dataset in book.not_sold:
        return Unknown(
            "not_entitled", f"live data of {dataset} is not sold to this account (`billing: {{live: none}}`)"
        )
    return Unknown(
        "price_unknown",
        f"no price is known of {dataset} {schema} {mode}: set DATABENTO_API_KEY to read the account's, "
        "or write it under `prices:`",
    )


def _datasets(policy: Policy | None) -> list[str]:
    if policy is None:
        return sorted(SHEET)
    return list(dict.fromkeys(stream.dataset for stream in policy.streams.values()))


def _used(policy: Policy | None) -> _Used:
    used: _Used = {}
    for stream in () if policy is None else policy.streams.values():
        used.setdefault((stream.dataset, stream.schema), {}).setdefault(stream.mode, []).append(stream.name)
        for schema in stream.cheaper:
            used.setdefault((stream.dataset, schema), {})
    return used


def _schemas(book: PriceBook, dataset: str, policy: Policy | None, used: _Used) -> list[str]:
    if policy is not None:
        return [schema for of_dataset, schema in used if of_dataset == dataset]
    bundled: Iterable[str] = (*SHEET[dataset].historical, *SHEET[dataset].live)
    listed = (schema for prices in book.vendor.get(dataset, {}).values() for schema in prices)
    return list(dict.fromkeys((*bundled, *listed)))


def _row(
    book: PriceBook, dataset: str, schema: str, mode: Mode, used_by: Sequence[str], now: datetime
) -> PriceRow:
    price = book.price(dataset, schema, mode)
    known = book.candidates(dataset, schema, mode)
    return PriceRow(
        dataset,
        schema,
        mode,
        price,
        known if price is None else known[1:],
        book.included_from(dataset, schema, now) if mode == "historical" else None,
        tuple(used_by),
        why_no_price(book, dataset, schema, mode) if price is None else None,
    )


def _plans_of(policy: Policy, now: datetime) -> list[PlanTerms]:
    """The plans that the account has for the policy's datasets; those sold together are one."""
    groups: dict[tuple[str, str], dict[str, LiveBilling]] = {}
    for dataset in _datasets(policy):
        billing = policy.account.live_billing(dataset)
        if billing.kind == "flat":
            family = plan_family(dataset)
            key = (dataset if family is None else family.name, billing.plan or "flat")
            groups.setdefault(key, {})[dataset] = billing
    return [_terms(tuple(members), plan, members, now) for (_, plan), members in groups.items()]


def _all_plans(now: datetime) -> list[PlanTerms]:
    return [
        _terms(tuple(sorted(family.datasets)), plan, None, now)
        for family in PLAN_FAMILIES
        for plan in family.fees
    ]


def _terms(
    datasets: tuple[str, ...], plan: str, members: Mapping[str, LiveBilling] | None, now: datetime
) -> PlanTerms:
    fee = plan_fee(datasets[0], plan, now.date())
    licences = None if members is None else sum((one.license_usd for one in members.values()), _ZERO)
    history = tuple(
        ReachRow(reach.level, LEVELS[reach.level], reach.text, reach.start_utc(now))
        for reach in plan_history(datasets[0], plan)
    )
    source = f"{PLAN_FEES_SOURCE}; {HISTORY_SOURCE}" if history else PLAN_FEES_SOURCE
    return PlanTerms(
        datasets,
        plan,
        None if fee is None else fee[1],
        None if fee is None else fee[0],
        licences,
        history,
        source if fee is not None else f"no fee is known of a '{plan}' plan of {datasets[0]}",
        tuple(_plan_notes(datasets, plan, now.date(), has_history=bool(history))),
    )


def _plan_notes(datasets: Sequence[str], plan: str, today: date, *, has_history: bool) -> Iterable[str]:
    if not has_history:
        yield f"what history the {plan} plan includes is not known here: its history is priced by the list"
    for dataset in datasets:
        licence = VENUE_LICENCES.get(dataset)
        if licence is not None and licence.since <= today:
            yield (
                f"a venue's licence comes on top: the {licence.what} was {licence.fee_usd} USD a month "
                f"in {licence.since:%Y-%m}"
            )


def _source(desk: Desk | None) -> str:
    if desk is None:
        return "the policy's prices and the bundled sheet; the vendor was not asked"
    if desk.is_down:
        return f"the policy's prices and the bundled sheet; {desk.vendor.gateway} could not be reached"
    return f"the account's list at {desk.vendor.gateway}, the policy's prices and the bundled sheet"

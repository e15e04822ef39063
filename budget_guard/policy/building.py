"""The document as it was written to the domain's values: defaults filled in, shorthands gone."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from budget_guard.policy.document import (
    ALWAYS,
    AccountPart,
    BillingPart,
    BudgetPart,
    CachePart,
    HistoricalPart,
    MatchPart,
    PolicyPart,
    RecoveryPart,
    StreamPart,
    WindowPart,
)
from budget_guard.policy.fields import Unlimited
from budget_guard.policy.model import (
    CONNECTIONS_DEFAULT,
    Account,
    AlwaysClause,
    Budget,
    Credit,
    Edge,
    Fallback,
    HistoricalRules,
    HistoryCache,
    HoursClause,
    Limit,
    LiveBilling,
    Match,
    Policy,
    Recovery,
    SessionClause,
    Stream,
    WindowClause,
)


def build_policy(document: PolicyPart, path: str) -> Policy:
    """The domain's policy of a document; one that only holds an account and budgets is named like the account."""
    name = document.name or document.account.name or "unnamed"
    return Policy(
        name=name,
        timezone=document.timezone,
        account=_account(document.account, name),
        budgets=tuple(_budget(budget, document.timezone) for budget in document.budgets),
        streams={name: _stream(name, stream) for name, stream in document.streams.items()},
        historical=_historical(document.historical),
        path=path,
    )


def _finite(amount: Decimal | Unlimited | None) -> Decimal | None:
    return amount if isinstance(amount, Decimal) else None


def _account(part: AccountPart, policy_name: str) -> Account:
    return Account(
        name=part.name or policy_name,
        billing={dataset: _billing(billing) for dataset, billing in part.billing.items()},
        prices={
            (dataset, mode, schema): price
            for dataset, modes in part.prices.items()
            for mode, schemas in modes.items()
            for schema, price in schemas.items()
        },
        credits=tuple(Credit(credit.amount, credit.expires, credit.covers) for credit in part.credits),
        not_billed=_set(part.not_billed),
    )


def _billing(part: BillingPart) -> LiveBilling:
    allowed = CONNECTIONS_DEFAULT if part.connections is None else _finite(part.connections)
    return LiveBilling(
        part.live, part.plan, part.license or Decimal(0), None if allowed is None else int(allowed)
    )


def _budget(part: BudgetPart, timezone: str) -> Budget:
    limits = tuple(
        Limit(period, unit, _finite(amount))
        for period, limit in part.limits()
        for unit, amount in limit.amounts()
    )
    alerts_to = _set(part.alerts_to or ("log",))
    return Budget(part.name, limits, _match(part.match), part.alerts, timezone, alerts_to)


def _match(part: MatchPart | None) -> Match:
    if part is None:
        return Match()
    return Match(
        stream=_set(part.stream),
        dataset=_set(part.dataset),
        schema=_set(part.schema_),
        mode=_set(part.mode),
    )


def _set(items: Iterable[Any] | None) -> frozenset[Any]:
    return frozenset(items or ())


def _stream(name: str, part: StreamPart) -> Stream:
    return Stream(
        name=name,
        dataset=part.dataset,
        schema=part.schema_,
        symbols=part.symbols,
        stype_in=part.stype_in,
        mode=part.mode,
        market=part.market,
        windows=tuple(_window(window) for window in part.windows or ()),
        gib_per_session=None if part.volume is None else part.volume.gib_per_session,
        cheaper=part.cheaper or (),
        recovery=_recovery(part.recovery),
        fallback=tuple(Fallback(fallback.name, fallback.run) for fallback in part.fallback),
    )


def _window(part: WindowPart) -> WindowClause:
    if part is ALWAYS:
        return AlwaysClause()
    days, skip, only = _set(part.days), _set(part.skip), _set(part.only)
    if part.hours is not None:
        start, end = part.hours
        return HoursClause(start, end, days, skip, only)
    assert part.session is not None  # the part's own rule: one of the two
    return SessionClause(
        part.session, part.start or Edge("open"), part.end or Edge("close"), days, skip, only
    )


def _recovery(part: RecoveryPart | None) -> Recovery:
    usual = Recovery()
    if part is None:
        return usual
    return Recovery(
        replay=usual.replay if part.replay is None else part.replay,
        spend_usd=usual.spend_usd if part.spend is None else _finite(part.spend),
        client_replay=usual.client_replay if part.client_replay is None else part.client_replay,
    )


def _historical(part: HistoricalPart) -> HistoricalRules:
    return HistoricalRules(
        _finite(part.max_request),
        _finite(part.approve_above),
        part.all_symbols,
        part.buy_again,
        None if part.cache is None else _cache(part.cache),
    )


def _cache(part: CachePart) -> HistoryCache:
    days = _finite(part.keep_days)
    return HistoryCache(part.folder, None if days is None else int(days))

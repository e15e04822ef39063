"""The sandbox that stands for the vendor: with the prices, plans, rights and volumes that the policy speaks of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from budget_guard.clock import Clock
from budget_guard.money import bytes_from_gib
from budget_guard.policy.model import Mode, Policy, Stream
from budget_guard.pricing.history import LEVELS, included_history
from budget_guard.pricing.sheet import RECORD_BYTES

if TYPE_CHECKING:
    from budget_guard.sandbox.config import FlatPlan, SandboxConfig
    from budget_guard.sandbox.prices import DatasetPrices

# What a symbol is about: NQ.v.0, NQ.FUT and NQZ6 about NQ, SPY about itself.
_ROOT = re.compile(r"(?P<root>[A-Z0-9]+?)(?:\.[cvn]\.\d+|\.FUT|[FGHJKMNQUVXZ]\d{1,2})")
_OURS = frozenset({"host", "live_port", "http_port", "clock", "rate", "bill_path"})
# A market second of lag means nothing where a market second takes a millisecond: a slow program sets the pace instead.
_NEVER_SLOW_S = 1e9
# How much longer the vendor's plan reaches back than the guard counts on: an edge of a day, and months of 31 days.
_MONTH_DAYS, _EDGE_DAYS = 31, 2


def vendor_config(policy: Policy, clock: Clock, *, seed: int) -> SandboxConfig:
    """A sandbox at the market's own pace, for this policy's account."""
    from budget_guard.sandbox.config import SandboxConfig
    from budget_guard.sandbox.prices import DEFAULT_PRICES

    datasets = sorted({stream.dataset for stream in policy.streams.values()})
    not_sold = {name for name in datasets if policy.account.live_billing(name).kind == "none"}
    prices = {**DEFAULT_PRICES, **{dataset: _prices(policy, dataset) for dataset in datasets}}
    return SandboxConfig(
        clock=clock,
        seed=seed,
        rate=None,
        prices=prices,
        plans=_plans(policy, datasets),
        live_entitlements=frozenset(prices) - not_sold if not_sold else None,
        records_per_session=_volumes(policy.streams.values()),
        products=_products(policy.streams.values()),
        slow_reader_s=_NEVER_SLOW_S,
    )


def with_scenario(config: SandboxConfig, scenario: SandboxConfig) -> SandboxConfig:
    """The configuration with everything that a scenario sets, but for its clock, its pace and its ports."""
    from budget_guard.sandbox.config import SandboxConfig

    ordinary = SandboxConfig(clock=scenario.clock)
    given = {
        field.name: getattr(scenario, field.name)
        for field in fields(scenario)
        if field.name not in _OURS and getattr(scenario, field.name) != getattr(ordinary, field.name)
    }
    if "prices" in given:
        changed = {
            name: said
            for name, said in scenario.prices.items()
            if ordinary.prices.get(name) != said and (said.historical or said.live)
        }
        given["prices"] = {**config.prices, **changed}
    for name in ("records_per_session", "products"):
        given[name] = {**getattr(config, name), **getattr(scenario, name)}
    return replace(config, **given)


def product_of(symbol: str) -> str:
    """The product that a symbol is about."""
    match = _ROOT.fullmatch(symbol)
    return symbol if match is None else match["root"]


def _prices(policy: Policy, dataset: str) -> DatasetPrices:
    """The published prices, with the policy's own in their place; None for what nobody knows."""
    from budget_guard.sandbox.prices import DEFAULT_PRICES, DatasetPrices

    listed = DEFAULT_PRICES.get(dataset, DatasetPrices({}))
    offered: dict[str, Decimal | None] = {
        stream.schema: None for stream in policy.streams.values() if stream.dataset == dataset
    }

    def own(mode: Mode) -> dict[str, Decimal]:
        given = policy.account.prices.items()
        return {schema: price for (name, kind, schema), price in given if (name, kind) == (dataset, mode)}

    return DatasetPrices(
        {**offered, **listed.historical, **own("historical")}, {**listed.live, **own("live")}
    )


def _plans(policy: Policy, datasets: Iterable[str]) -> dict[str, FlatPlan]:
    from budget_guard.sandbox.config import FlatPlan

    plans = {}
    for dataset in datasets:
        billing = policy.account.live_billing(dataset)
        if billing.kind == "flat":
            reach = {
                schema: included_history(dataset, billing.plan or "", schema)
                for schemas in LEVELS.values()
                for schema in schemas
            }
            days = {
                schema: _MONTH_DAYS * found.months + _EDGE_DAYS
                for schema, found in reach.items()
                if found is not None
            }
            plans[dataset] = FlatPlan(live=True, history_days=days)
    return plans


def _volumes(streams: Iterable[Stream]) -> dict[tuple[str, str], int]:
    """The policy's own figures for a full session, shared evenly between the products of a stream."""
    volumes = {}
    for stream in streams:
        record_bytes = RECORD_BYTES.get(stream.schema)
        if stream.gib_per_session is not None and record_bytes and "ALL_SYMBOLS" not in stream.symbols:
            products = sorted({product_of(symbol) for symbol in stream.symbols})
            each = bytes_from_gib(stream.gib_per_session) // record_bytes // len(products)
            volumes.update({(stream.schema, product): each for product in products})
    return volumes


def _products(streams: Iterable[Stream]) -> dict[str, tuple[str, ...]]:
    """What the policy names, so that the sandbox trades it; numbers and whole datasets name nothing."""
    named: dict[str, list[str]] = {}
    for stream in streams:
        if stream.stype_in != "instrument_id":
            named.setdefault(stream.dataset, []).extend(
                product_of(symbol)
                for symbol in stream.symbols
                if symbol != "ALL_SYMBOLS" and not symbol.endswith(".OPT")
            )
    return {dataset: tuple(dict.fromkeys(names)) for dataset, names in named.items()}

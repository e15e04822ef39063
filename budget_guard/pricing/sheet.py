"""The bundled price sheet: what data cost when somebody last looked, each row with its date, grade and source.

It is the last resort: a policy's override and the account's own price list come first. What is not in it is
unknown and stays so. Prices are USD per GiB (2**30 bytes) of historical data; live prices are given only where
live data was seen to be sold by the byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Literal

from budget_guard.pricing.model import UnitPrice

Grade = Literal["published", "measured"]

# Bytes of one DBN v3 record. Billable size is record count x record size.
RECORD_BYTES: Mapping[str, int] = {
    "mbo": 56,
    "mbp-1": 80,
    "mbp-10": 368,
    "trades": 48,
    "tbbo": 80,
    "bbo-1s": 80,
    "bbo-1m": 80,
    "cmbp-1": 80,
    "cbbo-1s": 80,
    "cbbo-1m": 80,
    "tcbbo": 80,
    "ohlcv-1s": 56,
    "ohlcv-1m": 56,
    "ohlcv-1h": 56,
    "ohlcv-1d": 56,
    "definition": 520,
    "statistics": 80,
    "status": 40,
    "imbalance": 112,
}
# What `ts_out` adds to every record.
TS_OUT_BYTES = 8

# Measured 2026-08-15 on three datasets: a live byte costs this many times a historical one.
LIVE_FACTOR = Decimal("1.2")


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One dataset's prices. `live_factor` None: no live price follows from the historical ones."""

    as_of: date
    grade: Grade
    source: str
    historical: Mapping[str, Decimal] = field(default_factory=dict)
    live: Mapping[str, Decimal] = field(default_factory=dict)
    live_factor: Decimal | None = None


def _prices(text: str) -> dict[str, Decimal]:
    """`"mbo 1.80, bbo-1s/1m 18"` as prices by schema; a part after `/` shares the prefix before the dash."""
    prices = {}
    for item in text.split(", "):
        names, price = item.rsplit(" ", 1)
        first, *others = names.split("/")
        prefix = first.rsplit("-", 1)[0]
        for name in (first, *(f"{prefix}-{other}" for other in others)):
            prices[name] = Decimal(price)
    return prices


SHEET: Mapping[str, SheetRow] = {
    "GLBX.MDP3": SheetRow(
        as_of=date(2026, 6, 12),
        grade="measured",
        source="list_unit_prices as read on that day, the same on 2026-09-26",
        historical=_prices(
            "mbo 1.80, mbp-1 1.80, mbp-10 0.50, trades 28, tbbo 28, bbo-1s/1m 18, ohlcv-1s/1m 70, "
            "ohlcv-1h/1d 190, definition 1.70, statistics 1.00, status 4.00"
        ),
        live_factor=LIVE_FACTOR,
    ),
    "OPRA.PILLAR": SheetRow(
        as_of=date(2026, 11, 22),
        grade="published",
        source="an example in the vendor's documentation, as it stood on that day",
        historical=_prices(
            "cmbp-1 0.16, cbbo-1s/1m 2, tcbbo 210, trades 280, ohlcv-1s/1m 280, ohlcv-1h/1d 600, "
            "statistics 11, status 5, definition 5"
        ),
    ),
    "EQUS.MINI": SheetRow(
        as_of=date(2026, 8, 15),
        grade="measured",
        source="list_unit_prices as read in August 2026",
        historical=_prices(
            "mbp-1 1.20, trades 6, tbbo 6, bbo-1s/1m 4, ohlcv-1s/1m 12, ohlcv-1h/1d 30, definition 16"
        ),
        live_factor=LIVE_FACTOR,
    ),
    "DBEQ.BASIC": SheetRow(
        as_of=date(2026, 8, 15),
        grade="measured",
        source="list_unit_prices as read in August 2026",
        historical=_prices("ohlcv-1m 35"),
        live_factor=LIVE_FACTOR,
    ),
    "XNAS.ITCH": SheetRow(
        as_of=date(2026, 8, 15),
        grade="measured",
        source="list_unit_prices as read in August 2026",
        live=_prices("mbo 1.44"),
    ),
}


def sheet_price(dataset: str, schema: str, mode: str) -> UnitPrice | None:
    """The bundled price of a schema in mode `live` or `historical`, or None: unknown, which is never zero."""
    row = SHEET.get(dataset)
    if row is None:
        return None
    usd_per_gib = row.historical.get(schema)
    derived = ""
    if mode == "live":
        historical, usd_per_gib = usd_per_gib, row.live.get(schema)
        if usd_per_gib is None and historical is not None and row.live_factor is not None:
            usd_per_gib = historical * row.live_factor
            derived = f"; live is {row.live_factor} x historical, measured 2026-08-15"
    if usd_per_gib is None:
        return None
    source = f"bundled sheet of {row.as_of} ({row.grade}), {row.source}{derived}"
    return UnitPrice(usd_per_gib, "sheet", source, row.as_of, grade=row.grade)


@dataclass(frozen=True, slots=True)
class PlanFamily:
    """Plans that are sold together: one fee covers every dataset of the family.

    `fees` maps a plan to its monthly fee in USD from a day on, oldest first; before the first nothing is known.
    `metered_until` is when live data stopped being sold by the byte to new subscribers; those before keep it.
    """

    name: str
    datasets: frozenset[str]
    fees: Mapping[str, tuple[tuple[date, Decimal], ...]]
    metered_until: date


# By-the-byte live data was replaced by these plans on the first date of each; the CME's fees rose in July 2026.
_CME_START, _CME_RISE = date(2025, 4, 16), date(2026, 7, 1)
PLAN_FAMILIES: tuple[PlanFamily, ...] = (
    PlanFamily(
        "CME",
        frozenset({"GLBX.MDP3"}),
        {
            "standard": ((_CME_START, Decimal(179)), (_CME_RISE, Decimal(199))),
            "plus": ((_CME_START, Decimal(1500)), (_CME_RISE, Decimal(1750))),
            "unlimited": ((_CME_START, Decimal(4000)), (_CME_RISE, Decimal(4500))),
        },
        _CME_START,
    ),
    PlanFamily(
        "OPRA",
        frozenset({"OPRA.PILLAR"}),
        {"standard": ((date(2025, 6, 3), Decimal(199)),)},
        date(2025, 6, 3),
    ),
    PlanFamily(
        "US equities",
        frozenset({"EQUS.MINI", "DBEQ.BASIC", "XNAS.ITCH"}),
        {"standard": ((date(2025, 1, 1), Decimal(199)),)},
        date(2025, 1, 1),
    ),
)
PLAN_FEES_SOURCE = "the vendor's published plan fees, as they stood on 2026-11-22"


def plan_family(dataset: str) -> PlanFamily | None:
    """The plans that a dataset is sold under, or None where none is known."""
    return next((family for family in PLAN_FAMILIES if dataset in family.datasets), None)


def plan_fee_usd(dataset: str, plan: str, on: date) -> Decimal | None:
    """The monthly fee of a plan (`standard`, `plus`, `unlimited`) on a day, without licences; None is unknown."""
    fee = plan_fee(dataset, plan, on)
    return None if fee is None else fee[1]


def plan_fee(dataset: str, plan: str, on: date) -> tuple[date, Decimal] | None:
    """The fee that applies on a day, and since when it does; None is unknown."""
    family = plan_family(dataset)
    fees = () if family is None else family.fees.get(plan.lower(), ())
    return next((fee for fee in reversed(fees) if fee[0] <= on), None)


@dataclass(frozen=True, slots=True)
class VenueLicence:
    """What a venue asks for by the month on top of a plan, for one kind of subscriber."""

    fee_usd: Decimal
    since: date
    what: str


# A licence's fee depends on who subscribes. What an account pays is the policy's to say; these are for orientation.
VENUE_LICENCES: Mapping[str, VenueLicence] = {
    "GLBX.MDP3": VenueLicence(Decimal("36.50"), date(2026, 1, 1), "CME non-professional depth bundle"),
}

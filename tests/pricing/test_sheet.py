"""The bundled sheet says what was seen, and nothing else."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from budget_guard.money import cost_nano_usd, usd_from_nano
from budget_guard.pricing.sheet import RECORD_BYTES, SHEET, plan_family, plan_fee_usd, sheet_price


@pytest.mark.parametrize(
    ("dataset", "schema", "mode", "usd"),
    [
        ("GLBX.MDP3", "mbo", "historical", "1.80"),
        ("GLBX.MDP3", "mbo", "live", "2.16"),
        ("GLBX.MDP3", "mbp-10", "historical", "0.50"),
        ("GLBX.MDP3", "trades", "live", "33.6"),
        ("GLBX.MDP3", "bbo-1s", "historical", "18"),
        ("GLBX.MDP3", "bbo-1m", "historical", "18"),
        ("GLBX.MDP3", "ohlcv-1m", "historical", "70"),
        ("GLBX.MDP3", "ohlcv-1d", "historical", "190"),
        ("GLBX.MDP3", "status", "historical", "4.00"),
        ("OPRA.PILLAR", "cmbp-1", "historical", "0.16"),
        ("OPRA.PILLAR", "tcbbo", "historical", "210"),
        ("OPRA.PILLAR", "cbbo-1m", "historical", "2"),
        ("EQUS.MINI", "tbbo", "historical", "6"),
        ("EQUS.MINI", "mbp-1", "live", "1.44"),
        ("DBEQ.BASIC", "ohlcv-1m", "historical", "35"),
        ("XNAS.ITCH", "mbo", "live", "1.44"),
    ],
)
def test_a_price_on_the_sheet_is_exact(dataset: str, schema: str, mode: str, usd: str) -> None:
    """A price that was seen is given to the cent and says where and when it was seen."""
    price = sheet_price(dataset, schema, mode)
    assert price is not None
    assert price.usd_per_gib == Decimal(usd)
    assert price.kind == "sheet"
    assert price.as_of == SHEET[dataset].as_of
    assert price.source.startswith(f"bundled sheet of {price.as_of} ({SHEET[dataset].grade}), ")


@pytest.mark.parametrize(
    ("dataset", "schema", "mode"),
    [
        ("IFEU.IMPACT", "mbo", "historical"),
        ("NDEX.IMPACT", "trades", "historical"),
        ("XEUR.EOBI", "mbo", "live"),
        ("XCBF.PITCH", "mbo", "live"),
        ("GLBX.MDP3", "imbalance", "historical"),
        ("XNAS.ITCH", "mbo", "historical"),
        ("XNAS.ITCH", "trades", "live"),
        ("OPRA.PILLAR", "cmbp-1", "live"),
    ],
)
def test_what_was_never_seen_is_unknown(dataset: str, schema: str, mode: str) -> None:
    """A price that nobody has seen is None, never zero and never worked out from another dataset's."""
    assert sheet_price(dataset, schema, mode) is None


def test_the_vendors_documented_pair_of_size_and_cost_is_reproduced() -> None:
    """99,219,648 bytes at $28 cost what the vendor's own documentation says, to the nano-dollar."""
    assert usd_from_nano(cost_nano_usd(99_219_648, Decimal(28))) == Decimal("2.587353945")


def test_every_priced_schema_has_a_record_size() -> None:
    """A schema on the sheet is a schema whose records can be counted."""
    priced = {schema for row in SHEET.values() for schema in (*row.historical, *row.live)}
    assert priced <= RECORD_BYTES.keys()
    assert (RECORD_BYTES["mbo"], RECORD_BYTES["trades"], RECORD_BYTES["mbp-10"]) == (56, 48, 368)


@pytest.mark.parametrize(
    ("dataset", "plan", "on", "usd"),
    [
        ("GLBX.MDP3", "standard", date(2026, 6, 30), 179),
        ("GLBX.MDP3", "standard", date(2026, 7, 1), 199),
        ("GLBX.MDP3", "plus", date(2026, 6, 30), 1500),
        ("GLBX.MDP3", "plus", date(2026, 11, 1), 1750),
        ("GLBX.MDP3", "unlimited", date(2026, 1, 1), 4000),
        ("GLBX.MDP3", "Unlimited", date(2026, 11, 1), 4500),
        ("OPRA.PILLAR", "standard", date(2026, 11, 1), 199),
        ("XNAS.ITCH", "standard", date(2026, 11, 1), 199),
        ("GLBX.MDP3", "standard", date(2025, 4, 15), None),
        ("OPRA.PILLAR", "plus", date(2026, 11, 1), None),
        ("XEUR.EOBI", "standard", date(2026, 11, 1), None),
        ("GLBX.MDP3", "gold", date(2026, 11, 1), None),
    ],
)
def test_a_plan_fee_is_that_of_its_day(dataset: str, plan: str, on: date, usd: int | None) -> None:
    """A fee follows its dates of change; a plan or a dataset that nobody knows has no fee, not a fee of zero."""
    assert plan_fee_usd(dataset, plan, on) == (None if usd is None else Decimal(usd))


def test_one_plan_covers_its_whole_family() -> None:
    """The US equities plan is one plan, whichever of its datasets is named."""
    assert plan_family("XNAS.ITCH") is plan_family("EQUS.MINI")
    assert plan_family("IFUS.IMPACT") is None

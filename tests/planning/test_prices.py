"""Every price says where it comes from, how old it is, and what it won over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal

import pytest

from budget_guard.errors import KeyRejected, NotEntitled
from budget_guard.planning.asking import Desk
from budget_guard.planning.model import PriceReport, PriceRow
from budget_guard.planning.prices import price_report
from budget_guard.policy.model import LiveBilling, Policy
from budget_guard.pricing.sheet import PLAN_FAMILIES, SHEET
from tests.planning.desk import GLBX, NOW, FakeVendor, policy, stream

LIST: Mapping[str, Mapping[str, Decimal]] = {
    "live": {"mbo": Decimal("2.50")},
    "historical-streaming": {"mbo": Decimal("2.00")},
}


def reported(whole: Policy | None, vendor: FakeVendor | None = None) -> PriceReport:
    return price_report(whole, None if vendor is None else Desk(vendor, NOW), NOW)


def row(report: PriceReport, schema: str = "mbo", mode: str = "live", dataset: str = GLBX) -> PriceRow:
    found = [one for one in report.rows if (one.dataset, one.schema, one.mode) == (dataset, schema, mode)]
    assert len(found) == 1
    return found[0]


def test_a_policy_has_its_schemas_and_their_alternatives_in_both_modes() -> None:
    """What its streams use says which stream does; what `cheaper:` names is there to compare."""
    report = reported(policy(stream("a", cheaper=("mbp-1",)), stream("b", mode="historical")))
    assert [(one.schema, one.mode, one.used_by) for one in report.rows] == [
        ("mbo", "live", ("a",)),
        ("mbo", "historical", ("b",)),
        ("mbp-1", "live", ()),
        ("mbp-1", "historical", ()),
    ]


def test_the_order_is_plan_override_account_sheet() -> None:
    """Each price that lost is there with its own source."""
    prices = {(GLBX, "live", "mbo"): Decimal(3)}
    billing = {GLBX: LiveBilling("flat", "standard", Decimal("36.50"))}
    vendor = FakeVendor(prices=LIST, asked_utc=NOW - timedelta(hours=3))
    metered = row(reported(policy(stream(), prices=prices), vendor))
    flat = row(reported(policy(stream(), prices=prices, billing=billing), vendor))
    assert metered.price is not None and flat.price is not None
    assert [metered.price.kind, *(lost.kind for lost in metered.lost)] == ["override", "vendor", "sheet"]
    assert [flat.price.kind, *(lost.kind for lost in flat.lost)] == ["plan", "override", "vendor", "sheet"]
    assert metered.lost[0].read_utc == NOW - timedelta(hours=3)


def test_history_says_from_when_on_a_plan_includes_it() -> None:
    """The price is of what is older."""
    billing = {GLBX: LiveBilling("flat", "standard")}
    history = row(reported(policy(stream(), billing=billing)), mode="historical")
    assert history.price is not None
    assert history.price.usd_per_gib == Decimal("1.80")
    assert history.included_from_utc is not None
    assert history.included_from_utc.date() == date(2026, 10, 24)
    assert row(reported(policy(stream())), mode="historical").included_from_utc is None


@pytest.mark.parametrize(
    ("changes", "billing", "code"),
    [
        ({"schema": "imbalance"}, {}, "price_unknown"),
        ({"dataset": "XEUR.EOBI"}, {}, "price_unknown"),
        ({}, {GLBX: LiveBilling("none")}, "not_entitled"),
    ],
)
def test_a_price_that_is_missing_has_a_reason(
    changes: dict[str, str], billing: dict[str, LiveBilling], code: str
) -> None:
    """Unknown and not sold are different things, and neither is 0."""
    one = reported(policy(stream(**changes), billing=billing)).rows[0]
    assert one.price is None
    assert one.unknown is not None
    assert one.unknown.code == code


def test_the_plan_of_the_policy_has_fee_licence_and_history() -> None:
    """Since when the fee applies, the policy's own licence, and how far back each level reaches today."""
    billing = {GLBX: LiveBilling("flat", "standard", Decimal("36.50"))}
    (terms,) = reported(policy(stream(), billing=billing)).plans
    assert (terms.fee_usd, terms.fee_since, terms.license_usd) == (
        Decimal(199),
        date(2026, 7, 1),
        Decimal("36.50"),
    )
    assert [(reach.level, reach.text) for reach in terms.history] == [
        ("L0", "16+ years"),
        ("L1", "12 months"),
        ("L2/L3", "1 month"),
    ]


def test_a_plan_of_unknown_reach_says_so() -> None:
    """Its fee is known, its history is not."""
    (terms,) = reported(policy(stream(), billing={GLBX: LiveBilling("flat", "plus")})).plans
    assert terms.fee_usd == Decimal(1750)
    assert terms.history == ()
    assert any("plus plan includes is not known" in note for note in terms.notes)


def test_a_metered_policy_has_no_plans() -> None:
    """Plans of others are not its business."""
    assert reported(policy(stream())).plans == ()


def test_without_a_policy_everything_known_is_there() -> None:
    """Each price of the sheet and each plan; nothing unknown is listed."""
    report = reported(None)
    assert {one.dataset for one in report.rows} == set(SHEET)
    assert all(one.price is not None for one in report.rows)
    assert len(report.plans) == sum(len(family.fees) for family in PLAN_FAMILIES)
    assert row(report, "mbp-10").price is not None


def test_without_a_policy_the_accounts_list_adds_what_the_sheet_has_not() -> None:
    """A schema that only the vendor prices is there too."""
    vendor = FakeVendor(prices={"live": {"imbalance": Decimal(7)}})
    price = row(reported(None, vendor), "imbalance").price
    assert price is not None
    assert (price.usd_per_gib, price.kind) == (Decimal(7), "vendor")


def test_a_list_that_does_not_come_is_said() -> None:
    """The sheet's price stands, with a note."""
    vendor = FakeVendor(refusals={"fetch_unit_prices": NotEntitled("no licence", advice="attach it")})
    report = reported(policy(stream()), vendor)
    price = row(report).price
    assert price is not None
    assert price.kind == "sheet"
    assert any("no licence" in note for note in report.notes)


def test_a_rejected_key_ends_it() -> None:
    """Prices of the sheet would hide that the key is wrong."""
    vendor = FakeVendor(refusals={"fetch_unit_prices": KeyRejected("no", advice="look")})
    with pytest.raises(KeyRejected):
        reported(policy(stream()), vendor)

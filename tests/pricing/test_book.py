"""Which of several prices applies."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from budget_guard.policy.model import LiveBilling
from budget_guard.pricing.book import Mode, PriceBook, price_book

GLBX = "GLBX.MDP3"
MODES: tuple[Mode, ...] = ("live", "historical")
LISTED = {
    GLBX: {
        "live": {"mbo": Decimal("2.50")},
        "historical": {"mbo": Decimal("9")},
        "historical-streaming": {"mbo": Decimal("2.00")},
    }
}


def test_the_policys_override_comes_before_the_accounts_list() -> None:
    """A price that the policy states wins over the vendor's."""
    book = PriceBook(overrides={(GLBX, "live", "mbo"): Decimal(3)}, vendor=LISTED)
    price = book.price(GLBX, "mbo", "live")
    assert price is not None
    assert (price.usd_per_gib, price.kind) == (Decimal(3), "override")


def test_the_accounts_list_comes_before_the_sheet() -> None:
    """What the vendor lists for the account wins over what the sheet remembers, mode by mode."""
    book = PriceBook(vendor=LISTED)
    live, historical = book.price(GLBX, "mbo", "live"), book.price(GLBX, "mbo", "historical")
    assert live is not None
    assert historical is not None
    assert (live.usd_per_gib, live.kind) == (Decimal("2.50"), "vendor")
    assert historical.usd_per_gib == Decimal("2.00")


def test_the_sheet_is_the_last_resort() -> None:
    """Without an override or a list, the bundled sheet speaks and says that it does."""
    price = PriceBook(vendor=LISTED).price(GLBX, "trades", "historical")
    assert price is not None
    assert (price.usd_per_gib, price.kind) == (Decimal(28), "sheet")
    assert "bundled sheet of 2026-06-12 (measured)" in price.source


def test_an_override_of_one_mode_says_nothing_about_the_other() -> None:
    """A live override leaves the historical price to the next source."""
    book = PriceBook(overrides={(GLBX, "live", "mbo"): Decimal(3)})
    price = book.price(GLBX, "mbo", "historical")
    assert price is not None
    assert price.kind == "sheet"


def test_a_plan_makes_live_a_known_zero_and_leaves_historical_alone() -> None:
    """Zero because a plan includes the data is a price of its own kind, and only for live."""
    book = price_book({(GLBX, "live", "mbo"): Decimal(3)}, {GLBX: LiveBilling("flat", "standard")})
    live, historical = book.price(GLBX, "mbo", "live"), book.price(GLBX, "mbo", "historical")
    assert live is not None
    assert (live.usd_per_gib, live.kind) == (Decimal(0), "plan")
    assert "standard plan" in live.source
    assert historical is not None
    assert historical.usd_per_gib == Decimal("1.80")


def test_live_data_that_is_not_sold_has_no_price() -> None:
    """Billing `none` makes live unknown even where a price is listed; history is still sold."""
    book = price_book({(GLBX, "live", "mbo"): Decimal(3)}, {GLBX: LiveBilling("none")}, LISTED)
    assert book.price(GLBX, "mbo", "live") is None
    assert book.price(GLBX, "mbo", "historical") is not None


def test_a_missing_price_stays_unknown() -> None:
    """No source, no price."""
    assert price_book({}, {}).price("XEUR.EOBI", "mbo", "live") is None
    assert PriceBook(vendor=LISTED).price(GLBX, "imbalance", "live") is None


def test_a_listed_zero_is_kept_as_the_vendor_said_it() -> None:
    """A price of zero on the account's list is the vendor's word, not a missing price."""
    price = PriceBook(vendor={GLBX: {"live": {"mbo": Decimal(0)}}}).price(GLBX, "mbo", "live")
    assert price is not None
    assert (price.usd_per_gib, price.kind) == (Decimal(0), "vendor")


def test_every_other_price_is_known_in_order() -> None:
    """Plan, override, account and sheet: the first applies, the others are what it won over."""
    book = price_book({(GLBX, "live", "mbo"): Decimal(3)}, {GLBX: LiveBilling("flat", "standard")}, LISTED)
    found = book.candidates(GLBX, "mbo", "live")
    assert [price.kind for price in found] == ["plan", "override", "vendor", "sheet"]
    assert book.price(GLBX, "mbo", "live") == found[0]


@pytest.mark.parametrize("mode", ["live", "historical"])
@pytest.mark.parametrize("schema", ["mbo", "trades", "mbp-10"])
def test_a_negotiated_price_is_for_one_dataset_mode_and_schema(mode: Mode, schema: str) -> None:
    """It wins there, exactly as it was written, and nowhere else."""
    book = price_book({(GLBX, mode, schema): Decimal("0.123456789")}, {}, LISTED)
    for other_mode in MODES:
        for other in ("mbo", "trades", "mbp-10"):
            price = book.price(GLBX, other, other_mode)
            assert price is not None
            assert (price.kind == "override") == ((other_mode, other) == (mode, schema))
    assert book.price(GLBX, schema, mode) is not None
    negotiated = book.price(GLBX, schema, mode)
    assert negotiated is not None
    assert negotiated.usd_per_gib == Decimal("0.123456789")


def test_each_price_says_when_it_was_seen() -> None:
    """The account's with the instant of the answer, the sheet's with its day and grade."""
    read = datetime(2026, 11, 22, 9, tzinfo=UTC)
    book = price_book({}, {}, LISTED, {GLBX: read})
    listed, bundled = book.candidates(GLBX, "mbo", "live")
    assert (listed.read_utc, listed.as_of) == (read, date(2026, 11, 22))
    assert listed.source.endswith("read 2026-11-22")
    assert (bundled.as_of, bundled.grade) == (date(2026, 6, 12), "measured")


def test_a_list_without_the_streaming_mode_is_read_by_its_batch_mode() -> None:
    """Both cost the same per byte; a live price is never taken for either."""
    book = PriceBook(vendor={GLBX: {"historical": {"mbo": Decimal("1.7")}, "live": {"trades": Decimal(9)}}})
    price = book.price(GLBX, "mbo", "historical")
    assert price is not None
    assert (price.usd_per_gib, price.kind) == (Decimal("1.7"), "vendor")
    trades = book.price(GLBX, "trades", "historical")
    assert trades is not None
    assert trades.kind == "sheet"

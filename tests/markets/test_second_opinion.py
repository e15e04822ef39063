"""pandas-market-calendars as a second opinion: where the libraries disagree, the decision has its reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from budget_guard.markets.table import MARKETS
from tests.markets.comparison import PAGE, SECOND_OPINIONS, differences, page_text


def test_every_market_has_a_second_opinion_or_is_said_to_have_none() -> None:
    assert set(SECOND_OPINIONS) == set(MARKETS)
    assert [name for name, calendars in SECOND_OPINIONS.items() if not calendars] == ["eex"]


@pytest.mark.parametrize("market", sorted(MARKETS))
def test_every_disagreement_between_the_libraries_has_a_row_with_its_reason(market: str) -> None:
    for found in differences(MARKETS[market]):
        assert found.why and found.grade


@pytest.mark.parametrize("market", sorted(MARKETS))
def test_no_correction_is_idle(market: str) -> None:
    """A row that says something else than the library is a disagreement that the comparison finds, too."""
    table = MARKETS[market]
    if SECOND_OPINIONS[market]:
        found = {difference.label for difference in differences(table)}
        corrected = {
            row.label for row in table.special_days if row.corrects and row.label >= table.checked_from
        }
        assert {label for label in corrected if label.year > 2025} <= found


def test_a_disagreement_without_a_row_is_found() -> None:
    """The comparison would see a day that the table forgot."""
    market = MARKETS["cme-fx"]
    with pytest.raises(KeyError):
        differences(replace(market, special_days=market.special_days[1:]))


def test_the_page_of_comparisons_is_true() -> None:
    """Renew it with `python -m tests.markets.comparison`."""
    assert PAGE.read_text(encoding="utf-8") == page_text()

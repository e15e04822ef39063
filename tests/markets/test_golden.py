"""The sessions of the coming year, written down once and held against the exchanges' calendars line by line."""

from __future__ import annotations

import pytest

from budget_guard.markets.table import MARKETS
from tests.markets.tables import DOCS, docs_text, golden_path, golden_text


@pytest.mark.parametrize("market", sorted(MARKETS))
def test_sessions_are_those_of_the_reviewed_table(market: str) -> None:
    """No upgrade moves a session of the coming year unnoticed; renew with `python -m tests.markets.tables`."""
    assert golden_text(market) == golden_path(market).read_text(encoding="utf-8")


def test_the_docs_list_every_special_day_with_its_source() -> None:
    """The tables of docs/markets.md are those of the code; renew with `python -m tests.markets.tables`."""
    page = DOCS.read_text(encoding="utf-8")
    assert docs_text(page) == page

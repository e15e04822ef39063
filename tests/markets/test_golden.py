"""The sessions of the coming year, written down once and held against the exchanges' calendars line by line."""

from __future__ import annotations

import pytest

from budget_guard.markets.table import MARKETS
from tests.markets.tables import golden_path, golden_text


@pytest.mark.parametrize("market", sorted(MARKETS))
def test_sessions_are_those_of_the_reviewed_table(market: str) -> None:
    """No upgrade moves a session of the coming year unnoticed; renew with `python -m tests.markets.tables`."""
    assert golden_text(market) == golden_path(market).read_text(encoding="utf-8")

"""Every store that must behave as a ledger: each test of the suite runs over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from budget_guard.ledger.model import Ledger
from budget_guard.ledger.store import open_ledger
from tests.postgres import fresh_database

STORES: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: f"sqlite:///{folder / 'ledger.sqlite'}",
    "postgresql": lambda folder: fresh_database(),
}


@pytest.fixture(params=sorted(STORES))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that nobody has used."""
    return STORES[request.param](tmp_path)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = open_ledger(url)
    yield opened
    opened.close()

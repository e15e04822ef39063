from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from budget_guard.ledger.model import Ledger
from budget_guard.ledger.store import open_ledger


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = open_ledger(url)
    yield opened
    opened.close()

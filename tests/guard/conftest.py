"""A fresh SQLite ledger and a guard's surroundings for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from budget_guard.ledger.model import Ledger
from budget_guard.ledger.store import open_ledger
from tests.guard.samples import Desk


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def desk(ledger: Ledger, tmp_path: Path) -> Desk:
    return Desk(ledger, tmp_path / "meters")

"""A guard's surroundings for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from budget_guard.ledger.model import Ledger
from tests.guard.samples import Desk


@pytest.fixture
def desk(ledger: Ledger, tmp_path: Path) -> Desk:
    return Desk(ledger, tmp_path / "meters")

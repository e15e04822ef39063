"""Settings that lead to the sandbox of a module, with a ledger for each test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from budget_guard.settings import Settings, load_settings
from tests.streaming.rehearsal import Rehearsal


@pytest.fixture
def settings(vendor: Rehearsal, tmp_path: Path) -> Settings:
    found = load_settings(vendor.env(BUDGET_GUARD_LEDGER=f"sqlite:///{tmp_path}/ledger.sqlite"))
    return replace(found, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")

"""Before the sandbox of a module, each test has a folder, a ledger and a policy of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.streaming.rehearsal import POLICY, Rehearsal


@pytest.fixture
def rehearsal(vendor: Rehearsal, tmp_path: Path) -> Rehearsal:
    """A fresh folder before the module's sandbox; the calendars are kept between tests."""
    folder = tmp_path / "desk"
    folder.mkdir()
    cache = vendor.folder.parent / "cache"
    cache.mkdir(exist_ok=True)
    (tmp_path / "cache").symlink_to(cache)
    fresh = replace(vendor, folder=folder)
    fresh.policy.write_text(POLICY)
    return fresh

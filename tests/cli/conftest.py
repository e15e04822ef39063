"""One sandbox for all commands of a module: each test has a folder, a ledger and a policy of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.streaming.rehearsal import POLICY, Rehearsal, rehearsing


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    with rehearsing(tmp_path_factory.mktemp("vendor")) as rehearsal:
        yield rehearsal


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

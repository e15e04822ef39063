"""Waits that protect a real vendor would only make these tests slow."""

from __future__ import annotations

import pytest

from budget_guard.gateway.live import backoff, pace, watch


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_S", 0.02)
    monkeypatch.setattr(pace, "SECOND_NS", 0)
    monkeypatch.setattr(watch, "WATCH_S", 0.02)

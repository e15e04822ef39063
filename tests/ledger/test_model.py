"""The ledger's values."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

from budget_guard.ledger.model import BalanceKey


def test_a_key_goes_to_another_process_without_its_hash() -> None:
    """Text hashes differently in every process: a hash that came along would find nothing there."""
    key = BalanceKey("desk", "account", "month", datetime(2026, 11, 1, tzinfo=UTC), "usd")
    kept = hash(key)
    sent = pickle.loads(pickle.dumps(key))
    assert not hasattr(sent, "_hash")
    assert (sent, hash(sent)) == (key, kept)
    assert hasattr(sent, "_hash")

"""Clients hear of a limit that comes near, when the policy wants them to."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from budget_guard.gateway.wire.framer import RTYPE_SYSTEM
from budget_guard.policy.model import AlertTo
from tests.gateway.desk import TIMEOUT_S, budget, limit, policy, running_desk


@pytest.mark.parametrize("to", [frozenset[AlertTo]({"log"}), frozenset[AlertTo]({"log", "client"})])
def test_every_client_that_draws_on_a_budget_hears_its_alerts_once(
    tmp_path: Path, to: frozenset[AlertTo], caplog: pytest.LogCaptureFixture
) -> None:
    watched = replace(budget(limit("0.2")), alerts=(Decimal("0.01"), Decimal("0.02")), alerts_to=to)
    with running_desk(tmp_path, policy(budgets=[watched]), rate=20_000) as desk:
        pairs = [desk.streaming() for _ in range(2)]
        for _, got in pairs:
            desk.begin(got)
        first = pairs[0][1]
        for _ in range(8):
            desk.flow(first, 1)
        desk.advance(16)  # the lease is renewed at the latest now
        heard = "of its limit: $"

        def logged() -> bool:
            return any(heard in message for message in caplog.messages)

        desk.until(first, lambda _: logged())
        if "client" in to:
            for _, got in pairs:
                desk.until(got, lambda _, got=got: any(heard in text for text in got.texts(RTYPE_SYSTEM)))  # type: ignore[misc]
        for client, got in pairs:
            client.stop()
            client.block_for_close(TIMEOUT_S)
            texts = [text for text in got.texts(RTYPE_SYSTEM) if heard in text]
            assert len(texts) == len(set(texts))
            assert bool(texts) == ("client" in to)
        messages = [message for message in caplog.messages if heard in message]
        assert len(messages) == len(set(messages)) <= 2

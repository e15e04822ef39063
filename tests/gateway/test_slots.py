"""The vendor's limit of connections at once is kept before the vendor has to say so."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from databento import BentoError

from budget_guard.guard.slots import slot_key
from budget_guard.policy.model import LiveBilling
from tests.gateway.desk import (
    ACCOUNT,
    GLBX,
    TIMEOUT_S,
    Collector,
    Desk,
    budget,
    eventually,
    limit,
    policy,
    running_desk,
)

RATE = 1_000


def taken(desk: Desk) -> int:
    key = slot_key(ACCOUNT, GLBX)
    return desk.books.balances([key])[key].held


def has_connections(number: int, bill: dict[str, Any]) -> bool:
    return len(bill["connections"]) >= number


def has_more(got: Collector, before: int, _: object) -> bool:
    return len(got.data) > before


def test_a_connection_too_many_is_refused_by_the_guard_and_not_by_the_vendor(tmp_path: Path) -> None:
    rules = policy(billing={GLBX: LiveBilling(connections=2)})
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        clients = [desk.streaming() for _ in range(2)]
        for _, got in clients:
            desk.begin(got)
        assert taken(desk) == 2
        third, _ = desk.streaming()
        with pytest.raises(BentoError, match=r"sessions_full.*the vendor allows a team 2"):
            third.block_for_close(TIMEOUT_S)
        assert len(desk.sandbox.bill()["connections"]) == 2
        assert [refusal.code for refusal in desk.refusals()] == ["sessions_full"]
        first, _ = clients[0]
        first.stop()
        first.block_for_close(TIMEOUT_S)
        eventually(lambda: taken(desk) == 1)
        _, got = desk.streaming()
        desk.begin(got)
        desk.close()
        assert taken(desk) == 0 and desk.books.open_holds() == []


def test_a_connection_that_is_opened_again_needs_no_second_slot(tmp_path: Path) -> None:
    rules = policy(billing={GLBX: LiveBilling(connections=1)})
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        for number in (2, 3):
            desk.sandbox.reset_live()
            desk.sandbox.wait_for(partial(has_connections, number))
            assert taken(desk) == 1
            desk.until(got, partial(has_more, got, len(got.data)))
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert taken(desk) == 0
        assert desk.refusals() == []


def test_a_connection_that_was_refused_its_money_gives_its_slot_back(tmp_path: Path) -> None:
    with running_desk(tmp_path, policy(budgets=[budget(limit("0.001"))]), rate=RATE) as desk:
        client, _ = desk.streaming()
        with pytest.raises(BentoError, match="limit_reached"):
            client.block_for_close(TIMEOUT_S)
        desk.close()
        assert taken(desk) == 0 and desk.books.open_holds() == []

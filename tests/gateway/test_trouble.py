"""When the guard itself is in trouble: its ledger away, a hold settled by somebody else, a defect of its own."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from databento import BentoError

from budget_guard.errors import LedgerError
from budget_guard.gateway.live.watch import Watch
from budget_guard.gateway.wire.framer import RTYPE_SYSTEM
from budget_guard.guard.connection import LiveHold
from budget_guard.guard.request import whole_stream
from budget_guard.ledger.recovery import resolve_in_full
from budget_guard.policy.model import LiveBilling
from tests.gateway.desk import GLBX, TIMEOUT_S, Desk, budget, limit, policy, running_desk, stream

RATE = 20_000


def cut_off(desk: Desk, monkeypatch: pytest.MonkeyPatch, *methods: str) -> None:
    """From here on the ledger cannot be reached for these."""

    def unreachable(*_: Any, **__: Any) -> Any:
        raise LedgerError("the disk is gone")

    for method in methods:
        monkeypatch.setattr(desk.gateway.opened.ledger, method, unreachable)


def test_without_its_ledger_a_metered_stream_ends_with_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_desk(tmp_path, policy(budgets=[budget(limit("0.5"))]), rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        held = desk.spent_nano_usd()
        cut_off(desk, monkeypatch, "restate", "settle")
        for _ in range(30):
            desk.advance(1)
            if not client.is_connected():
                break
            desk.sandbox.wait_for(lambda _: True)
        with pytest.raises(BentoError, match=r"ledger_unavailable.*the disk is gone"):
            client.block_for_close(TIMEOUT_S)
        assert desk.billed_nano_usd() <= held == desk.spent_nano_usd() <= 500_000_000


def test_without_its_ledger_data_that_is_known_to_cost_nothing_keeps_flowing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = policy(
        budgets=[budget(limit("1"), limit("1", unit="gib"))],
        billing={GLBX: LiveBilling("flat", "standard")},
    )
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        cut_off(desk, monkeypatch, "restate")
        for _ in range(15):  # 17 MB: several times what a lease holds
            desk.flow(got, 1)
        monkeypatch.undo()
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert sum(entry.size_bytes for entry in desk.entries()) == desk.sandbox.bill()["bytes"]


def use_up_the_limit(desk: Desk) -> None:
    """Another connection takes far more than all there is."""
    guard = desk.gateway.opened.guard
    other = guard.open_live(whole_stream(stream()), connection_id="other", allowance_bytes=2**20).hold
    other.activate()
    other.count(2**40, 0, 1)
    other.finish("all of it", clean=True)


def renewals(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What every renewal from here on is answered."""
    answers: list[bool] = []
    renew = LiveHold.renew

    def renewed(hold: LiveHold) -> bool:
        answers.append(renew(hold))
        return answers[-1]

    monkeypatch.setattr(LiveHold, "renew", renewed)
    return answers


def test_after_a_refusal_it_is_asked_again_while_the_rest_is_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may return money meanwhile; the less is left, the sooner it is asked for."""
    with running_desk(tmp_path, policy(budgets=[budget(limit("5"))]), rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        answers = renewals(monkeypatch)
        use_up_the_limit(desk)
        while client.is_connected():
            desk.advance(0.1)
            with contextlib.suppress(AssertionError):
                got.wait_for(lambda _: not client.is_connected(), 0.02)
        with pytest.raises(BentoError, match="frozen"):
            client.block_for_close(TIMEOUT_S)
        assert answers.count(False) >= 5


def test_data_that_costs_nothing_ends_with_its_lease_also_just_after_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read on only while the ledger is away; that more was refused a moment ago is no reason."""
    rules = policy(budgets=[budget(limit("1", unit="gib"))], billing={GLBX: LiveBilling("flat", "standard")})
    with running_desk(tmp_path, rules, rate=200_000) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        answers = renewals(monkeypatch)
        use_up_the_limit(desk)
        while False not in answers:
            desk.flow(got, 0.1)
        desk.advance(0.9)  # more than the rest of its lease
        with pytest.raises(BentoError, match="frozen"):
            client.block_for_close(TIMEOUT_S)


def test_an_owner_whose_hold_was_settled_by_a_decision_is_fenced_off(tmp_path: Path) -> None:
    with running_desk(tmp_path, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        (hold,) = desk.holds()
        resolve_in_full(desk.books, hold.terms.id, now=desk.clock.now(), reason="a test")
        desk.advance(16)
        with pytest.raises(BentoError, match=r"ledger_unavailable.*settled"):
            client.block_for_close(TIMEOUT_S)


def test_a_limit_in_hours_ends_the_stream(tmp_path: Path) -> None:
    with running_desk(tmp_path, policy(budgets=[budget(limit("0.01", unit="hours"))]), rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        desk.advance(22)  # of 36 s, 15 are kept for the ending
        with pytest.raises(BentoError, match="limit_reached"):
            client.block_for_close(TIMEOUT_S)


def test_a_defect_while_watching_ends_the_stream_instead_of_watching_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Watch) -> None:
        raise ZeroDivisionError

    with running_desk(tmp_path, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        monkeypatch.setattr(Watch, "_look", broken)
        with pytest.raises(BentoError, match="it failed and ended the connection"):
            client.block_for_close(TIMEOUT_S)
        desk.close()
        assert [entry.ending for entry in desk.entries()] == ["exact"]


def test_a_guard_that_is_stopped_tells_its_clients(tmp_path: Path) -> None:
    with running_desk(tmp_path, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        desk.gateway.close()
        client.block_for_close(TIMEOUT_S)
        assert "budget-guard: the guard is being stopped" in got.texts(RTYPE_SYSTEM)

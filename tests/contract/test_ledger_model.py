"""A ledger against a model that a reader can check: random work over shared budgets gives the model's balances."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.errors import LedgerError
from budget_guard.ledger.model import Balance, BalanceKey, Balances, Claim, Decide, Ledger, Posting
from budget_guard.ledger.store import open_ledger
from tests.contract.conftest import STORES
from tests.ledger.samples import key, terms

BUDGETS = (key("account"), key("glbx"))
LIMITS = dict(zip(BUDGETS, (100, 60), strict=True))
HOLDS = ("h1", "h2", "h3")

Step = tuple[str, str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "open", "activate", "restate", "restate", "late", "settle", "release"]),
        st.sampled_from(HOLDS),
        st.integers(0, 30),
        st.integers(0, 50),
    ),
    max_size=25,
)


@dataclass
class Share:
    """One hold as the model sees it: the same claim on every budget it matches."""

    keys: tuple[BalanceKey, ...]
    state: str = "held"
    version: int = 0
    settled: int = 0
    held: int = 0


@dataclass
class Model:
    shares: dict[str, Share] = field(default_factory=dict)

    def taken(self, budget: BalanceKey, but: str | None = None) -> int:
        return sum(
            share.settled + share.held
            for name, share in self.shares.items()
            if budget in share.keys and name != but
        )

    def fits(self, keys: tuple[BalanceKey, ...], total: int, but: str | None = None) -> bool:
        return all(self.taken(budget, but) + total <= LIMITS[budget] for budget in keys)

    def balance(self, budget: BalanceKey) -> Balance:
        shares = [share for share in self.shares.values() if budget in share.keys]
        return Balance(sum(share.settled for share in shares), sum(share.held for share in shares))


def careful(keys: tuple[BalanceKey, ...], settled: int, held: int, own_settled: int) -> Decide:
    """Claim on every key if that keeps all limits, else write nothing: what a guard does."""

    def decide(balances: Balances) -> Posting:
        for budget in keys:
            others = balances[budget].settled - own_settled + balances[budget].held
            if others + settled + held > LIMITS[budget]:
                return Posting(None)
        return Posting(tuple(Claim(budget, settled, held) for budget in keys))

    return decide


def do_open(ledger: Ledger, model: Model, hold_id: str, more: int, ahead: int) -> None:
    keys = BUDGETS if more % 2 else BUDGETS[:1]
    known = hold_id in model.shares
    opened = ledger.open_hold(terms(hold_id), keys, careful(keys, 0, ahead, 0))
    fits = not known and model.fits(keys, ahead)
    if fits:
        model.shares[hold_id] = Share(keys, held=ahead)
    assert (opened is not None) == (known or fits)


def do_restate(ledger: Ledger, share: Share, model: Model, hold_id: str, more: int, ahead: int) -> None:
    decide = careful(share.keys, share.settled + more, ahead, share.settled)
    version = share.version + 1
    if share.state not in ("held", "active"):
        with pytest.raises(LedgerError):
            ledger.restate(hold_id, version, share.keys, decide)
        return
    ledger.restate(hold_id, version, share.keys, decide)
    if model.fits(share.keys, share.settled + more + ahead, but=hold_id):
        share.version, share.settled, share.held = version, share.settled + more, ahead


def do_settle(ledger: Ledger, share: Share, hold_id: str, more: int) -> None:
    final = share.settled + min(more, share.held)
    totals = dict.fromkeys(share.keys, final)
    if share.state == "released":
        with pytest.raises(LedgerError):
            ledger.settle(hold_id, totals, [])
        return
    ledger.settle(hold_id, totals, [])
    if share.state != "settled":
        share.state, share.settled, share.held = "settled", final, 0


def do_release(ledger: Ledger, share: Share, hold_id: str) -> None:
    if share.state in ("active", "settled") or share.settled:
        with pytest.raises(LedgerError):
            ledger.release(hold_id)
        return
    ledger.release(hold_id)
    share.state, share.held = "released", 0


def do_activate(ledger: Ledger, share: Share, hold_id: str) -> None:
    if share.state in ("settled", "released"):
        with pytest.raises(LedgerError):
            ledger.activate(hold_id)
        return
    ledger.activate(hold_id)
    share.state = "active"


def do_late(ledger: Ledger, share: Share, hold_id: str) -> None:
    if share.state in ("held", "active"):
        ledger.restate(hold_id, share.version, share.keys, careful(share.keys, 999, 0, 0))


def take_step(ledger: Ledger, model: Model, step: Step) -> None:
    what, hold_id, more, ahead = step
    if what == "open":
        do_open(ledger, model, hold_id, more, ahead)
        return
    share = model.shares.get(hold_id)
    if share is None:
        return
    if what == "restate":
        do_restate(ledger, share, model, hold_id, more, ahead)
    elif what == "settle":
        do_settle(ledger, share, hold_id, more)
    elif what == "release":
        do_release(ledger, share, hold_id)
    elif what == "activate":
        do_activate(ledger, share, hold_id)
    else:
        do_late(ledger, share, hold_id)


@pytest.mark.parametrize(("store", "examples"), [("sqlite", 60), ("postgresql", 20)])
def test_balances_are_the_models_and_never_pass_a_limit(store: str, examples: int) -> None:
    """Whatever is asked for in whatever order, the ledger and a model that is a dict agree after every step."""

    @settings(max_examples=examples, deadline=None)
    @given(steps=STEPS)
    def agree(steps: list[Step]) -> None:
        check_steps(store, steps)

    agree()


def check_steps(store: str, steps: list[Step]) -> None:
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        ledger = open_ledger(STORES[store](Path(folder)))
        try:
            for step in steps:
                take_step(ledger, model, step)
                balances = ledger.balances(BUDGETS)
                assert balances == {budget: model.balance(budget) for budget in BUDGETS}
                assert all(balance.settled + balance.held <= LIMITS[key] for key, balance in balances.items())
            open_ids = {hold.terms.id for hold in ledger.open_holds()}
            assert open_ids == {
                name for name, share in model.shares.items() if share.state in ("held", "active")
            }
        finally:
            ledger.close()

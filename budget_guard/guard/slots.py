"""The vendor's limit of live connections at once, kept by the ledger over all programs of an account.

A slot is a hold of its own beside those for money: it claims one of the connections to a dataset for as long as a
client's connection lives, through losses and reopenings, and is released at its end. Nothing is ever spent from it, so
one whose owner has died is released by recovery, without a residual and without an entry.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from budget_guard.clock import EPOCH, Clock, month_of
from budget_guard.decisions import Decision, Reason
from budget_guard.errors import Fenced, Refused, UnknownHold
from budget_guard.ledger.memo import memo_text
from budget_guard.ledger.meter import Meter
from budget_guard.ledger.model import (
    SLOT_MODE,
    SLOT_UNIT,
    BalanceKey,
    Balances,
    Claim,
    HoldTerms,
    Ledger,
    Posting,
)
from budget_guard.policy.model import Policy

# No budget's name has a space in it.
_BUDGET = "connections to {}"


def slot_key(account: str, dataset: str) -> BalanceKey:
    """The balance whose claims are the connections to a dataset that are open."""
    return BalanceKey(account, _BUDGET.format(dataset), "total", EPOCH, SLOT_UNIT)


@dataclass(frozen=True, slots=True)
class SlotHold:
    """A slot that is held. Its methods block."""

    terms: HoldTerms
    key: BalanceKey
    ledger: Ledger
    clock: Clock
    meter: Meter

    def assert_again(self) -> None:
        """Write it again where the ledger has lost it: it is taken, whatever the limit says. Raises LedgerError."""
        claims = Posting((Claim(self.key, 0, 1),))
        self.ledger.open_hold(self.terms, [self.key], lambda _: claims)

    def release(self) -> None:
        """Give it back, unless somebody has decided that it is. Raises LedgerError."""
        with suppress(UnknownHold, Fenced):
            self.ledger.release(self.terms.id, self.clock.now())
        self.meter.close(remove=True)

    def abandon(self) -> None:
        """Leave it to recovery."""
        self.meter.close(remove=False)


@dataclass(frozen=True, slots=True)
class Slots:
    """Where slots come from."""

    policy: Policy
    ledger: Ledger
    clock: Clock
    meter_dir: Path
    host: str

    def open(self, dataset: str, connection_id: str) -> SlotHold | None:
        """A slot for a connection; None where any number of them is allowed.

        Raises Refused when all are taken, LedgerError.
        """
        most = self.policy.account.live_billing(dataset).connections
        if most is None:
            return None
        account, now = self.policy.account.name, self.clock.now()
        key = slot_key(account, dataset)
        hold_id = uuid.uuid4().hex
        meter = Meter.create(self.meter_dir, hold_id)
        terms = _terms(hold_id, account, dataset, connection_id, now, self.host, meter)
        taken: list[int] = []

        def decide(balances: Balances) -> Posting:
            taken.append(balances[key].settled + balances[key].held)
            return Posting((Claim(key, 0, 1),) if taken[-1] < most else None)

        try:
            meter.describe(memo_text(self.ledger, terms, [key]))
            opened = self.ledger.open_hold(terms, [key], decide)
        except BaseException:
            # It may have been written all the same: recovery releases it by this file.
            meter.close(remove=False)
            raise
        if opened is None:
            meter.close(remove=True)
            raise Refused(_full(dataset, most, taken[-1]))
        return SlotHold(terms, key, self.ledger, self.clock, meter)


def _terms(
    hold_id: str, account: str, dataset: str, connection_id: str, now: datetime, host: str, meter: Meter
) -> HoldTerms:
    return HoldTerms(
        id=hold_id,
        account=account,
        stream=None,
        dataset=dataset,
        schema="",
        mode=SLOT_MODE,
        connection_id=connection_id,
        month=month_of(now),
        unit_price_usd=Decimal(0),
        price_source="a connection itself costs nothing",
        residual_bytes_max=0,
        host=host,
        meter=meter.path.name,
        opened_utc=now,
    )


def _full(dataset: str, most: int, taken: int) -> Decision:
    message = (
        f"the programs of this account have {taken} live connections to {dataset} open, and the vendor allows a team "
        f"{most}: end one, or set account.billing.{dataset}.connections if the team may have more"
    )
    return Decision(
        "deny",
        (
            Reason(
                "sessions_full",
                message,
                unit="connections",
                limit=Decimal(most),
                held=Decimal(taken),
                asked=Decimal(1),
            ),
        ),
    )

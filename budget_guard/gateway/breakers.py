"""The vendor's refusals for good, shared through the ledger: no program of the account asks again before time."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from threading import Lock
from typing import cast

from budget_guard.clock import instant_text
from budget_guard.decisions import Code, Decision, deny
from budget_guard.errors import LedgerError
from budget_guard.guard.breakers import is_believed
from budget_guard.guard.guard import Guard
from budget_guard.ledger.model import Breaker, Ledger

log = logging.getLogger(__name__)

# How long the vendor's word is believed: doubled each time that it is said again.
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=1)
# One that ended longer ago than this says nothing about the next.
FORGOTTEN_AFTER = timedelta(hours=2)

# What is refused for good, and for how much of it: a licence is one dataset's, a key and an account are all datasets'.
_OF_THE_DATASET = frozenset({"not_entitled"})
_OF_THE_ACCOUNT = frozenset({"key_rejected", "payment_required"})


def key_id(ledger: Ledger, key: str) -> str:
    """Tells keys apart without showing them, and differently in each ledger."""
    return hmac.new(ledger.identity.encode(), key.encode(), hashlib.sha256).hexdigest()[:12]


def is_permanent(code: str | None) -> bool:
    """Whether a refusal stands until a person has done something."""
    return code in _OF_THE_DATASET or code in _OF_THE_ACCOUNT


class Breakers:
    """Those of one key, for live data. Every method asks the ledger: it blocks, and never raises LedgerError.

    A ledger that cannot be reached refuses by itself; here it only means that nothing is known.
    """

    def __init__(self, guard: Guard, key: str) -> None:
        self._guard = guard
        self._account = guard.policy.account.name
        self._key_id = key_id(guard.ledger, key)
        self._seen: dict[str, Breaker] = {}  # that have not been closed, as far as is known here
        self._lock = Lock()
        self.reachable = True  # whether the last look found the ledger

    def refusal(self, dataset: str) -> Decision | None:
        """The refusal that stands against a dataset, and when the vendor is asked again."""
        now = self._guard.clock.now()
        standing = [one for one in self._look(dataset, now) if is_believed(one, now)]
        if not standing:
            return None
        last = max(standing, key=lambda one: one.until_utc)
        return deny(
            cast(Code, last.code),
            f"{last.message} (the vendor's answer of {instant_text(last.opened_utc)})",
            retry_at_utc=last.until_utc,
        )

    def open(self, dataset: str, decision: Decision) -> None:
        """The vendor has refused. What is not for good leaves no trace."""
        code = decision.code
        if code is None or not is_permanent(code):
            return
        now = self._guard.clock.now()
        covers = dataset if code in _OF_THE_DATASET else ""
        before = next((one for one in self._look(dataset, now) if one.dataset == covers), None)
        if before is not None and is_believed(before, now) and before.code == code:
            return
        pause = FIRST_PAUSE
        if before is not None and before.code == code and before.until_utc > before.opened_utc:
            pause = min(2 * (before.until_utc - before.opened_utc), LONGEST_PAUSE)
        self._write(
            Breaker(
                id=f"{self._account}:live:{covers}:{self._key_id}",
                account=self._account,
                dataset=covers,
                mode="live",
                key_id=self._key_id,
                code=code,
                message=decision.reasons[0].message,
                opened_utc=now,
                until_utc=now + pause,
            )
        )

    def close(self, dataset: str) -> None:
        """The vendor has accepted: whatever stood against the dataset stands no more."""
        now = self._guard.clock.now()
        known = [one for one in self._look(dataset, now) if one.until_utc > one.opened_utc]
        close_all(self._guard.ledger, known, now)
        with self._lock:
            for one in known:
                self._seen.pop(one.id, None)

    def knows(self, dataset: str) -> bool:
        """Whether one that covers a dataset was met here and not closed. Asks no ledger."""
        with self._lock:
            return any(one.dataset in (dataset, "") for one in self._seen.values())

    def _look(self, dataset: str, now: datetime) -> list[Breaker]:
        """Those that cover a dataset, and those that did until lately."""
        try:
            found = self._guard.ledger.breakers(self._account, now - FORGOTTEN_AFTER)
        except LedgerError as error:
            log.warning("whether the vendor refused %s before is not known: %s", dataset, error)
            self.reachable = False
            return []
        self.reachable = True
        mine = [one for one in found if one.key_id == self._key_id and one.mode == "live"]
        covering = [one for one in mine if one.dataset in (dataset, "")]
        with self._lock:
            self._seen |= {one.id: one for one in covering if one.until_utc > one.opened_utc}
        return covering

    def _write(self, breaker: Breaker) -> None:
        try:
            self._guard.ledger.record_breaker(breaker)
        except LedgerError as error:
            log.warning("the vendor's refusal could not be recorded for other programs: %s", error)
        with self._lock:
            self._seen[breaker.id] = breaker


def close_accepted(
    ledger: Ledger, account: str, key: str, datasets: Collection[str], now: datetime
) -> list[str]:
    """Close what stands against a key that the vendor has just let into these datasets, and say what that was about.

    An empty name is about every dataset. Raises LedgerError.
    """
    mine = key_id(ledger, key)
    covered = {*datasets, ""} if datasets else set()
    found = [
        one
        for one in ledger.breakers(account, now)
        if one.key_id == mine and one.mode == "live" and one.dataset in covered
    ]
    close_all(ledger, found, now)
    return [one.dataset for one in found]


def close_all(ledger: Ledger, breakers: Iterable[Breaker], now: datetime) -> None:
    """Close breakers: from now on the vendor is asked again. A ledger that cannot be reached keeps them open."""
    for one in breakers:
        closed = Breaker(
            one.id, one.account, one.dataset, one.mode, one.key_id, one.code, one.message, now, now
        )
        try:
            ledger.record_breaker(closed)
        except LedgerError as error:
            log.warning("the vendor accepts %s again, which could not be recorded: %s", one.dataset, error)

"""Every exception that the package raises on purpose.

BudgetGuardError
├── PolicyError        a policy file that cannot be used; `.problems` lists why
├── CalendarUnknown    no known hours: an unknown market, or a date nobody has checked
├── Refused            the guard said no; `.decision` says why and what would fit
├── LedgerError        the ledger cannot be reached, or is not what it should be
│   ├── LedgerAway     its database or its file fails: it may be back later
│   └── Fenced         a write against a hold that is already settled
└── VendorError        the vendor said no or could not be understood
    ├── KeyRejected           401: the key is wrong or switched off
    ├── PaymentRequired       402: the account has no funds, or is locked
    ├── NotEntitled           403: no licence or plan for this data
    ├── RequestRejected       422 and other 4xx: the request itself is wrong
    ├── RateLimited           429 that went on after every retry
    └── VendorUnavailable     5xx, time-outs, no connection
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from budget_guard.decisions import Decision
    from budget_guard.policy.problems import Problem


class BudgetGuardError(Exception):
    """The root of all of them."""


class SettingsError(BudgetGuardError):
    """An environment variable that cannot be used: the message names it and says what would be right."""


class PolicyError(BudgetGuardError):
    """A policy that cannot be used.

    `problems` holds every defect found, in file order.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class CalendarUnknown(BudgetGuardError):
    """Nobody knows whether the market is open: it is never assumed to be."""


class Refused(BudgetGuardError):
    """The guard refused a request. `decision` carries the ordered reasons."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.text())
        self.decision = decision


class LedgerError(BudgetGuardError):
    """The ledger cannot be reached, read or trusted."""


class LedgerAway(LedgerError):
    """The ledger's database, or its file, does not do what it should just now: it may be back later."""


class Fenced(LedgerError):
    """A write against a hold that has been settled: its owner must stop spending at once."""


class UnknownHold(LedgerError):
    """The ledger does not know a hold: it was never opened there, or the store has lost its last commits."""


class VendorError(BudgetGuardError):
    """What the vendor answered, and what to do about it.

    `code` is one of the stable reason codes, `case` the vendor's own name of the error when it gave one.
    """

    code = "size_unknown"

    def __init__(
        self, message: str, *, advice: str, status: int | None = None, case: str | None = None
    ) -> None:
        super().__init__(f"{message} ({advice})" if advice else message)
        self.message = message
        self.advice = advice
        self.status = status
        self.case = case


class KeyRejected(VendorError):
    code = "key_rejected"


class PaymentRequired(VendorError):
    code = "payment_required"


class NotEntitled(VendorError):
    code = "not_entitled"


class RequestRejected(VendorError):
    pass


class RateLimited(VendorError):
    pass


class VendorUnavailable(VendorError):
    pass

"""What the exit codes mean. Scripts rely on them."""

from __future__ import annotations

from budget_guard.errors import (
    BudgetGuardError,
    CalendarUnknown,
    KeyRejected,
    NotEntitled,
    PaymentRequired,
    PolicyError,
    Refused,
    SettingsError,
)

DONE = 0
FAILED = 1
USAGE = 2  # wrong usage, or a policy with problems
OVER = 3  # the plan is over a budget
REFUSED = 4  # refused or cut by the guard
VENDOR_REFUSED = 5  # entitlement, key or payment
UNKNOWN = 6  # the plan has a figure that nobody knows
INTERRUPTED = 130

_BY_ERROR: tuple[tuple[type[BudgetGuardError], int], ...] = (
    (PolicyError, USAGE),
    (SettingsError, USAGE),
    (CalendarUnknown, UNKNOWN),
    (Refused, REFUSED),
    (KeyRejected, VENDOR_REFUSED),
    (PaymentRequired, VENDOR_REFUSED),
    (NotEntitled, VENDOR_REFUSED),
)


def exit_code_of(error: BudgetGuardError) -> int:
    """The exit code that a raised error ends the command with."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), FAILED)

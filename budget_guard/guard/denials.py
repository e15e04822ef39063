"""Why a request is refused before any balance is looked at, in words."""

from __future__ import annotations

from budget_guard.decisions import Decision, deny
from budget_guard.errors import LedgerError
from budget_guard.guard.request import Request
from budget_guard.policy.model import Mode, Stream


def unavailable(error: LedgerError) -> Decision:
    """The ledger cannot be used: nothing that costs money is let through."""
    return deny("ledger_unavailable", str(error))


def no_budget(stream: Stream, mode: Mode, schema: str) -> Decision:
    """Spending that nothing limits has to be written: no budget at all is an oversight."""
    return deny(
        "not_covered",
        f"no budget of the policy matches {mode} {schema} of stream {stream.name}: "
        "let one match it (write its limit as `unlimited` if that is meant)",
    )


def price_unknown(request: Request) -> Decision:
    """Unknown is never zero."""
    return deny(
        "price_unknown",
        f"no {request.mode} price is known for {request.schema} of {request.dataset}: "
        f"set account.prices.{request.dataset}.{request.mode}.{request.schema} in the policy, "
        "or let the guard ask the vendor (DATABENTO_API_KEY)",
    )

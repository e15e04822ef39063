"""What a hold is for, as text behind its meter's page: for a ledger that has lost the hold with its last commits."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from budget_guard.clock import EPOCH
from budget_guard.ledger.model import BalanceKey, Claim, Hold, HoldTerms, Ledger, Posting

_US = timedelta(microseconds=1)
_KEY_FIELDS = {field.name for field in fields(BalanceKey)}
_TERMS_FIELDS = {field.name for field in fields(HoldTerms)}


@dataclass(frozen=True, slots=True)
class Memo:
    """Which ledger a hold was written in, its terms, and the balances that it claimed."""

    ledger: str
    terms: HoldTerms
    keys: tuple[BalanceKey, ...]


def memo_text(ledger: Ledger, terms: HoldTerms, keys: Iterable[BalanceKey]) -> str:
    """A hold's memo as text."""
    row = {
        "ledger": ledger.identity,
        "terms": asdict(terms)
        | {"unit_price_usd": str(terms.unit_price_usd), "opened_utc": (terms.opened_utc - EPOCH) // _US},
        "keys": [asdict(key) | {"period_start_utc": (key.period_start_utc - EPOCH) // _US} for key in keys],
    }
    return json.dumps(row)


def parse_memo(text: str) -> Memo | None:
    """The memo in a text; None where there is none, or not a whole one."""
    try:
        row = json.loads(text)
        return Memo(str(row["ledger"]), _terms(row["terms"]), tuple(_key(key) for key in row["keys"]))
    except (ValueError, TypeError, KeyError, OverflowError, InvalidOperation):
        return None


def write_again(ledger: Ledger, terms: HoldTerms, claims: Iterable[Claim]) -> Hold | None:
    """Write a hold that the ledger has lost, under its own id and active, with claims that no limit stops.

    What was spent was spent: it counts even where it takes a budget past its limit. A hold that is there after
    all stays as it is.
    """
    posting = Posting(tuple(claims))
    ledger.open_hold(terms, [claim.key for claim in posting.claims or ()], lambda _: posting)
    ledger.activate(terms.id)
    return ledger.hold(terms.id)


def _terms(row: dict[str, Any]) -> HoldTerms:
    known = {name: row[name] for name in _TERMS_FIELDS}
    known["unit_price_usd"] = Decimal(row["unit_price_usd"])
    known["opened_utc"] = EPOCH + row["opened_utc"] * _US
    return HoldTerms(**known)


def _key(row: dict[str, Any]) -> BalanceKey:
    known = {name: row[name] for name in _KEY_FIELDS}
    known["period_start_utc"] = EPOCH + row["period_start_utc"] * _US
    return BalanceKey(**known)

"""What an account has of the past, as a report: what was bought, what is kept, and what a range would cost now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from budget_guard.clock import instant_text
from budget_guard.guard.quote import Quote
from budget_guard.ledger.model import Purchase
from budget_guard.money import nano_exact_text


@dataclass(frozen=True, slots=True)
class KeptFile:
    """An answer on this machine that is given again for the same request; `form` is that request."""

    path: str
    size_bytes: int
    stored_utc: datetime
    form: str

    def as_json(self) -> dict[str, Any]:
        return {
            "file": self.path,
            "size_bytes": self.size_bytes,
            "stored_utc": instant_text(self.stored_utc),
            "request": json.loads(self.form),
        }


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """Purchases in the order in which they were asked for; `quote` is of a range that was asked about."""

    account: str
    purchases: tuple[Purchase, ...]
    kept: tuple[KeptFile, ...]
    quote: Quote | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "account": self.account,
            "bought": [_purchase_json(purchase) for purchase in self.purchases],
            "kept": [kept.as_json() for kept in self.kept],
            "range": None if self.quote is None else _quote_json(self.quote),
        }


def _purchase_json(purchase: Purchase) -> dict[str, Any]:
    form = form_of(purchase)
    return {
        "id": purchase.id,
        "kind": purchase.kind,
        "state": purchase.state,
        "stream": purchase.stream,
        "dataset": purchase.dataset,
        "schema": purchase.schema,
        "stype_in": purchase.stype_in,
        "symbols": json.loads(purchase.symbols),
        "start_utc": instant_text(purchase.start_utc),
        "end_utc": instant_text(purchase.end_utc),
        "encoding": form.get("encoding"),
        "limit": form.get("limit"),
        "job": purchase.job_id or None,
        "size_bytes": purchase.size_bytes,
        "cost_usd": nano_exact_text(purchase.cost_nano_usd),
        "asked_utc": instant_text(purchase.asked_utc),
    }


def _quote_json(quote: Quote) -> dict[str, Any]:
    owned = quote.owned
    missing = () if owned is None else owned.missing
    price = None if owned is None else owned.missing_nano_usd
    return {
        "size_bytes": quote.size_bytes,
        "cost_usd": nano_exact_text(quote.cost_nano_usd),
        "bought_before": owned is not None,
        "missing": [
            {
                "symbols": list(part.symbols),
                "start_utc": instant_text(part.start_utc),
                "end_utc": instant_text(part.end_utc),
            }
            for part in missing
        ],
        "missing_cost_usd": None if price is None else nano_exact_text(price),
    }


def form_of(purchase: Purchase) -> dict[str, Any]:
    """The request of a purchase; empty where it cannot be read."""
    try:
        form = json.loads(purchase.form)
    except ValueError:
        return {}
    return form if isinstance(form, dict) else {}

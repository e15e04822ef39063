"""How a finished hold becomes an entry."""

from __future__ import annotations

from datetime import datetime

from budget_guard.ledger.model import Ending, Entry, HoldTerms
from budget_guard.money import cost_nano_usd


def with_left_out(note: str, left_out_bytes: int) -> str:
    """An entry's note that says what was read beside what is counted."""
    if not left_out_bytes:
        return note
    return f"{note}; {left_out_bytes} bytes more were read and not counted (account.not_billed)"


def make_entry(
    terms: HoldTerms,
    *,
    ended_utc: datetime,
    size_bytes: int,
    control_bytes: int,
    residual_bytes: int,
    ending: Ending,
    note: str,
) -> Entry:
    """The one entry of a hold. The residual is priced as the end of one running total, so nothing rounds twice.

    A clock that was set back while it ran ends it when it began, not before.
    """
    cost = cost_nano_usd(size_bytes, terms.unit_price_usd)
    with_residual = cost_nano_usd(size_bytes + residual_bytes, terms.unit_price_usd)
    return Entry(
        id=f"{terms.id}:1",
        hold_id=terms.id,
        account=terms.account,
        stream=terms.stream,
        dataset=terms.dataset,
        schema=terms.schema,
        mode=terms.mode,
        month=terms.month,
        started_utc=terms.opened_utc,
        ended_utc=max(ended_utc, terms.opened_utc),
        size_bytes=size_bytes,
        control_bytes=control_bytes,
        unit_price_usd=terms.unit_price_usd,
        price_source=terms.price_source,
        cost_nano_usd=cost,
        residual_bytes=residual_bytes,
        residual_nano_usd=with_residual - cost,
        ending=ending,
        note=note,
    )

"""Which part of a range was bought before, and which is missing: sets of symbols and intervals. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from budget_guard.ledger.model import Purchase
from budget_guard.policy.model import ALL_SYMBOLS
from budget_guard.pricing.model import DataRange

Span = tuple[datetime, datetime]


def overlaps(purchase: Purchase, wanted: DataRange) -> bool:
    """Whether a purchase gave any of the data of a range, whole and for good."""
    return (
        purchase.state == "bought"
        and is_whole(purchase)
        and purchase.dataset == wanted.dataset
        and purchase.schema == wanted.schema
        and purchase.start_utc < wanted.end_utc
        and wanted.start_utc < purchase.end_utc
        and any(_covers(purchase, symbol, wanted.stype_in) for symbol in wanted.symbols)
    )


def is_whole(purchase: Purchase) -> bool:
    """Whether it gave all of its range: a limit of records gives the beginning, and nobody says how much that is."""
    try:
        return json.loads(purchase.form).get("limit") is None
    except (ValueError, AttributeError):
        return False


def missing_parts(wanted: DataRange, bought: Iterable[Purchase]) -> tuple[DataRange, ...]:
    """What no purchase gave, as ranges that do not overlap; symbols that miss the same are together.

    Together with what was bought they are the whole range. A symbol is known by its name: what `NQ.v.0` stood for is
    not looked up, and only a purchase of the whole dataset covers symbols of every kind.
    """
    before = [one for one in bought if overlaps(one, wanted)]
    by_gaps: dict[tuple[Span, ...], list[str]] = {}
    for symbol in wanted.symbols:
        spans = [(one.start_utc, one.end_utc) for one in before if _covers(one, symbol, wanted.stype_in)]
        gaps = tuple(gaps_in((wanted.start_utc, wanted.end_utc), spans))
        by_gaps.setdefault(gaps, []).append(symbol)
    return tuple(
        replace(wanted, symbols=tuple(symbols), start_utc=start, end_utc=end)
        for gaps, symbols in by_gaps.items()
        for start, end in gaps
    )


def gaps_in(whole: Span, parts: Sequence[Span]) -> list[Span]:
    """What of a half-open span no part covers, in order."""
    gaps: list[Span] = []
    reached, end = whole
    for start, until in sorted(parts):
        if start >= end:
            break
        if start > reached:
            gaps.append((reached, start))
        reached = max(reached, until)
    if reached < end:
        gaps.append((reached, end))
    return gaps


def _covers(purchase: Purchase, symbol: str, stype_in: str) -> bool:
    symbols = json.loads(purchase.symbols)
    return ALL_SYMBOLS in symbols or (purchase.stype_in == stype_in and symbol in symbols)

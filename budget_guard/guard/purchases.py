"""What was bought of the past: written as it is bought, and looked up before anything is bought again."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace

from budget_guard.clock import Clock
from budget_guard.errors import LedgerError
from budget_guard.guard.history import missing_parts, overlaps
from budget_guard.guard.quote import Owned, Quote
from budget_guard.ledger.model import Entry, HoldTerms, Ledger, Purchase
from budget_guard.money import bytes_within
from budget_guard.pricing.model import DataRange

log = logging.getLogger(__name__)

# More pieces than this are not priced one by one: the whole is what is asked about then.
PARTS_MAX = 8


class Purchases:
    """An account's purchases in its ledger. Thread-safe as far as that is."""

    def __init__(self, ledger: Ledger, account: str, clock: Clock) -> None:
        self._ledger = ledger
        self._account = account
        self._clock = clock

    def ask(self, terms: HoldTerms, wanted: DataRange, form: str, kind: str) -> Purchase:
        """Write that something is about to be bought under a hold. Raises LedgerError."""
        purchase = Purchase(
            id=terms.id,
            account=self._account,
            stream=terms.stream or "",
            dataset=wanted.dataset,
            schema=wanted.schema,
            stype_in=wanted.stype_in,
            symbols=json.dumps(list(wanted.symbols)),
            start_utc=wanted.start_utc,
            end_utc=wanted.end_utc,
            form=form,
            kind=kind,
            job_id="",
            state="asked",
            size_bytes=0,
            cost_nano_usd=0,
            asked_utc=terms.opened_utc,
        )
        self._ledger.record_purchase(purchase)
        return purchase

    def renew(self, purchase: Purchase) -> None:
        """Write what is known of it now. Raises LedgerError."""
        self._ledger.record_purchase(purchase)

    def close(self, purchase: Purchase, state: str, entry: Entry) -> None:
        """Write what became of it. A ledger that cannot be reached loses this, loudly: the money is booked already."""
        ended = replace(
            purchase,
            state=state,
            size_bytes=entry.size_bytes,
            cost_nano_usd=entry.cost_nano_usd + entry.residual_nano_usd,
        )
        try:
            self._ledger.record_purchase(ended)
        except LedgerError as error:
            log.warning("what became of a purchase could not be recorded: %s", error)

    def of(self, dataset: str) -> list[Purchase]:
        """Everything of a dataset, oldest first. Raises LedgerError."""
        return self._ledger.purchases(self._account, dataset)

    def known(self, dataset: str | None = None) -> list[Purchase]:
        """Everything, oldest first, with what the ledger knows of those whose program died. Raises LedgerError.

        A hold that is closed says what a purchase came to that nobody could write down any more.
        """
        rows = self._ledger.purchases(self._account, dataset)
        return [self._from_hold(row) if row.state == "asked" else row for row in rows]

    def _from_hold(self, purchase: Purchase) -> Purchase:
        hold = self._ledger.hold(purchase.id)
        if hold is None or hold.state == "released":
            return replace(purchase, state="refused")
        if hold.state != "settled":
            return purchase
        cost = max((claim.settled for claim in hold.claims if claim.key.unit == "usd"), default=0)
        size = max((claim.settled for claim in hold.claims if claim.key.unit == "gib"), default=0)
        size = size or bytes_within(cost, hold.terms.unit_price_usd) or 0
        state = "lost" if cost or size else "refused"
        return replace(purchase, state=state, size_bytes=size, cost_nano_usd=cost)

    def jobs(self, dataset: str, form: str) -> list[Purchase]:
        """The batch jobs of one form, oldest first, whatever became of them. Raises LedgerError."""
        rows = self._ledger.purchases(self._account, dataset, form=form)
        return [row for row in rows if row.kind == "batch"]

    def with_owned(self, quote: Quote, price: Callable[[DataRange], int]) -> Quote:
        """The quote with what of its range was bought before. `price` is a part's, in nano-USD; it may raise.

        What cannot be found out is left out: it is there to be read, and decides nothing.
        """
        try:
            wanted = quote.range
            within = (wanted.schema, wanted.start_utc, wanted.end_utc)
            rows = self._ledger.purchases(self._account, wanted.dataset, within=within)
            before = [one for one in rows if overlaps(one, wanted)]
        except LedgerError as error:
            log.warning("what was bought before cannot be looked up: %s", error)
            return quote
        if not before:
            return quote
        missing = missing_parts(quote.range, before)
        last_utc = max(one.asked_utc for one in before)
        return replace(quote, owned=Owned(last_utc, missing, _price_of(missing, price)))


def _price_of(parts: tuple[DataRange, ...], price: Callable[[DataRange], int]) -> int | None:
    if len(parts) > PARTS_MAX:
        return None
    try:
        return sum(price(part) for part in parts)
    except Exception as error:  # noqa: BLE001 - a figure to be read; whatever keeps it away is told where it matters
        log.warning("the missing part of a range cannot be priced: %s", error)
        return None

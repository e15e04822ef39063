"""What one historical request would cost, and the decision about it: pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from budget_guard.clock import instant_text
from budget_guard.decisions import Decision, Reason
from budget_guard.guard.lease import count_text, limit_reason, span_text
from budget_guard.guard.periods import BudgetLimit
from budget_guard.guard.request import Request
from budget_guard.ledger.model import Balance, Balances, Claim
from budget_guard.money import GIB, cost_nano_usd, nano_from_usd, size_text, usd_from_nano, usd_text
from budget_guard.policy.model import HistoricalRules
from budget_guard.pricing.model import DataRange, UnitPrice
from budget_guard.pricing.sheet import RECORD_BYTES

# An answer may be larger than its quote by one in so many bytes, and by a record: late data may have come in between.
TOLERANCE = 100
# What a record is taken to be where nobody has measured its schema: the largest known.
_LARGEST_RECORD_BYTES = max(RECORD_BYTES.values())


@dataclass(frozen=True, slots=True)
class Owned:
    """What of a range was bought before. `missing` is the rest, `missing_nano_usd` its price; None: nobody knows it."""

    last_utc: datetime  # when the last of it was bought
    missing: tuple[DataRange, ...]
    missing_nano_usd: int | None

    def text(self) -> str:
        """`all of it was bought before, last on ...`: what a person wants to know before it is bought again."""
        when = f"bought before, last at {instant_text(self.last_utc)}"
        if not self.missing:
            return f"all of it was {when}"
        price = "unknown" if self.missing_nano_usd is None else usd_text(usd_from_nano(self.missing_nano_usd))
        return f"a part of it was {when}; the price of the missing part alone: {price}"


@dataclass(frozen=True, slots=True)
class Quote:
    """A request's size and price before it is made. `vendor_cost_usd` is `get_cost`'s answer: an upper bound.

    `bounded`: the client's own limit of records ends the answer, so no more than the size can come.
    """

    range: DataRange
    size_bytes: int
    price: UnitPrice
    vendor_cost_usd: Decimal
    bounded: bool = False
    owned: Owned | None = None

    @property
    def record_bytes(self) -> int | None:
        """What a record is billed as; None where nobody has measured the schema."""
        return RECORD_BYTES.get(self.range.schema)

    @property
    def bytes_max(self) -> int:
        """The largest answer that is let through: the quote, and a little more where the quote may be a little old."""
        if self.bounded:
            return self.size_bytes
        record = self.record_bytes or _LARGEST_RECORD_BYTES
        return self.size_bytes + max(record, self.size_bytes // TOLERANCE)

    @property
    def records_max(self) -> int | None:
        """The same in records, for the vendor to end the answer at: whoever gets so many gets no whole answer.

        None where the client's own limit does it, or nobody knows how large a record is.
        """
        if self.bounded or self.record_bytes is None:
            return None
        return self.bytes_max // self.record_bytes

    @property
    def held_nano_usd(self) -> int:
        """What is held for it: the price of the largest answer."""
        if self.included:
            return 0
        listed = cost_nano_usd(self.bytes_max, self.settle_price_usd)
        return max(self.cost_nano_usd, listed)

    def held_count(self, unit: str) -> int:
        """What is held for it in a unit; connections and their hours are a live matter."""
        return {"usd": self.held_nano_usd, "gib": self.bytes_max}.get(unit, 0)

    @property
    def cost_nano_usd(self) -> int:
        """The dearer of the vendor's quote and the list price; 0 only if it is included."""
        if self.included:
            return 0
        return max(
            cost_nano_usd(self.size_bytes, self.price.usd_per_gib), nano_from_usd(self.vendor_cost_usd)
        )

    @property
    def included(self) -> bool:
        """The account's own plan includes it, whatever is quoted, or the vendor quotes $0 for data that has a size."""
        return self.price.kind == "plan" or (self.vendor_cost_usd == 0 and self.size_bytes > 0)

    @property
    def settle_price_usd(self) -> Decimal:
        """USD per GiB at which the bytes that flow are settled."""
        if self.included:
            return Decimal(0)
        return self._quoted_price_usd if self._sheet_is_too_low else self.price.usd_per_gib

    @property
    def settle_price_source(self) -> str:
        """Where that price comes from, as a sentence."""
        if self.included:
            return self.price.source if self.price.kind == "plan" else "included: the vendor quotes $0"
        return "the vendor's quote of this request" if self._sheet_is_too_low else self.price.source

    @property
    def above_list(self) -> bool:
        """Whether the vendor asks for more than the price that is known says."""
        return self.cost_nano_usd > cost_nano_usd(self.size_bytes, self.price.usd_per_gib)

    @property
    def _sheet_is_too_low(self) -> bool:
        """The bundled sheet is what somebody once saw: where the vendor now asks for more, its word counts."""
        return self.price.kind == "sheet" and self.size_bytes > 0 and self.above_list

    @property
    def _quoted_price_usd(self) -> Decimal:
        """The price per GiB that the vendor's quote comes to, rounded up."""
        return usd_from_nano(-(-nano_from_usd(self.vendor_cost_usd) * GIB // self.size_bytes))

    def text(self) -> str:
        """`1.50 GiB for $2.70`, and what of it was bought before."""
        price = f"{size_text(self.size_bytes)} for {usd_text(usd_from_nano(self.cost_nano_usd))}"
        return price if self.owned is None else f"{price} ({self.owned.text()})"


def decide_quote(
    rules: HistoricalRules,
    quote: Quote,
    limits: tuple[BudgetLimit, ...],
    balances: Balances,
    *,
    approved: bool = False,
) -> tuple[Decision, tuple[Claim, ...]]:
    """Whether a quoted request may be made, and the claims that hold its price. A denial holds nothing."""
    reasons = [reason for limit in limits if (reason := _excess(limit, balances, quote)) is not None]
    reasons += _rule_reasons(rules, quote, approved=approved)
    if reasons:
        return Decision("deny", tuple(reasons)), ()
    claims = tuple(Claim(limit.key, 0, quote.held_count(limit.unit)) for limit in limits)
    return Decision("allow"), claims


def _rule_reasons(rules: HistoricalRules, quote: Quote, *, approved: bool) -> list[Reason]:
    asked = usd_from_nano(quote.cost_nano_usd)
    if rules.max_request_usd is not None and asked > rules.max_request_usd:
        return [
            Reason(
                "would_exceed",
                f"the request is {quote.text()}, more than historical.max_request allows: "
                f"{usd_text(rules.max_request_usd)}; ask for a shorter range or fewer symbols",
                unit="usd",
                limit=rules.max_request_usd,
                asked=asked,
            )
        ]
    if rules.approve_above_usd is not None and asked > rules.approve_above_usd and not approved:
        return [
            Reason(
                "approval_needed",
                f"the request is {quote.text()}; above {usd_text(rules.approve_above_usd)} "
                "(historical.approve_above) a person has to say yes, on a terminal",
                unit="usd",
                limit=rules.approve_above_usd,
                asked=asked,
            )
        ]
    return []


def _excess(limit: BudgetLimit, balances: Balances, quote: Quote) -> Reason | None:
    if limit.limit is None:
        return None
    balance = balances[limit.key]
    if limit.unit not in ("usd", "gib"):
        return _nothing_at_all(limit, balance) if limit.limit == 0 else None
    taken = balance.settled + balance.held
    asked = quote.held_count(limit.unit)
    if taken + asked <= limit.limit and limit.limit > 0:
        return None
    name, period = limit.key.budget, limit.key.period
    if taken > limit.limit:
        message = f"budget {name} is past its {period} limit of {count_text(limit.unit, limit.limit)}"
        return limit_reason("frozen", limit, balance.settled, balance.held, asked, message)
    message = (
        f"the request is {quote.text()}; budget {name} has {count_text(limit.unit, limit.limit - taken)} left "
        f"of {count_text(limit.unit, limit.limit)} {span_text(period)}"
    )
    return limit_reason("would_exceed", limit, balance.settled, balance.held, asked, message)


def _nothing_at_all(limit: BudgetLimit, balance: Balance) -> Reason:
    """A limit of 0 refuses everything that its budget matches, whatever its unit."""
    message = (
        f"budget {limit.key.budget} has a limit of {count_text(limit.unit, 0)} {span_text(limit.key.period)}, "
        "which refuses everything it matches"
    )
    return limit_reason("would_exceed", limit, balance.settled, balance.held, 0, message)


def range_json(request: Request, quote: Quote, details: Mapping[str, str] | None = None) -> str:
    """What is asked for, with the range that was quoted, and what else is to be known of it."""
    row = json.loads(request.as_json())
    row |= {"start": instant_text(quote.range.start_utc), "end": instant_text(quote.range.end_utc)}
    return json.dumps(row | dict(details or {}))

"""What filling a gap would cost: the vendor's free metadata and the account's own prices. Nothing is bought here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from budget_guard.backfill.files import kept_file
from budget_guard.backfill.model import GapRow, Price, state_of
from budget_guard.clock import instant_text
from budget_guard.decisions import Decision
from budget_guard.errors import BudgetGuardError, KeyRejected, VendorError
from budget_guard.guard.denials import no_budget, price_unknown
from budget_guard.guard.quote import Quote
from budget_guard.guard.request import Request, covering_streams
from budget_guard.ledger.model import Gap
from budget_guard.policy.model import Policy, Stream
from budget_guard.pricing.model import DataRange, UnitPrice
from budget_guard.pricing.ranges import make_range
from budget_guard.vendor.answers import DatasetRange


class Metadata(Protocol):
    """The vendor's free answers. Every method raises VendorError."""

    def fetch_billable_size(self, data_range: DataRange) -> int: ...

    def fetch_cost(self, data_range: DataRange) -> Decimal: ...

    def fetch_dataset_range(self, dataset: str, *, fresh: bool = False) -> DatasetRange: ...


class RangePrices(Protocol):
    """The account's prices of historical data."""

    def price_whole(self, data_range: DataRange, at: datetime) -> UnitPrice | None: ...


class CannotFill(BudgetGuardError):
    """A gap that cannot be filled as things are; `retry_at_utc` is when they may have changed by themselves."""

    def __init__(self, message: str, retry_at_utc: datetime | None = None) -> None:
        super().__init__(message)
        self.retry_at_utc = retry_at_utc


class Quoter:
    """Prices gaps, and finds out why one cannot be filled."""

    def __init__(
        self, policy: Policy, vendor: Metadata, prices: RangePrices, now: datetime, folder: Path | None = None
    ) -> None:
        """`folder` is where what was bought before is looked for."""
        self._policy = policy
        self._vendor = vendor
        self._prices = prices
        self._now = now
        self._folder = folder
        self._fresh: dict[str, DatasetRange] = {}

    def row(self, gap: Gap) -> GapRow:
        """The gap with its price, or with why it has none. Raises KeyRejected."""
        row = GapRow(gap)
        if state_of(gap) != "open":
            return row
        try:
            kept = None if self._folder is None else kept_file(self._folder, gap)
            if kept is not None:
                range_of(self._policy, gap)
                return replace(row, kept=kept)
            return replace(row, price=self.price(gap))
        except CannotFill as error:
            return replace(row, trouble=str(error), retry_at_utc=error.retry_at_utc)
        except KeyRejected:
            raise
        except VendorError as error:
            return replace(row, trouble=str(error))

    def rows(self, gaps: Iterable[Gap]) -> tuple[GapRow, ...]:
        return tuple(self.row(gap) for gap in gaps)

    def price(self, gap: Gap) -> Price:
        """Raises CannotFill, VendorError."""
        wanted = range_of(self._policy, gap)
        self._check_reach(gap)
        unit = self._prices.price_whole(wanted, self._now)
        if unit is None:
            raise CannotFill(price_unknown(_request(wanted)).text())
        size, cost = self._vendor.fetch_billable_size(wanted), self._vendor.fetch_cost(wanted)
        return Price(size, Quote(wanted, size, unit, cost).cost_nano_usd)

    def _check_reach(self, gap: Gap) -> None:
        """History follows the market at a distance, which differs by dataset and licence."""
        starts, ends = self._reach(gap)
        if gap.start_utc < starts:
            raise CannotFill(
                f"the vendor's history of {gap.schema} of {gap.dataset} begins only at {instant_text(starts)}"
            )
        if ends >= gap.end_utc:
            return
        again = gap.end_utc + max(timedelta(0), self._now - ends)
        raise CannotFill(
            f"too recent: this key sees history of {gap.schema} of {gap.dataset} until {instant_text(ends)}. "
            f"If that stays as far behind as it is now, try again at {instant_text(again)}",
            again,
        )

    def _reach(self, gap: Gap) -> tuple[datetime, datetime]:
        """What the key sees of a gap's schema; a kept answer that ends too early is replaced, once for each dataset."""
        known = self._fresh.get(gap.dataset) or self._vendor.fetch_dataset_range(gap.dataset)
        if known.of(gap.schema)[1] < gap.end_utc and gap.dataset not in self._fresh:
            known = self._fresh[gap.dataset] = self._vendor.fetch_dataset_range(gap.dataset, fresh=True)
        return known.of(gap.schema)


def range_of(policy: Policy, gap: Gap) -> DataRange:
    """What has to be bought to fill a gap. Raises CannotFill where the policy does not let it be bought."""
    stream = policy.streams.get(gap.stream)
    what = f"{gap.schema} of {gap.dataset}"
    if stream is None or (stream.dataset, stream.schema) != (gap.dataset, gap.schema):
        state = (
            "has no stream of that name"
            if stream is None
            else f"has it for {stream.schema} of {stream.dataset}"
        )
        raise CannotFill(
            f"stream {gap.stream} missed {what}, and the policy {state} now, so nothing says for which symbols. "
            f"Add a stream {gap.stream} for {what} with the symbols that it had (mode: historical is enough)"
        )
    try:
        wanted = make_range(
            gap.dataset, gap.schema, stream.symbols, stream.stype_in, gap.start_utc, gap.end_utc
        )
    except ValueError as error:
        raise CannotFill(str(error)) from None
    _check_coverage(policy, stream, wanted)
    return wanted


def _check_coverage(policy: Policy, stream: Stream, wanted: DataRange) -> None:
    found = covering_streams(policy, _request(wanted))
    if isinstance(found, Decision):
        raise CannotFill(found.text())
    covering = found[0]
    if not policy.budgets_for(
        stream=covering.name, dataset=wanted.dataset, schema=wanted.schema, mode="historical"
    ):
        raise CannotFill(no_budget(covering, "historical", wanted.schema).text())


def _request(wanted: DataRange) -> Request:
    return Request(wanted.dataset, wanted.schema, wanted.symbols, wanted.stype_in, "historical")

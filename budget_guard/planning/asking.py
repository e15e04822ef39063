"""What a plan asks of the vendor, and what it does when an answer does not come.

A rejected key or an unpaid account ends the plan: nothing else would be answered either. Anything else makes the
figures that needed it unknown, each with the vendor's own reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from budget_guard.errors import KeyRejected, NotEntitled, PaymentRequired, VendorError, VendorUnavailable
from budget_guard.markets.model import Interval
from budget_guard.planning.model import Unknown
from budget_guard.pricing.model import DataRange

# Sizes of data older than this are final: sampling takes no other, so that a second plan asks for nothing.
FINAL_AFTER = timedelta(hours=24)

Progress = Callable[[int, int], None]


class AvailableRange(Protocol):
    """What a key may see of a dataset."""

    def of(self, schema: str) -> tuple[datetime, datetime]:
        """The schema's range, half-open."""


class Metadata(Protocol):
    """The calls that planning makes; `vendor.client.VendorClient` has them. Each raises VendorError."""

    @property
    def gateway(self) -> str: ...

    def fetch_unit_prices(self, dataset: str) -> Mapping[str, Mapping[str, Decimal]]: ...

    def unit_prices_read_utc(self, dataset: str) -> datetime | None: ...

    def size_asked_utc(self, data_range: DataRange) -> datetime | None: ...

    def fetch_dataset_range(self, dataset: str) -> AvailableRange: ...

    def fetch_billable_sizes(
        self, ranges: Sequence[DataRange], progress: Callable[[], None] | None = None
    ) -> list[int]: ...


@dataclass
class Desk:
    """One plan's dealings with the vendor: no question twice, and none at all once it cannot be reached."""

    vendor: Metadata
    now: datetime
    progress: Progress | None = None
    notes: list[str] = field(default_factory=list)
    _down: VendorError | None = None
    _sizes: dict[DataRange, int] = field(default_factory=dict)
    _done: int = 0
    _wanted: int = 0

    @property
    def is_down(self) -> bool:
        """Whether the vendor could not be reached."""
        return self._down is not None

    def unit_prices(self, datasets: Sequence[str]) -> dict[str, Mapping[str, Mapping[str, Decimal]]]:
        """The account's list by dataset. A dataset whose list did not come is left out, with a note that says so."""
        listed = {}
        for dataset in datasets:
            try:
                self._require_up()
                listed[dataset] = self.vendor.fetch_unit_prices(dataset)
            except VendorError as error:
                self._remember(error)
                self.notes.append(f"the account's prices of {dataset} are not known: {error}")
        return listed

    def prices_read_utc(self, datasets: Iterable[str]) -> dict[str, datetime]:
        """When each list that came was read: now, or earlier where it was kept."""
        read = {dataset: self.vendor.unit_prices_read_utc(dataset) for dataset in datasets}
        return {dataset: at or self.now for dataset, at in read.items()}

    def available(self, dataset: str, schema: str) -> Interval | Unknown:
        """The past that can be sized completely and for good."""
        try:
            self._require_up()
            start, end = self.vendor.fetch_dataset_range(dataset).of(schema)
        except VendorError as error:
            return self._remember(error)
        return Interval(start, min(end, self.now - FINAL_AFTER))

    def sizes(self, groups: Sequence[Sequence[DataRange]]) -> list[int] | Unknown:
        """The billable bytes of each group of ranges together, in order; one that cannot be had makes all unknown."""
        ranges = [wanted for group in groups for wanted in group]
        missing = [wanted for wanted in dict.fromkeys(ranges) if wanted not in self._sizes]
        self._wanted += len(missing)
        try:
            if missing:
                self._require_up()
                found = self.vendor.fetch_billable_sizes(missing, self._tick)
                self._sizes.update(zip(missing, found, strict=True))
        except VendorError as error:
            return self._remember(error)
        return [sum(self._sizes[wanted] for wanted in group) for group in groups]

    def sizes_asked_utc(self, groups: Sequence[Sequence[DataRange]]) -> datetime:
        """When the oldest of these answers was given."""
        asked = (self.vendor.size_asked_utc(wanted) for group in groups for wanted in group)
        return min((at for at in asked if at is not None), default=self.now)

    def _tick(self) -> None:
        self._done += 1
        if self.progress is not None:
            self.progress(self._done, self._wanted)

    def _require_up(self) -> None:
        if self._down is not None:
            raise self._down

    def _remember(self, error: VendorError) -> Unknown:
        if isinstance(error, KeyRejected | PaymentRequired):
            raise error
        if isinstance(error, VendorUnavailable):
            self._down = error
        return Unknown("not_entitled" if isinstance(error, NotEntitled) else "size_unknown", str(error))

"""What live streams missed, what it would cost to buy it from history, and what became of that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from budget_guard.clock import instant_text
from budget_guard.ledger.model import Gap
from budget_guard.money import decimal_text, nano_exact_text

# open: nobody has what was missed; replayed: the vendor sent it again, live; filled: bought from history.
State = Literal["open", "replayed", "filled"]
# What a gap that was bought is marked with, before the number of its records and the name of its file.
FILLED = "filled: "


def state_of(gap: Gap) -> State:
    """How a gap stands."""
    if not gap.mended:
        return "open"
    return "filled" if gap.mended.startswith(FILLED) else "replayed"


@dataclass(frozen=True, slots=True)
class Price:
    """What filling a gap takes, by the vendor's own word: billable bytes, and what the guard holds for them."""

    size_bytes: int
    cost_nano_usd: int


@dataclass(frozen=True, slots=True)
class GapRow:
    """A gap, the price of filling it where it is open and the vendor was asked, and why it cannot be filled now."""

    gap: Gap
    price: Price | None = None
    trouble: str = ""
    retry_at_utc: datetime | None = None
    kept: Path | None = None  # what was bought of it before, and only has to be checked

    @property
    def state(self) -> State:
        return state_of(self.gap)

    @property
    def length(self) -> timedelta:
        return self.gap.end_utc - self.gap.start_utc

    @property
    def cost_nano_usd(self) -> int | None:
        """What it costs to fill it now; None when nobody knows, or it cannot be filled."""
        if self.kept is not None:
            return 0
        return None if self.price is None else self.price.cost_nano_usd

    def as_json(self) -> dict[str, Any]:
        """The stable JSON shape; absent figures are null."""
        gap, price = self.gap, self.price
        return {
            "id": gap.id,
            "stream": gap.stream,
            "dataset": gap.dataset,
            "schema": gap.schema,
            "start_utc": instant_text(gap.start_utc),
            "end_utc": instant_text(gap.end_utc),
            "seconds": decimal_text(_seconds(self.length)),
            "state": self.state,
            "mended": gap.mended,
            "note": gap.note,
            "size_bytes": None if price is None else price.size_bytes,
            "cost_usd": None if price is None else nano_exact_text(price.cost_nano_usd),
            "trouble": self.trouble,
            "retry_at_utc": None if self.retry_at_utc is None else instant_text(self.retry_at_utc),
        }


@dataclass(frozen=True, slots=True)
class GapList:
    """The gaps of an account, of one UTC month or of all; `note` says why open ones have no price."""

    account: str
    month: str | None
    rows: tuple[GapRow, ...]
    note: str = ""

    @property
    def open_rows(self) -> tuple[GapRow, ...]:
        return tuple(row for row in self.rows if row.state == "open")

    @property
    def total_nano_usd(self) -> int:
        """What all that can be filled now costs together."""
        return sum(row.cost_nano_usd or 0 for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        return {
            "account": self.account,
            "month": self.month,
            "open": len(self.open_rows),
            "total_usd": nano_exact_text(self.total_nano_usd),
            "note": self.note,
            "gaps": [row.as_json() for row in self.rows],
        }


# filled: bought, checked and marked; already: so it was; refused: by the guard; vendor: by the vendor; unchecked:
# bought, and the vendor's count says otherwise, or could not be asked; failed: anything else, nothing is left of it.
Outcome = Literal["filled", "already", "refused", "vendor", "unchecked", "failed"]


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of filling a gap."""

    gap: Gap
    outcome: Outcome
    message: str
    path: Path | None = None
    records: int | None = None


def _seconds(span: timedelta) -> Decimal:
    return Decimal(span // timedelta(microseconds=1)).scaleb(-6)

"""A review as values. Money is integer nano-USD, sizes integer bytes; None is unknown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from budget_guard.clock import instant_text
from budget_guard.guard.status import cause_json
from budget_guard.ledger.amounts import amount_text
from budget_guard.ledger.model import Approval, Gap
from budget_guard.ledger.model import Overrun as Recorded
from budget_guard.money import decimal_text, gib_from_bytes, nano_exact_text, usd_from_nano


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used. `settled_nano_usd` contains the residual; sizes are of what was counted, and of that assumed.

    `uses` counts entries and running connections. What a running connection has settled so far is in the money,
    and in the sizes where the ledger knows it.
    """

    settled_nano_usd: int = 0
    held_nano_usd: int = 0
    residual_nano_usd: int = 0
    size_bytes: int = 0
    control_bytes: int = 0
    residual_bytes: int = 0
    uses: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.settled_nano_usd + other.settled_nano_usd,
            self.held_nano_usd + other.held_nano_usd,
            self.residual_nano_usd + other.residual_nano_usd,
            self.size_bytes + other.size_bytes,
            self.control_bytes + other.control_bytes,
            self.residual_bytes + other.residual_bytes,
            self.uses + other.uses,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "settled_usd": nano_exact_text(self.settled_nano_usd),
            "held_usd": nano_exact_text(self.held_nano_usd),
            "residual_usd": nano_exact_text(self.residual_nano_usd),
            "gib": _gib(self.size_bytes),
            "control_gib": _gib(self.control_bytes),
            "residual_gib": _gib(self.residual_bytes),
            "uses": self.uses,
        }


@dataclass(frozen=True, slots=True)
class Group:
    """What was used under the same labels: `(("stream", "nq-mbo"),)`, or dataset, schema and mode."""

    labels: tuple[tuple[str, str | None], ...]
    spent: Spent

    def as_json(self) -> dict[str, Any]:
        return {**dict(self.labels), **self.spent.as_json()}


@dataclass(frozen=True, slots=True)
class RefusedGroup:
    """Refusals of one code and stream. `saved_nano_usd` is the price of those whose price was known."""

    code: str
    stream: str | None
    count: int
    saved_nano_usd: int
    unpriced: int

    def as_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "stream": self.stream,
            "count": self.count,
            "saved_usd": None if self.count == self.unpriced else nano_exact_text(self.saved_nano_usd),
            "unpriced": self.unpriced,
        }


@dataclass(frozen=True, slots=True)
class Overrun:
    """A limit that was passed. Amounts are in `unit`; `limit` contains the most that was `approved` at one time.

    `causes` are the settlements that recorded it. `over` is by how much settled and held together are above the
    limit now, or, where they no longer are, how far the causes went past it then.
    """

    budget: str
    period: str
    period_start_utc: datetime
    unit: str
    limit: Decimal
    settled: Decimal
    held: Decimal
    over: Decimal
    approved: Decimal
    causes: tuple[Recorded, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "budget": self.budget,
            "period": self.period,
            "period_start_utc": instant_text(self.period_start_utc),
            "unit": self.unit,
            "limit": decimal_text(self.limit),
            "approved": decimal_text(self.approved),
            "settled": decimal_text(self.settled),
            "held": decimal_text(self.held),
            "over": decimal_text(self.over),
            "causes": [cause_json(cause) for cause in self.causes],
        }


@dataclass(frozen=True, slots=True)
class FixedFee:
    """A plan's monthly fee and its licences; `fee_usd` None is unknown."""

    datasets: tuple[str, ...]
    plan: str
    fee_usd: Decimal | None
    license_usd: Decimal
    source: str

    def as_json(self) -> dict[str, Any]:
        return {
            "datasets": list(self.datasets),
            "plan": self.plan,
            "fee_usd": _decimal(self.fee_usd),
            "license_usd": decimal_text(self.license_usd),
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class Against:
    """What the month is measured by; None where there is no such figure."""

    plan_usd: Decimal | None = None
    budget_usd: Decimal | None = None
    vendor_usd: Decimal | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "plan_usd": _decimal(self.plan_usd),
            "budget_usd": _decimal(self.budget_usd),
            "vendor_usd": _decimal(self.vendor_usd),
        }


@dataclass(frozen=True, slots=True)
class Review:
    """A billing month of an account: what was spent, refused and missed."""

    policy: str
    account: str
    month: str
    generated_utc: datetime
    spent: Spent
    fixed: tuple[FixedFee, ...]
    fixed_usd: Decimal | None
    by_stream: tuple[Group, ...]
    by_day: tuple[Group, ...]  # the UTC day on which a connection or request started
    by_schema: tuple[Group, ...]
    refusals: tuple[RefusedGroup, ...]
    against: Against
    overruns: tuple[Overrun, ...]
    gaps: tuple[Gap, ...]
    notes: tuple[str, ...]
    approvals: tuple[Approval, ...] = ()  # that were in force in a part of the month

    @property
    def refused(self) -> int:
        return sum(group.count for group in self.refusals)

    @property
    def refused_unpriced(self) -> int:
        """How many refusals have no price, and so are not in what was saved."""
        return sum(group.unpriced for group in self.refusals)

    @property
    def saved_usd(self) -> Decimal:
        """The price of what was refused, as far as it was known: at least this was saved."""
        return usd_from_nano(sum(group.saved_nano_usd for group in self.refusals))

    @property
    def settled_usd(self) -> Decimal:
        return usd_from_nano(self.spent.settled_nano_usd)

    @property
    def total_usd(self) -> Decimal | None:
        """Settled and fixed together; None when a fee is unknown."""
        return None if self.fixed_usd is None else self.settled_usd + self.fixed_usd

    def as_json(self) -> dict[str, Any]:
        """The stable JSON shape."""
        return {
            "policy": self.policy,
            "account": self.account,
            "month": self.month,
            "generated_utc": instant_text(self.generated_utc),
            "totals": {
                **self.spent.as_json(),
                "fixed_usd": _decimal(self.fixed_usd),
                "total_usd": _decimal(self.total_usd),
                "refused": self.refused,
                "refused_unpriced": self.refused_unpriced,
                "saved_usd": decimal_text(self.saved_usd),
            },
            "fixed": [fee.as_json() for fee in self.fixed],
            "by_stream": [group.as_json() for group in self.by_stream],
            "by_day": [group.as_json() for group in self.by_day],
            "by_schema": [group.as_json() for group in self.by_schema],
            "refusals": [group.as_json() for group in self.refusals],
            "against": self.against.as_json(),
            "overruns": [overrun.as_json() for overrun in self.overruns],
            "approvals": [_approval_json(approval) for approval in self.approvals],
            "gaps": [_gap_json(gap) for gap in self.gaps],
            "notes": list(self.notes),
        }


def _approval_json(approval: Approval) -> dict[str, Any]:
    return {
        "id": approval.id,
        "budget": approval.budget,
        "unit": approval.unit,
        "amount": amount_text(approval.unit, approval.amount),
        "from_utc": instant_text(approval.from_utc),
        "until_utc": instant_text(approval.until_utc),
        "reason": approval.reason,
        "by": approval.name,
    }


def _gap_json(gap: Gap) -> dict[str, Any]:
    return {
        "stream": gap.stream,
        "dataset": gap.dataset,
        "schema": gap.schema,
        "start_utc": instant_text(gap.start_utc),
        "end_utc": instant_text(gap.end_utc),
        "mended": gap.mended,
        "note": gap.note,
    }


def _gib(size_bytes: int) -> str:
    return decimal_text(gib_from_bytes(size_bytes))


def _decimal(amount: Decimal | None) -> str | None:
    return None if amount is None else decimal_text(amount)

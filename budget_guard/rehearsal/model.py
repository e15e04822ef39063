"""A rehearsal's report as values. Money is integer nano-USD, sizes integer bytes; None is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from budget_guard.clock import instant_text
from budget_guard.ledger.model import Gap
from budget_guard.money import decimal_text, gib_from_bytes, nano_exact_text

Verdict = Literal["fits", "over", "unknown"]

SYNTHETIC = "synthetic"
# So much of a stream may be missed, as after a lost connection, and a month still be judged by the rest.
MISSED_MAX = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Use:
    """What one stream used in one session, live or historical.

    Seconds are the market's. `open_s` is the length of its windows, `connected_s` how much of them was connected.
    `spent_nano_usd` is the ledger's, residual included; `bill_nano_usd` the sandbox's, rounded up, None where several
    streams share what is billed. `missed` counts the market's records in the windows that were not delivered; None for
    history.
    """

    session: date
    stream: str
    mode: str
    open_s: int
    connected_s: int
    connections: int
    size_bytes: int
    spent_nano_usd: int
    residual_nano_usd: int
    bill_nano_usd: int | None
    delivered: int | None
    missed: int | None

    @property
    def reconnections(self) -> int:
        return max(0, self.connections - 1) if self.mode == "live" else 0

    def as_json(self) -> dict[str, Any]:
        return {
            "session": self.session.isoformat(),
            "stream": self.stream,
            "mode": self.mode,
            "open_hours": _hours(self.open_s),
            "connected_hours": _hours(self.connected_s),
            "connections": self.connections,
            "reconnections": self.reconnections,
            "gib": decimal_text(gib_from_bytes(self.size_bytes)),
            "spent_usd": nano_exact_text(self.spent_nano_usd),
            "residual_usd": nano_exact_text(self.residual_nano_usd),
            "bill_usd": None if self.bill_nano_usd is None else nano_exact_text(self.bill_nano_usd),
            "records": self.delivered,
            "missed_records": self.missed,
        }


@dataclass(frozen=True, slots=True)
class Refused:
    """Refusals of one kind in one session: by the guard, as a cut, or by the vendor. `text` is the first's."""

    session: date
    kind: Literal["refused", "cut", "vendor"]
    stream: str | None
    code: str
    count: int
    first_utc: datetime
    last_utc: datetime
    text: str

    def as_json(self) -> dict[str, Any]:
        return {
            "session": self.session.isoformat(),
            "kind": self.kind,
            "stream": self.stream,
            "code": self.code,
            "count": self.count,
            "first_utc": instant_text(self.first_utc),
            "last_utc": instant_text(self.last_utc),
            "message": self.text,
        }


@dataclass(frozen=True, slots=True)
class ProgramRun:
    """One run of the program, in the market's time. `waited`: the clock went on without it."""

    session: date
    start_utc: datetime
    end_utc: datetime
    code: int | None
    ended: str
    connected: bool
    waited: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "session": self.session.isoformat(),
            "start_utc": instant_text(self.start_utc),
            "end_utc": instant_text(self.end_utc),
            "exit_code": self.code,
            "ended": self.ended,
            "connected": self.connected,
            "waited": self.waited,
        }


@dataclass(frozen=True, slots=True)
class LimitUse:
    """A limit and the most that one of its periods came to. `reached_utc`: when it first refused or cut something.

    Amounts are in `unit`, as the policy writes them. For a month limit `projected` is the rehearsal scaled to the
    sessions of the month.
    """

    budget: str
    period: str
    unit: str
    limit: Decimal | None
    most: Decimal
    reached_utc: datetime | None
    projected: Decimal | None

    @property
    def over(self) -> bool:
        """Whether the limit was reached, or the projection passes it."""
        beyond = self.limit is not None and self.projected is not None and self.projected > self.limit
        return self.reached_utc is not None or beyond

    def as_json(self) -> dict[str, Any]:
        return {
            "budget": self.budget,
            "period": self.period,
            "unit": self.unit,
            "limit": None if self.limit is None else decimal_text(self.limit),
            "most": decimal_text(self.most),
            "reached_utc": None if self.reached_utc is None else instant_text(self.reached_utc),
            "projected": None if self.projected is None else decimal_text(self.projected),
        }


@dataclass(frozen=True, slots=True)
class Absence:
    """A stretch of a stream's window in which it was not connected, and which no replay made up for."""

    stream: str
    start_utc: datetime
    end_utc: datetime

    def as_json(self) -> dict[str, Any]:
        return {
            "stream": self.stream,
            "start_utc": instant_text(self.start_utc),
            "end_utc": instant_text(self.end_utc),
        }


@dataclass(frozen=True, slots=True)
class FaultUse:
    """A fault of the scenario, in its own words, and how often it struck; instants are None when it never did."""

    number: int
    words: Mapping[str, Any]
    at_utc: datetime
    struck: int
    first_utc: datetime | None
    last_utc: datetime | None

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "fault": dict(self.words),
            "at_utc": instant_text(self.at_utc),
            "struck": self.struck,
            "first_utc": None if self.first_utc is None else instant_text(self.first_utc),
            "last_utc": None if self.last_utc is None else instant_text(self.last_utc),
        }


@dataclass(frozen=True, slots=True)
class Holdback:
    """What one connection of a stream holds for its own ending: here, and over a network from this machine."""

    stream: str
    size_bytes: int
    nano_usd: int
    network_bytes: int
    network_nano_usd: int

    def as_json(self) -> dict[str, Any]:
        return {
            "stream": self.stream,
            "gib": decimal_text(gib_from_bytes(self.size_bytes)),
            "usd": nano_exact_text(self.nano_usd),
            "network_gib": decimal_text(gib_from_bytes(self.network_bytes)),
            "network_usd": nano_exact_text(self.network_nano_usd),
        }


@dataclass(frozen=True, slots=True)
class Missed:
    """How much of what the market had in a stream's windows was not delivered."""

    stream: str
    missed: int
    there: int

    @property
    def share(self) -> Decimal:
        return Decimal(self.missed) / self.there

    def as_json(self) -> dict[str, Any]:
        share = self.share.quantize(Decimal("0.0001"))
        return {
            "stream": self.stream,
            "records": self.missed,
            "of": self.there,
            "share": decimal_text(share),
        }


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What the guard would have done in the sessions that were played.

    `planned` sessions were to be played, `sessions` were; of an interrupted rehearsal the last one is a part.
    `month_sessions` is how many of them the month has that is projected.
    """

    policy: str
    account: str
    command: tuple[str, ...]
    seed: int
    source: str
    planned: int
    sessions: tuple[date, ...]
    took_s: float
    month: str
    month_sessions: int
    uses: tuple[Use, ...]
    refused: tuple[Refused, ...]
    gaps: tuple[Gap, ...]
    runs: tuple[ProgramRun, ...]
    limits: tuple[LimitUse, ...]
    spent_nano_usd: int
    bill_nano_usd: int
    unpriced_bytes: int
    notes: tuple[str, ...]
    interrupted: bool = False
    absences: tuple[Absence, ...] = ()
    faults: tuple[FaultUse, ...] = ()
    holdbacks: tuple[Holdback, ...] = ()

    @property
    def holds(self) -> bool:
        """Vendor's bill <= ledger: what the sandbox billed is no more than what the guard booked."""
        return self.bill_nano_usd <= self.spent_nano_usd and not self.unpriced_bytes

    @property
    def verdict(self) -> Verdict:
        """`over` when a limit was reached or the projection passes one; `unknown` when there are `doubts`."""
        if any(limit.over for limit in self.limits):
            return "over"
        return "unknown" if self.doubts else "fits"

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why these sessions are nothing to judge a month by; empty when they are."""
        found = []
        if self.interrupted:
            found.append("a month cannot be judged from a rehearsal that was interrupted")
        if not any(use.delivered if use.mode == "live" else use.size_bytes for use in self.uses):
            found.append("no data was delivered")
        else:
            found += [
                f"a month cannot be judged from sessions of which {percent(row.share)} is missing ({row.stream})"
                for row in self.missed
                if row.share > MISSED_MAX
            ]
        if self.unpriced_bytes:
            found.append(f"{self.unpriced_bytes:,} billed bytes have no known price")
        elif not self.holds:
            found.append("the sandbox billed more than the ledger has booked")
        return tuple(found)

    @property
    def missed(self) -> tuple[Missed, ...]:
        """What was missed of each live stream that missed anything."""
        rows: dict[str, tuple[int, int]] = {}
        for use in self.uses:
            missed, there = rows.get(use.stream, (0, 0))
            rows[use.stream] = missed + (use.missed or 0), there + (use.missed or 0) + (use.delivered or 0)
        return tuple(Missed(stream, missed, there) for stream, (missed, there) in rows.items() if missed)

    @property
    def is_lower_bound(self) -> bool:
        """Whether the month would come to more than is projected: something was cut off, missed or not played."""
        return self.interrupted or bool(self.missed) or any(row.kind == "cut" for row in self.refused)

    @property
    def is_synthetic(self) -> bool:
        return self.source == SYNTHETIC

    def of(self, session: date) -> tuple[Use, ...]:
        """What was used in a session."""
        return tuple(use for use in self.uses if use.session == session)

    def as_json(self) -> dict[str, Any]:
        """The stable JSON shape."""
        return {
            "synthetic": self.is_synthetic,
            "policy": self.policy,
            "account": self.account,
            "command": list(self.command),
            "seed": self.seed if self.is_synthetic else None,
            "source": self.source,
            "sessions": [session.isoformat() for session in self.sessions],
            "planned_sessions": self.planned,
            "interrupted": self.interrupted,
            "took_s": round(self.took_s, 1),
            "uses": [use.as_json() for use in self.uses],
            "refused": [refused.as_json() for refused in self.refused],
            "missed": [row.as_json() for row in self.missed],
            "absences": [absence.as_json() for absence in self.absences],
            "faults": [fault.as_json() for fault in self.faults],
            "held_for_ending": [held.as_json() for held in self.holdbacks],
            "gaps": [_gap_json(gap) for gap in self.gaps],
            "runs": [run.as_json() for run in self.runs],
            "limits": [limit.as_json() for limit in self.limits],
            "totals": {
                "spent_usd": nano_exact_text(self.spent_nano_usd),
                "bill_usd": nano_exact_text(self.bill_nano_usd),
                "unpriced_bytes": self.unpriced_bytes,
                "bill_within_ledger": self.holds,
                "missed_records": sum(use.missed or 0 for use in self.uses),
            },
            "projection": {
                "month": self.month,
                "month_sessions": self.month_sessions,
                "lower_bound": self.is_lower_bound,
            },
            "verdict": self.verdict,
            "notes": [*self.doubts, *self.notes],
        }


def percent(share: Decimal) -> str:
    """A share for people: `41%`, and below a percent as many digits as show that it is something."""
    hundredths = 100 * share
    return f"{hundredths:.0f}%" if hundredths >= 1 else f"{hundredths:.2g}%"


def _gap_json(gap: Gap) -> dict[str, Any]:
    return {
        "stream": gap.stream,
        "start_utc": instant_text(gap.start_utc),
        "end_utc": instant_text(gap.end_utc),
        "mended": gap.mended,
        "note": gap.note,
    }


def _hours(seconds: int) -> str:
    return decimal_text((Decimal(seconds) / 3600).quantize(Decimal("0.001")))

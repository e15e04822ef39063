"""A decision: allow or deny, and the ordered reasons for it.

The same value reaches the terminal, JSON, the exception and, over the wire, the error text of the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from budget_guard.clock import instant_text, parse_instant
from budget_guard.money import decimal_text
from budget_guard.wording import one_line

Verdict = Literal["allow", "deny"]
Code = Literal[
    "not_covered",
    "window_closed",
    "limit_reached",
    "would_exceed",
    "frozen",
    "price_unknown",
    "size_unknown",
    "calendar_unknown",
    "ledger_unavailable",
    "not_entitled",
    "payment_required",
    "key_rejected",
    "sessions_full",
    "all_symbols",
    "approval_needed",
    "outcome_unknown",
]

# An ErrorMsg record of DBN v3 holds 302 bytes, the terminating NUL included.
WIRE_TEXT_MAX = 301


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason. Amounts are in `unit` (usd, gib, hours, connections), exact."""

    code: Code
    message: str
    budget: str | None = None
    period: str | None = None
    unit: str | None = None
    limit: Decimal | None = None
    settled: Decimal | None = None
    held: Decimal | None = None
    asked: Decimal | None = None
    retry_at_utc: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """The stable JSON shape: absent fields are left out, amounts are strings."""
        row: dict[str, Any] = {"code": self.code, "message": self.message}
        for name in ("budget", "period", "unit"):
            if (text := getattr(self, name)) is not None:
                row[name] = text
        for name in ("limit", "settled", "held", "asked"):
            if (amount := getattr(self, name)) is not None:
                row[name] = decimal_text(amount)
        if self.retry_at_utc is not None:
            row["retry_at_utc"] = instant_text(self.retry_at_utc)
        return row

    def wire_text(self) -> str:
        """Code, budget, limit and retry time first: what must survive when the rest is cut."""
        head = f"budget-guard: {self.code}"
        if self.budget is not None:
            limit = "" if self.limit is None else f" {decimal_text(self.limit)} {self.unit or ''}".rstrip()
            head += f" [{self.budget}{'' if self.period is None else ' ' + self.period}{limit}]"
        if self.retry_at_utc is not None:
            head += f" retry at {instant_text(self.retry_at_utc)}"
        return f"{head}: {self.message}"


@dataclass(frozen=True, slots=True)
class Decision:
    """`verdict` and its reasons, most important first; an allowed request may carry none."""

    verdict: Verdict
    reasons: tuple[Reason, ...] = ()

    @property
    def allowed(self) -> bool:
        return self.verdict == "allow"

    @property
    def code(self) -> Code | None:
        """The first reason's code, if there is one."""
        return self.reasons[0].code if self.reasons else None

    def text(self) -> str:
        """All reasons in one line each, for a terminal or an exception."""
        return "\n".join(f"{reason.code}: {reason.message}" for reason in self.reasons) or self.verdict

    def wire_text(self) -> str:
        """At most `WIRE_TEXT_MAX` bytes of printable ASCII without `|`, as the live protocol needs it."""
        text = self.reasons[0].wire_text() if self.reasons else f"budget-guard: {self.verdict}"
        text = text.replace("|", "/").encode("ascii", "replace").decode("ascii")
        text = one_line(text)
        return text if len(text) <= WIRE_TEXT_MAX else text[: WIRE_TEXT_MAX - 3] + "..."

    def as_json(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "reasons": [reason.as_json() for reason in self.reasons]}


ALLOW = Decision("allow")


def deny(code: Code, message: str, **details: Any) -> Decision:
    """A refusal with a single reason."""
    return Decision("deny", (Reason(code, message, **details),))


def reason_from_json(row: Mapping[str, Any]) -> Reason:
    """The reason that `Reason.as_json` wrote."""
    amounts: dict[str, Any] = {
        name: Decimal(row[name]) for name in ("limit", "settled", "held", "asked") if name in row
    }
    texts: dict[str, Any] = {name: row[name] for name in ("budget", "period", "unit") if name in row}
    retry = parse_instant(row["retry_at_utc"]) if "retry_at_utc" in row else None
    return Reason(row["code"], row["message"], **texts, **amounts, retry_at_utc=retry)

"""What the line at the bottom of the terminal says: spent, left, how fast, for how long, and until when."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO

from budget_guard.guard.lease import count_text
from budget_guard.guard.status import BudgetState, ConnectionState, Status
from budget_guard.ledger.model import BalanceKey
from budget_guard.money import cost_nano_usd
from budget_guard.streaming.supervisor_speech import span_text

_MS = timedelta(milliseconds=1)
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Gauge:
    """A limit with what is used of it up to this second, in the ledger's integers; `per_hour` as fast as now.

    `kept` is what the connections that draw on it keep for their own endings: they stop while that is left.
    """

    key: BalanceKey
    limit: int | None
    used: int
    per_hour: int
    kept: int = 0

    @property
    def left(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self.used)

    @property
    def lasts_s(self) -> int | None:
        """How long until it ends the connections that use it; None for what is unlimited or not being used."""
        if self.left is None or self.per_hour <= 0:
            return None
        return max(0, self.left - self.kept) * 3600 // self.per_hour


def gauge(status: Status, budget: BudgetState) -> Gauge:
    """A budget with the running connections that draw on it, to the byte where their meters can be read."""
    used, per_hour, kept = budget.settled, 0, 0
    for connection in status.connections:
        for claim in connection.hold.claims:
            if claim.key == budget.key:
                now = _used(connection, budget.key.unit)
                used += max(0, now - claim.settled)
                per_hour += _rate(connection, now)
                kept += _kept(connection, budget.key.unit)
    return Gauge(budget.key, budget.limit, used, per_hour, kept)


def tightest(status: Status, budgets: Collection[str]) -> Gauge | None:
    """Of the budgets with these names the limit that ends first at this pace; else the one with the least left."""
    gauges = [gauge(status, budget) for budget in status.budgets if budget.key.budget in budgets]
    limited = [found for found in gauges if found.limit is not None]
    lasting = [found for found in limited if found.lasts_s is not None]
    if lasting:
        return min(lasting, key=lambda found: found.lasts_s or 0)
    dollars = [found for found in limited if found.key.unit == "usd"]
    if dollars:
        return min(dollars, key=lambda found: found.left or 0)
    return min(limited, key=_share_left, default=next(iter(gauges), None))


def money_text(found: Gauge | None) -> list[str]:
    """Spent, left and pace, as parts of a line."""
    if found is None:
        return []
    unit = found.key.unit
    name = f"{found.key.budget} {found.key.period}"
    if found.limit is None or found.left is None:
        parts = [f"{name}: {count_text(unit, found.used)} spent, unlimited"]
    else:
        parts = [
            f"{name}: {count_text(unit, found.used)} of {count_text(unit, found.limit)} spent, "
            f"{count_text(unit, _shown_left(unit, found.left))} left"
        ]
    if found.per_hour and unit in ("usd", "gib"):
        parts.append(f"{count_text(unit, found.per_hour)}/h")
    if found.lasts_s is not None:
        parts.append(f"lasts {span_text(found.lasts_s)}")
    return parts


def countdown_text(left: timedelta) -> str:
    """`2:04:31`, above two days `3 days`; never below zero."""
    seconds = max(0, -(-left // timedelta(seconds=1)))
    if seconds >= 2 * 86_400:
        return f"{seconds // 86_400} days"
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def line_text(parts: Iterable[str], width: int, *, warn: bool = False) -> str:
    """The parts in one line of at most `width` columns, styled as the terminal allows."""
    from rich.console import Console
    from rich.text import Text

    line = Text(" budget-guard ", style="reverse yellow" if warn else "reverse", no_wrap=True)
    line.append(" " + " · ".join(parts), style="not reverse")
    line.truncate(max(1, width), overflow="ellipsis")
    out = StringIO()
    Console(file=out, force_terminal=True, width=max(1, width), highlight=False).print(
        line, end="", soft_wrap=True
    )
    return out.getvalue()


def _shown_left(unit: str, left: int) -> int:
    """What is left is never shown as more than it is: from a dollar on, in whole cents."""
    cent = 10**7
    return left // cent * cent if unit == "usd" and left >= 100 * cent else left


def _used(connection: ConnectionState, unit: str) -> int:
    """What a connection has used since its hold was opened, in a budget's unit."""
    if unit == "hours":
        return max(0, connection.age // _MS)
    if connection.size_bytes is None:
        return 0
    if unit == "usd":
        return cost_nano_usd(connection.size_bytes, connection.hold.terms.unit_price_usd)
    return connection.size_bytes if unit == "gib" else 0


def _kept(connection: ConnectionState, unit: str) -> int:
    """What a live connection keeps for its ending, in a budget's unit."""
    terms = connection.hold.terms
    if terms.mode != "live":
        return 0
    if unit == "usd":
        return cost_nano_usd(terms.residual_bytes_max, terms.unit_price_usd)
    return terms.residual_bytes_max if unit == "gib" else 0


def _rate(connection: ConnectionState, used: int) -> int:
    age_ms = connection.age // _MS
    return 0 if age_ms <= 0 else used * _HOUR_MS // age_ms


def _share_left(found: Gauge) -> int:
    return 0 if not found.limit else (found.left or 0) * 10**9 // found.limit

"""What history a flat plan includes: how far back, counted from the day on which it is asked for. Pure.

The reach of a plan rolls: what was included last month may have to be paid for today. A plan whose reach nobody has
published here includes nothing that is known of, so its account's history is priced by the list.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from budget_guard.pricing.sheet import plan_family

Level = Literal["L0", "L1", "L2/L3"]

# The vendor's levels of detail. A schema that is not here belongs to no level that is known.
LEVELS: Mapping[Level, tuple[str, ...]] = {
    "L0": ("ohlcv-1s", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d", "definition", "statistics", "status"),
    "L1": ("trades", "tbbo", "bbo-1s", "bbo-1m", "mbp-1"),
    "L2/L3": ("mbp-10", "mbo"),
}
_LEVEL_OF: Mapping[str, Level] = {schema: level for level, schemas in LEVELS.items() for schema in schemas}

# Between a quote and its request time passes, and the edge of what is included moves on.
_MARGIN = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class IncludedHistory:
    """How far back a plan includes the schemas of one level. `text` is the vendor's own wording of the reach."""

    level: Level
    months: int
    text: str

    def start_utc(self, at: datetime) -> datetime:
        """From when on data is included for a request made at an instant; always a UTC midnight.

        "A month" may be a calendar month or 30 days, and the edge an instant or a day: the latest of the readings
        counts, so that whatever is called included here is included under each of them.
        """
        asked = at.astimezone(UTC) + _MARGIN
        days = 30 * self.months if self.months < 12 else 365 * self.months // 12
        edge = max(_months_before(asked, self.months), asked - timedelta(days=days))
        midnight = edge.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight if midnight == edge else midnight + _DAY


def _months_before(at: datetime, months: int) -> datetime:
    year, month = divmod(at.year * 12 + at.month - 1 - months, 12)
    return at.replace(year=year, month=month + 1, day=min(at.day, calendar.monthrange(year, month + 1)[1]))


PLAN_HISTORY: Mapping[str, tuple[IncludedHistory, ...]] = {
    "standard": (
        IncludedHistory("L0", 16 * 12, "16+ years"),
        IncludedHistory("L1", 12, "12 months"),
        IncludedHistory("L2/L3", 1, "1 month"),
    )
}
HISTORY_SOURCE = "the vendor's published description of its plans, as it stood on 2026-11-22"


def plan_history(dataset: str, plan: str) -> tuple[IncludedHistory, ...]:
    """What a plan of a dataset includes, by level; empty where nothing is known."""
    if plan_family(dataset) is None:
        return ()
    return PLAN_HISTORY.get(plan.lower(), ())


def included_history(dataset: str, plan: str, schema: str) -> IncludedHistory | None:
    """How far back a plan includes a schema, or None where nothing is known."""
    level = _LEVEL_OF.get(schema)
    return next((reach for reach in plan_history(dataset, plan) if reach.level == level), None)

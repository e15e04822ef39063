"""One subscription of a live connection: from when on its records are sent, and how far a replay reaches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import databento_dbn as dbn
import numpy as np

from budget_guard.clock import instant_from_ns, ns_from_instant
from budget_guard.sandbox.live.outgoing import Marks
from budget_guard.sandbox.live.symbols import SymbolMap
from budget_guard.sandbox.market.model import Part, Selection
from budget_guard.sandbox.market.records import SPECS, Spec

NEW_YORK = ZoneInfo("America/New_York")
SECOND_NS = 10**9

# Schemas whose intervals end with an END_OF_INTERVAL message, as the vendor's page on system messages has it.
_INTERVAL_FAMILIES = ("ohlcv", "bbo", "cbbo")
_INTERVALS_NS = {"1s": SECOND_NS, "1m": 60 * SECOND_NS, "1h": 3600 * SECOND_NS, "1d": 86_400 * SECOND_NS}

# Schemas in which each record holds the whole state: only these are ever skipped (the vendor's page on slow readers).
SKIPPABLE = frozenset({"mbp-1", "mbp-10", "bbo-1s", "bbo-1m", "cmbp-1", "cbbo-1s", "cbbo-1m"})
# Schemas whose replay starts by the index timestamp whatever is said of ts_event (the vendor's page on replay).
_SAMPLED = frozenset({"bbo-1s", "bbo-1m", "cbbo-1s", "cbbo-1m"})
# Replayed over the whole weekly session: the states they describe cannot be had otherwise.
_WEEKLY = frozenset({("GLBX.MDP3", "mbo"), ("GLBX.MDP3", "definition")})
_WEEK_OPENS_ET = time(18)

END_OF_INTERVAL = dbn.SystemCode.from_int(4)


@dataclass(slots=True)
class Subscribed:
    """Instants of publication, in nanoseconds: the subscription takes part `from_ns` on, its records are sent from
    `data_ns` on (a bar is published when its interval is over; a replay asks for where it began). `event_floor_ns`
    holds back what was stamped earlier by the exchange, as long as it replays.
    """

    selection: Selection
    symbols: SymbolMap
    from_ns: int
    data_ns: int
    replaying: bool = False
    event_floor_ns: int | None = None
    snapshot_owed: bool = False

    @property
    def schema(self) -> str:
        return self.selection.schema

    @property
    def spec(self) -> Spec:
        return SPECS[self.selection.schema]

    def move(self, instant_ns: int) -> None:
        """Let it begin at an instant, with nothing from before."""
        self.from_ns = self.data_ns = instant_ns

    def wanted(self, parts: Iterable[Part]) -> list[Part]:
        """The parts, without the records that a replay leaves out."""
        if not self.replaying or self.event_floor_ns is None or self.schema in _SAMPLED:
            return list(parts)
        return [found for part in parts if (found := _since(part, self.event_floor_ns)) is not None]


def _since(part: Part, floor_ns: int) -> Part | None:
    keep = part.rows["ts_event"] >= floor_ns
    if not keep.any():
        return None
    order = None if part.order is None else part.order[keep]
    return Part(part.schema, part.source, part.rows[keep], order)


def interval_of(schema: str) -> int | None:
    """The nanoseconds after which an interval of a schema ends; None for schemas without intervals."""
    family, _, length = schema.rpartition("-")
    return _INTERVALS_NS[length] if family in _INTERVAL_FAMILIES else None


def count_ends(schema: str, start_ns: int, end_ns: int) -> int:
    """How many intervals of a schema end in `[start_ns, end_ns)`."""
    step = interval_of(schema)
    return 0 if step is None else -(-end_ns // step) + -start_ns // step


def ends_of_intervals(schema: str, start_ns: int, end_ns: int, ts_out: int | None) -> Marks | None:
    """The messages that follow each interval's last record; their ts_event is where the interval ends."""
    count = count_ends(schema, start_ns, end_ns)
    step = interval_of(schema)
    if not count or step is None:
        return None
    stamp = {} if ts_out is None else {"ts_out": ts_out}
    record = dbn.SystemMsg(0, f"End of interval for {schema}", END_OF_INTERVAL, **stamp)
    return Marks(record, -(-start_ns // step) * step + step * np.arange(count))


def earliest_replay(dataset: str, schema: str, now_ns: int, limit_s: float) -> int:
    """How far back a replay reaches: `limit_s`, or the weekly session's opening where the vendor keeps that."""
    reach_ns = now_ns - int(limit_s * 10**9)
    return min(reach_ns, _week_opening(now_ns)) if (dataset, schema) in _WEEKLY else reach_ns


def _week_opening(now_ns: int) -> int:
    """The last Sunday 18:00 in New York."""
    now = instant_from_ns(now_ns).astimezone(NEW_YORK)
    sunday = now.date() - timedelta(days=(now.weekday() + 1) % 7)
    opening = datetime.combine(sunday, _WEEK_OPENS_ET, NEW_YORK)
    if opening > now:
        opening = datetime.combine(sunday - timedelta(days=7), _WEEK_OPENS_ET, NEW_YORK)
    return ns_from_instant(opening.astimezone(UTC))


def instant_ns_text(nanoseconds: int) -> str:
    """`2026-11-24T14:40:00.123456789Z`."""
    whole = instant_from_ns(nanoseconds).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{nanoseconds % SECOND_NS:09d}Z"

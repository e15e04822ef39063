"""When a stream may run: its windows as rows for people and reports, and as a book that the guard asks.

A window is the union of the policy's clauses within one trading session, cut to the market's full hours, half-open and
in UTC. A session clause never reaches beyond the full hours of its own session. `always` knows no sessions: it is
shown as one row per UTC day.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

from budget_guard.clock import EPOCH, instant_text
from budget_guard.errors import CalendarUnknown
from budget_guard.markets.clauses import compile_clauses, merge
from budget_guard.markets.model import Interval, Window
from budget_guard.markets.notes import clock_notes, day_notes, restart_notes
from budget_guard.markets.sessions import TradingDay, days_between, trading_days
from budget_guard.markets.table import Market, market_of
from budget_guard.policy.model import AlwaysClause, Stream

_DAY = timedelta(days=1)

# The interval that an `always` stream is open in: compare with it to know that no close will come.
ALWAYS = Interval(EPOCH, datetime(9999, 1, 1, tzinfo=UTC))

# How far ahead the next opening is looked for: longer than any holiday of the markets here.
LOOK_AHEAD = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class SessionPeriod:
    """The period of a session limit: from the full open of the session `label` to the full open of the next.

    The period of the last session of the checked range ends with that session's close.
    """

    label: date
    start_utc: datetime
    end_utc: datetime


def is_always(stream: Stream) -> bool:
    """Whether a stream is open at every instant: `always` leaves nothing for other clauses to add."""
    return any(isinstance(clause, AlwaysClause) for clause in stream.windows)


def list_windows(
    stream: Stream, timezone: str, first: date, last: date, *, cache_dir: Path | None = None
) -> list[Window]:
    """The windows of the sessions with labels `first` to `last`, both included, in order and never clipped to them.

    `timezone` is the policy's: the wall clock of `hours` clauses. Windows with the same label neither overlap nor
    touch. Raises CalendarUnknown for a stream without a known market and for dates outside its checked range.
    """
    if first > last:
        raise ValueError(f"the range ends before it starts: {first} to {last}")
    zone = ZoneInfo(timezone)
    if is_always(stream):
        return [_day_window(stream, zone, first + n * _DAY) for n in range((last - first).days + 1)]
    if not stream.windows:
        return []
    market = market_of(stream)
    days = days_between(market.name, first, last, cache_dir=cache_dir)
    clocks = clock_notes(market, zone, days, _day_before(market, first, cache_dir))
    return [
        Window(
            stream.name,
            day.label,
            interval.start_utc,
            interval.end_utc,
            (*day.full.notes, *clocks.get(day.label, ()), *_restarts(stream, interval)),
        )
        for day, interval in compile_clauses(stream.windows, zone, days)
    ]


def _day_before(market: Market, first: date, cache_dir: Path | None) -> TradingDay | None:
    earlier = [day for day in trading_days(market.name, cache_dir) if day.label < first]
    return earlier[-1] if earlier else None


def _day_window(stream: Stream, zone: ZoneInfo, day: date) -> Window:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    whole = Interval(start, start + _DAY)
    notes = (*day_notes(day, zone), *_restarts(stream, whole))
    return Window(stream.name, day, whole.start_utc, whole.end_utc, notes)


def _restarts(stream: Stream, interval: Interval) -> Iterator[str]:
    return restart_notes(stream.dataset, interval) if stream.mode == "live" else iter(())


class WindowBook:
    """A stream's windows over the whole checked range of its market, for questions about an instant.

    Nothing is read or worked out before the first question. With a `cache_dir` the calendar library is needed only
    once per library version. Every method takes an aware datetime (ValueError otherwise) and raises CalendarUnknown
    for a stream without a known market and for an instant outside the market's checked sessions.
    """

    def __init__(self, stream: Stream, timezone: str, *, cache_dir: Path | None = None) -> None:
        self.stream = stream
        self._zone = ZoneInfo(timezone)
        self._cache_dir = cache_dir
        self._always = is_always(stream)

    def covering(self, at: datetime) -> Interval | None:
        """The run of touching windows that contains an instant; None outside every window, `ALWAYS` if `always`."""
        if self._always:
            _require_aware(at)
            return ALWAYS
        self._require_known(at)
        index = bisect_right(self._starts, at) - 1
        return self._runs[index] if index >= 0 and at in self._runs[index] else None

    def next_open(self, at: datetime) -> datetime | None:
        """The first opening after an instant, within `LOOK_AHEAD`; None if there is none that is known, or `always`."""
        if self._always:
            _require_aware(at)
            return None
        self._require_known(at)
        index = bisect_right(self._starts, at)
        if index == len(self._starts) or self._starts[index] > at + LOOK_AHEAD:
            return None
        return self._starts[index]

    def session_at(self, at: datetime) -> SessionPeriod:
        """The session whose period an instant belongs to: between a close and the next open, the one that closed."""
        self._require_known(at)
        index = bisect_right(self._opens, at) - 1
        day = self._days[index]
        following = self._days[index + 1 : index + 2]
        end = following[0].full.open_utc if following else day.full.close_utc
        return SessionPeriod(day.label, day.full.open_utc, end)

    @cached_property
    def _market(self) -> Market:
        return market_of(self.stream)

    @cached_property
    def _days(self) -> tuple[TradingDay, ...]:
        return trading_days(self._market.name, self._cache_dir)

    @cached_property
    def _opens(self) -> list[datetime]:
        return [day.full.open_utc for day in self._days]

    @cached_property
    def _runs(self) -> list[Interval]:
        compiled = compile_clauses(self.stream.windows, self._zone, self._days)
        return merge(interval for _, interval in compiled)

    @cached_property
    def _starts(self) -> list[datetime]:
        return [run.start_utc for run in self._runs]

    def _require_known(self, at: datetime) -> None:
        _require_aware(at)
        first, last = self._days[0].full, self._days[-1].full
        if not first.open_utc <= at < last.close_utc:
            raise CalendarUnknown(
                f"{self._market.name}: nobody has checked the calendar for {instant_text(at)}; "
                f"it was checked from {self._market.checked_from} through {self._market.checked_through}"
            )


def _require_aware(at: datetime) -> None:
    if at.tzinfo is None:
        raise ValueError(f"an instant needs a time zone: {at.isoformat()} has none")

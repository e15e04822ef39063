"""When a stream may run: its windows as rows for people and reports, and as a book that the guard asks.

A window is the union of the policy's clauses within one trading session, cut to the market's full hours (or to what is
known of them) and to its halts, half-open and in UTC. A session clause never reaches beyond its own session. `always`
knows no sessions: it is shown as one row per UTC day.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from budget_guard.clock import EPOCH, instant_text
from budget_guard.errors import CalendarUnknown
from budget_guard.markets.clauses import compile_clauses
from budget_guard.markets.market import Market
from budget_guard.markets.model import Interval, Window
from budget_guard.markets.notes import clock_notes, day_notes, restart_notes
from budget_guard.markets.sessions import TradingDay, days_between, trading_days
from budget_guard.markets.table import market_of
from budget_guard.policy.model import AlwaysClause, SessionClause, Stream, WindowClause

_DAY = timedelta(days=1)

# The interval that an `always` stream is open in: compare with it to know that no close will come.
ALWAYS = Interval(EPOCH, datetime(9999, 1, 1, tzinfo=UTC))

# How far ahead the next opening is looked for: longer than any holiday of the markets here.
LOOK_AHEAD = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class SessionPeriod:
    """The period of a session limit: from the open of the session `label`'s widest known hours to that of the next.

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
    touch. Raises CalendarUnknown for a stream without a known market, for hours that are not known of it, and for
    dates outside its checked range.
    """
    if first > last:
        raise ValueError(f"the range ends before it starts: {first} to {last}")
    zone = ZoneInfo(timezone)
    if is_always(stream):
        return [_day_window(stream, zone, first + n * _DAY) for n in range((last - first).days + 1)]
    if not stream.windows:
        return []
    market = market_of(stream)
    require_kinds(market, stream.windows)
    days = days_between(market.name, first, last, cache_dir=cache_dir)
    clocks = clock_notes(market, zone, days, _day_before(market, first, cache_dir))
    return [
        Window(
            stream.name,
            day.label,
            interval.start_utc,
            interval.end_utc,
            (*day.whole.notes, *clocks.get(day.label, ()), *_restarts(stream, interval)),
        )
        for day, interval in compile_clauses(stream.windows, zone, days)
    ]


def require_kinds(market: Market, clauses: Iterable[WindowClause]) -> None:
    """Raise CalendarUnknown for the first clause that asks for hours which are not known of the market."""
    for clause in clauses:
        if isinstance(clause, SessionClause):
            market.require(clause.session)


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


@lru_cache(maxsize=64)
def _opens_of(market: str, cache_dir: Path | None) -> tuple[datetime, ...]:
    return tuple(day.whole.open_utc for day in trading_days(market, cache_dir))


class WindowBook:
    """A stream's windows over the whole checked range of its market, for questions about an instant.

    Nothing is read before the first question, and only the days that a question is about are worked out; the trading
    days are shared by all books of a process. With a `cache_dir` the calendar library is needed only once per library
    version. Every method takes an aware datetime (ValueError otherwise) and raises CalendarUnknown for a stream without
    a known market, for hours that are not known of it, and for an instant outside the market's checked sessions.
    """

    def __init__(self, stream: Stream, timezone: str, *, cache_dir: Path | None = None) -> None:
        self.stream = stream
        self._zone = ZoneInfo(timezone)
        self._cache_dir = cache_dir
        self._always = is_always(stream)
        self._worked_out: dict[int, tuple[Interval, ...]] = {}

    def covering(self, at: datetime) -> Interval | None:
        """The window that contains an instant; None outside every window, `ALWAYS` if `always`."""
        if self._always:
            _require_aware(at)
            return ALWAYS
        index = self._index_of(at)
        return next((window for window in self._windows_on(index) if at in window), None)

    def next_open(self, at: datetime) -> datetime | None:
        """The first opening after an instant, within `LOOK_AHEAD`; None if there is none that is known, or `always`."""
        if self._always:
            _require_aware(at)
            return None
        for index in range(self._index_of(at), len(self._opens)):
            if self._opens[index] > at + LOOK_AHEAD:
                break
            for window in self._windows_on(index):
                if window.start_utc > at:
                    return window.start_utc if window.start_utc <= at + LOOK_AHEAD else None
        return None

    def session_at(self, at: datetime) -> SessionPeriod:
        """The session whose period an instant belongs to: between a close and the next open, the one that closed."""
        index = self._index_of(at)
        day = self._days[index]
        following = self._days[index + 1 : index + 2]
        end = following[0].whole.open_utc if following else day.whole.close_utc
        return SessionPeriod(day.label, day.whole.open_utc, end)

    @cached_property
    def _market(self) -> Market:
        market = market_of(self.stream)
        require_kinds(market, self.stream.windows)
        return market

    @cached_property
    def _days(self) -> tuple[TradingDay, ...]:
        return trading_days(self._market.name, self._cache_dir)

    @cached_property
    def _opens(self) -> tuple[datetime, ...]:
        return _opens_of(self._market.name, self._cache_dir)

    def _windows_on(self, index: int) -> tuple[Interval, ...]:
        """The windows of one trading day. Sessions never meet, so none of them goes on in another day's."""
        found = self._worked_out.get(index)
        if found is None:
            compiled = compile_clauses(self.stream.windows, self._zone, self._days[index : index + 1])
            found = self._worked_out[index] = tuple(interval for _, interval in compiled)
        return found

    def _index_of(self, at: datetime) -> int:
        """Which trading day opened last before or at an instant."""
        _require_aware(at)
        first, last = self._days[0].whole, self._days[-1].whole
        if not first.open_utc <= at < last.close_utc:
            raise CalendarUnknown(
                f"{self._market.name}: nobody has checked the calendar for {instant_text(at)}; "
                f"it was checked from {self._market.checked_from} through {self._market.checked_through}"
            )
        return bisect_right(self._opens, at) - 1


def _require_aware(at: datetime) -> None:
    if at.tzinfo is None:
        raise ValueError(f"an instant needs a time zone: {at.isoformat()} has none")

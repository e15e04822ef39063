"""What is worth saying beside a window: clock changes and the vendor's restarts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from budget_guard.markets.clauses import change_between
from budget_guard.markets.market import Market
from budget_guard.markets.model import Interval
from budget_guard.markets.restarts import restart_of, restarts_in
from budget_guard.markets.sessions import TradingDay

_DAY = timedelta(days=1)


def clock_change(start_utc: datetime, end_utc: datetime, zone: ZoneInfo) -> tuple[str, date] | None:
    """`("forward" or "back", local date)` of a change of the zone's clocks between two instants, if there is one.

    The instants lie less than the shortest time between two changes apart (weeks).
    """
    before, after = start_utc.astimezone(zone).utcoffset(), end_utc.astimezone(zone).utcoffset()
    if before is None or after is None or before == after:
        return None
    changed = change_between(start_utc, end_utc, zone).astimezone(zone).date()
    return ("forward" if after > before else "back"), changed


def clock_notes(
    market: Market, zone: ZoneInfo, days: Sequence[TradingDay], before: TradingDay | None
) -> Mapping[date, tuple[str, ...]]:
    """By label, the clock changes since the close of the session before, in the policy's zone and at the exchange."""
    notes: dict[date, tuple[str, ...]] = {}
    for day in days:
        start = day.whole.open_utc - _DAY if before is None else before.whole.close_utc
        own = clock_change(start, day.whole.close_utc, zone)
        exchange = clock_change(start, day.whole.close_utc, market.zone)
        found: tuple[str, ...] = () if own is None else (_clock_text(own),)
        if exchange is not None and exchange != own:
            found += (f"{_clock_text(exchange)} at the exchange ({market.timezone})",)
        if found:
            notes[day.label] = found
        before = day
    return notes


def day_notes(day: date, zone: ZoneInfo) -> tuple[str, ...]:
    """The clock change of the policy's zone within a UTC day."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    change = clock_change(start, start + _DAY, zone)
    return () if change is None else (_clock_text(change),)


def restart_notes(dataset: str, window: Interval) -> Iterator[str]:
    """The vendor's weekly restart of this dataset's live gateways, for each that falls into the window."""
    restart = restart_of(dataset)
    for at in restarts_in(dataset, window):
        in_utc = "" if restart.timezone == "UTC" else f" ({at.astimezone(UTC):%H:%M} UTC)"
        yield f"the vendor's gateways restart {restart.text}{in_utc}"


def _clock_text(change: tuple[str, date]) -> str:
    direction, day = change
    return f"clocks go {direction} {day}"

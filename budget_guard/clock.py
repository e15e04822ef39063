"""Where time comes from: nothing else in the package asks the operating system what time it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall-clock time in UTC and a monotonic count of seconds."""

    def now(self) -> datetime:
        """The instant, timezone-aware, in UTC."""

    def monotonic_s(self) -> float:
        """Seconds that never go back, whatever is done to `now`; only differences mean anything."""

    def elapsed_s(self) -> float:
        """Like `monotonic_s`, at the pace of `now`: what limits in hours and rates of data are counted in."""

    def market_s(self) -> float:
        """Like `elapsed_s`, and the machine's sleep counts: what a market goes on for while nobody listens."""


# Counts on while the machine sleeps, where the system can tell (Linux): a vendor goes on sending meanwhile.
_UPTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime_ns() -> int:
    """Nanoseconds since the machine was started, its sleep included: comparable between processes of one run of it."""
    return time.clock_gettime_ns(_UPTIME)


class SystemClock:
    """The machine's own clock. Its monotonic count is that of `uptime_ns`; what it sleeps does not count as elapsed."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return uptime_ns() / 1e9

    def elapsed_s(self) -> float:
        return time.monotonic()

    def market_s(self) -> float:
        return self.monotonic_s()


class RehearsalClock:
    """A clock that starts at a given instant and runs on from there at the machine's pace."""

    def __init__(self, start_utc: datetime) -> None:
        if start_utc.tzinfo is None:
            raise ValueError("a rehearsal starts at an instant with a time zone")
        self._start_utc = start_utc.astimezone(UTC)
        self._origin_s = time.monotonic()

    def now(self) -> datetime:
        return self._start_utc + timedelta(seconds=time.monotonic() - self._origin_s)

    def monotonic_s(self) -> float:
        return uptime_ns() / 1e9

    def elapsed_s(self) -> float:
        return time.monotonic()

    def market_s(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, start_utc: datetime) -> None:
        self._now = start_utc.astimezone(UTC)
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._elapsed_s

    def elapsed_s(self) -> float:
        return self._elapsed_s

    def market_s(self) -> float:
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Move both readings forward."""
        self._now += timedelta(seconds=seconds)
        self._elapsed_s += seconds


class SteppedClock:
    """A clock whose `now` is set from outside, never back, while time-outs run at the machine's own pace."""

    def __init__(self, start_utc: datetime) -> None:
        if start_utc.tzinfo is None:
            raise ValueError("a clock starts at an instant with a time zone")
        self._start_utc = self._now = start_utc.astimezone(UTC)

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return uptime_ns() / 1e9

    def elapsed_s(self) -> float:
        return (self._now - self._start_utc).total_seconds()

    def market_s(self) -> float:
        return self.elapsed_s()

    def step_to(self, instant: datetime) -> None:
        """Go on to an instant; one that has passed changes nothing."""
        self._now = max(self._now, instant.astimezone(UTC))


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ns_from_instant(instant: datetime) -> int:
    """An instant as nanoseconds since the UNIX epoch, exactly (no float on the way)."""
    return (instant - EPOCH) // timedelta(microseconds=1) * 1000


def instant_from_ns(nanoseconds: int) -> datetime:
    """Nanoseconds since the UNIX epoch as an instant, cut to the microsecond."""
    return EPOCH + timedelta(microseconds=nanoseconds // 1000)


def instant_text(instant: datetime) -> str:
    """`YYYY-MM-DDTHH:MM:SS[.fff]Z`: how JSON carries an instant; milliseconds only when there are any."""
    utc = instant.astimezone(UTC)
    stamp = utc.strftime("%Y-%m-%dT%H:%M:%S")
    milliseconds = utc.microsecond // 1000
    return f"{stamp}.{milliseconds:03d}Z" if milliseconds else f"{stamp}Z"


def instant_or_null(instant: datetime | None) -> str | None:
    """An instant for JSON, which may be missing."""
    return None if instant is None else instant_text(instant)


def parse_instant(text: str) -> datetime:
    """An ISO instant with its offset, in UTC. Raises ValueError without an offset, and for a year beyond calendars."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: write it as 2026-11-23T14:30:00Z")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is not in the years 1 to 9999 in UTC") from None


def month_of(instant: datetime) -> str:
    """The billing month, `YYYY-MM`: the UTC calendar month."""
    return instant.astimezone(UTC).strftime("%Y-%m")


def month_bounds(month: str) -> tuple[datetime, datetime]:
    """A billing month as a half-open UTC interval. Raises ValueError unless it is `YYYY-MM`."""
    try:
        start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        start = EPOCH
    if month_of(start) != month:
        raise ValueError(f"{month!r} is not a month: write it as 2026-11")
    end = (
        start.replace(year=start.year + 1, month=1)
        if start.month == 12
        else start.replace(month=start.month + 1)
    )
    return start, end

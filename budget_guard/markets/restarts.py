"""When the vendor's live gateways restart: once a week, by dataset. Source: the vendor's page on its live service."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from budget_guard.markets.model import Interval

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class WeeklyRestart:
    """`weekday` counts from Monday as 0; `at` is wall clock of `timezone`."""

    weekday: int
    at: time
    timezone: str
    text: str


_CME = WeeklyRestart(5, time(2, 15), "America/Chicago", "Sat 02:15 CT")
_ICE = WeeklyRestart(6, time(9, 45), "UTC", "Sun 09:45 UTC")
_OTHERS = WeeklyRestart(6, time(10, 30), "UTC", "Sun 10:30 UTC")


def restart_of(dataset: str) -> WeeklyRestart:
    """The weekly restart of the live gateways that serve a dataset."""
    if dataset == "GLBX.MDP3":
        return _CME
    return _ICE if dataset.endswith(".IMPACT") else _OTHERS


def restarts_in(dataset: str, span: Interval) -> Iterator[datetime]:
    """The restarts of a dataset's gateways within a span, in order, each in the time zone that it is stated in."""
    restart = restart_of(dataset)
    zone = ZoneInfo(restart.timezone)
    day = span.start_utc.astimezone(zone).date()
    day += _DAY * ((restart.weekday - day.weekday()) % 7)
    while (at := datetime.combine(day, restart.at, tzinfo=zone)) < span.end_utc:
        if at in span:
            yield at
        day += 7 * _DAY

"""Parts of a policy in words: amounts, periods, windows, symbols, what a budget counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal

from budget_guard.money import decimal_text, usd_text
from budget_guard.policy.model import (
    ALL_SYMBOLS,
    AlwaysClause,
    Budget,
    Edge,
    HoursClause,
    Limit,
    PeriodName,
    SessionClause,
    Stream,
    Weekday,
    WindowClause,
)

_LISTED_MAX = 6
_DAYS: dict[Weekday, str] = {
    "mon": "Mondays",
    "tue": "Tuesdays",
    "wed": "Wednesdays",
    "thu": "Thursdays",
    "fri": "Fridays",
    "sat": "Saturdays",
    "sun": "Sundays",
}
_PER: dict[PeriodName, str] = {
    "session": "a session",
    "day": "a day",
    "week": "a week",
    "month": "a month",
    "total": "in total",
}


def kept_for(days: int | None) -> str:
    """`for 30 days`; `for ever`."""
    return "for ever" if days is None else f"for {days} day{'' if days == 1 else 's'}"


def listed(items: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def shortly(items: Sequence[str]) -> str:
    """A list that may be long: its first items and how many more there are."""
    if len(items) <= _LISTED_MAX:
        return listed(items)
    return f"{', '.join(items[: _LISTED_MAX - 1])} and {len(items) - _LISTED_MAX + 1} more"


def count_of(number: int | Decimal, one: str) -> str:
    """`1 hour`, `8 hours`."""
    return (
        f"{decimal_text(Decimal(number))} {one}" if number == 1 else f"{decimal_text(Decimal(number))} {one}s"
    )


def amount_text(unit: str, amount: Decimal | None) -> str:
    """A limit's amount: `$200.00`, `60 GiB`, `8 hours of connections`, `400 connections`; any amount for None."""
    if amount is None:
        return {"usd": "any amount of money", "gib": "any size"}.get(unit, f"any number of {unit}")
    if unit == "usd":
        return usd_text(amount)
    if unit == "gib":
        return f"{decimal_text(amount)} GiB"
    return f"{count_of(amount, 'hour')} of connections" if unit == "hours" else count_of(amount, "connection")


def limits_text(limits: Iterable[Limit]) -> str:
    """`$8.00 and 8 hours of connections a session, and $200.00 a month`."""
    by_period: dict[PeriodName, list[str]] = {}
    for limit in limits:
        by_period.setdefault(limit.period, []).append(amount_text(limit.unit, limit.amount))
    parts = [f"{listed(amounts)} {_PER[period]}" for period, amounts in by_period.items()]
    return listed(parts) if all(len(amounts) == 1 for amounts in by_period.values()) else ", and ".join(parts)


def duration_text(duration: timedelta) -> str:
    """`15 minutes`, `1 hour 30 minutes`, `no time`."""
    seconds = int(duration.total_seconds())
    parts = ((seconds // 3600, "hour"), (seconds // 60 % 60, "minute"), (seconds % 60, "second"))
    return " ".join(count_of(number, unit) for number, unit in parts if number) or "no time"


def window_text(clause: WindowClause, timezone: str) -> str:
    """`from 5 minutes before the open to the close of each regular session, on Mondays (by the session's label)`."""
    if isinstance(clause, AlwaysClause):
        return "at any time"
    if isinstance(clause, SessionClause):
        return f"{_session_text(clause)}{_days_text(clause, ', by the label of the session')}"
    return f"{_hours_text(clause)} ({timezone}){_days_text(clause, '')}, as far as the market is open"


def _session_text(clause: SessionClause) -> str:
    each = f"each {clause.session} session"
    if clause.start == Edge("open") and clause.end == Edge("close"):
        return f"during {each}"
    return f"from {_edge_text(clause.start)} to {_edge_text(clause.end)} of {each}"


def _edge_text(edge: Edge) -> str:
    if not edge.offset:
        return f"the {edge.anchor}"
    side = "before" if edge.offset < timedelta(0) else "after"
    return f"{duration_text(abs(edge.offset))} {side} the {edge.anchor}"


def _hours_text(clause: HoursClause) -> str:
    if clause.start == clause.end:
        return (
            "all day"
            if clause.start.hour == clause.start.minute == 0
            else f"for 24 hours from {clause.start:%H:%M}"
        )
    next_day = (
        " the next day" if clause.end < clause.start and clause.end.strftime("%H:%M") != "00:00" else ""
    )
    end = "midnight" if clause.end.strftime("%H:%M") == "00:00" else f"{clause.end:%H:%M}"
    return f"from {clause.start:%H:%M} to {end}{next_day}"


def _days_text(clause: SessionClause | HoursClause, whose: str) -> str:
    text = ""
    if clause.days:
        text += f", on {listed([name for day, name in _DAYS.items() if day in clause.days])}{whose}"
    if clause.only:
        text += f", only on {_dates(clause.only)}{'' if clause.days else whose}"
    if clause.skip:
        text += f", but not on {_dates(clause.skip)}"
    return text


def _dates(days: Iterable[date]) -> str:
    return shortly([day.isoformat() for day in sorted(days)])


def symbols_text(symbols: Sequence[str]) -> str:
    """`NQ.v.0 and ES.v.0`; `all symbols`."""
    return "all symbols" if ALL_SYMBOLS in symbols else shortly(list(symbols))


def data_text(stream: Stream) -> str:
    """`GLBX.MDP3 mbo of NQ.v.0 (continuous)`."""
    kind = "" if ALL_SYMBOLS in stream.symbols else f" ({stream.stype_in})"
    return f"{stream.dataset} {stream.schema} of {symbols_text(stream.symbols)}{kind}"


def counts_text(budget: Budget) -> str:
    """What counts against a budget: `everything, live and historical`; `live data of GLBX.MDP3`."""
    match = budget.match
    mode = f"{next(iter(match.mode))} data" if len(match.mode) == 1 else "live and historical data"
    if not (match.stream or match.dataset or match.schema):
        return "everything, live and historical" if len(match.mode) != 1 else f"all {mode}"
    schemas = f" of {_names('schema', match.schema)}" if match.schema else ""
    datasets = f" of {_names('dataset', match.dataset)}" if match.dataset else ""
    streams = f" for {_names('stream', match.stream)}" if match.stream else ""
    return f"{mode}{schemas}{datasets}{streams}"


def _names(what: str, names: Iterable[str]) -> str:
    ordered = sorted(names)
    label = {"schema": "schema ", "stream": "stream "}.get(what, "")
    return f"{label}{listed(ordered)}" if len(ordered) == 1 or not label else f"{what}s {listed(ordered)}"

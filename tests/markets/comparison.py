"""Both calendar libraries side by side with what the table decided: docs/calendars-compared.md.

`python -m tests.markets.comparison` writes the page anew, for the test that compares it.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from budget_guard.markets.library import Range, library_days
from budget_guard.markets.market import Market
from budget_guard.markets.sessions import trading_days
from budget_guard.markets.table import MARKETS
from budget_guard.policy.model import SessionKind
from budget_guard.render.tables import markdown_table

PAGE = Path(__file__).parents[2] / "docs" / "calendars-compared.md"
FIRST = date(2026, 1, 5)

# Which calendars of pandas_market_calendars speak of which hours of ours.
SECOND_OPINIONS: Mapping[str, Mapping[SessionKind, Sequence[str]]] = {
    "cme-equity-index": {"full": ("CME Globex Equity", "CME_Equity")},
    "cme-interest-rates": {"full": ("CME Globex Fixed Income", "CME_Bond")},
    "cme-fx": {"full": ("CMEGlobex_FX",)},
    "cme-energy": {"full": ("CMEGlobex_EnergyAndMetals",)},
    "cme-metals": {"full": ("CMEGlobex_EnergyAndMetals",)},
    "cme-grains": {"full": ("CME_Agriculture",)},
    "cme-livestock": {"full": ("CMEGlobex_Livestock", "CME_Agriculture")},
    "us-equities": {"regular": ("NYSE",)},
    "us-options": {"regular": ("CBOE_Equity_Options",), "extended": ("CBOE_Index_Options",)},
    "cfe": {"full": ("CFE",)},
    "ice-us": {"full": ("ICEUS",)},
    "eurex": {"regular": ("EUREX", "EUREX_Bond")},
    "eex": {},
}

_HEAD = f"""# The calendars compared

Every day from {FIRST} on which `exchange-calendars` and `pandas-market-calendars` (4.13.2 and 5.5.0 when this was
written) disagree with each other or with [the table](markets.md), and what was decided. The page is written by
`python -m tests.markets.comparison` and held true by a test: a difference without a row in the table fails it, and so
does a row that has become idle.

Times are the exchange's wall clock; the day before is marked `-1`. *ordinary* stands for what the row of ordinary days
says, on each side. The grades are those of [markets.md](markets.md#what-a-figure-is-worth). `eex` has no second
opinion: the other library takes its calendar from the first.

"""

Cell = tuple[str, str] | None  # open and close; None: no session


@dataclass(frozen=True, slots=True)
class Difference:
    """One day, or the ordinary ones (None), on which not all say the same; `second` by calendar."""

    kind: SessionKind
    label: date | None
    first: str
    second: tuple[tuple[str, str], ...]
    ours: str
    grade: str
    why: str


def differences(market: Market) -> list[Difference]:
    """Every disagreement about a market, ordinary days first. Raises KeyError for a day without a row in the table."""
    return [
        found
        for kind, calendars in SECOND_OPINIONS[market.name].items()
        for found in _differences(market, kind, calendars)
    ]


def _differences(market: Market, kind: SessionKind, calendars: Sequence[str]) -> Iterator[Difference]:
    start, end = max(FIRST, market.checked_from), market.checked_through
    sides: list[Mapping[date, Cell]] = [_first_says(market), _ours(market, kind)]
    sides += [_second_says(calendar, market.timezone, start, end) for calendar in calendars]
    ordinary = [_most_common(side) for side in sides]
    if len(set(ordinary)) > 1:
        hours = market.hours[kind]
        first, ours, *second = (_text(cell) for cell in ordinary)
        yield Difference(kind, None, first, _by(calendars, second), ours, hours.grade, hours.source)
    for label in _weekdays(market):
        first, ours, *second = (
            _shown(side.get(label), usual) for side, usual in zip(sides, ordinary, strict=True)
        )
        if len({first, ours, *second}) > 1:
            row = market.special[label]
            yield Difference(kind, label, first, _by(calendars, second), ours, row.grade, row.source)


def _by(calendars: Sequence[str], said: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple(zip(calendars, said, strict=True))


def _shown(cell: Cell, ordinary: Cell) -> str:
    """A day's hours: what is not as on ordinary days."""
    if cell is None or ordinary is None:
        return "closed"
    if cell == ordinary:
        return "ordinary"
    late = f"from {cell[0]}" if cell[0] != ordinary[0] else ""
    early = f"to {cell[1]}" if cell[1] != ordinary[1] else ""
    return " ".join(filter(None, (late, early)))


def _text(cell: Cell) -> str:
    return "closed" if cell is None else f"{cell[0]} to {cell[1]}"


def _weekdays(market: Market) -> Iterator[date]:
    day = max(FIRST, market.checked_from)
    while day <= market.checked_through:
        if day.weekday() < 5:
            yield day
        day += timedelta(days=1)


def _most_common(side: Mapping[date, Cell]) -> Cell:
    return Counter(side.values()).most_common(1)[0][0]


def _cell(label: date, opened: datetime, closed: datetime) -> Cell:
    return f"{opened:%H:%M}{' -1' if opened.date() < label else ''}", f"{closed:%H:%M}"


def _ours(market: Market, kind: SessionKind) -> dict[date, Cell]:
    zone = market.zone
    return {
        day.label: _cell(day.label, session.open_utc.astimezone(zone), session.close_utc.astimezone(zone))
        for day in trading_days(market.name)
        if day.label >= FIRST and (session := day.session(kind)) is not None
    }


def _first_says(market: Market) -> dict[date, Cell]:
    wanted = Range(market.calendar, market.timezone, max(FIRST, market.checked_from), market.checked_through)
    return {
        label: _cell(label, day.open_local, day.close_local) for label, day in library_days(wanted).items()
    }


@cache
def _second_says(calendar: str, timezone: str, first: date, last: date) -> Mapping[date, Cell]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import pandas_market_calendars

        theirs = pandas_market_calendars.get_calendar(calendar)
        schedule = theirs.schedule(first.isoformat(), last.isoformat())
    zone = ZoneInfo(timezone)
    said: dict[date, Cell] = {}
    for label, opened, closed in zip(
        schedule.index, schedule["market_open"], schedule["market_close"], strict=True
    ):
        day = label.date()
        said[day] = _cell(day, _local(opened, zone), _local(closed, zone))
    return said


def _local(timestamp: object, zone: ZoneInfo) -> datetime:
    instant: datetime = timestamp.to_pydatetime()  # type: ignore[attr-defined]
    return instant.astimezone(zone)


def page_text() -> str:
    """The whole page: one table per market."""
    sections = (_section(market) for market in MARKETS.values() if SECOND_OPINIONS[market.name])
    return _HEAD + "\n".join(sections)


def _section(market: Market) -> str:
    """Rows of days that are alike share one."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for found in differences(market):
        day = "ordinary days" if found.label is None else str(found.label)
        key = (found.kind, found.first, _second(found), found.ours, found.grade, found.why)
        alike.setdefault(key, []).append(day)
    rows = [
        (kind, ", ".join(days), first, second, ours, grade, why)
        for (kind, first, second, ours, grade, why), days in alike.items()
    ]
    calendars = [name for names in SECOND_OPINIONS[market.name].values() for name in names]
    head = ("hours", "days", "exchange-calendars", "pandas-market-calendars", "decided", "grade", "why")
    lines = markdown_table(head, rows) if rows else ["All say the same."]
    intro = f"`{market.calendar}` of the first library; `{'`, `'.join(calendars)}` of the second."
    return f"## {market.name}\n\n{intro}\n\n" + "\n".join(lines) + "\n"


def _second(found: Difference) -> str:
    """What the second library's calendars say: once if they agree."""
    said = {text for _, text in found.second}
    return said.pop() if len(said) == 1 else "; ".join(f"{name}: {text}" for name, text in found.second)


if __name__ == "__main__":
    PAGE.write_text(page_text(), encoding="utf-8")

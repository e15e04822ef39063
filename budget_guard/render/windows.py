"""A stream's windows for a terminal: a picture of the month, and the windows in two clocks; and for other programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from budget_guard.clock import instant_text
from budget_guard.markets.model import DayMark, DayState, StreamWindows, Window

# Letters and signs of ASCII, so that the picture says the same on any terminal and without colour.
_STATES: dict[DayState, tuple[str, str, str]] = {
    "open": ("#", "green", "open"),
    "short": ("/", "yellow", "open, short session"),
    "none": ("-", "dim", "no window"),
    "free": (" ", "dim", ""),
    "unknown": ("?", "red", "not checked"),
}
_CLOCKS = ("~", "cyan", "clocks change")
_RESTART = ("r", "magenta", "gateways restart")
_CELL = 6
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def render_windows(streams: Sequence[StreamWindows]) -> RenderableType:
    """Every stream's months and windows, and what the signs mean."""
    parts: list[RenderableType] = []
    for stream in streams:
        title = Text(f"{stream.name}: {stream.dataset} {stream.schema}", style="bold")
        if stream.market is not None:
            title.append(f", hours of {stream.market}", style="not bold")
        parts += [title, Text(), _months(stream), _table(stream)]
    parts += [_legend(streams)] if streams else [Text("The policy has no streams.", style="dim")]
    return Group(*parts)


def render_json(streams: Iterable[StreamWindows]) -> str:
    """Every window in its JSON shape, in order of streams and sessions."""
    return json.dumps([_row(window) for stream in streams for window in stream.windows], indent=2)


def _row(window: Window) -> dict[str, Any]:
    return {
        "stream": window.stream,
        "session": window.session.isoformat(),
        "open_utc": instant_text(window.open_utc),
        "close_utc": instant_text(window.close_utc),
        "notes": list(window.notes),
    }


def _months(stream: StreamWindows) -> RenderableType:
    """The months side by side, as many as fit, and a line between them where they do not."""
    between = "\n" if len(stream.months) > 1 else ""
    return Columns([_month(marks).append(between) for marks in stream.months], padding=(0, 3))


def _month(marks: Sequence[DayMark]) -> Text:
    """A grid of a month, one week a line; the sign behind a day's number says what it is."""
    width = _CELL * len(_WEEKDAYS)
    picture = Text(f"{marks[0].day:%B %Y}".center(width).rstrip() + "\n", no_wrap=True)
    picture.append("".join(name.ljust(_CELL) for name in _WEEKDAYS) + "\n", style="dim")
    picture.append(" " * (_CELL * marks[0].day.weekday()))
    for mark in marks:
        for text, style in _cell(mark):
            picture.append(text, style=style)
        if mark.day.weekday() == 6 and mark is not marks[-1]:
            picture.append("\n")
    return picture


def _cell(mark: DayMark) -> Iterator[tuple[str, str]]:
    sign, style, _ = _STATES[mark.state]
    yield f"{mark.day.day:>2}{sign}", style
    room = _CELL - 3
    for happens, (other, other_style, _) in ((mark.clock_change, _CLOCKS), (mark.restart, _RESTART)):
        if happens:
            yield other, other_style
            room -= 1
    yield " " * room, ""


def _legend(streams: Iterable[StreamWindows]) -> RenderableType:
    """What the signs in use mean."""
    marks = [mark for stream in streams for month in stream.months for mark in month]
    used = {mark.state for mark in marks}
    signs = [sign for state, sign in _STATES.items() if state in used and sign[2]]
    signs += [_CLOCKS] if any(mark.clock_change for mark in marks) else []
    signs += [_RESTART] if any(mark.restart for mark in marks) else []
    return Columns(
        [Text.assemble((sign, style), (f" {meaning}", "dim")) for sign, style, meaning in signs],
        padding=(0, 2),
    )


def _table(stream: StreamWindows) -> Table:
    """The windows in two clocks, and the weekdays that have none with the reason, by session label."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("session", stream.timezone, "UTC"):
        table.add_column(heading, no_wrap=True)
    table.add_column("hours", justify="right", no_wrap=True)
    table.add_column("notes", min_width=14)
    zone = ZoneInfo(stream.timezone)
    lines = [(window.session, _cells(window, zone)) for window in stream.windows]
    lines += [(day, ("", "", "", why)) for day, why in stream.quiet]
    for session, cells in sorted(lines, key=lambda line: line[0]):
        table.add_row(f"{session:%a} {session}", *cells)
    count = len(stream.windows)
    total = sum((window.close_utc - window.open_utc for window in stream.windows), timedelta(0))
    table.add_section()
    table.add_row(
        f"{count} window" + ("" if count == 1 else "s"),
        "",
        "",
        _hours(total),
        "" if count else "none in these days",
        style="bold",
    )
    return table


def _cells(window: Window, zone: ZoneInfo) -> tuple[str, str, str, str]:
    local = _span(window.open_utc.astimezone(zone), window.close_utc.astimezone(zone), window.session)
    utc = _span(window.open_utc, window.close_utc, window.session)
    return local, utc, _hours(window.close_utc - window.open_utc), "; ".join(window.notes)


def _span(start: datetime, end: datetime, label: date) -> str:
    """`09:30-16:00`; with the weekday where it is not the label's: `Sun 18:00-18:30`, `Sun 18:00-Mon 17:00`."""
    if start.date() != end.date():
        return f"{start:%a %H:%M}-{end:%a %H:%M}"
    return f"{start:%H:%M}-{end:%H:%M}" if start.date() == label else f"{start:%a %H:%M}-{end:%H:%M}"


def _hours(length: timedelta) -> str:
    minutes = length // timedelta(minutes=1)
    return f"{minutes // 60}:{minutes % 60:02}"

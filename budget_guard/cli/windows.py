"""`budget-guard windows`: when each stream may run, in the policy's time and in UTC."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from budget_guard.clock import instant_text
from budget_guard.markets.model import Window
from budget_guard.markets.sessions import closed_weekdays, days_between
from budget_guard.markets.table import market_of
from budget_guard.markets.windows import is_always, list_windows
from budget_guard.policy.model import Policy, SessionClause, Stream
from budget_guard.policy.problems import nearest
from budget_guard.settings import load_settings

_WEEK = timedelta(days=6)
_DATE = click.DateTime(formats=["%Y-%m-%d"])


@click.command()
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--from", "first", type=_DATE, help="First session label (YYYY-MM-DD); default: today.")
@click.option("--to", "last", type=_DATE, help="Last session label, included; default: six days later.")
@click.option("--stream", "name", help="Only this stream.")
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(
    policy: Path, first: datetime | None, last: datetime | None, name: str | None, output: str
) -> None:
    """Show when each stream of POLICY may run.

    Rows are whole windows, one per stream, session label and window; nothing is clipped to the dates asked for.
    """
    from budget_guard.loading import load_policy

    settings = load_settings()
    loaded = load_policy(policy, cache_dir=settings.cache_dir)
    today = settings.clock().now().astimezone(ZoneInfo(loaded.timezone)).date()
    start, end = _range(first, last, today)
    streams = _chosen(loaded, name)
    windows = [
        (stream, list_windows(stream, loaded.timezone, start, end, cache_dir=settings.cache_dir))
        for stream in streams
    ]
    if output == "json":
        click.echo(json.dumps([window_row(window) for _, found in windows for window in found], indent=2))
        return
    console = Console(file=sys.stdout)
    for stream, found in windows:
        quiet = _quiet_days(stream, start, end, settings.cache_dir)
        console.print(windows_table(stream, found, quiet, loaded.timezone))


def window_row(window: Window) -> dict[str, Any]:
    """A window in its JSON shape."""
    return {
        "stream": window.stream,
        "session": window.session.isoformat(),
        "open_utc": instant_text(window.open_utc),
        "close_utc": instant_text(window.close_utc),
        "notes": list(window.notes),
    }


def windows_table(
    stream: Stream, windows: Sequence[Window], quiet: Sequence[tuple[date, str]], timezone: str
) -> Table:
    """A stream's windows in two clocks, and the weekdays that have none with the reason, by session label."""
    title = Text(f"{stream.name}: {stream.dataset} {stream.schema}", style="bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("session", timezone, "UTC"):
        table.add_column(heading, no_wrap=True)
    table.add_column("hours", justify="right", no_wrap=True)
    table.add_column("notes", min_width=14)
    zone = ZoneInfo(timezone)
    lines = [(window.session, _cells(window, zone)) for window in windows]
    lines += [(day, ("", "", "", why)) for day, why in quiet]
    for session, cells in sorted(lines, key=lambda line: line[0]):
        table.add_row(f"{session:%a} {session}", *cells)
    total = sum((window.close_utc - window.open_utc for window in windows), timedelta(0))
    count = f"{len(windows)} window" + ("" if len(windows) == 1 else "s")
    table.add_section()
    table.add_row(count, "", "", _hours(total), "" if windows else "none in these days", style="bold")
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


def _range(first: datetime | None, last: datetime | None, today: date) -> tuple[date, date]:
    start = today if first is None else first.date()
    end = start + _WEEK if last is None else last.date()
    if start > end:
        raise click.UsageError(f"--to {end} is before --from {start}")
    return start, end


def _chosen(policy: Policy, name: str | None) -> list[Stream]:
    if name is None:
        return list(policy.streams.values())
    if name not in policy.streams:
        raise click.UsageError(f"the policy has no stream '{name}'{nearest(name, policy.streams)}")
    return [policy.streams[name]]


def _quiet_days(stream: Stream, first: date, last: date, cache_dir: Path) -> list[tuple[date, str]]:
    """The weekdays on which the market is closed, or has none of the regular hours that the stream asks for."""
    if is_always(stream) or not stream.windows:
        return []
    market = market_of(stream).name
    quiet = [
        (day, f"closed: {why}") for day, why in closed_weekdays(market, first, last, cache_dir=cache_dir)
    ]
    if any(isinstance(clause, SessionClause) and clause.session == "regular" for clause in stream.windows):
        days = days_between(market, first, last, cache_dir=cache_dir)
        quiet += [
            (day.label, "; ".join(("no regular hours", *day.full.notes)))
            for day in days
            if day.regular is None
        ]
    return quiet

"""`budget-guard windows`: when each stream may run, in the policy's time and in UTC."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from budget_guard.markets.report import report_windows
from budget_guard.policy.model import Policy, Stream
from budget_guard.policy.problems import nearest
from budget_guard.render.console import report_console
from budget_guard.render.windows import render_json, render_windows
from budget_guard.settings import load_settings

_WEEK = timedelta(days=6)
_DATE = click.DateTime(formats=["%Y-%m-%d"])


@click.command()
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--from", "first", type=_DATE, help="First session label (YYYY-MM-DD); default: today.")
@click.option("--to", "last", type=_DATE, help="Last session label, included; default: six days later.")
@click.option("--stream", "name", help="Only this stream.")
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json", "ics"]),
    default="table",
    show_default=True,
    help="ics: for a calendar program.",
)
def command(
    policy: Path, first: datetime | None, last: datetime | None, name: str | None, output: str
) -> None:
    """Show when each stream of POLICY may run.

    Rows are whole windows, one per stream, session label and window; nothing is clipped to the dates asked for. The
    picture above them shows the whole months.
    """
    from budget_guard.loading import load_policy

    settings = load_settings()
    loaded = load_policy(policy, cache_dir=settings.cache_dir)
    now = settings.clock().now()
    start, end = _range(first, last, now.astimezone(ZoneInfo(loaded.timezone)).date())
    streams = [
        report_windows(stream, loaded.timezone, start, end, cache_dir=settings.cache_dir)
        for stream in _chosen(loaded, name)
    ]
    if output == "json":
        click.echo(render_json(streams))
    elif output == "ics":
        from budget_guard.render.ics import render_ics

        click.echo(render_ics(loaded.name, streams, now), nl=False)
    else:
        report_console().print(render_windows(streams))


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

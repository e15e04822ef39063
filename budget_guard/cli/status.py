"""`budget-guard status`: balances, running connections and windows, now."""

from __future__ import annotations

import json
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from budget_guard.cli.screen import say
from budget_guard.settings import Settings, load_settings

if TYPE_CHECKING:
    from budget_guard.clock import Clock
    from budget_guard.guard.status import Status
    from budget_guard.ledger.model import Hold
    from budget_guard.policy.model import Policy

WATCH_S = 1.0


@click.command()
@click.argument("policy", type=click.Path(path_type=Path), default="budget-guard.yaml")
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C.")
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(policy: Path, watch: bool, output: str) -> None:
    """Show what POLICY's budgets have left, what is running, and which windows are open.

    POLICY is budget-guard.yaml when left out. What programs that died left behind is settled first.
    """
    from budget_guard.loading import load_policy

    settings = load_settings()
    loaded = load_policy(policy, cache_dir=settings.cache_dir)
    clock = settings.clock()
    if watch and output == "table":
        if not sys.stdout.isatty():
            raise click.UsageError(
                "--watch draws over what it drew, which takes a terminal: leave it out, or its pipe"
            )
        _watch(loaded, settings, clock)
        return
    status, place = _take(loaded, settings, clock)
    if output == "json":
        click.echo(json.dumps(status.as_json() | {"ledger": place}, indent=2))
        return
    from budget_guard.render.console import report_console
    from budget_guard.render.status import render_status

    report_console().print(render_status(status, loaded.timezone, place))


def _take(policy: Policy, settings: Settings, clock: Clock) -> tuple[Status, str]:
    """How things stand, after settling what dead programs left, and where the ledger is."""
    from budget_guard.guard.status import take_status
    from budget_guard.ledger.meter import read_size
    from budget_guard.ledger.opening import open_for_use
    from budget_guard.streaming.assembly import stream_windows

    opened = open_for_use(settings.ledger_url, settings.data_dir, clock=clock, rehearsal=settings.rehearsal)
    try:
        for found in opened.recovered:
            say(found.message)

        def size(hold: Hold) -> int | None:
            meter = hold.terms.meter
            return (
                None
                if meter is None or hold.terms.host != opened.host
                else read_size(opened.meter_dir / meter)
            )

        status = take_status(
            policy,
            opened.ledger,
            partial(stream_windows, policy, settings),
            clock.now(),
            sizes=size,
            unproved={f.hold_id: f.message for f in opened.recovered if f.outcome == "unresolved"},
        )
        return status, opened.ledger.place + (" (a rehearsal)" if opened.ledger.is_rehearsal() else "")
    finally:
        opened.ledger.close()


def _watch(policy: Policy, settings: Settings, clock: Clock) -> None:
    from rich.live import Live

    from budget_guard.render.console import report_console
    from budget_guard.render.status import render_status

    pause = threading.Event()
    with Live(console=report_console(), auto_refresh=False, screen=sys.stdout.isatty()) as live:
        while True:
            status, place = _take(policy, settings, clock)
            live.update(render_status(status, policy.timezone, place), refresh=True)
            pause.wait(WATCH_S)

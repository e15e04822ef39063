"""`budget-guard status`: balances, running connections and windows, now."""

from __future__ import annotations

import json
import logging
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from budget_guard.settings import Settings, load_settings

if TYPE_CHECKING:
    from budget_guard.clock import Clock
    from budget_guard.guard.status import Status
    from budget_guard.ledger.model import Ledger
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
    from budget_guard.streaming.assembly import open_checked_ledger

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="budget-guard: %(message)s")
    settings = load_settings()
    loaded = load_policy(policy, cache_dir=settings.cache_dir)
    ledger = open_checked_ledger(settings)
    try:
        clock = settings.clock()
        if watch and output == "table":
            _watch(loaded, settings, ledger, clock)
            return
        _show(_take(loaded, settings, ledger, clock), loaded, output)
    finally:
        ledger.close()


def _take(policy: Policy, settings: Settings, ledger: Ledger, clock: Clock) -> Status:
    from functools import partial

    from budget_guard.guard.status import take_status
    from budget_guard.streaming.assembly import recover, stream_windows

    recover(ledger, settings, clock)
    return take_status(policy, ledger, partial(stream_windows, policy, settings), clock.now())


def _show(status: Status, policy: Policy, output: str) -> None:
    if output == "json":
        click.echo(json.dumps(status.as_json(), indent=2))
        return
    from rich.console import Console

    from budget_guard.render.status import render_status

    Console(file=sys.stdout).print(render_status(status, policy.timezone))


def _watch(policy: Policy, settings: Settings, ledger: Ledger, clock: Clock) -> None:
    from rich.live import Live

    from budget_guard.render.status import render_status

    pause = threading.Event()
    with Live(auto_refresh=False, screen=sys.stdout.isatty()) as live:
        while True:
            status = _take(policy, settings, ledger, clock)
            live.update(render_status(status, policy.timezone), refresh=True)
            pause.wait(WATCH_S)

"""`budget-guard prices`: every price, where it comes from, and which other price it won over."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from budget_guard.cli.exits import DONE, UNKNOWN
from budget_guard.cli.reports import show_report
from budget_guard.cli.screen import check_refresh


@click.command("prices")
@click.argument("policy", type=click.Path(path_type=Path), required=False)
@click.option("--offline", is_flag=True, help="Ask nobody: the policy's prices and the bundled sheet only.")
@click.option("--refresh", is_flag=True, help="Ask the vendor again for what is kept on disk.")
@click.option(
    "--format", "format_", type=click.Choice(["table", "json", "md"]), default="table", show_default=True
)
@click.pass_context
def command(context: click.Context, policy: Path | None, offline: bool, refresh: bool, format_: str) -> None:
    """Show the price of each kind of data in POLICY, where it comes from, and what it won over.

    Without POLICY it shows everything that is known. With DATABENTO_API_KEY the account's own prices are read.
    Exits with 6 if the price of a stream of POLICY is unknown.
    """
    from budget_guard import api
    from budget_guard.render.prices import render_json, render_markdown, render_prices

    check_refresh(offline=offline, refresh=refresh)
    report = api.prices(policy, offline=offline, refresh=refresh)
    texts = {"md": partial(render_markdown, report), "json": partial(render_json, report)}
    show_report(format_, partial(render_prices, report), texts)
    missing = any(row.used_by and row.price is None for row in report.rows)
    context.exit(UNKNOWN if missing else DONE)

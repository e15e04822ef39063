"""`budget-guard plan`: what a month will cost, before it does."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from budget_guard.cli.exits import DONE, OVER, UNKNOWN
from budget_guard.cli.options import check_month
from budget_guard.cli.reports import show_report, write_report
from budget_guard.cli.screen import check_refresh, progress_bar

_EXITS = {"fits": DONE, "tight": DONE, "over": OVER, "unknown": UNKNOWN}


@click.command("plan")
@click.argument("policy", type=click.Path(path_type=Path))
@click.option(
    "--month",
    callback=check_month,
    metavar="YYYY-MM",
    help="The billing month (UTC). Default: the current one.",
)
@click.option("--offline", is_flag=True, help="Ask nobody: bundled prices and volume profiles only.")
@click.option("--refresh", is_flag=True, help="Ask the vendor again for what is kept on disk.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also write plan-MONTH.md and plan-MONTH.json there.",
)
@click.option(
    "--format", "format_", type=click.Choice(["table", "json", "md"]), default="table", show_default=True
)
@click.pass_context
def command(
    context: click.Context,
    policy: Path,
    month: str | None,
    offline: bool,
    refresh: bool,
    output: Path | None,
    format_: str,
) -> None:
    """Say what a month of POLICY will cost and whether it fits its budgets.

    Exits with 0 if it fits (or is tight), 3 if it is over a budget, 6 if a figure is unknown.
    """
    from budget_guard import api
    from budget_guard.render.plan import render_json, render_markdown, render_plan

    check_refresh(offline=offline, refresh=refresh)
    with progress_bar("sizing past sessions") as progress:
        plan = api.plan(policy, month, offline=offline, refresh=refresh, progress=progress)
    texts = {"md": partial(render_markdown, plan), "json": partial(render_json, plan)}
    if output is not None:
        write_report(output, f"plan-{plan.month}", texts)
    show_report(format_, partial(render_plan, plan), texts)
    context.exit(_EXITS[plan.verdict])

"""`budget-guard plan`: what a month will cost, before it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from budget_guard.cli.exits import DONE, OVER, UNKNOWN
from budget_guard.cli.options import check_month
from budget_guard.planning.asking import Progress
from budget_guard.planning.model import Plan

_PIPE_WIDTH = 100
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
    context: click.Context, policy: Path, month: str | None, offline: bool, output: Path | None, format_: str
) -> None:
    """Say what a month of POLICY will cost and whether it fits its budgets.

    Exits with 0 if it fits (or is tight), 3 if it is over a budget, 6 if a figure is unknown.
    """
    plan = _make_plan(policy, month, offline=offline)
    if output is not None:
        _write(plan, output)
    _show(plan, format_)
    context.exit(_EXITS[plan.verdict])


def _make_plan(path: Path, month: str | None, *, offline: bool) -> Plan:
    from budget_guard import api

    with _progress() as progress:
        return api.plan(path, month, offline=offline, progress=progress)


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """A bar on stderr while sizes are fetched, on a terminal only."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task("sizing past sessions", total=None)
        yield lambda done, wanted: bar.update(task, completed=done, total=wanted)


def _write(plan: Plan, folder: Path) -> None:
    from budget_guard.render.plan import render_json, render_markdown

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"plan-{plan.month}.md").write_text(render_markdown(plan), encoding="utf-8")
        (folder / f"plan-{plan.month}.json").write_text(render_json(plan), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"the plan could not be written to {folder}: {error.strerror}") from None
    click.echo(f"wrote {folder}/plan-{plan.month}.md and .json", err=True)


def _show(plan: Plan, format_: str) -> None:
    from budget_guard.render.plan import render_json, render_markdown, render_plan

    if format_ == "table":
        from rich.console import Console

        console = Console()
        if not console.is_terminal:
            # A pipe has no width, and the library's default of 80 would fold the columns.
            console = Console(width=max(console.width, _PIPE_WIDTH))
        console.print(render_plan(plan))
    else:
        click.echo(render_json(plan) if format_ == "json" else render_markdown(plan), nl=False)

"""`budget-guard review`: what a month has cost, and what was refused and missed."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from budget_guard.cli.options import check_month
from budget_guard.cli.reports import show_report, write_report
from budget_guard.cli.screen import say
from budget_guard.clock import month_of
from budget_guard.settings import load_settings

if TYPE_CHECKING:
    from budget_guard.ledger.recovery import Recovered
    from budget_guard.reviewing.model import Review


@click.command("review")
@click.argument("policy", type=click.Path(path_type=Path))
@click.option(
    "--month",
    callback=check_month,
    metavar="YYYY-MM",
    help="The billing month (UTC). Default: the current one.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also write review-MONTH.md and review-MONTH.json there.",
)
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Compare with a plan in JSON. Default: plan-MONTH.json in DIR, if it is there.",
)
@click.option(
    "--format", "format_", type=click.Choice(["table", "json", "md"]), default="table", show_default=True
)
def command(
    policy: Path, month: str | None, output: Path | None, plan_file: Path | None, format_: str
) -> None:
    """Say what a month of POLICY's account has cost: by stream, day and schema, and against plan and budget."""
    from budget_guard.render.review import render_json, render_markdown, render_review

    review = _make_review(policy, month, output, plan_file)
    texts = {"md": partial(render_markdown, review), "json": partial(render_json, review)}
    if output is not None:
        write_report(output, f"review-{review.month}", texts)
    show_report(format_, partial(render_review, review), texts)


def _make_review(path: Path, month: str | None, output: Path | None, plan_file: Path | None) -> Review:
    from budget_guard import api
    from budget_guard.loading import load_policy

    settings = load_settings()
    policy = load_policy(path, cache_dir=settings.cache_dir)
    month = month or month_of(settings.clock().now())
    plan_usd = _planned(plan_file, output, policy.name, month)
    return api.review(policy, month, plan_usd=plan_usd, settings=settings, on_recovered=_report)


def _report(found: Recovered) -> None:
    """Tell on stderr what became of a dead program's hold."""
    say(found.message)


def _planned(plan_file: Path | None, output: Path | None, policy: str, month: str) -> Decimal | None:
    """What a plan said the month would cost, at its p50; None without one, or where it did not know.

    A plan that merely lies in the output folder is used only if it is this policy's.
    """
    beside = None if output is None else output / f"plan-{month}.json"
    found = plan_file or beside
    if found is None or (plan_file is None and not found.exists()):
        return None
    about, planned = _read_plan(found)
    if about == (policy, month):
        return planned
    if plan_file is None:
        return None
    raise click.BadParameter(
        f"{found} is the plan of {about[0]} for {about[1]}, not of {policy} for {month}", param_hint="--plan"
    )


def _read_plan(plan_file: Path) -> tuple[tuple[str, str], Decimal | None]:
    """Policy and month of a plan in JSON, and its total."""
    try:
        plan = json.loads(plan_file.read_text(encoding="utf-8"))
        about = (plan["policy"], plan["month"])
        p50 = plan["total_usd"]["p50"]
        planned = None if p50 is None else Decimal(p50)
    except OSError as error:
        raise click.BadParameter(f"{plan_file}: {error.strerror}", param_hint="--plan") from None
    except (ValueError, KeyError, TypeError, InvalidOperation):
        raise click.BadParameter(
            f"{plan_file} is not a plan; make one with: budget-guard plan POLICY --output DIR",
            param_hint="--plan",
        ) from None
    return about, planned

"""`budget-guard check`: what is wrong with a policy, and where."""

from __future__ import annotations

import json
from typing import Any

import click

from budget_guard.cli.exits import DONE, USAGE
from budget_guard.policy.problems import Problem


@click.command()
@click.argument("policies", nargs=-1, required=True, metavar="POLICY...")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(policies: tuple[str, ...], form: str) -> int:
    """Find every problem in policy files: one line each, as FILE:LINE:COLUMN: what is wrong and what would be right.

    Notes are worth reading and forbid nothing. Of several files, those of one account have to agree about it.
    Exits with 2 if there is any problem.
    """
    from budget_guard.loading import check_policies
    from budget_guard.settings import load_settings

    settings = load_settings()
    today = settings.clock().now().date()
    checked = check_policies(policies, cache_dir=settings.cache_dir, today=today)
    # What is wrong with a file that several extend is found once for each of them.
    shown = dict.fromkeys(problem for loaded in checked for problem in loaded.shown)
    if form == "json":
        click.echo(json.dumps([_as_json(problem) for problem in shown], indent=2))
    else:
        for problem in shown:
            click.echo(str(problem))
    found = {problem for loaded in checked for problem in loaded.problems}
    wrong = sum(problem.severity == "problem" for problem in found)
    click.echo(_summary(len(policies), wrong, len(found) - wrong), err=True)
    return USAGE if wrong else DONE


def _as_json(problem: Problem) -> dict[str, Any]:
    place = problem.place
    return {
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "severity": problem.severity,
        "message": problem.message,
    }


def _summary(policies: int, problems: int, notes: int) -> str:
    return f"{_count(policies, 'policy', 'policies')}: {_count(problems, 'problem')}, {_count(notes, 'note')}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number or 'no'} {one if number == 1 else many or one + 's'}"

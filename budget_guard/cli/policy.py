"""`budget-guard policy`: what a policy means, and what another one would allow."""

from __future__ import annotations

import json

import click

from budget_guard.cli.exits import DONE

_form = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)


@click.group()
def command() -> None:
    """Explain a policy, or compare two."""


@command.command("explain")
@click.argument("policy", metavar="POLICY")
@_form
def explain_command(policy: str, form: str) -> int:
    """Say in sentences what may run when, up to what, what happens at a limit, and what a request may cost."""
    from budget_guard.loading import load_policy
    from budget_guard.policy.explain import explain
    from budget_guard.render.policy import render_explanation
    from budget_guard.settings import load_settings

    explanation = explain(load_policy(policy, cache_dir=load_settings().cache_dir))
    if form == "json":
        click.echo(json.dumps(explanation.as_json(), indent=2))
    else:
        click.echo(render_explanation(explanation), nl=False)
    return DONE


@command.command("diff")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@_form
def diff_command(a: str, b: str, form: str) -> int:
    """Say what policy B allows that A does not, and the reverse. Exits with 0 whether they differ or not."""
    from budget_guard.loading import load_policy
    from budget_guard.policy.diff import diff
    from budget_guard.render.policy import render_diff
    from budget_guard.settings import load_settings

    cache_dir = load_settings().cache_dir
    found = diff(load_policy(a, cache_dir=cache_dir), load_policy(b, cache_dir=cache_dir))
    if form == "json":
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        click.echo(render_diff(found, a, b), nl=False)
    return DONE

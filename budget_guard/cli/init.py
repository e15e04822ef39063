"""`budget-guard init`: a starting policy to edit."""

from __future__ import annotations

from pathlib import Path

import click

from budget_guard.cli.exits import DONE
from budget_guard.policy.templates import template_names, template_text


@click.command()
@click.option(
    "--template",
    type=click.Choice(template_names()),
    default="nq-futures",
    show_default=True,
    help="Start from this.",
)
@click.argument("path", type=click.Path(path_type=Path), default="budget-guard.yaml")
def command(template: str, path: Path) -> int:
    """Write a commented policy to PATH (budget-guard.yaml). A file that is already there is never overwritten."""
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(template_text(template))
    except FileExistsError:
        raise click.UsageError(f"{path} is already there: give another PATH, or move it away") from None
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror or error}") from None
    click.echo(f"wrote {path}; next: budget-guard check {path}, then budget-guard plan {path}", err=True)
    return DONE

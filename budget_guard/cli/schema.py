"""`budget-guard schema`: the JSON Schema of the policy file."""

from __future__ import annotations

import json

import click

from budget_guard.cli.exits import DONE


@click.command()
def command() -> int:
    """Print the JSON Schema of the policy file, for an editor to check and complete it."""
    from budget_guard.policy.schema import policy_schema

    click.echo(json.dumps(policy_schema(), indent=2))
    return DONE

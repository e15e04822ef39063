"""The command line: one module per command, imported only when that command runs."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from budget_guard.cli.exits import INTERRUPTED, USAGE, exit_code_of
from budget_guard.cli.screen import say
from budget_guard.errors import BudgetGuardError

# Command name -> module of budget_guard.cli that defines `command`, in the order the help shows them.
COMMANDS = {
    "init": "init",
    "check": "check",
    "schema": "schema",
    "policy": "policy",
    "windows": "windows",
    "plan": "plan",
    "prices": "prices",
    "access": "access",
    "run": "run",
    "gateway": "gateway",
    "token": "token",
    "rehearse": "rehearse",
    "status": "status",
    "review": "review",
    "gaps": "gaps",
    "history": "history",
    "approve": "approve",
    "ledger": "ledger",
    "sandbox": "sandbox",
    "demo": "demo",
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        loaded: click.Command = importlib.import_module(f"budget_guard.cli.{module}").command
        return loaded


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="budget-guard")
def cli() -> None:
    """Plan what Databento will cost, and stop a program before it costs more."""


def main(argv: list[str] | None = None) -> Any:
    """Run the command line and exit with its code; errors go to stderr in one readable piece."""
    try:
        code = cli.main(args=argv, standalone_mode=False)
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = USAGE
    except BudgetGuardError as error:
        say(str(error))
        code = exit_code_of(error)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)

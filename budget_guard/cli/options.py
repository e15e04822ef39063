"""Checks of options that several commands share."""

from __future__ import annotations

import getpass

import click

from budget_guard.clock import month_bounds


def check_month(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A billing month, `YYYY-MM`, or nothing."""
    if value is not None:
        try:
            month_bounds(value)
        except ValueError as error:
            raise click.BadParameter(str(error), context, parameter) from None
    return value


def user_name() -> str:
    """The name of this user, for the record of a decision. Raises UsageError for a user without one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise click.UsageError("this user has no name: say who decides, with --by") from None

"""Option types that several commands share."""

from __future__ import annotations

import click

from budget_guard.clock import month_bounds


class Month(click.ParamType):
    """A billing month, `YYYY-MM`."""

    name = "month"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            month_bounds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return value

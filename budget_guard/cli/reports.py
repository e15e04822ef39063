"""How a report leaves a command: on stdout in the format asked for, and as files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import RenderableType


def show_report(
    format_: str, table: Callable[[], RenderableType], texts: Mapping[str, Callable[[], str]]
) -> None:
    """Print a report: `table` for people, or the text of the format, alone on stdout."""
    if format_ == "table":
        from budget_guard.render.console import report_console

        report_console().print(table())
    else:
        click.echo(texts[format_](), nl=False)


def write_report(folder: Path, name: str, texts: Mapping[str, Callable[[], str]]) -> None:
    """Write a report as `name.FORMAT` for every format that there is, and say so on stderr."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for format_, text in texts.items():
            (folder / f"{name}.{format_}").write_text(text(), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{name} could not be written to {folder}: {error.strerror}") from None
    click.echo(f"wrote {' and '.join(f'{folder}/{name}.{format_}' for format_ in texts)}", err=True)

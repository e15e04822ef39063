"""What commands share beside their reports: lines on stderr, a bar for long work, a check of options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from budget_guard.wording import printable


def say(text: str) -> None:
    """A line on stderr; what others wrote into it moves nothing on a terminal."""
    click.echo(f"budget-guard: {printable(text)}", err=True)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr that takes (done, wanted) and is gone when the work is; None where stderr is no terminal.

    It appears with the first news: where nothing has to be asked there is none.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    bar = Progress(console=console, transient=True)
    task = bar.add_task(what, total=None)

    def show(done: int, wanted: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=wanted)

    try:
        yield show
    finally:
        bar.stop()


def check_refresh(*, offline: bool, refresh: bool) -> None:
    """Raises UsageError for both: one asks again, the other asks nobody."""
    if offline and refresh:
        raise click.UsageError("--refresh asks the vendor again and --offline asks nobody: give one of them")

"""What the commands that ask the vendor share: a console for reports, a bar for long work, a check of options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

# A pipe has no width, and the library's default of 80 would fold columns.
PIPE_WIDTH = 100


def output_console() -> Console:
    """The console for a report on stdout."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, PIPE_WIDTH))


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

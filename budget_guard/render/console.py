"""The console that reports are printed on: words of others, as a shared ledger holds them, cannot move its cursor."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from budget_guard.wording import printable

# A pipe has no width, and the library's default of 80 would fold columns.
PIPE_WIDTH = 100


class ReportConsole(Console):
    """The library's console, whose own escape sequences are the only ones that reach the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)


def report_console(*, stderr: bool = False) -> ReportConsole:
    """The console for a report on stdout, or on stderr."""
    console = ReportConsole(stderr=stderr)
    if console.is_terminal:
        return console
    return ReportConsole(stderr=stderr, width=max(console.width, PIPE_WIDTH))

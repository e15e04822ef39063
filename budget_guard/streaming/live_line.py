"""A line at the bottom of a terminal that others write to as well.

The last row is taken out of what scrolls (the scroll region ends above it), so whatever the child writes stays whole
and in order. What a full-screen program does with its terminal is its own affair: `--quiet` leaves it all of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_ROWS_MIN = 4
_SAVE, _RESTORE = "\x1b7", "\x1b8"
_WHOLE_SCREEN = "\x1b[r"
_ERASE_ROW = "\x1b[2K"
# Down and up again: on the last row the screen scrolls by one, and the cursor stays with what it stood behind.
_MAKE_ROOM = "\x1bD\x1b[1A"


def can_show(terminal: int, environ: Mapping[str, str]) -> bool:
    """Whether a file descriptor is a terminal that understands where to draw."""
    return os.isatty(terminal) and environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


class LiveLine:
    """Drawn in place by `show`; nothing is left of it after `hide`."""

    def __init__(self, terminal: int) -> None:
        """`terminal` is the file descriptor of one."""
        self._terminal = terminal
        self._size: os.terminal_size | None = None  # while the last row is taken
        self._gone = False

    @property
    def width(self) -> int:
        """How many columns a text may have: the last is left free, since a full row may wrap."""
        return max(0, self._measure().columns - 1)

    def show(self, text: str) -> None:
        """Draw a text of at most `width` columns, which may carry styles. Nothing in the background."""
        size = self._measure()
        if size.lines < _ROWS_MIN or not self._in_foreground():
            return
        parts = []
        if size != self._size:
            parts.append(f"{_SAVE}{_WHOLE_SCREEN}{_RESTORE}{_MAKE_ROOM}")
            parts.append(f"{_SAVE}\x1b[1;{size.lines - 1}r{_RESTORE}")
            self._size = size
        parts.append(f"{_SAVE}\x1b[{size.lines};1H{_ERASE_ROW}{text}\x1b[0m{_RESTORE}")
        self._write("".join(parts))

    def hide(self) -> None:
        """Give the row back, empty."""
        if self._size is not None:
            rows, self._size = self._size.lines, None
            self._write(f"{_SAVE}{_WHOLE_SCREEN}\x1b[{rows};1H{_ERASE_ROW}{_RESTORE}")

    def _measure(self) -> os.terminal_size:
        try:
            return os.get_terminal_size(self._terminal)
        except OSError:
            return os.terminal_size((0, 0))

    def _in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self._terminal) == os.getpgrp()
        except OSError:
            return False

    def _write(self, text: str) -> None:
        """In one piece, so that nothing of others comes between."""
        if self._gone:
            return
        try:
            os.write(self._terminal, text.encode())
        except OSError:  # the terminal has been closed
            self._gone = True

"""A problem: a defect in a user's file, with the place it is in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in a file: line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What was found, where, and what would be right. A `note` is worth saying and forbids nothing."""

    place: Place
    message: str
    severity: Literal["problem", "note"] = "problem"

    def __str__(self) -> str:
        mark = "note: " if self.severity == "note" else ""
        return f"{self.place}: {mark}{self.message}"


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` or the list of what is valid, to end a message with. Case does not matter."""
    names = {valid_name.casefold(): valid_name for valid_name in sorted(valid, reverse=True)}
    close = get_close_matches(name[:100].casefold(), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{names[close[0]]}'?"
    return f"; valid: {', '.join(sorted(names.values()))}" if len(names) <= 24 else ""

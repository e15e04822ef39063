"""A problem: a defect in a user's file, with the place it is in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from typing import Any, Literal


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


def found(value: Any) -> str:
    """How a message quotes what stood in the file: short, on one line."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` or the list of what is valid, to end a message with. Case does not matter."""
    names = {
        valid_name.casefold(): valid_name
        for valid_name in sorted(valid, reverse=True)
        if valid_name.isprintable()
    }
    wanted = name[:100].casefold()
    close = get_close_matches(wanted, names, n=3, cutoff=0.6)
    if close:
        best = max(close, key=lambda other: (_likeness(wanted, other), -abs(len(wanted) - len(other))))
        return f"; did you mean {names[best]!r}?"
    return f"; valid: {', '.join(sorted(names.values()))}" if 0 < len(names) <= 24 else ""


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, other, one).ratio()

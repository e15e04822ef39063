"""A problem: a defect in a user's file, with the place it is in."""

from __future__ import annotations

from collections.abc import Collection, Iterable
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


# What is printed of a file's problems; the rest is counted.
SHOWN_MAX = 100
# How many names that begin with what was written are asked about; more are listed.
_BEGUN_MAX = 3
# About 20 microseconds each: a fifth of a second, and enough for a hundred misspelt datasets.
COMPARISONS_MAX = 10_000


def shortened(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """In file order, problems before notes where not all can be shown, and a closing line with the number of the rest.

    The closing line stands where the first of the rest does.
    """
    ranked = sorted(problems, key=lambda problem: (problem.severity == "note", problem))
    rest = sorted(ranked[SHOWN_MAX:])
    shown = sorted(ranked[:SHOWN_MAX])
    if rest:
        severity = min(rest, key=lambda problem: problem.severity == "note").severity
        shown.append(Problem(rest[0].place, f"and {len(rest)} more", severity))
    return tuple(shown)


class Hints:
    """`nearest` for the problems of one file, as long as it takes no time: a file of nothing but typing errors ends."""

    def __init__(self) -> None:
        self._left = COMPARISONS_MAX

    def nearest(self, name: str, valid: Collection[str]) -> str:
        """As the function of this name; nothing once too many names have been compared."""
        self._left -= len(valid)
        return nearest(name, valid) if self._left >= 0 else ""


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
    begun = sorted(names[other] for other in names if len(wanted) > 1 and other.startswith(wanted))
    if 0 < len(begun) <= _BEGUN_MAX:
        return f"; did you mean {' or '.join(repr(other) for other in begun)}?"
    close = get_close_matches(wanted, names, n=3, cutoff=0.6)
    if close and not begun:
        best = max(close, key=lambda other: (_likeness(wanted, other), -abs(len(wanted) - len(other))))
        return f"; did you mean {names[best]!r}?"
    listed = begun or sorted(names.values())
    return f"; valid: {', '.join(listed)}" if 0 < len(listed) <= 24 else ""


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, other, one).ratio()

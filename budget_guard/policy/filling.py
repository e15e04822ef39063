"""A policy's text with other values in it: comments and everything else stay as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from budget_guard.policy.reading import Key, Reading, read_text

# Text that means itself without quotes, in a list too.
_PLAIN = re.compile(r"[A-Za-z$][A-Za-z0-9_./$-]*(?: [A-Za-z0-9.]+)*|[0-9][0-9.,]*(?: [A-Za-z]+)?")
_WORDS = ("true", "false", "null")
_VALUE = re.compile(r"(?P<value>[^#\n]*?)(?P<space> *)(?P<comment>#.*)?$")


# Places of a policy, as `("budgets", 0, "month")`, and what is to stand there.
Values = Mapping[tuple[Key, ...], str | Sequence[str]]


def fill(text: str, values: Values) -> str:
    """The text with the values at these places replaced: `{("budgets", 0, "month"): "300 USD"}`.

    Each has to stand alone on its line, after its key. Raises KeyError for a place that the text does not have.
    """
    reading = read_text(text, "")
    lines = text.splitlines()
    for keys, value in values.items():
        number, column = _position(reading, keys)
        line = lines[number - 1]
        lines[number - 1] = line[: column - 1] + _replaced(line[column - 1 :], written(value))
    return "\n".join(lines) + "\n"


def _position(reading: Reading, keys: tuple[Key, ...]) -> tuple[int, int]:
    if not reading.marks.has(*keys):
        raise KeyError(".".join(str(key) for key in keys))
    place = reading.marks.at(*keys).place
    return place.line, place.column


def _replaced(rest: str, value: str) -> str:
    """The end of a line with another value; its comment stays in its column where there is room."""
    match = _VALUE.fullmatch(rest)
    assert match is not None  # matches any line
    comment = match["comment"]
    if comment is None:
        return value
    room = len(match["value"]) + len(match["space"]) - len(value)
    return f"{value}{' ' * max(room, 2)}{comment}"


def written(value: str | Sequence[str]) -> str:
    """A value as YAML on one line: quoted where it could be taken for something else."""
    if not isinstance(value, str):
        return f"[{', '.join(written(item) for item in value)}]"
    if _PLAIN.fullmatch(value) is not None and value not in _WORDS:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    # YAML ends lines where JSON does not: at U+0085, U+2028 and U+2029.
    return "".join(sign if sign.isprintable() else f"\\U{ord(sign):08X}" for sign in quoted)

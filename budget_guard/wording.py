"""Words of others, made fit to be shown: nothing in them moves a cursor, ends a line or rings."""

from __future__ import annotations


def one_line(text: str) -> str:
    """The text with a space for each sign that is not printed, a line break or an escape too."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def printable(text: str) -> str:
    """The same of each line: line breaks are kept."""
    return "\n".join(map(one_line, text.split("\n")))

"""What is wrong with text that is not YAML, in words and at the place that a person would look at.

The two parsers behind PyYAML find the same errors and say them differently; what is told here is the same for both.
"""

from __future__ import annotations

import re
from typing import Any

from yaml.error import MarkedYAMLError

_SAME_COLUMN = "lines of one mapping or list start in the same column"
_TAB = "a tab where YAML allows only spaces: indent with spaces"
_TABBED = re.compile(r" *\t")
_NO_COLON = "a line without a colon: write `key: value`, or indent it to go on with the line above"
_QUOTES = "put quotes around text that {}"

# (what a parser calls it, what is said): the first that is found in the parser's words.
_WORDS: tuple[tuple[str, str], ...] = (
    (
        "mapping values are not allowed",
        f"a ':' that cannot stand here: check the indentation, and {_QUOTES.format('holds a colon and a space')}",
    ),
    (
        "sequence entries are not allowed",
        "a list cannot start here: put each `- item` on a line of its own, or write [a]",
    ),
    (
        "' or ']'",
        "a list in brackets goes wrong here: write it as [a, b], with a comma between items and a ']'",
    ),
    ("' or '}'", "a mapping in braces goes wrong here: write it as {a: 1, b: 2}, with commas and a '}'"),
    ("unknown escape", "a backslash in double quotes begins an escape: write it twice, or use single quotes"),
    ("document start", f"this line is in another column than the first one: {_SAME_COLUMN}"),
    ("expected '-' indicator", f"a key among the items of a list: {_SAME_COLUMN}"),
    ("found undefined tag handle", "tags are not allowed: write plain values"),
)
_NEVER_CLOSED = "the {} that starts here is never closed: write its closing {}"


class Refused(MarkedYAMLError):
    """Legal YAML that a policy may not hold; the problem is a whole message."""

    def __init__(self, message: str, mark: Any) -> None:
        super().__init__(None, None, message, mark)


def explain(error: MarkedYAMLError, text: str) -> tuple[int, int, str]:
    """Line and column, counting from 1, and what is wrong there."""
    mark, context = error.problem_mark or error.context_mark, str(error.context or "")
    problem = str(error.problem or context)
    if isinstance(error, Refused):
        return *_place(mark, text), problem
    lines = text.splitlines() or [""]
    line, column = _place(mark, text)
    tabbed = next((n for n in range(line, 0, -1) if _TABBED.match(lines[n - 1])), None)
    if tabbed is not None:
        return tabbed, lines[tabbed - 1].index("\t") + 1, _TAB
    opened = error.context_mark
    character = lines[line - 1][column - 1 : column]
    if opened is not None:
        closed = _never_closed(problem, context, character, later=opened.line + 1 < line)
        if closed is not None:
            return *_place(opened, text), closed
        if "could not find expected ':'" in problem:
            return *_place(opened, text), _NO_COLON
        if "scanning an a" in context:  # an alias or an anchor
            line, column = _place(opened, text)
    starts_line = not lines[line - 1][: column - 1].strip()
    if "mapping values are not allowed" in problem and lines[line - 1].find(":") == column - 1:
        return _colon_below(lines, line)
    return line, column, _message(problem, context, character, starts_line)


def _colon_below(lines: list[str], line: int) -> tuple[int, int, str]:
    """A key where none can stand: the line above lacks its colon, or has a value already."""
    above = next((n for n in range(line - 1, 0, -1) if lines[n - 1].split("#")[0].strip()), line)
    indent = len(lines[above - 1]) - len(lines[above - 1].lstrip())
    if ":" not in lines[above - 1]:
        return above, indent + 1, _NO_COLON
    own = len(lines[line - 1]) - len(lines[line - 1].lstrip())
    message = f"this line is indented further than line {above}, which has a value already: {_SAME_COLUMN}"
    return line, own + 1, message


def _never_closed(problem: str, context: str, character: str, *, later: bool) -> str | None:
    """What is said of quotes, lists and mappings that the end of the file, or a later line, finds open."""
    if "unexpected end of stream" in problem and "quoted" in context:
        return _NEVER_CLOSED.format("quoted text", "quote")
    if character == "" or (later and "expected ','" in problem):
        for kind, what, sign in (("flow sequence", "list", "']'"), ("flow mapping", "mapping", "'}'")):
            if kind in context:
                return _NEVER_CLOSED.format(what, sign)
    return None


def _message(problem: str, context: str, character: str, starts_line: bool) -> str:
    if "directive" in context or "YAML document" in problem:
        return "a line that starts with '%' is not part of a policy: delete it"
    for words, message in _WORDS:
        if words in problem:
            return message
    if " a tag" in context:
        return "tags are not allowed: write plain values"
    if "scanning an alias" in context or "scanning an anchor" in context:
        sign = "*" if "alias" in context else "&"
        return _QUOTES.format(f"starts with '{sign}'")
    if "block scalar" in context:
        return _QUOTES.format("starts with '|' or '>'")
    if "node content" in problem:
        return "the file ends where a value should stand" if character == "" else _no_value(character)
    if "cannot start any token" in problem:
        return f"text may not start with {character!r}: put quotes around it"
    if "expected <block end>" in problem or "did not find expected key" in problem:
        return _stray(context, character, starts_line)
    return f"not valid YAML {context}: {problem}".replace("YAML :", "YAML:")


def _no_value(character: str) -> str:
    if character in "]}":
        return (
            f"a {character!r} where a value should stand: write the value, or delete it if nothing was opened"
        )
    return f"a {character!r} where a value should stand: {_QUOTES.format('starts with it')}"


def _stray(context: str, character: str, starts_line: bool) -> str:
    """Something in a mapping or list of lines that is no part of it."""
    if character and character in "]}":
        return f"a {character!r} that closes nothing: delete it, or write what it should close"
    if not starts_line:
        return "text after the end of a value: put quotes around the whole value, or delete one of the two"
    if "collection" in context:
        return f"a key among the items of a list: {_SAME_COLUMN}"
    if character == "-":
        return f"a list item among the keys of a mapping: {_SAME_COLUMN}"
    return f"this line is in another column than those it belongs to: {_SAME_COLUMN}"


def _place(mark: Any, text: str) -> tuple[int, int]:
    """Where a mark stands; the end of the file is the end of its last line, whichever parser found it."""
    if mark is None:
        return 1, 1
    lines = text.splitlines() or [""]
    if mark.line >= len(lines):
        return len(lines), len(lines[-1]) + 1
    return mark.line + 1, mark.column + 1

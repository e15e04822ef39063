"""YAML text to plain data (dicts, lists, text) and the place of every part of it. Nothing is executed or guessed.

Every scalar stays text, so no float, no YAML 1.1 boolean (`ON`, `NO`: tickers) and no base-60 number (`18:00`)
is ever made; `Plain` marks text that stood without quotes, for the fields that want a number or true/false.
Refused: tags, merge keys, more than a few aliases, and files beyond the bounds below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.error import MarkedYAMLError
from yaml.events import AliasEvent, Event
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from budget_guard.policy.problems import Place, Problem, found

# A hand-written policy is a few KiB; these leave room for thousands of symbols and end a hostile file early.
SIZE_MAX = 2**20
DEPTH_MAX = 32
NODES_MAX = 20_000
ALIASES_MAX = 16

Key = str | int


class Plain(str):
    """Text of a scalar without quotes: what YAML would read as a number, a date or true/false."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Marks:
    """Where a value stands, where its key stands, and the same for its parts."""

    place: Place
    key_place: Place
    parts: dict[Key, Marks] = field(default_factory=dict)

    def at(self, *keys: Key) -> Marks:
        """The marks of a part; a key that is not there is passed over, so the nearest enclosing part answers."""
        here = self
        for key in keys:
            here = here.parts.get(key, here)
        return here

    @property
    def shown(self) -> Place:
        """Where a message about the value should point: at the value, or its key when the value is below it."""
        return self.place if self.place.line == self.key_place.line else self.key_place


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file says. `data` is None when it could not be read at all; then `problems` says why."""

    data: dict[str, Any] | None
    marks: Marks
    problems: tuple[Problem, ...]


def read_file(path: str | Path) -> Reading:
    """Read a policy file; one that is missing, too large or not UTF-8 is a problem, never an exception."""
    file = str(path)
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(SIZE_MAX + 1)
    except FileNotFoundError:
        return _unreadable(file, "there is no such file: `budget-guard init` writes a starting policy")
    except (OSError, ValueError) as error:
        return _unreadable(file, f"the file cannot be read: {getattr(error, 'strerror', None) or error}")
    if len(raw) > SIZE_MAX:
        return _unreadable(file, "the file is larger than 1 MiB; a policy is a few KiB")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", "replace")
        place = Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        return _unreadable(file, "the file is not UTF-8: save it as UTF-8 text", place)
    return read_text(text, file)


def read_text(text: str, file: str) -> Reading:
    """Read the text of a policy; `file` is what its places are called."""
    if len(text) > SIZE_MAX:
        return _unreadable(file, "the file is larger than 1 MiB; a policy is a few KiB")
    try:
        root = _compose(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position)
        column = error.position - (text.rfind("\n", 0, error.position) + 1)
        message = f"the character U+{ord(text[error.position]):04X} is not allowed in YAML: delete it"
        return _unreadable(file, message, Place(file, line + 1, column + 1))
    except MarkedYAMLError as error:
        return _unreadable(file, _explain(error), _place(file, error.problem_mark or error.context_mark))
    if root is None:
        return _unreadable(file, "the file is empty: `budget-guard init` writes a starting policy")
    if not isinstance(root, MappingNode):
        message = "a policy is a mapping: it starts with lines as `version: 1` and `name: my-policy`"
        return _unreadable(file, message, _place(file, root.start_mark))
    try:
        return _Converter(file).convert(root)
    except MarkedYAMLError as error:
        return _unreadable(file, _explain(error), _place(file, error.problem_mark))


def _unreadable(file: str, message: str, place: Place | None = None) -> Reading:
    place = place or Place(file, 1, 1)
    return Reading(None, Marks(place, place), (Problem(place, message),))


def _place(file: str, mark: Any) -> Place:
    return Place(file, 1, 1) if mark is None else Place(file, mark.line + 1, mark.column + 1)


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML's composer without a constructor: it makes nodes with marks, and refuses what is not plain data."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._depth = 0
        self._nodes = 0
        self._aliases = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._refuse(self.peek_event())  # type: ignore[no-untyped-call]
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _refuse(self, event: Event) -> None:
        self._nodes += 1
        self._aliases += isinstance(event, AliasEvent)
        tag = getattr(event, "tag", None)
        message = None
        if tag is not None:
            message = f"the tag {str(tag)[:60]!r} is not allowed: write plain values"
        elif self._depth >= DEPTH_MAX:
            message = f"nested more than {DEPTH_MAX} levels deep"
        elif self._nodes > NODES_MAX:
            message = f"more than {NODES_MAX} values in one file"
        elif self._aliases > ALIASES_MAX:
            message = f"more than {ALIASES_MAX} aliases (*name): write the values out"
        if message is not None:
            raise _Refused(message, event.start_mark)


class _Refused(MarkedYAMLError):
    """Legal YAML that a policy may not hold; the problem is a whole message."""

    def __init__(self, message: str, mark: Any) -> None:
        super().__init__(None, None, message, mark)


def _compose(text: str) -> Node | None:
    """The one document's root node, or None when there is none. Raises yaml.YAMLError."""
    loader = _Loader(text)
    loader.get_event()  # type: ignore[no-untyped-call]  # the stream's start
    if loader.check_event(yaml.StreamEndEvent):
        return None
    root = loader.compose_document()
    if not loader.check_event(yaml.StreamEndEvent):
        extra: Event = loader.get_event()  # type: ignore[no-untyped-call]
        raise _Refused("a second document starts here: a policy file holds one", extra.start_mark)
    return root


def _explain(error: MarkedYAMLError) -> str:
    problem = str(error.problem or error.context)
    if isinstance(error, _Refused):
        return problem
    if "'\\t'" in problem:
        return "a tab where YAML allows only spaces: indent with spaces"
    context = f" {error.context}" if error.context and error.problem else ""
    hint = ""
    if "mapping values are not allowed" in problem:
        hint = ": check the indentation, and put quotes around text that holds ': '"
    elif "undefined alias" in problem or "while scanning an alias" in context:
        hint = ": put quotes around text that starts with '*'"
    elif "expected <block end>" in problem:
        hint = ": lines of one mapping or list start in the same column"
    return f"not valid YAML{context}: {problem}{hint}"


class _Converter:
    """Nodes to plain data and marks; what is wrong with a part is kept as a problem and the part is left out."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._problems: list[Problem] = []
        self._nodes = 0

    def convert(self, root: MappingNode) -> Reading:
        place = _place(self._file, root.start_mark)
        data, marks = self._value(root, place, 0)
        return Reading(data, marks, tuple(self._problems))

    def _value(self, node: Node, key_place: Place, depth: int) -> tuple[Any, Marks]:
        self._nodes += 1
        if depth > DEPTH_MAX or self._nodes > NODES_MAX:  # an alias holds itself, or a bomb of them grows
            raise _Refused("aliases (*name) that grow too large: write the values out", node.start_mark)
        marks = Marks(_place(self._file, node.start_mark), key_place)
        if isinstance(node, ScalarNode):
            return (Plain(node.value) if node.style is None else str(node.value)), marks
        if isinstance(node, SequenceNode):
            return self._list(node, marks, depth), marks
        assert isinstance(node, MappingNode)
        return self._mapping(node, marks, depth), marks

    def _list(self, node: SequenceNode, marks: Marks, depth: int) -> list[Any]:
        items: list[Any] = []
        for index, item in enumerate(node.value):
            place = _place(self._file, item.start_mark)
            if _is_null(item):
                message = "an empty item: write a value (in quotes if it is text) or delete it"
                self._problems.append(Problem(place, message))
            value, marks.parts[index] = self._value(item, place, depth + 1)
            items.append(value)
        return items

    def _mapping(self, node: MappingNode, marks: Marks, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, key_place, value_node in self._entries(node, marks):
            if key in data:
                first = marks.parts[key].key_place
                message = f"{found(key)} is written twice (first on line {first.line}): keep one"
                self._problems.append(Problem(key_place, message))
                continue
            value, marks.parts[key] = self._value(value_node, key_place, depth + 1)
            data[key] = value
        return data

    def _entries(self, node: MappingNode, marks: Marks) -> Iterator[tuple[str, Place, Node]]:
        for key_node, value_node in node.value:
            place = _place(self._file, key_node.start_mark)
            if not isinstance(key_node, ScalarNode):
                self._problems.append(Problem(place, "a key must be plain text"))
            elif key_node.value == "<<" and key_node.style is None:
                message = "merge keys (<<) are not supported: write the keys out"
                self._problems.append(Problem(place, message))
            elif _is_null(value_node):
                message = f"{found(key_node.value)} has no value: write one or leave the key out"
                self._problems.append(Problem(place, message))
                marks.parts.setdefault(key_node.value, Marks(place, place))
            else:
                yield key_node.value, place, value_node


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.style is None and node.value in ("", "~", "null")

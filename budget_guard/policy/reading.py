"""YAML text to plain data (dicts, lists, text) and the place of every part of it. Nothing is executed or guessed.

Every scalar stays text, so no float, no YAML 1.1 boolean (`ON`, `NO`: tickers) and no base-60 number (`18:00`)
is ever made; `Plain` marks text that stood without quotes, for the fields that want a number or true/false.
Refused: tags, merge keys, more than a few aliases, and files beyond the bounds below.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from yaml.error import MarkedYAMLError
from yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)
from yaml.reader import Reader, ReaderError

from budget_guard.policy.problems import Place, Problem, found
from budget_guard.policy.yaml_events import Events, open_events
from budget_guard.policy.yaml_words import Refused, explain

# A hand-written policy is a few KiB; these leave room for thousands of symbols and end a hostile file early.
SIZE_MAX = 2**20
DEPTH_MAX = 32
NODES_MAX = 20_000
ALIASES_MAX = 16

Key = str | int

_TOO_LARGE = "the file is larger than 1 MiB; a policy is a few KiB"
_HOW_TO_START = "`budget-guard init` writes a starting policy"


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

    def has(self, *keys: Key) -> bool:
        """Whether a part is written at all."""
        here = self
        for key in keys:
            if key not in here.parts:
                return False
            here = here.parts[key]
        return True

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
    file = os.fspath(path)
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(SIZE_MAX + 1)
    except FileNotFoundError:
        return _unreadable(file, f"there is no such file: {_HOW_TO_START}")
    except (OSError, ValueError) as error:
        return _unreadable(file, f"the file cannot be read: {getattr(error, 'strerror', None) or error}")
    if len(raw) > SIZE_MAX:
        return _unreadable(file, _TOO_LARGE)
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
        return _unreadable(file, _TOO_LARGE)
    illegal = Reader.NON_PRINTABLE.search(text)
    if illegal is not None:
        before, character = text[: illegal.start()], illegal.group()
        place = Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        return _unreadable(
            file, f"the character U+{ord(character):04X} is not allowed in YAML: delete it", place
        )
    try:
        return _Builder(text, file).document()
    except MarkedYAMLError as error:
        line, column, message = explain(error, text)
        return _unreadable(file, message, Place(file, line, column))
    except ReaderError as error:  # what only one of the two readers finds illegal
        return _unreadable(file, f"not valid YAML: {error.reason}")


def _unreadable(file: str, message: str, place: Place | None = None) -> Reading:
    place = place or Place(file, 1, 1)
    return Reading(None, Marks(place, place), (Problem(place, message),))


@dataclass(frozen=True, slots=True)
class _Built:
    """A value with its places and the number of values in it."""

    value: Any
    marks: Marks
    size: int

    @property
    def is_null(self) -> bool:
        return isinstance(self.value, Plain) and self.value in ("", "~", "null")


class _Builder:
    """Events to plain data and marks; what is wrong with a part is kept as a problem and the part is left out."""

    def __init__(self, text: str, file: str) -> None:
        self._events: Events = open_events(text)
        self._file = file
        self._problems: list[Problem] = []
        self._anchors: dict[str, _Built] = {}
        self._nodes = 0
        self._aliases = 0

    def document(self) -> Reading:
        """The one document of the text. Raises MarkedYAMLError, ReaderError."""
        self._next()  # the stream's start
        if isinstance(self._next(), StreamEndEvent):
            return _unreadable(self._file, f"the file is empty: {_HOW_TO_START}")
        first = self._next()
        place = self._place(first.start_mark)
        if not isinstance(first, MappingStartEvent):
            message = "a policy is a mapping: it starts with lines as `version: 1` and `name: my-policy`"
            return _unreadable(self._file, message, place)
        root = self._node(first, place, 0)
        self._next()  # the document's end
        after = self._next()
        if not isinstance(after, StreamEndEvent):
            raise Refused("a second document starts here: a policy file holds one", after.start_mark)
        return Reading(root.value, root.marks, tuple(self._problems))

    def _next(self) -> Event:
        return self._events.get_event()

    def _place(self, mark: Any) -> Place:
        return Place(self._file, mark.line + 1, mark.column + 1)

    def _node(self, event: Event, key_place: Place | None, depth: int) -> _Built:
        """The value that starts with an event; without a `key_place` it is its own."""
        self._nodes += 1
        self._refuse(event, depth)
        if isinstance(event, AliasEvent):
            return self._alias(event, key_place)
        place = self._place(event.start_mark)
        marks = Marks(place, key_place or place)
        before = self._nodes
        value: Any
        if isinstance(event, ScalarEvent):
            value = str(event.value) if event.style else Plain(event.value)
        elif isinstance(event, MappingStartEvent):
            value = self._mapping(marks, depth)
        else:
            value = self._list(marks, depth)
        built = _Built(value, marks, self._nodes - before + 1)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = built
        return built

    def _refuse(self, event: Event, depth: int) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise Refused(f"the tag {found(tag)} is not allowed: write plain values", event.start_mark)
        if depth >= DEPTH_MAX:
            raise Refused(f"nested more than {DEPTH_MAX} levels deep", event.start_mark)
        if self._nodes > NODES_MAX:
            raise Refused(f"more than {NODES_MAX} values in one file", event.start_mark)

    def _alias(self, event: AliasEvent, key_place: Place | None) -> _Built:
        """What an anchor stood for, counted as if it were written out: a bomb of aliases grows too large."""
        self._aliases += 1
        if self._aliases > ALIASES_MAX:
            raise Refused(f"more than {ALIASES_MAX} aliases (*name): write the values out", event.start_mark)
        target = self._anchors.get(str(event.anchor))
        if target is None:
            name = found(f"*{event.anchor}")
            message = f"the alias {name} has no anchor above it: put quotes around text that starts with '*'"
            raise Refused(message, event.start_mark)
        self._nodes += target.size
        if self._nodes > NODES_MAX:
            raise Refused("aliases (*name) that grow too large: write the values out", event.start_mark)
        return replace(target, marks=replace(target.marks, key_place=key_place or target.marks.place))

    def _list(self, marks: Marks, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            item = self._node(event, None, depth + 1)
            if item.is_null:
                message = "an empty item: write a value (in quotes if it is text) or delete it"
                self._problems.append(Problem(item.marks.place, message))
            marks.parts[len(items)] = item.marks
            items.append(item.value)
        return items

    def _mapping(self, marks: Marks, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, key_place, value in self._entries(depth):
            if not isinstance(key, str):
                self._problems.append(Problem(key_place, "a key must be plain text"))
            elif key == "<<" and isinstance(key, Plain):
                message = "merge keys (<<) are not supported: write the keys out"
                self._problems.append(Problem(key_place, message))
                marks.parts.setdefault(key, Marks(key_place, key_place))
            elif key in marks.parts:
                first = marks.parts[key].key_place
                message = f"{found(key)} is written twice (first on line {first.line}): keep one"
                self._problems.append(Problem(key_place, message))
            elif value.is_null:
                self._problems.append(Problem(key_place, _no_value(key)))
                marks.parts[key] = Marks(key_place, key_place)
            else:
                data[key] = value.value
                marks.parts[key] = value.marks
        return data

    def _entries(self, depth: int) -> Iterator[tuple[Any, Place, _Built]]:
        """Keys and values; what is wrong inside a key, or inside a value that is left out, is not spoken of."""
        seen: set[str] = set()
        while not isinstance(event := self._next(), MappingEndEvent):
            spoken = len(self._problems)
            key_place = self._place(event.start_mark)
            key = self._node(event, key_place, depth + 1).value
            del self._problems[spoken:]
            value = self._node(self._next(), key_place, depth + 1)
            if not isinstance(key, str) or key in seen or key == "<<":
                del self._problems[spoken:]
            else:
                seen.add(key)
            yield key, key_place, value


def _no_value(key: str) -> str:
    if ":" in key and isinstance(key, Plain):
        return f"{found(key)} has no value: write a space after the colon"
    return f"{found(key)} has no value: write one or leave the key out"

"""YAML as plain values and the place of each: numbers exactly as written, words that only YAML knows left alone.

`on`, `no` and `10:30` stay text, so that the language's own words can be names and values.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import yaml

from budget_guard.sandbox.faults.reading import Path, Problem

_INT = re.compile(r"[-+]?\d[\d_]*")
_NUMBER = re.compile(r"[-+]?(\d[\d_]*)?\.?\d+([eE][-+]?\d+)?")
_DEPTH_MAX = 20
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


class _Loader(yaml.SafeLoader):
    """Aliases are refused: a scenario needs none, and they can make a small file endless."""

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not for scenarios: write it out", mark)
        return super().compose_node(parent, index)


class Document:
    """A YAML text: its `value` (None when it is no YAML), its `problems` so far, and where everything stands."""

    def __init__(self, text: str) -> None:
        self.problems: list[Problem] = []
        self._values: dict[Path, yaml.Mark] = {}
        self._names: dict[Path, yaml.Mark] = {}
        try:
            node = yaml.compose(text, Loader=_Loader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            if mark is not None:
                self._values[()] = mark
            said = getattr(error, "problem", None) or str(error).splitlines()[0]
            self.problems.append(Problem((), f"this is not YAML: {said}"))
            self.value: Any = None
            return
        self.value = {} if node is None else self._plain(node, ())

    def place(self, problem: Problem) -> tuple[int, int]:
        """Line and column of a problem, from 1."""
        mark = None
        path = problem.path
        if problem.of_name:
            mark = self._names.get(path)
        while mark is None:
            mark = self._values.get(path)
            if not path:
                break
            path = path[:-1]
        return (1, 1) if mark is None else (mark.line + 1, mark.column + 1)

    def _plain(self, node: yaml.Node, path: Path) -> Any:
        self._values[path] = node.start_mark
        if len(path) > _DEPTH_MAX:
            self.problems.append(Problem(path, f"is nested more than {_DEPTH_MAX} deep"))
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*path, number)) for number, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return node.value if node.style in ("'", '"', "|", ">") else _scalar(node.value)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode):
                self.problems.append(Problem(path, "has a name that is a list or a mapping; names are words"))
                continue
            name = str(name_node.value)
            here = (*path, name)
            if name in found:
                self._names[here] = name_node.start_mark
                self.problems.append(Problem(here, "is there twice", of_name=True))
                continue
            self._names[here] = name_node.start_mark
            found[name] = self._plain(value_node, here)
        return found


def _scalar(text: str) -> Any:
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if _INT.fullmatch(text):
        return int(text.replace("_", ""))
    return Decimal(text.replace("_", "")) if _NUMBER.fullmatch(text) else text

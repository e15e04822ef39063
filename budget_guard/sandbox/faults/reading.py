"""From plain values (what JSON and YAML hold) to faults: every problem at once, each with its place."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from budget_guard.sandbox.faults import words
from budget_guard.sandbox.faults.model import KINDS, After, Fault, Kind

T = TypeVar("T")
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at a place; `of_name` says that it is the name there, not its value."""

    path: Path
    text: str
    of_name: bool = False

    def __str__(self) -> str:
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)
        return f"{place.lstrip('.')}: {self.text}" if place else self.text


@dataclass(slots=True)
class Reading:
    """Reads one document and keeps a list of what is wrong with it."""

    problems: list[Problem] = field(default_factory=list)

    def say(self, path: Path, text: str, *, of_name: bool = False) -> None:
        self.problems.append(Problem(path, text, of_name))

    def mapping(self, value: Any, path: Path, known: Iterable[str] | None = None) -> Mapping[str, Any]:
        """The value if it maps names to values, else an empty mapping; names that are not known are problems."""
        if not isinstance(value, Mapping):
            self.say(path, f"should be a mapping of names to values; got {value!r}")
            return {}
        if known is not None:
            names = list(known)
            for name in value:
                if name not in names:
                    self.say((*path, name), unknown(str(name), names), of_name=True)
        for name in [name for name in value if not isinstance(name, str)]:
            self.say((*path, name), f"should be a name, not {name!r}", of_name=True)
        return {name: part for name, part in value.items() if isinstance(name, str)}

    def items(self, value: Any, path: Path) -> list[tuple[Path, Any]]:
        """The items of a list with their places; anything else is a problem."""
        if not isinstance(value, list | tuple):
            self.say(path, f"should be a list; got {value!r}")
            return []
        return [((*path, number), item) for number, item in enumerate(value)]

    def word(self, parse: Callable[[Any], T], value: Any, path: Path) -> T | None:
        """A value as its reader reads it; None, and a problem, when it cannot."""
        try:
            return parse(value)
        except words.BadWord as error:
            self.say(path, str(error))
            return None

    def part(self, parse: Callable[[Any], T], body: Mapping[str, Any], name: str, path: Path) -> T | None:
        """A named part of a mapping; None when it is absent, or wrong (which is a problem)."""
        return self.word(parse, body[name], (*path, name)) if name in body else None


def unknown(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not known."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    return f"{name} is not known here{meant} One of: {', '.join(names)}"


def read_fault(reading: Reading, value: Any, path: Path) -> Fault | None:
    """A fault of the language, as `{"do": "silence", "after": "1000 records"}`; None when it cannot be read."""
    before = len(reading.problems)
    body = reading.mapping(value, path)
    name = body.get("do")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None or not isinstance(name, str):
        if isinstance(value, Mapping):
            where = (*path, "do") if "do" in body else path
            said = unknown(str(name), KINDS) if "do" in body else f"needs do: one of {', '.join(KINDS)}"
            reading.say(where, said)
        return None
    reading.mapping(value, path, ("do", *kind.common, *kind.params))
    fault = _fault(reading, name, kind, body, path)
    for word in kind.must:
        if word not in body:
            reading.say(path, f"{name} needs {word}")
    return fault if len(reading.problems) == before else None


def _fault(reading: Reading, name: str, kind: Kind, body: Mapping[str, Any], path: Path) -> Fault:
    after = reading.part(words.after, body, "after", path)
    if after is not None and kind.after and after[1] not in kind.after:
        reading.say(
            (*path, "after"), f"should be in {' or '.join(kind.after)} for {name}; got {body['after']!r}"
        )
    for_s = reading.part(words.duration_s, body, "for", path)
    times: int | None = 1
    if "times" in body:
        times = reading.part(words.times, body, "times", path)
    elif kind.door == "switch" or (for_s is not None and after is None):
        # A window is open to all that come; without one, or for one connection's own time, one is enough.
        times = None
    return Fault(
        do=name,
        dataset=reading.part(words.text, body, "dataset", path),
        key=reading.part(words.text, body, "key", path),
        at=reading.part(words.moment, body, "at", path),
        after=None if after is None else After(*after),
        for_s=for_s,
        times=times,
        skip=reading.part(words.whole(0), body, "skip", path) or 0,
        args=_args(reading, name, kind, body, path),
    )


def _args(reading: Reading, fault: str, kind: Kind, body: Mapping[str, Any], path: Path) -> dict[str, Any]:
    args: dict[str, Any] = {}
    for name, param in kind.params.items():
        if name in body:
            args[name] = reading.word(param.parse, body[name], (*path, name))
        elif param.required:
            reading.say(path, f"{fault} needs {name}")
        else:
            args[name] = param.default
    return args

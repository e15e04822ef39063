"""A policy file to a policy, or to every problem in it at once, in file order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from budget_guard.policy.building import build_policy
from budget_guard.policy.checks import Written, find_problems
from budget_guard.policy.document import PolicyPart, keys_at
from budget_guard.policy.model import Policy
from budget_guard.policy.problems import Place, Problem, found, nearest
from budget_guard.policy.reading import Key, Marks, Plain, Reading, read_file, read_text


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """What loading a file gave.

    `policy` is None when there is any problem; `problems` holds notes too. `readable` is what could be read in
    spite of problems elsewhere, for further checks only: parts with problems are missing from it.
    """

    policy: Policy | None
    problems: tuple[Problem, ...]
    readable: Policy | None
    marks: Marks

    def place_of(self, *keys: Key) -> Place:
        """Where a part of the file stands: `place_of("streams", "nq-mbo", "windows", 0)`.

        A part that is not written is answered with the nearest one around it; a part that was written without
        its list (`windows: always`) with itself.
        """
        return self.marks.at(*keys).shown

    def with_problems(self, more: Iterable[Problem]) -> LoadedPolicy:
        """The same with further problems, in file order; no policy is left when one of them is not a note."""
        problems = tuple(sorted((*self.problems, *more)))
        return replace(self, problems=problems, policy=None if _any_problem(problems) else self.policy)


def load_document(path: str | Path) -> LoadedPolicy:
    """Read a policy file and check it. Never raises for what the file holds, or for a file that is missing."""
    return _load(read_file(path), str(path))


def parse_document(text: str, file: str = "policy.yaml") -> LoadedPolicy:
    """The same for text; `file` is what its places are called."""
    return _load(read_text(text, file), file)


def _load(reading: Reading, file: str) -> LoadedPolicy:
    if reading.data is None:
        return LoadedPolicy(None, reading.problems, None, reading.marks)
    document, errors = _validate(reading.data)
    problems = _merged(reading.problems, (_problem(error, reading) for error in errors))
    broken = {_part_of(error["loc"]) for error in errors}
    kept, indices = _without(reading.data, broken)
    if errors:
        document, _ = _validate(kept)
    if document is None:
        return LoadedPolicy(None, problems, None, reading.marks)
    readable = build_policy(document, file)
    found_problems = find_problems(Written(readable, reading.marks, indices, frozenset(broken)))
    problems = _merged(problems, found_problems)
    policy = None if errors or _any_problem(problems) else readable
    return LoadedPolicy(policy, problems, readable, reading.marks)


def _validate(data: dict[str, Any]) -> tuple[PolicyPart | None, list[ErrorDetails]]:
    try:
        return PolicyPart.model_validate(data), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _part_of(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The smallest part that can be left out while the rest is still checked: a stream, a budget, a section."""
    return loc[:2] if loc[0] in ("streams", "budgets") else loc[:1]


def _without(data: dict[str, Any], broken: set[tuple[Key, ...]]) -> tuple[dict[str, Any], tuple[int, ...]]:
    """The data without its broken parts, and the place in the file's list of each budget that is left."""
    kept = {"version": Plain("1"), "name": "unnamed"}
    kept |= {key: value for key, value in data.items() if (key,) not in broken}
    budgets, streams = kept.get("budgets"), kept.get("streams")
    indices: tuple[int, ...] = ()
    if isinstance(budgets, list):
        indices = tuple(index for index in range(len(budgets)) if ("budgets", index) not in broken)
        kept["budgets"] = [budgets[index] for index in indices]
    if isinstance(streams, dict):
        kept["streams"] = {
            name: stream for name, stream in streams.items() if ("streams", name) not in broken
        }
    return kept, indices


def _any_problem(problems: Iterable[Problem]) -> bool:
    return any(problem.severity == "problem" for problem in problems)


def _merged(first: Iterable[Problem], second: Iterable[Problem | None]) -> tuple[Problem, ...]:
    """Both in file order; where the first has spoken of a place, the second only repeats what follows from it."""
    kept = list(first)
    spoken = {problem.place for problem in kept if problem.severity == "problem"}
    kept.extend(problem for problem in second if problem is not None and problem.place not in spoken)
    return tuple(sorted(kept))


def _problem(error: ErrorDetails, reading: Reading) -> Problem | None:
    """A validation error in the reader's words; None when the reading has spoken of the same thing."""
    loc, marks = tuple(step for step in error["loc"] if step != "[key]"), reading.marks
    here = marks.at(*loc)
    if error["type"] == "extra_forbidden":
        return Problem(here.key_place, _unknown_key(loc))
    if error["type"] == "missing":
        around, name = marks.at(*loc[:-1]), str(loc[-1])
        if name in around.parts:
            return None
        example = keys_at(loc[:-1]).get(name)
        return Problem(around.shown, f"'{name}' is missing: write it, as `{name}: {example}`")
    if error["type"] == "too_short" and error["input"]:
        return None  # its items were all wrong, and each has been spoken of
    if isinstance(error["input"], dict) and _spoken_of(here, reading):
        return None  # what the whole lacks may be the very key that could not be read
    place = here.shown if loc == error["loc"] else here.key_place
    return Problem(place, _message(error, loc))


def _spoken_of(whole: Marks, reading: Reading) -> bool:
    places = {part.key_place for part in whole.parts.values()}
    return any(problem.place in places for problem in reading.problems)


def _unknown_key(loc: tuple[Key, ...]) -> str:
    key = str(loc[-1])
    if loc == ("extends",):
        return "'extends' is not supported yet by this version; put account and budgets in this file"
    return f"unknown key {found(key)}{nearest(key, keys_at(loc[:-1]))}"


def _message(error: ErrorDetails, loc: tuple[Key, ...]) -> str:
    name = next((str(step) for step in reversed(loc) if isinstance(step, str)), "the file")
    subject = f"each of '{name}'" if isinstance(loc[-1], int) else f"'{name}'"
    match error["type"]:
        case "value_error":
            message = str(error["ctx"]["error"])
            return f"{subject} {message}" if message.startswith(("should ", "is ")) else message
        case "model_type" | "dict_type":
            return f"{subject} should be {_mapping_text(loc)}, found {found(error['input'])}"
        case "tuple_type":
            return f"{subject} should be a list, as [a, b], found {found(error['input'])}"
        case "too_short":
            return f"{subject} is empty: write at least one"
        case _:
            return f"{subject}: {error['msg']}"


def _mapping_text(loc: tuple[Key, ...]) -> str:
    """What a mapping at a place looks like, by its first key."""
    always = "`always` or " if "windows" in loc[:-1] else ""
    example = next((f", as {{{key}: {value}}}" for key, value in keys_at(loc).items() if value), "")
    return f"{always}a mapping{example}"

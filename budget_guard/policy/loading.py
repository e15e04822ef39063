"""A policy file to a policy, or to every problem in it at once, in file order."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from budget_guard.policy.building import build_policy
from budget_guard.policy.checks import find_problems
from budget_guard.policy.document import PolicyPart
from budget_guard.policy.extending import Trail, extend, extended_file
from budget_guard.policy.mistakes import problem_of
from budget_guard.policy.model import Policy
from budget_guard.policy.problems import Hints, Place, Problem, shortened
from budget_guard.policy.reading import Key, Marks, Plain, Reading, read_file, read_text
from budget_guard.policy.written import Written


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """What loading a file gave.

    `policy` is None when there is any problem; `problems` holds notes too, and what is wrong in a file that this one
    extends. `readable` is what could be read in spite of problems elsewhere, for further checks only: parts with
    problems are missing from it. The budgets of an extended file come first, in the policy and in the marks.
    """

    policy: Policy | None
    problems: tuple[Problem, ...]
    readable: Policy | None
    marks: Marks

    def place_of(self, *keys: Key) -> Place:
        """Where a part of the policy stands: `place_of("streams", "nq-mbo", "windows", 0)`.

        A part that is not written is answered with the nearest one around it; a part that was written without
        its list (`windows: always`) with itself; a part of an extended file with the place in that file.
        """
        return self.marks.at(*keys).shown

    def with_problems(self, more: Iterable[Problem]) -> LoadedPolicy:
        """The same with further problems, in file order; no policy is left when one of them is not a note."""
        problems = tuple(sorted((*self.problems, *more)))
        return replace(self, problems=problems, policy=None if _any_problem(problems) else self.policy)

    @property
    def shown(self) -> tuple[Problem, ...]:
        """The problems for people: so many, and a line that says how many more there are."""
        return shortened(self.problems)


def load_document(path: str | Path) -> LoadedPolicy:
    """Read a policy file and check it. Never raises for what the file holds, or for a file that is missing."""
    file = os.fspath(path)
    return _load(read_file(file), file, Trail((os.path.realpath(file),)))


def parse_document(text: str, file: str = "policy.yaml") -> LoadedPolicy:
    """The same for text; `file` is what its places are called, and whose folder `extends` starts from."""
    return _load(read_text(text, file), file, Trail((os.path.realpath(file),)))


def _load(reading: Reading, file: str, trail: Trail) -> LoadedPolicy:
    """A file and what it extends. Beyond the first of the trail, a file need only hold what can be shared."""
    if reading.data is None:
        return LoadedPolicy(None, reading.problems, None, reading.marks)
    document, errors = _validate(reading.data)
    problems = _merged(reading.problems, _mistakes(errors, reading))
    broken = {_part_of(error["loc"]) for error in errors}
    kept, indices = _without(reading.data, broken)
    if errors:
        document, _ = _validate(kept)
    if document is None:
        return LoadedPolicy(None, problems, None, reading.marks)
    own = Written(build_policy(document, file), reading.marks, indices, frozenset(broken), trail.is_extended)
    written = own if document.extends is None else _extended(own, document.extends, file, trail)
    problems = _merged((*problems, *written.found), find_problems(written))
    policy = None if errors or _any_problem(problems) else written.policy
    return LoadedPolicy(policy, problems, written.policy, written.marks)


def _extended(own: Written, extends: str, file: str, trail: Trail) -> Written:
    """What a file shares, and its problems, put before what is written in the file that extends it."""
    place = own.place_of("extends")
    target = extended_file(extends, file, place, trail)
    if isinstance(target, Problem):
        return own.without_base((target,))
    base = _load(read_file(target), target, trail.to(target))
    if base.policy is None:
        return own.without_base(base.problems)
    return extend(own, base.policy, base.marks, base.problems)


def _validate(data: dict[str, Any]) -> tuple[PolicyPart | None, list[ErrorDetails]]:
    try:
        return PolicyPart.model_validate(data), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _mistakes(errors: Iterable[ErrorDetails], reading: Reading) -> list[Problem]:
    """A problem for each error, but for those that only repeat what reading has said; hints for the first ones."""
    hints = Hints()
    ordered = sorted(errors, key=lambda error: reading.marks.at(*error["loc"]).shown)
    problems = (problem_of(error, reading, hints) for error in ordered)
    return [problem for problem in problems if problem is not None]


def _part_of(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The smallest part that can be left out while the rest is still checked: a stream, a budget, a section."""
    return loc[:2] if loc[0] in ("streams", "budgets") else loc[:1]


def _without(data: dict[str, Any], broken: set[tuple[Key, ...]]) -> tuple[dict[str, Any], tuple[int, ...]]:
    """The data without its broken parts, and the place in the file's list of each budget that is left."""
    kept = {"version": Plain("1")}
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


def _merged(first: Iterable[Problem], second: Iterable[Problem]) -> tuple[Problem, ...]:
    """Both in file order; where the first has spoken of a place, the second only repeats what follows from it."""
    kept = list(first)
    spoken = {problem.place for problem in kept if problem.severity == "problem"}
    kept.extend(problem for problem in second if problem.place not in spoken)
    return tuple(sorted(kept))

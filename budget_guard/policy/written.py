"""A policy as it stands in its file, for the rules that look at all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from budget_guard.policy.model import Budget, Mode, Policy, Stream
from budget_guard.policy.problems import Place, Problem
from budget_guard.policy.reading import Key, Marks


@dataclass(frozen=True, slots=True)
class Written:
    """A policy and the places of its parts. `policy` lacks the `broken` parts, which have problems of their own.

    The first `inherited` of its budgets stand in a file that it extends, and what was wrong with that file is in
    `found`. A file that `is_extended` was asked for its account and budgets alone.
    """

    policy: Policy
    marks: Marks
    budget_indices: tuple[int, ...]  # where each of the policy's budgets stands in the file's list
    broken: frozenset[tuple[Key, ...]]
    is_extended: bool = False
    inherited: int = 0
    found: tuple[Problem, ...] = ()

    def place_of(self, *keys: Key) -> Place:
        return self.marks.at(*keys).shown

    def has(self, *keys: Key) -> bool:
        """Whether a part is written at all."""
        return self.marks.has(*keys)

    @property
    def budgets(self) -> Iterator[tuple[int, Budget]]:
        """Every budget with its index in the marks."""
        return zip(self.budget_indices, self.policy.budgets, strict=True)

    @property
    def own_budgets(self) -> Iterator[tuple[int, Budget]]:
        """The budgets that stand in this file."""
        return (pair for number, pair in enumerate(self.budgets) if number >= self.inherited)

    @property
    def stream_names(self) -> tuple[str, ...]:
        """Every stream's name, the broken ones' too."""
        return tuple(str(name) for name in self.marks.at("streams").parts) if self.has("streams") else ()

    @property
    def is_account_file(self) -> bool:
        """Whether it holds what policies share and no streams: its account has a name for the ledger."""
        return self.has("account", "name") and not self.has("streams")

    def is_broken(self, section: str) -> bool:
        """Whether a section, or a part of it, has problems of its own."""
        return any(part[0] == section for part in self.broken)

    def without_base(self, problems: tuple[Problem, ...]) -> Written:
        """The same where the extended file cannot be used: what follows from that is not spoken of."""
        return replace(self, found=problems, broken=self.broken | {("extends",)})


def modes_of(stream: Stream) -> tuple[Mode, ...]:
    """A live stream covers historical requests for the same data too."""
    return ("live", "historical") if stream.mode == "live" else ("historical",)


def matches(budget: Budget, stream: Stream, mode: Mode) -> bool:
    """Whether what a stream spends in a mode counts against a budget."""
    return budget.match.covers(stream=stream.name, dataset=stream.dataset, schema=stream.schema, mode=mode)

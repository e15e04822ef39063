"""From a policy file to a policy that can be used: the file's own rules, then those that need the markets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from budget_guard.errors import PolicyError
from budget_guard.policy.loading import LoadedPolicy, load_document
from budget_guard.policy.model import Budget, Policy
from budget_guard.policy.problems import Place, Problem

# (account, budget name) -> the budget as a file defines it, and where.
_Defined = dict[tuple[str, str], tuple[Budget, Place]]


def check_policy(path: str | Path, *, cache_dir: Path | None = None) -> LoadedPolicy:
    """Load a policy file and find every problem and note in it, in file order. Never raises for the file.

    `cache_dir` keeps what the calendar library says, so that the next check need not bring it.
    """
    from budget_guard.markets.checks import find_problems

    loaded = load_document(path)
    if loaded.readable is None:
        return loaded
    return loaded.with_problems(find_problems(loaded, cache_dir=cache_dir))


def check_policies(paths: Iterable[str | Path], *, cache_dir: Path | None = None) -> list[LoadedPolicy]:
    """Check several files, and that those of one account define its budgets alike: they share one balance."""
    checked: list[LoadedPolicy] = []
    defined: _Defined = {}
    for path in paths:
        loaded = check_policy(path, cache_dir=cache_dir)
        checked.append(loaded.with_problems(list(_defined_differently(loaded, defined))))
    return checked


def _defined_differently(loaded: LoadedPolicy, defined: _Defined) -> Iterator[Problem]:
    if loaded.policy is None:
        return
    account = loaded.policy.account.name
    for index, budget in enumerate(loaded.policy.budgets):
        place = loaded.place_of("budgets", index, "name")
        first, first_place = defined.setdefault((account, budget.name), (budget, place))
        if (first.limits, first.match, first.timezone) != (budget.limits, budget.match, budget.timezone):
            yield Problem(
                place,
                f"budget '{budget.name}' of account '{account}' is defined differently at {first_place}: "
                "give both the same limits, match and timezone, or different names",
            )


def load_policy(path: str | Path, *, cache_dir: Path | None = None) -> Policy:
    """The policy of a file. Raises PolicyError with every problem in it; notes do not raise.

    `cache_dir` keeps what the calendar library says, so that the next program need not bring it.
    """
    loaded = check_policy(path, cache_dir=cache_dir)
    if loaded.policy is None:
        raise PolicyError([problem for problem in loaded.problems if problem.severity == "problem"])
    return loaded.policy

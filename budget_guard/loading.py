"""From a policy file to a policy that can be used: the file's own rules, then those that need the markets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from budget_guard.errors import PolicyError
from budget_guard.policy.loading import LoadedPolicy, load_document
from budget_guard.policy.model import Policy


def check_policy(path: str | Path) -> LoadedPolicy:
    """Load a policy file and find every problem and note in it, in file order. Never raises for the file."""
    from budget_guard.markets.checks import find_problems  # brings the calendars

    loaded = load_document(path)
    if loaded.readable is None:
        return loaded
    return loaded.with_problems(find_problems(replace(loaded, policy=loaded.readable)))


def load_policy(path: str | Path) -> Policy:
    """The policy of a file. Raises PolicyError with every problem in it; notes do not raise."""
    loaded = check_policy(path)
    if loaded.policy is None:
        raise PolicyError([problem for problem in loaded.problems if problem.severity == "problem"])
    return loaded.policy

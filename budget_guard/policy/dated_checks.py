"""Notes that depend on the day on which they are read: what has expired, and windows whose last date is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from budget_guard.policy.loading import LoadedPolicy
from budget_guard.policy.model import AlwaysClause, Policy
from budget_guard.policy.problems import Problem


def dated_notes(loaded: LoadedPolicy, today: date) -> list[Problem]:
    """What in a policy is over by `today`."""
    policy = loaded.readable
    return [] if policy is None else [*_credits(loaded, policy, today), *_windows(loaded, policy, today)]


def _credits(loaded: LoadedPolicy, policy: Policy, today: date) -> Iterator[Problem]:
    for index, credit in enumerate(policy.account.credits):
        if credit.expires is not None and credit.expires < today:
            place = loaded.place_of("account", "credits", index, "expires")
            yield Problem(place, f"this credit expired on {credit.expires} and pays for nothing more", "note")


def _windows(loaded: LoadedPolicy, policy: Policy, today: date) -> Iterator[Problem]:
    for name, stream in policy.streams.items():
        for index, clause in enumerate(stream.windows):
            if not isinstance(clause, AlwaysClause) and clause.only and max(clause.only) < today:
                place = loaded.place_of("streams", name, "windows", index)
                message = f"this window does not open any more: its last date was {max(clause.only)}"
                yield Problem(place, message, "note")

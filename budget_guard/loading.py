"""From a policy file to a policy that can be used: the file's own rules, then those that need the markets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from budget_guard.errors import CalendarUnknown, PolicyError
from budget_guard.policy.loading import LoadedPolicy, load_document
from budget_guard.policy.model import Budget, LiveBilling, Policy, Stream
from budget_guard.policy.problems import Place, Problem, shortened
from budget_guard.policy.stream_checks import WINDOWS_MAX, count_windows
from budget_guard.policy.written import matches


@dataclass(frozen=True, slots=True)
class _Shared:
    """What files have said of an account, and where: its budgets by name, its billing by dataset, and the market of
    the streams that count against a session limit."""

    budgets: dict[tuple[str, str], tuple[Budget, Place]]
    billing: dict[tuple[str, str], tuple[LiveBilling, Place]]
    markets: dict[tuple[str, str], tuple[str, Place]]


def check_policy(
    path: str | Path, *, cache_dir: Path | None = None, today: date | None = None
) -> LoadedPolicy:
    """Load a policy file and find every problem and note in it, in file order. Never raises for the file.

    `cache_dir` keeps what the calendar library says, so that the next check need not bring it. With `today`, what has
    expired is noted.
    """
    from budget_guard.markets.checks import find_problems
    from budget_guard.policy.dated_checks import dated_notes

    loaded = load_document(path)
    if loaded.readable is None or count_windows(loaded.readable) > WINDOWS_MAX:
        return loaded
    dated = [] if today is None else dated_notes(loaded, today)
    return loaded.with_problems([*find_problems(loaded, cache_dir=cache_dir), *dated])


def check_policies(
    paths: Iterable[str | Path], *, cache_dir: Path | None = None, today: date | None = None
) -> list[LoadedPolicy]:
    """Check several files, and that those of one account say the same of it: they share one balance and one bill."""
    checked: list[LoadedPolicy] = []
    shared = _Shared({}, {}, {})
    for path in paths:
        loaded = check_policy(path, cache_dir=cache_dir, today=today)
        differences = (*_said_differently(loaded, shared), *_other_markets(loaded, shared))
        checked.append(loaded.with_problems(differences))
    return checked


def _said_differently(loaded: LoadedPolicy, shared: _Shared) -> Iterator[Problem]:
    policy = loaded.policy
    if policy is None:
        return
    account = policy.account.name
    for index, budget in enumerate(policy.budgets):
        place = loaded.place_of("budgets", index, "name")
        first, first_place = shared.budgets.setdefault((account, budget.name), (budget, place))
        if place != first_place and _definition(first) != _definition(budget):
            yield Problem(
                place,
                f"budget '{budget.name}' of account '{account}' is defined differently at {first_place}: "
                "give both the same limits, match and timezone, or different names",
            )
    for dataset, billing in policy.account.billing.items():
        place = loaded.place_of("account", "billing", dataset)
        first_billing, first_place = shared.billing.setdefault((account, dataset), (billing, place))
        if first_billing != billing:
            yield Problem(
                place,
                f"live data of {dataset} is billed to account '{account}' in another way at {first_place}: "
                "an account has one way; write it in one file and let the others extend that",
            )


def _other_markets(loaded: LoadedPolicy, shared: _Shared) -> Iterator[Problem]:
    """Streams of another market than a shared session limit already has: the two would not share its sessions."""
    policy = loaded.policy
    for budget in () if policy is None else policy.budgets:
        if policy is None or all(limit.period != "session" for limit in budget.limits):
            continue
        for stream in policy.streams.values():
            counts = stream.mode == "live" and matches(budget, stream, "live")
            market = _market_name(stream) if counts else None
            if market is None:
                continue
            place = loaded.place_of("streams", stream.name)
            first, first_place = shared.markets.setdefault(
                (policy.account.name, budget.name), (market, place)
            )
            if first != market and first_place.file != place.file:
                yield Problem(
                    place,
                    f"the session limit of budget '{budget.name}' needs one market: stream '{stream.name}' is of "
                    f"{market}, and the streams at {first_place} of {first}",
                )
                break


def _market_name(stream: Stream) -> str | None:
    from budget_guard.markets.table import market_of

    try:
        return market_of(stream).name
    except CalendarUnknown:
        return None


def _definition(budget: Budget) -> tuple[object, ...]:
    """What a budget limits. Its time zone is part of that only where it has days or weeks to begin."""
    local = any(limit.period in ("day", "week") for limit in budget.limits)
    return frozenset(budget.limits), budget.match, budget.timezone if local else None


def load_policy(path: str | Path, *, cache_dir: Path | None = None) -> Policy:
    """The policy of a file. Raises PolicyError with every problem in it; notes do not raise.

    `cache_dir` keeps what the calendar library says, so that the next program need not bring it.
    """
    loaded = check_policy(path, cache_dir=cache_dir)
    if loaded.policy is None:
        problems = (problem for problem in loaded.problems if problem.severity == "problem")
        raise PolicyError(shortened(problems))
    return loaded.policy

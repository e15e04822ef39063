"""`extends`: the account and the budgets of another file, shared by every policy that names it.

What the other file says holds as it stands there: its limits, and its time zone for its days and weeks. A policy adds
budgets of its own, and to the account what the other file does not say.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from budget_guard.policy.model import Account, Policy
from budget_guard.policy.problems import Place, Problem, found, nearest
from budget_guard.policy.reading import Key, Marks
from budget_guard.policy.written import Written

# A policy, its desk's account, its firm's budgets: more than a few is a mistake.
EXTENDS_MAX = 8


@dataclass(frozen=True, slots=True)
class Trail:
    """The files that extend one another, by their real paths: the first is the policy."""

    files: tuple[str, ...]

    def to(self, file: str) -> Trail:
        return Trail((*self.files, os.path.realpath(file)))

    @property
    def is_extended(self) -> bool:
        """Whether the last file was reached by `extends`."""
        return len(self.files) > 1


def extended_file(extends: str, file: str, place: Place, trail: Trail) -> str | Problem:
    """The path of the file that `extends` names, from the folder of the file it is written in; or why it cannot be."""
    if not extends.isprintable():
        return Problem(place, f"{found(extends)} is no path: write the file's name, as account.yaml")
    path = os.path.normpath(Path(file).parent / extends)
    real = os.path.realpath(path)
    if real == trail.files[-1]:
        return Problem(place, "the file extends itself: name the file that has the account and budgets")
    if real in trail.files:
        circle = " -> ".join(Path(one).name for one in (*trail.files[trail.files.index(real) :], real))
        return Problem(
            place, f"the files extend one another in a circle: {circle}; end it in a file without `extends`"
        )
    if len(trail.files) > EXTENDS_MAX:
        return Problem(place, f"more than {EXTENDS_MAX} files extend one another: share from fewer")
    if not _is_file(Path(path)):
        if os.path.lexists(path):
            return Problem(
                place, f"{found(extends)} is not a plain file: name the file that has the account and budgets"
            )
        hint = nearest(extends, _beside(file, path))
        return Problem(
            place, f"there is no file {found(extends)} to extend{hint or ', from the folder of this one'}"
        )
    return path


def _is_file(path: Path) -> bool:
    """A pipe or a device is none: it could make the reader wait forever."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _beside(file: str, path: str) -> list[str]:
    """The YAML files where the path looks for one, as `extends` would name them."""
    try:
        names = sorted(entry.name for entry in Path(path).parent.glob("*.y*ml") if _is_file(entry))[:50]
    except (OSError, ValueError):
        return []
    folder = os.path.relpath(Path(path).parent, Path(file).parent)
    return [os.path.normpath(f"{folder}/{name}") for name in names if name != Path(file).name]


def extend(own: Written, base: Policy, base_marks: Marks, base_problems: Iterable[Problem]) -> Written:
    """What is written in a file, with the account and budgets of the file that it extends put before its own."""
    problems = [*base_problems, *_unnamed(own, base_marks)]
    problems += _redefined(own, base, base_marks)
    problems += _account_changed(own, base.account, base_marks)
    inherited = len(base.budgets)
    return replace(
        own,
        policy=replace(
            own.policy,
            account=_joined_account(own, base.account, base_marks),
            budgets=(*base.budgets, *own.policy.budgets),
        ),
        marks=_joined_marks(own, base_marks, inherited),
        budget_indices=(*range(inherited), *(inherited + index for index in own.budget_indices)),
        broken=frozenset(_shifted(part, inherited) for part in own.broken),
        inherited=inherited,
        found=tuple(problems),
    )


def _shifted(part: tuple[Key, ...], inherited: int) -> tuple[Key, ...]:
    if part[0] == "budgets" and len(part) == 2:
        return ("budgets", int(part[1]) + inherited)
    return part


def _unnamed(own: Written, base_marks: Marks) -> Iterator[Problem]:
    if (
        not own.marks.has("account", "name")
        and not base_marks.has("account", "name")
        and not own.is_broken("account")
    ):
        message = (
            "an account that policies share needs a name of its own: write `account: {name: desk}` in "
            f"{base_marks.place.file}"
        )
        yield Problem(own.place_of("extends"), message)


def _redefined(own: Written, base: Policy, base_marks: Marks) -> Iterator[Problem]:
    """No budget has two definitions, not even equal ones: who changes one would miss the other."""
    first = {
        budget.name: base_marks.at("budgets", index, "name").shown
        for index, budget in enumerate(base.budgets)
    }
    for index, budget in own.budgets:
        if budget.name in first:
            message = (
                f"budget '{budget.name}' is defined at {first[budget.name]}, which this file extends: "
                "change it there, or give this one another name"
            )
            yield Problem(own.place_of("budgets", index, "name"), message)


def _account_changed(own: Written, base: Account, base_marks: Marks) -> Iterator[Problem]:
    account, there = own.policy.account, base_marks.at("account")
    if own.marks.has("account", "name") and there.has("name") and account.name != base.name:
        where = there.at("name").shown
        message = f"the account is '{base.name}' at {where}, which this file extends: leave `name` out here"
        yield Problem(own.place_of("account", "name"), message)
    for dataset in account.billing:
        if account.billing[dataset] != base.billing.get(dataset, account.billing[dataset]):
            yield _said_otherwise(own, base_marks, ("account", "billing", dataset))
    for dataset, mode, schema in account.prices:
        price = account.prices[dataset, mode, schema]
        if price != base.prices.get((dataset, mode, schema), price):
            yield _said_otherwise(own, base_marks, ("account", "prices", dataset, mode, schema))
    if account.not_billed and base.not_billed and account.not_billed != base.not_billed:
        yield _said_otherwise(own, base_marks, ("account", "not_billed"))
    if account.credits and base.credits:
        yield _said_otherwise(own, base_marks, ("account", "credits"))


def _said_otherwise(own: Written, base_marks: Marks, keys: tuple[Key, ...]) -> Problem:
    message = (
        f"{'.'.join(str(key) for key in keys)} is written at {base_marks.at(*keys).shown}, which this file extends: "
        "change it there, and leave it out here"
    )
    return Problem(own.place_of(*keys), message)


def _joined_account(own: Written, base: Account, base_marks: Marks) -> Account:
    account = own.policy.account
    return Account(
        name=account.name
        if own.marks.has("account", "name") or not base_marks.has("account", "name")
        else base.name,
        billing=_both(base.billing, account.billing),
        prices=_both(base.prices, account.prices),
        credits=(*base.credits, *account.credits),
        not_billed=base.not_billed | account.not_billed,
    )


def _both(base: Mapping[Any, Any], own: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return {**base, **own}


def _joined_marks(own: Written, base_marks: Marks, inherited: int) -> Marks:
    """The places of the whole: the extended file's budgets first, its account under this file's."""
    here, there = own.marks.at("budgets"), base_marks.at("budgets")
    parts = dict(own.marks.parts)
    budgets: dict[Key, Marks] = {index: there.at(index) for index in range(inherited)}
    if own.marks.has("budgets"):
        budgets |= {inherited + int(index): part for index, part in here.parts.items()}
    if budgets:
        around = here if own.marks.has("budgets") else own.marks.at("extends")
        parts["budgets"] = Marks(around.place, around.key_place, budgets)
    if base_marks.has("account"):
        parts["account"] = _over(parts.get("account"), base_marks.at("account"))
    return Marks(own.marks.place, own.marks.key_place, parts)


def _over(own: Marks | None, base: Marks) -> Marks:
    if own is None or not own.parts:
        return own or base
    parts = base.parts | {
        key: _over(part, base.parts[key]) if key in base.parts else part for key, part in own.parts.items()
    }
    return Marks(own.place, own.key_place, parts)

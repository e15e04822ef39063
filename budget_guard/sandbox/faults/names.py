"""The names that a fault may speak of: a fault about what is not there would never strike, and nobody would notice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from budget_guard.sandbox.faults.model import Fault


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most probably meant; None when none is near."""
    names = list(known)
    upper = {one.upper(): one for one in names}
    near = difflib.get_close_matches(name.upper(), upper, n=1)
    if near:
        return upper[near[0]]
    begun = [one for one in names if name and one.upper().startswith(name.upper())]
    return begun[0] if len(begun) == 1 else None


def meant(name: str, known: Iterable[str]) -> str:
    """`; did you mean NAME?`, or nothing but a full stop."""
    near = nearest(name, known)
    return "." if near is None else f"; did you mean {near}?"


@dataclass(frozen=True, slots=True)
class Names:
    """The datasets and keys that a sandbox has."""

    datasets: tuple[str, ...]
    keys: tuple[str, ...]

    def problems(self, fault: Fault) -> list[tuple[str, str]]:
        """What is wrong with the names in a fault: the word, and what to say of it."""
        found = [("dataset", self.dataset(fault.dataset)), ("key", self._key(fault.key))]
        return [(word, said) for word, said in found if said is not None]

    def dataset(self, name: str | None) -> str | None:
        """What is wrong with a dataset's name; None when it is on offer."""
        if name is None or name in self.datasets:
            return None
        offered = ", ".join(sorted(self.datasets))
        return f"names {name}, which is not on offer{meant(name, self.datasets)} One of: {offered}"

    def _key(self, end: str | None) -> str | None:
        if end is None or any(key.endswith(end) for key in self.keys):
            return None
        ends = ", ".join(key[-5:] for key in self.keys)
        return f"{end} is the end of no key here. They end in: {ends}"

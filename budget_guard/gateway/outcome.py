"""What a gateway's connections have come to: read by `run` for its exit code, and by the next logon."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, cast

from budget_guard.decisions import Code, Decision, deny
from budget_guard.errors import VendorError
from budget_guard.ledger.model import Entry

T = TypeVar("T")
# How long a vendor's permanent refusal is believed before it is asked again.
BREAKER_S = 60.0
CONNECTIONS_BREAKER_S = 5.0
# Of each kind, where nobody waits for the end.
REMEMBERED = 100


@dataclass(slots=True)
class Outcome:
    """Decisions that ended or prevented something, in order."""

    refused: list[Decision] = field(default_factory=list)  # by the guard
    cut: list[Decision] = field(
        default_factory=list
    )  # running connections, or parts of them, ended at a limit
    # Of those the parts, with the names of their streams: the rest of the connection went on.
    shed: list[tuple[tuple[str, ...], Decision]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)  # planned ends: which window closed, and when
    entries: list[Entry] = field(default_factory=list)  # what was settled
    unbooked: list[int] = field(default_factory=list)  # bytes of what could not be: the ledger was away
    vendor: list[Decision] = field(default_factory=list)  # by the vendor: licence, key, payment
    incomplete: list[str] = field(default_factory=list)  # historical answers of which nobody has the whole
    notes: list[str] = field(default_factory=list)  # what was bought before and not bought again
    unreachable: list[tuple[str, str]] = field(default_factory=list)  # dataset, last error


class _Recent(list[T]):
    """A list of the last that were appended."""

    def append(self, item: T) -> None:
        super().append(item)
        del self[:-REMEMBERED]


def recent_outcome() -> Outcome:
    """One that remembers the last of each only, for a gateway that runs on."""
    return Outcome(
        refused=_Recent(),
        cut=_Recent(),
        shed=_Recent(),
        closed=_Recent(),
        entries=_Recent(),
        unbooked=_Recent(),
        vendor=_Recent(),
        unreachable=_Recent(),
    )


@dataclass(slots=True)
class Standing:
    """Refusals that still stand: a client that reconnects by itself is told on the logon line, not in a loop."""

    tokens: set[str] = field(default_factory=set)  # whose last connection the guard refused or cut
    vendor: dict[str, tuple[Decision, float]] = field(default_factory=dict)  # by dataset: until when

    def believe(self, dataset: str, decision: Decision, now_s: float) -> None:
        """Tell a vendor's refusal to who comes next. Connections come and go; licences do not so soon."""
        believed_s = CONNECTIONS_BREAKER_S if decision.code == "sessions_full" else BREAKER_S
        self.vendor[dataset] = (decision, now_s + believed_s)

    def forget(self, dataset: str) -> None:
        """The vendor has been asked meanwhile, and refuses the dataset no longer."""
        self.vendor.pop(dataset, None)

    def vendor_refusal(self, dataset: str, now_s: float) -> Decision | None:
        """The vendor's refusal of a dataset while it is believed."""
        decision, until_s = self.vendor.get(dataset, (None, 0.0))
        return decision if now_s < until_s else None


def vendor_decision(error: VendorError) -> Decision:
    """A vendor's refusal as a decision."""
    return deny(cast(Code, error.code), str(error))

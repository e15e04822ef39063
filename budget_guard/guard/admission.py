"""What a decision lets start: streams, the windows they end with, and the hold they draw on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from budget_guard.guard.connection import LiveHold
from budget_guard.guard.request import Request
from budget_guard.markets.model import Interval
from budget_guard.policy.model import Recovery, Stream


@dataclass(frozen=True, slots=True)
class Member:
    """One stream of an admission, the window it must end with, and what was asked for of it."""

    stream: Stream
    window: Interval
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Admission:
    """What may start and is counted as one: its streams, at least one, and the hold that they draw on.

    The first member is the dearest: the hold is in its name.
    """

    members: tuple[Member, ...]
    hold: LiveHold

    @property
    def stream(self) -> Stream:
        return self.members[0].stream

    @property
    def window(self) -> Interval:
        """The window that closes first."""
        return min((member.window for member in self.members), key=lambda window: window.end_utc)

    @property
    def requests(self) -> tuple[Request, ...]:
        return tuple(request for member in self.members for request in member.requests)

    def prolonged(self, stream: Stream, window: Interval) -> Admission:
        """The same, with a later window of one of its streams."""
        members = tuple(
            replace(member, window=window) if member.stream == stream else member for member in self.members
        )
        return replace(self, members=members)

    def extended(self, request: Request, stream: str) -> Admission:
        """The same, with one more request of one of its streams."""
        members = tuple(
            replace(member, requests=(*member.requests, request)) if member.stream.name == stream else member
            for member in self.members
        )
        return replace(self, members=members)

    @property
    def recovery(self) -> Recovery:
        """What all of its streams allow after a loss."""
        rules = [member.stream.recovery for member in self.members]
        spends = [rule.spend_usd for rule in rules if rule.spend_usd is not None]
        return Recovery(
            min(rule.replay for rule in rules),
            min(spends) if spends else None,
            min(rule.client_replay for rule in rules),
        )

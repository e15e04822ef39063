"""The guard as a supervisor sees it: opened when it is needed, asked what happened and what would be allowed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from budget_guard.clock import Clock
from budget_guard.decisions import Decision
from budget_guard.errors import VendorError
from budget_guard.gateway.outcome import Outcome
from budget_guard.guard.guard import Windows
from budget_guard.guard.request import whole_stream
from budget_guard.guard.status import Status, take_status
from budget_guard.policy.model import Policy, Stream
from budget_guard.settings import Settings
from budget_guard.streaming.approval import ask_on_terminal
from budget_guard.streaming.assembly import OpenGateway, open_gateway, stream_windows
from budget_guard.streaming.child import child_environment, without_key
from budget_guard.streaming.fallback import News

T = TypeVar("T")


class Site(Protocol):
    """What a supervisor needs of the guard. All but `open` is meant for a site that is open."""

    @property
    def is_open(self) -> bool: ...

    @property
    def outcome(self) -> Outcome:
        """What it has come to; an empty one before it was opened."""

    @property
    def clients(self) -> int:
        """How many live clients are connected."""

    @property
    def mending(self) -> int:
        """How many of them wait for a lost connection to the vendor."""

    @property
    def going_on(self) -> int:
        """How many have a stream that goes on, those that wait included."""

    def open(self) -> None:
        """Make it ready for a program; nothing when it is. Raises SettingsError, LedgerError, VendorError."""

    def close(self) -> None:
        """End and settle everything. Safe to call twice."""

    def news(self) -> News:
        """What has happened since the last call."""

    def program(self, command: Sequence[str], environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        """A program's arguments and environment: the token wherever the key stands, and the way to the guard."""

    def money(self, stream: Stream) -> Decision:
        """Whether a stream could start now, as far as the guard decides it. Blocks."""

    def limits(self, stream: Stream) -> Hashable:
        """What a stream counts against now, approvals included, to be compared. Raises LedgerError. Blocks."""

    def probe(self, datasets: Sequence[str]) -> Mapping[str, VendorError | None]:
        """What the vendor says to a logon for each dataset. Costs nothing. Blocks."""

    def welcome(self, dataset: str) -> None:
        """The vendor has been asked, and refuses the dataset no longer. Blocks."""

    def status(self) -> Status:
        """How things stand. Raises LedgerError. Blocks."""


class GuardSite:
    """The guard of a policy, in this process."""

    def __init__(self, policy: Policy, settings: Settings, clock: Clock, *, only: str | None) -> None:
        """`only` is the one stream that the program may use; None for any of the policy."""
        self._policy = policy
        self._settings = settings
        self._clock = clock
        self._only = only
        self._gateway: OpenGateway | None = None
        self._none_yet = Outcome()
        self._seen: dict[str, int] = {}
        self._windows: dict[str, Windows] = {}

    @property
    def is_open(self) -> bool:
        return self._gateway is not None

    @property
    def outcome(self) -> Outcome:
        return self._none_yet if self._gateway is None else self._gateway.host.outcome

    @property
    def clients(self) -> int:
        return 0 if self._gateway is None else self._gateway.host.clients

    @property
    def mending(self) -> int:
        return 0 if self._gateway is None else self._gateway.host.mending

    @property
    def going_on(self) -> int:
        return 0 if self._gateway is None else self._gateway.host.going_on

    @property
    def visits(self) -> int:
        """How often a client of the program came to the guard."""
        return 0 if self._gateway is None else self._gateway.host.visits

    def open(self) -> None:
        if self._gateway is None:
            self._gateway = open_gateway(self._policy, self._settings, self._clock, approve=ask_on_terminal)

    def close(self) -> None:
        if self._gateway is not None:
            self._gateway.close()

    def news(self) -> News:
        outcome = self.outcome
        vendor = self._unseen("vendor", outcome.vendor)
        cut = self._unseen("cut", outcome.cut)
        shed = self._unseen("shed", outcome.shed)
        parts = [decision for _, decision in outcome.shed]
        return News(
            refused=self._unseen("refused", outcome.refused),
            cut=tuple(one for one in cut if not any(one is part for part in parts)),
            shed=shed,
            closed=self._unseen("closed", outcome.closed),
            vendor=vendor,
            vendor_live=tuple(self._with_datasets(vendor)),
            unreachable=self._unseen("unreachable", outcome.unreachable),
        )

    def program(self, command: Sequence[str], environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        host, key = self._opened.host, self._settings.key or ""
        arguments = [without_key(part, key, host.token(self._only)) for part in command]
        return arguments, child_environment(environ, host, self._only, key=key)

    def money(self, stream: Stream) -> Decision:
        opened = self._opened
        allowance = opened.host.allowance_bytes
        return opened.opened.guard.decide_live(
            whole_stream(stream), allowance_bytes=allowance, only=stream.name
        )

    def limits(self, stream: Stream) -> Hashable:
        found = self._opened.opened.guard.live_limits(stream, self._clock.now())
        return tuple((limit.key, limit.limit) for limit in found)

    def probe(self, datasets: Sequence[str]) -> Mapping[str, VendorError | None]:
        from budget_guard.gateway.live.probe import probe_live
        from budget_guard.gateway.live.upstream import Endpoint

        gateway = self._settings.live_gateway
        endpoint = Endpoint() if gateway is None else Endpoint(*gateway)
        return probe_live(endpoint, self._settings.key or "", datasets)

    def welcome(self, dataset: str) -> None:
        if self._gateway is not None:
            self._gateway.host.welcome(dataset)

    def status(self) -> Status:
        opened = self._opened.opened
        return take_status(
            self._policy,
            opened.ledger,
            self.windows,
            self._clock.now(),
            sizes=opened.guard.metered_bytes,
        )

    def windows(self, stream: Stream) -> Windows:
        """A stream's windows, compiled once."""
        if stream.name not in self._windows:
            self._windows[stream.name] = stream_windows(self._policy, self._settings, stream)
        return self._windows[stream.name]

    @property
    def _opened(self) -> OpenGateway:
        assert self._gateway is not None
        return self._gateway

    def _unseen(self, name: str, rows: list[T]) -> tuple[T, ...]:
        first = self._seen.get(name, 0)
        new = tuple(rows[first:])
        self._seen[name] = first + len(new)
        return new

    def _with_datasets(self, decisions: Iterable[Decision]) -> Iterator[tuple[str, Decision]]:
        """Those that were said to a live logon: the vendor's answers to requests for history are not."""
        if self._gateway is None:
            return
        said = list(self._gateway.host.standing.vendor.items())
        for decision in decisions:
            yield from ((dataset, decision) for dataset, (standing, _) in said if standing is decision)

"""A supervisor in a world of its own: its clock moves when it waits, its children end when the test says so."""

from __future__ import annotations

import signal
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from budget_guard.clock import ManualClock
from budget_guard.decisions import ALLOW, Decision, deny
from budget_guard.errors import VendorError
from budget_guard.gateway.outcome import Outcome
from budget_guard.guard.status import Status
from budget_guard.markets.model import Interval
from budget_guard.policy.model import Account, Budget, Fallback, Limit, Policy, Stream
from budget_guard.streaming.child import Child
from budget_guard.streaming.fallback import News, Obstacles
from budget_guard.streaming.leftovers import Leftovers
from budget_guard.streaming.supervisor import Conclusion, Supervisor, Terms
from budget_guard.streaming.supervisor_prospects import Asking, Prospects, T
from budget_guard.streaming.supervisor_signals import Signals
from budget_guard.streaming.supervisor_speech import Speech
from budget_guard.streaming.supervisor_windows import Hours

START = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
PROGRAM = ("python", "stream.py")
OTHER = Fallback("other", ("python", "other.py"))
LAST = Fallback("last", ("python", "last.py"))
KEY = "db-a-key-of-thirty-two-characters"

# What waits longer than this is taken to wait for ever.
ENDLESS_S = 3 * 86_400.0


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def money_out(retry: float | None = None) -> Decision:
    """As the guard refuses or cuts at a limit."""
    return deny(
        "limit_reached",
        "budget account has $0.00 left of $5.00 this day",
        budget="account",
        period="day",
        unit="usd",
        retry_at_utc=None if retry is None else at(retry),
    )


def stream(name: str = "nq", dataset: str = "GLBX.MDP3", fallback: Sequence[Fallback] = ()) -> Stream:
    return Stream(name, dataset, "mbo", ("NQ.v.0",), "continuous", fallback=tuple(fallback))


class FakeChild:
    """A child that ends when it is told to, or at a signal that it does not ignore."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], ignores: Sequence[int]
    ) -> None:
        self.command = tuple(command)
        self.environment = dict(environment)
        self.pid = 1000
        self.code: int | None = None
        self.heard: list[int] = []
        self.leads_group = False
        self._ignores = ignores

    def send(self, number: int) -> None:
        self.heard.append(number)
        if self.code is None and number not in self._ignores:
            self.code = 128 + number

    def wait(self, seconds: float | None = None) -> int:
        return cast(int, self.code)


class FakeWindows:
    """Open between pairs of seconds."""

    def __init__(self, spans: Sequence[tuple[float, float]]) -> None:
        self.spans = [Interval(at(start), at(end)) for start, end in spans]

    def covering(self, when: datetime) -> Interval | None:
        return next((span for span in self.spans if when in span), None)

    def next_open(self, when: datetime) -> datetime | None:
        return next((span.start_utc for span in self.spans if span.start_utc > when), None)

    def session_interval(self, when: datetime) -> Interval:
        raise NotImplementedError


class AtOnce(Asking[T]):
    """Answers before the question has been put aside."""

    def ask(self, question: Callable[[], T]) -> None:
        self._run(question)


class FakeLeftovers(Leftovers):
    """Processes that end when they are told to, unless they are deaf."""

    def __init__(self) -> None:
        self.pids: set[int] = set()
        self.deaf = False
        self.heard: list[int] = []

    def reap(self, own: int | None) -> None:
        """Nobody dies here."""

    def alive(self) -> set[int]:
        return self.pids

    def send(self, number: int) -> None:
        self.heard.append(number)
        if number == signal.SIGKILL or not self.deaf:
            self.pids = set()


@dataclass
class FakeSite:
    """The guard, as the test wants it."""

    outcome: Outcome = field(default_factory=Outcome)
    clients: int = 0
    mending: int = 0
    going_on: int = 0
    is_open: bool = False
    said: list[News] = field(default_factory=list)
    money_now: dict[str, Decision] = field(default_factory=dict)
    limits_now: int = 5  # as the policy and approvals have them
    vendor_now: dict[str, VendorError] = field(default_factory=dict)
    opening: list[Exception] = field(default_factory=list)  # what the next openings raise
    asked: list[str] = field(default_factory=list)

    def open(self) -> None:
        if self.opening:
            raise self.opening.pop(0)
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def news(self) -> News:
        return self.said.pop(0) if self.said else News()

    def program(self, command: Sequence[str], environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        return list(command), {**environ, "DATABENTO_API_KEY": "a token"}

    def money(self, stream: Stream) -> Decision:
        self.asked.append(f"money {stream.name}")
        return self.money_now.get(stream.name, ALLOW)

    def limits(self, stream: Stream) -> Hashable:
        return self.limits_now

    def probe(self, datasets: Sequence[str]) -> Mapping[str, VendorError | None]:
        self.asked.extend(f"vendor {dataset}" for dataset in datasets)
        return {dataset: self.vendor_now.get(dataset) for dataset in datasets}

    def welcome(self, dataset: str) -> None:
        self.asked.append(f"welcome {dataset}")

    def status(self) -> Status:
        raise NotImplementedError


class FakeSignals(Signals):
    """Waits by moving the clock, and plays what is to happen on the way."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock
        self._plan: list[tuple[float, Callable[[], None]]] = []

    def plan(self, seconds: float, action: Callable[[], None]) -> None:
        self._plan.append((seconds, action))
        self._plan.sort(key=lambda planned: planned[0])

    def wait(self, seconds: float) -> None:
        now_s = self._clock.elapsed_s()
        if now_s > ENDLESS_S:
            raise AssertionError("it would go on for ever")
        if self._plan and self._plan[0][0] <= now_s + seconds:
            due_s, action = self._plan.pop(0)
            self._clock.advance(max(0.0, due_s - now_s))
            action()
        else:
            self._clock.advance(max(seconds, 0.001))

    def hear(self, number: int, _frame: object = None) -> None:
        super().hear(number, None)


class World:
    """A supervised program. `at(seconds, action)` plans what happens; `run()` plays it to the end."""

    def __init__(
        self,
        *,
        windows: Mapping[str, Sequence[tuple[float, float]]] | None = None,
        streams: Sequence[Stream] | None = None,
        ignores: Sequence[int] = (),
        **terms: Any,
    ) -> None:
        chosen = tuple(streams or (stream(),))
        spans = windows or {one.name: [(0, 1e6)] for one in chosen}
        self.clock = ManualClock(START)
        self.site = FakeSite()
        self.signals = FakeSignals(self.clock)
        self.leftovers = FakeLeftovers()
        self.children: list[FakeChild] = []
        self.started_s: list[float] = []
        self.missing: set[str] = set()  # programs that are not there
        self.said: list[str] = []
        self.ignores = ignores
        budget = Budget("account", (Limit("day", "usd", Decimal(5)),))
        policy = Policy("p", "UTC", Account("desk"), (budget,), {one.name: one for one in chosen})
        prospects = Prospects(self.site, chosen, Obstacles(policy, chosen), self.clock, asking=AtOnce[Any]())
        self.supervisor = Supervisor(
            Terms(PROGRAM, chosen, **terms),
            site=self.site,
            hours=Hours({name: FakeWindows(pairs) for name, pairs in spans.items()}, self.said.append),
            prospects=prospects,
            signals=self.signals,
            leftovers=self.leftovers,
            clock=self.clock,
            environ={
                "HOME": "/home/me",
                "DATABENTO_API_KEY": KEY,
                "BUDGET_GUARD_LEDGER": "x",
                "COPY": f"<{KEY}>",
            },
            key=KEY,
            speech=Speech(self.said.append, lambda when: f"{when:%H:%M:%S}", "p"),
            launch=lambda command, environment: cast(Child, self._launch(command, environment)),
        )

    def _launch(self, command: Sequence[str], environment: Mapping[str, str]) -> FakeChild:
        if command[-1] in self.missing:
            raise FileNotFoundError(2, "No such file or directory")
        child = FakeChild(command, environment, self.ignores)
        self.children.append(child)
        self.started_s.append(self.clock.elapsed_s())
        return child

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        self.signals.plan(seconds, action)

    def ends(self, seconds: float, code: int = 0) -> None:
        """The child that runs then ends by itself."""
        self.at(seconds, lambda: setattr(self.children[-1], "code", code))

    def says(self, seconds: float, news: News, code: int | None = None) -> None:
        """The gateway has news, and the program may end over it."""

        def say() -> None:
            self.site.said.append(news)
            if code is not None:
                self.children[-1].code = code

        self.at(seconds, say)

    def money_goes(self, seconds: float, *, back: float | None = None) -> None:
        """Nothing is left for stream nq from then on, until it is back."""
        self.at(seconds, lambda: self.site.money_now.update(nq=money_out(back)))
        if back is not None:
            self.at(back, self.site.money_now.clear)

    def asked_to_end(self, seconds: float, number: int = signal.SIGTERM) -> None:
        self.at(seconds, lambda: self.signals.hear(number))

    def run(self) -> Conclusion:
        return self.supervisor.run()

    @property
    def ran(self) -> list[tuple[str, float]]:
        """What was started, and when."""
        names = [child.command[-1].removesuffix(".py") for child in self.children]
        return list(zip(names, self.started_s, strict=True))

"""Why a program cannot run just now, for how long, and what runs in its place."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from budget_guard.decisions import Decision
from budget_guard.policy.model import Fallback, Policy, Stream
from budget_guard.streaming.child import HOOK_DIR, without_key
from budget_guard.streaming.supervisor_states import Kind

# Reasons of the guard that mean that the money is out. Of the others, some are the program's own mistakes, and for
# some (the ledger is away, a calendar is unknown) nobody knows whether there is money.
MONEY_CODES = ("limit_reached", "frozen")
# Seconds until the first look whether a cause is over, and the most between two looks.
PACES: Mapping[Kind, tuple[float, float]] = {
    "money": (10.0, 300.0),
    "vendor": (30.0, 900.0),
    "unreachable": (15.0, 120.0),
}
# A program that came back and was refused money again within so long came back in vain.
SOON_S = 300.0
# The pause after that, and the longest: each is twice the one before.
VAIN_S, VAIN_MOST_S = 3600.0, 4 * 3600.0


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a stream cannot run. `retry_at_utc` is when it may by itself, where that is known."""

    kind: Kind
    stream: str
    text: str
    retry_at_utc: datetime | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What a gateway's connections have come to since it was last asked; the vendor's words by dataset."""

    refused: tuple[Decision, ...] = ()
    cut: tuple[Decision, ...] = ()  # whole connections
    shed: tuple[tuple[tuple[str, ...], Decision], ...] = ()  # parts of one that goes on: of which streams
    closed: tuple[str, ...] = ()
    vendor: tuple[Decision, ...] = ()
    vendor_live: tuple[tuple[str, Decision], ...] = ()
    unreachable: tuple[tuple[str, str], ...] = ()


class Obstacles:
    """Which live streams cannot run, as far as anybody has said."""

    def __init__(self, policy: Policy, streams: Sequence[Stream]) -> None:
        self._streams = streams
        self._budgets = {
            stream.name: {
                budget.name
                for budget in policy.budgets_for(
                    stream=stream.name, dataset=stream.dataset, schema=stream.schema, mode="live"
                )
            }
            for stream in streams
        }
        self._causes: dict[str, Cause] = {}

    @property
    def causes(self) -> tuple[Cause, ...]:
        """One for each stream that cannot run."""
        return tuple(self._causes.values())

    def cause(self, names: Iterable[str]) -> Cause | None:
        """Why none of these streams can run; None while one of them can."""
        causes = [self._causes.get(name) for name in names]
        return causes[0] if causes and None not in causes else None

    def hear(self, news: News) -> None:
        """Take in what the gateway has to say."""
        for decision in (*news.refused, *news.cut):
            self._hear_money(decision)
        for names, decision in news.shed:
            self._hear_shed(names, decision)
        for dataset, decision in news.vendor_live:
            self.add("vendor", dataset, decision.text())
        for dataset, text in news.unreachable:
            self.add("unreachable", dataset, text)

    def add(self, kind: Kind, dataset: str | None, text: str) -> None:
        """The vendor's side: for every stream of a dataset, or for all."""
        for stream in self._streams:
            if dataset in (None, stream.dataset):
                self._causes[stream.name] = Cause(kind, stream.name, text)

    def learn(self, stream: str, cause: Cause | None) -> None:
        """What a look at one stream came to."""
        if cause is None:
            self._causes.pop(stream, None)
        else:
            self._causes[stream] = cause

    def forget(self) -> None:
        """Begin anew, as with a new window."""
        self._causes.clear()

    def _hear_shed(self, names: Iterable[str], decision: Decision) -> None:
        """A part that ended says nothing of the rest: what that still holds is its own."""
        for name in names:
            cause = money_cause(name, decision)
            if cause is not None and name in self._budgets:
                self._causes[name] = cause

    def _hear_money(self, decision: Decision) -> None:
        """A limit stands in the way of every stream that counts against it."""
        if decision.code not in MONEY_CODES:
            return
        reason = decision.reasons[0]
        for name, budgets in self._budgets.items():
            if reason.budget in budgets:
                self._causes[name] = Cause("money", name, decision.text(), reason.retry_at_utc)


def money_cause(stream: str, decision: Decision) -> Cause | None:
    """The cause in what the guard would say to a stream now; None when the money is not it."""
    if decision.allowed or decision.code not in MONEY_CODES:
        return None
    return Cause("money", stream, decision.text(), decision.reasons[0].retry_at_utc)


class Looks:
    """When to look again whether a cause is over: ever less often, and at the instant that it may end by itself.

    Times are monotonic seconds, but for that instant.
    """

    def __init__(self, paces: Mapping[Kind, tuple[float, float]] = PACES) -> None:
        self._paces = paces
        self._pause_s: dict[Kind, float] = {}
        self._next_s: float | None = None
        self._seen_utc: datetime | None = None

    def plan(self, kind: Kind, now_s: float, now_utc: datetime) -> None:
        """A look has been taken, or a cause has just begun: set the next one."""
        first_s, most_s = self._paces[kind]
        pause_s = self._pause_s.get(kind, first_s)
        self._pause_s[kind] = min(2 * pause_s, most_s)
        self._next_s, self._seen_utc = now_s + pause_s, now_utc

    def due(self, cause: Cause, now_s: float, now_utc: datetime) -> bool:
        """Whether to look now. The first time that is asked, a look is planned."""
        if self._next_s is None or self._seen_utc is None:
            self.plan(cause.kind, now_s, now_utc)
            return False
        at = cause.retry_at_utc
        return now_s >= self._next_s or (at is not None and self._seen_utc < at <= now_utc)

    def next_in_s(self, cause: Cause, now_s: float, now_utc: datetime) -> float | None:
        """How long until the next one; None while none is planned."""
        if self._next_s is None:
            return None
        left_s = max(0.0, self._next_s - now_s)
        at = cause.retry_at_utc
        return left_s if at is None or at <= now_utc else min(left_s, (at - now_utc).total_seconds())

    def rest(self) -> None:
        """Nothing is in the way; the pauses stay as long as they were."""
        self._next_s = None

    def proven(self) -> None:
        """The program has run for a while: the next cause is a new one."""
        self._pause_s.clear()


class Vain:
    """A program came back, and was refused for the same cause: what the looks find is not what it asks for.

    It may ask for several streams at once, or for more than a look does. Only what has changed is a reason to try
    again: its limits, a period, or much time, in which others may have given money back. Times are monotonic seconds.
    """

    def __init__(self, first_s: float = VAIN_S, most_s: float = VAIN_MOST_S) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._pause_s = first_s
        self._until_s: float | None = None
        self._limits: Mapping[str, Hashable] = {}

    def begin(self, limits: Mapping[str, Hashable], now_s: float) -> float:
        """It was refused again, under these limits by stream: how long time alone will not bring it back."""
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, self._most_s)
        self._until_s, self._limits = now_s + pause_s, dict(limits)
        return pause_s

    def stands(self, cause: Cause, limits: Hashable, now_s: float, now_utc: datetime) -> bool:
        """Whether nothing has changed for a cause's stream; `limits` are those of now."""
        if self._until_s is None or now_s >= self._until_s:
            return False
        if cause.retry_at_utc is not None and cause.retry_at_utc <= now_utc:
            return False
        return self._limits.get(cause.stream, limits) == limits

    def end(self) -> None:
        """The program is started once more; the next pause is longer all the same."""
        self._until_s = None

    def proven(self) -> None:
        """The program has run for a while: what it asks for was there."""
        self._pause_s = self._first_s


def fallbacks_of(streams: Iterable[Stream]) -> tuple[Fallback, ...]:
    """The commands of several streams, in the policy's order, each once."""
    return tuple(dict.fromkeys(fallback for stream in streams for fallback in stream.fallback))


def fallback_environment(environ: Mapping[str, str], key: str) -> dict[str, str]:
    """The environment of a fallback: neither key nor token, and nothing that points at the guard or its ledger."""
    kept = {
        name: without_key(value, key, "")
        for name, value in environ.items()
        if name != "DATABENTO_API_KEY" and not name.startswith("BUDGET_GUARD_")
    }
    if "PYTHONPATH" in kept:
        path = [entry for entry in kept["PYTHONPATH"].split(":") if entry != str(HOOK_DIR)]
        kept["PYTHONPATH"] = ":".join(path)
    return kept

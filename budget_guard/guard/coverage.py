"""What is known of a live request before any balance is looked at: its stream, window, price and limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Protocol

from budget_guard.clock import Clock, instant_text
from budget_guard.decisions import Decision, deny
from budget_guard.errors import CalendarUnknown, Refused
from budget_guard.guard.denials import no_budget, price_unknown
from budget_guard.guard.periods import FOREVER, BudgetLimit, LimitsInPeriod
from budget_guard.guard.request import Request, covering_streams
from budget_guard.ledger.model import BalanceKey
from budget_guard.markets.model import Interval
from budget_guard.policy.model import Mode, Policy, Stream
from budget_guard.pricing.model import DataRange, UnitPrice


class Prices(Protocol):
    """Where a unit price comes from; None when nobody knows it."""

    def price(self, dataset: str, schema: str, mode: Mode) -> UnitPrice | None: ...

    def price_whole(self, data_range: DataRange, at: datetime) -> UnitPrice | None:
        """One price for every byte of a historical range that is requested at an instant."""


class Windows(Protocol):
    """A stream's windows. Every method raises CalendarUnknown rather than guess."""

    def covering(self, at: datetime) -> Interval | None: ...

    def next_open(self, at: datetime) -> datetime | None: ...

    def session_interval(self, at: datetime) -> Interval: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """A covered request's stream, and all that is known of it at one instant.

    `limits` are as the policy writes them, without what people have approved on top.
    """

    at: datetime
    stream: Stream
    window: Interval
    price: UnitPrice
    limits: tuple[BudgetLimit, ...]


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a live request may not even ask for money, and the stream that it is about, if there is one."""

    decision: Decision
    stream: str | None = None


class RequestsRefused(Refused):
    """A refusal of some of the requests that were made together: `requests` says which."""

    def __init__(self, decision: Decision, requests: Sequence[Request]) -> None:
        super().__init__(decision)
        self.requests = tuple(requests)


@dataclass(frozen=True, slots=True)
class JointTerms:
    """The terms of requests whose bytes are counted as one.

    Nothing tells whose a byte is, so each costs what the dearest of them costs and counts against every limit that
    one of them matches. `main` are the terms of the dearest: it is booked under that stream and schema.
    """

    main: Terms
    price_source: str
    limits: tuple[BudgetLimit, ...]


def join(terms: Iterable[Terms]) -> JointTerms:
    """Joint terms of at least one."""
    parts = list(terms)
    main = max(parts, key=lambda one: one.price.usd_per_gib)  # the first among equals
    limits: dict[BalanceKey, BudgetLimit] = {}
    for one in (main, *parts):
        for limit in one.limits:
            limits.setdefault(limit.key, limit)
    source = main.price.source
    schemas = sorted({one.stream.schema for one in parts})
    if len(schemas) > 1:
        source += f"; the dearest of {', '.join(schemas)}, whose records cannot be told apart"
    return JointTerms(main, source, tuple(limits.values()))


class Coverage:
    """Answers for the streams of one policy. Safe to use from several threads."""

    def __init__(
        self, policy: Policy, *, clock: Clock, prices: Prices, windows: Callable[[Stream], Windows]
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._prices = prices
        self._make_windows = windows
        self._windows: dict[str, Windows] = {}
        self._lock = Lock()
        self._limits_in_period: dict[tuple[str, Mode, str], LimitsInPeriod] = {}

    def terms(self, request: Request, only: str | None = None) -> Terms | Denial:
        """The first covering stream that is open now; if there is none, why the one that opens next is not."""
        streams = covering_streams(self._policy, request, only=only)
        if isinstance(streams, Decision):
            return Denial(streams)
        now = self._clock.now()
        denials: list[Denial] = []
        for stream in streams:
            terms = self._stream_terms(request, stream, now)
            if isinstance(terms, Terms):
                return terms
            denials.append(Denial(terms, stream.name))
        return min(denials, key=lambda denial: _retry_at(denial.decision))

    def _stream_terms(self, request: Request, stream: Stream, now: datetime) -> Terms | Decision:
        """Entitlement, window, budgets and price, in this order: the first that is missing refuses."""
        if self._policy.account.live_billing(stream.dataset).kind == "none":
            return deny(
                "not_entitled",
                f"account.billing says that {stream.dataset} is not bought live (live: none); "
                "historical requests of this stream are still covered",
            )
        try:
            windows = self.windows_of(stream)
            window = windows.covering(now)
            if window is None:
                return _window_closed(stream, windows, now)
            limits = self.limits(stream, "live", stream.schema, now)
        except CalendarUnknown as error:
            return deny("calendar_unknown", str(error))
        if not limits:
            return no_budget(stream, "live", stream.schema)
        price = self._prices.price(stream.dataset, stream.schema, "live")
        if price is None:
            return price_unknown(request)
        return Terms(now, stream, window, price, limits)

    def windows_of(self, stream: Stream) -> Windows:
        """A stream's windows, made once."""
        with self._lock:
            if stream.name not in self._windows:
                self._windows[stream.name] = self._make_windows(stream)
            return self._windows[stream.name]

    def limits(self, stream: Stream, mode: Mode, schema: str, at: datetime) -> tuple[BudgetLimit, ...]:
        """The limits that spending counts against at an instant. Raises CalendarUnknown."""
        kind = (stream.name, mode, schema)
        known = self._limits_in_period.get(kind)
        if known is None:
            budgets = self._policy.budgets_for(
                stream=stream.name, dataset=stream.dataset, schema=schema, mode=mode
            )
            known = LimitsInPeriod(
                self._policy.account.name,
                budgets,
                lambda when: self.windows_of(stream).session_interval(when),
            )
            self._limits_in_period[kind] = known
        return known.at(at)


def _window_closed(stream: Stream, windows: Windows, now: datetime) -> Decision:
    opens = windows.next_open(now)
    when = "no opening is known" if opens is None else f"it opens next at {instant_text(opens)}"
    return deny("window_closed", f"stream {stream.name} is outside its windows; {when}", retry_at_utc=opens)


def _retry_at(decision: Decision) -> datetime:
    """When a denial says to try again; the far future when it does not."""
    return decision.reasons[0].retry_at_utc or FOREVER

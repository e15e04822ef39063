"""The guard: the one place where a request meets the policy, the calendar, the prices and the ledger."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Protocol

from budget_guard.clock import Clock, instant_text, month_of
from budget_guard.decisions import Decision, deny
from budget_guard.errors import CalendarUnknown, LedgerError, Refused
from budget_guard.guard.aftercare import Aftercare
from budget_guard.guard.connection import LiveHold
from budget_guard.guard.denials import no_budget, price_unknown, unavailable
from budget_guard.guard.download import RequestHold
from budget_guard.guard.lease import FIRST_LEASE_BYTES, Usage, Wish, decide_lease
from budget_guard.guard.periods import FOREVER, BudgetLimit, LimitsInPeriod, with_approvals
from budget_guard.guard.quote import Quote, decide_quote, range_json
from budget_guard.guard.request import Request, covering_streams, whole_stream
from budget_guard.ledger.meter import Meter, read_size
from budget_guard.ledger.model import Balances, Gap, Hold, HoldTerms, Ledger, Posting, Refusal
from budget_guard.markets.model import Interval
from budget_guard.policy.model import Mode, Policy, Stream
from budget_guard.pricing.model import DataRange, UnitPrice

log = logging.getLogger(__name__)


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
class Admission:
    """A connection that may start: its stream, the window it must end with, and the hold it draws on."""

    stream: Stream
    window: Interval
    hold: LiveHold


@dataclass(frozen=True, slots=True)
class _Terms:
    """What is known of a covered live request before money is asked for, all of it at one instant.

    `limits` are as the policy writes them, without what people have approved on top.
    """

    at: datetime
    stream: Stream
    window: Interval
    price: UnitPrice
    limits: tuple[BudgetLimit, ...]


@dataclass(frozen=True, slots=True)
class _Denial:
    """Why a live request may not even ask for money, and the stream that it is about, if there is one."""

    decision: Decision
    stream: str | None = None


class Guard:
    """Decides about requests and opens holds for those that are allowed.

    Thread-safe as far as its ledger is. `only`, where a method takes it, binds a request to one stream.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        ledger: Ledger,
        clock: Clock,
        prices: Prices,
        windows: Callable[[Stream], Windows],
        meter_dir: Path,
        host: str,
        may_lose_commits: bool = False,
    ) -> None:
        """`may_lose_commits`: the ledger's server may come back from a failover without its last commits."""
        self.policy = policy
        self.clock = clock
        self.ledger = ledger
        self._prices = prices
        self._make_windows = windows
        self._windows: dict[str, Windows] = {}
        self._windows_lock = Lock()
        self._limits_in_period: dict[tuple[str, Mode, str], LimitsInPeriod] = {}
        self._meter_dir = meter_dir
        self._host = host
        self._may_lose_commits = may_lose_commits
        self.aftercare = Aftercare(ledger, meter_dir, host=host, clock=clock, keep=may_lose_commits)

    # --- live ---------------------------------------------------------------------------------------------

    def decide_live(self, request: Request, *, allowance_bytes: int, only: str | None = None) -> Decision:
        """What `open_live` would say now. Changes nothing, records nothing."""
        terms = self._live_terms(request, only)
        if isinstance(terms, _Denial):
            return terms.decision
        try:
            balances = self.ledger.balances(limit.key for limit in terms.limits)
            limits = self._approved(terms.limits)
        except LedgerError as error:
            return unavailable(error)
        wish = Wish(FIRST_LEASE_BYTES, FIRST_LEASE_BYTES, allowance_bytes)
        return decide_lease(limits, balances, Usage(), terms.price.usd_per_gib, wish)

    def decide_dataset(self, dataset: str, *, allowance_bytes: int, only: str | None = None) -> Decision:
        """Whether any live stream of a dataset could start now; otherwise why the first of them could not."""
        decisions = [
            self.decide_live(whole_stream(stream), allowance_bytes=allowance_bytes, only=stream.name)
            for stream in self.live_streams(only=only)
            if stream.dataset == dataset
        ]
        if not decisions:
            names = ", ".join(sorted({stream.dataset for stream in self.live_streams(only=only)})) or "none"
            return deny("not_covered", f"no live stream of the policy is for {dataset}; it has {names}")
        return next((decision for decision in decisions if decision.allowed), decisions[0])

    def live_streams(self, *, only: str | None = None) -> list[Stream]:
        """The policy's live streams, in file order."""
        return [
            stream
            for stream in self.policy.streams.values()
            if stream.mode == "live" and (only is None or stream.name == only)
        ]

    def covering(self, request: Request, *, only: str | None = None) -> Stream:
        """The stream that covers a request. Raises Refused (recorded) when none does."""
        found = covering_streams(self.policy, request, only=only)
        if isinstance(found, Decision):
            self.record_refusal(request, None, found)
            raise Refused(found)
        return found[0]

    def open_live(
        self,
        request: Request,
        *,
        connection_id: str,
        allowance_bytes: int,
        only: str | None = None,
        continues: LiveHold | None = None,
    ) -> Admission:
        """Hold a first lease for a connection. Raises Refused (recorded, no balance changed) with the reasons.

        `allowance_bytes` is what may still arrive between the decision to stop and the vendor's last byte.
        `continues` is the hold that the same open connection drew on until now: periods in which that hold has
        counted the connection do not count it again.
        """
        terms = self._live_terms(request, only)
        if isinstance(terms, _Denial):
            self.record_refusal(request, terms.stream, terms.decision)
            raise Refused(terms.decision)
        counted = frozenset() if continues is None else continues.connection_keys
        limits = tuple(limit for limit in terms.limits if limit.key not in counted)
        try:
            hold = self._open_hold(request, replace(terms, limits=limits), connection_id, allowance_bytes)
        except Refused as refused:
            self.record_refusal(request, terms.stream.name, refused.decision)
            raise
        except LedgerError as error:
            self.record_refusal(request, terms.stream.name, unavailable(error))
            raise Refused(unavailable(error)) from error
        if continues is not None:
            hold.go_on_from(continues)
        return Admission(terms.stream, terms.window, hold)

    def _open_hold(
        self, request: Request, terms: _Terms, connection_id: str, allowance_bytes: int
    ) -> LiveHold:
        """The hold with its meter. Raises Refused, LedgerError."""
        hold_id = uuid.uuid4().hex
        meter = Meter.create(self._meter_dir, hold_id)
        try:
            hold = LiveHold(
                self._hold_terms(hold_id, request, terms, connection_id, allowance_bytes, meter),
                terms.limits,
                ledger=self.ledger,
                clock=self.clock,
                meter=meter,
                allowance_bytes=allowance_bytes,
                approved=self._approved,
                may_lose_commits=self._may_lose_commits,
            )
            hold.open()
        except Refused:
            meter.close(remove=True)
            raise
        except BaseException:
            # The hold may have been written all the same: recovery settles it by this file.
            meter.close(remove=False)
            raise
        return hold

    def window_state(self, stream: Stream, at: datetime) -> tuple[Interval | None, datetime | None]:
        """The window that is open at an instant, if any, and the next opening. Raises CalendarUnknown."""
        windows = self._windows_of(stream)
        return windows.covering(at), windows.next_open(at)

    def live_limits(self, stream: Stream, at: datetime) -> tuple[BudgetLimit, ...]:
        """Every limit that a live connection of a stream counts against at an instant. Raises LedgerError."""
        return self._approved(self._limits(stream, "live", stream.schema, at))

    def metered_bytes(self, hold: Hold) -> int | None:
        """What the meter of a running hold shows; None where this machine has none of it."""
        terms = hold.terms
        if terms.meter is None or terms.host != self._host:
            return None
        return read_size(self._meter_dir / terms.meter)

    # --- historical ---------------------------------------------------------------------------------------

    def historical_price(self, request: Request, data_range: DataRange | None = None) -> UnitPrice:
        """The price of each byte of a request: a known 0 where a plan includes the whole range, else the list's.

        Without a range it is the list's. Raises Refused with `price_unknown`.
        """
        if data_range is None:
            price = self._prices.price(request.dataset, request.schema, "historical")
        else:
            price = self._prices.price_whole(data_range, self.clock.now())
        if price is None:
            decision = price_unknown(request)
            self.record_refusal(request, None, decision)
            raise Refused(decision)
        return price

    def needs_approval(self, stream: Stream, quote: Quote) -> bool:
        """Whether a person's yes is all that a quoted request lacks."""
        try:
            now = self.clock.now()
            limits = self._approved(self._limits(stream, "historical", quote.range.schema, now))
            balances = self.ledger.balances(limit.key for limit in limits)
        except (CalendarUnknown, LedgerError):
            return False
        decision, _ = decide_quote(self.policy.historical, quote, limits, balances)
        return bool(limits and decision.reasons) and all(
            reason.code == "approval_needed" for reason in decision.reasons
        )

    def open_request(
        self, request: Request, stream: Stream, quote: Quote, *, approved: bool = False
    ) -> RequestHold:
        """Hold a quoted request's price. Raises Refused (recorded, no balance changed) with the reasons."""
        now = self.clock.now()
        try:
            limits = self._approved(self._limits(stream, "historical", request.schema, now))
        except CalendarUnknown as error:
            return self._refuse(request, stream, deny("calendar_unknown", str(error)), quote)
        except LedgerError as error:
            return self._refuse(request, stream, unavailable(error), quote)
        if not limits:
            return self._refuse(request, stream, no_budget(stream, "historical", request.schema), quote)
        decisions: list[Decision] = []

        def decide(balances: Balances) -> Posting:
            decision, claims = decide_quote(
                self.policy.historical, quote, limits, balances, approved=approved
            )
            decisions.append(decision)
            return Posting(claims if decision.allowed else None)

        hold_id = uuid.uuid4().hex
        try:
            meter = Meter.create(self._meter_dir, hold_id)
            terms = self._request_terms(hold_id, request, stream, quote, meter, now)
            try:
                opened = self.ledger.open_hold(terms, [limit.key for limit in limits], decide)
            except BaseException:
                meter.close(remove=False)
                raise
        except LedgerError as error:
            return self._refuse(request, stream, unavailable(error), quote)
        if opened is None:
            meter.close(remove=True)
            return self._refuse(request, stream, decisions[-1], quote)
        return RequestHold(
            terms,
            quote,
            limits,
            ledger=self.ledger,
            clock=self.clock,
            meter=meter,
            may_lose_commits=self._may_lose_commits,
        )

    # --- what is written besides holds --------------------------------------------------------------------

    def record_refusal(
        self, request: Request, stream: str | None, decision: Decision, asked_nano_usd: int | None = None
    ) -> None:
        """Keep a refusal for the review; a ledger that cannot be reached loses it, loudly."""
        refusal = Refusal(
            id=uuid.uuid4().hex,
            at_utc=self.clock.now(),
            account=self.policy.account.name,
            stream=stream,
            dataset=request.dataset,
            schema=request.schema,
            mode=request.mode,
            code=decision.code or "not_covered",
            decision=json.dumps(decision.as_json()),
            asked_nano_usd=asked_nano_usd,
        )
        try:
            self.ledger.record_refusal(refusal)
        except LedgerError as error:
            log.warning("a refusal could not be recorded: %s", error)

    def record_gap(
        self, gap_id: str, stream: Stream, start_utc: datetime, end_utc: datetime, *, mended: str, note: str
    ) -> None:
        """Keep a stretch of data that a stream missed, and whether it was mended."""
        gap = Gap(
            gap_id,
            self.policy.account.name,
            stream.name,
            stream.dataset,
            stream.schema,
            min(start_utc, end_utc),  # a clock that was set back makes no gap that ends before it starts
            end_utc,
            mended,
            note,
        )
        try:
            self.ledger.record_gap(gap)
        except LedgerError as error:
            log.warning("a gap could not be recorded: %s", error)

    # --- inside -------------------------------------------------------------------------------------------

    def _refuse(self, request: Request, stream: Stream, decision: Decision, quote: Quote) -> RequestHold:
        self.record_refusal(request, stream.name, decision, quote.cost_nano_usd)
        raise Refused(decision)

    def _live_terms(self, request: Request, only: str | None) -> _Terms | _Denial:
        """The first covering stream that is open now; if there is none, why the one that opens next is not."""
        streams = covering_streams(self.policy, request, only=only)
        if isinstance(streams, Decision):
            return _Denial(streams)
        now = self.clock.now()
        denials: list[_Denial] = []
        for stream in streams:
            terms = self._stream_terms(request, stream, now)
            if isinstance(terms, _Terms):
                return terms
            denials.append(_Denial(terms, stream.name))
        return min(denials, key=lambda denial: _retry_at(denial.decision))

    def _stream_terms(self, request: Request, stream: Stream, now: datetime) -> _Terms | Decision:
        """Entitlement, window, budgets and price, in this order: the first that is missing refuses."""
        if self.policy.account.live_billing(stream.dataset).kind == "none":
            return deny(
                "not_entitled",
                f"account.billing says that {stream.dataset} is not bought live (live: none); "
                "historical requests of this stream are still covered",
            )
        try:
            windows = self._windows_of(stream)
            window = windows.covering(now)
            if window is None:
                return self._window_closed(stream, windows, now)
            limits = self._limits(stream, "live", stream.schema, now)
        except CalendarUnknown as error:
            return deny("calendar_unknown", str(error))
        if not limits:
            return no_budget(stream, "live", stream.schema)
        price = self._prices.price(stream.dataset, stream.schema, "live")
        if price is None:
            return price_unknown(request)
        return _Terms(now, stream, window, price, limits)

    def _window_closed(self, stream: Stream, windows: Windows, now: datetime) -> Decision:
        opens = windows.next_open(now)
        when = "no opening is known" if opens is None else f"it opens next at {instant_text(opens)}"
        return deny(
            "window_closed", f"stream {stream.name} is outside its windows; {when}", retry_at_utc=opens
        )

    def _windows_of(self, stream: Stream) -> Windows:
        with self._windows_lock:
            if stream.name not in self._windows:
                self._windows[stream.name] = self._make_windows(stream)
            return self._windows[stream.name]

    def _limits(self, stream: Stream, mode: Mode, schema: str, at: datetime) -> tuple[BudgetLimit, ...]:
        kind = (stream.name, mode, schema)
        known = self._limits_in_period.get(kind)
        if known is None:
            budgets = self.policy.budgets_for(
                stream=stream.name, dataset=stream.dataset, schema=schema, mode=mode
            )
            known = LimitsInPeriod(
                self.policy.account.name,
                budgets,
                lambda when: self._windows_of(stream).session_interval(when),
            )
            self._limits_in_period[kind] = known
        return known.at(at)

    def _approved(self, limits: tuple[BudgetLimit, ...]) -> tuple[BudgetLimit, ...]:
        """The limits with what people have approved now.

        Raises LedgerError: without its approvals a connection would be cut at limits that were raised for it.
        """
        if not limits:
            return limits
        at = self.clock.now()
        return with_approvals(limits, self.ledger.approvals(self.policy.account.name, at), at)

    def _request_terms(
        self, hold_id: str, request: Request, stream: Stream, quote: Quote, meter: Meter, now: datetime
    ) -> HoldTerms:
        return HoldTerms(
            id=hold_id,
            account=self.policy.account.name,
            stream=stream.name,
            dataset=request.dataset,
            schema=request.schema,
            mode="historical",
            connection_id=hold_id,
            month=month_of(now),
            unit_price_usd=quote.settle_price_usd,
            price_source=quote.settle_price_source,
            # Nothing says how far a compressed answer had come when its reader died: count all of it.
            residual_bytes_max=quote.size_bytes,
            host=self._host,
            meter=meter.path.name,
            opened_utc=now,
            request=range_json(request, quote),
        )

    def _hold_terms(
        self,
        hold_id: str,
        request: Request,
        terms: _Terms,
        connection_id: str,
        allowance_bytes: int,
        meter: Meter,
    ) -> HoldTerms:
        return HoldTerms(
            id=hold_id,
            account=self.policy.account.name,
            stream=terms.stream.name,
            dataset=terms.stream.dataset,
            schema=terms.stream.schema,
            mode="live",
            connection_id=connection_id,
            month=month_of(terms.at),
            unit_price_usd=terms.price.usd_per_gib,
            price_source=terms.price.source,
            residual_bytes_max=allowance_bytes,
            host=self._host,
            meter=meter.path.name,
            opened_utc=terms.at,
            request=request.as_json(),
        )


def _retry_at(decision: Decision) -> datetime:
    """When a denial says to try again; the far future when it does not."""
    return decision.reasons[0].retry_at_utc or FOREVER

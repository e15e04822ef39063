"""The guard: the one place where a request meets the policy, the calendar, the prices and the ledger."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from budget_guard.clock import Clock, month_of
from budget_guard.decisions import Decision, deny
from budget_guard.errors import CalendarUnknown, LedgerError, Refused
from budget_guard.guard.admission import Admission as Admission
from budget_guard.guard.admission import Member
from budget_guard.guard.aftercare import Aftercare
from budget_guard.guard.alerts import Alerts
from budget_guard.guard.connection import LiveHold
from budget_guard.guard.coverage import Coverage, Denial, JointTerms, RequestsRefused, Terms, join
from budget_guard.guard.coverage import Prices as Prices
from budget_guard.guard.coverage import Windows as Windows
from budget_guard.guard.denials import no_budget, price_unknown, unavailable
from budget_guard.guard.download import RequestHold
from budget_guard.guard.lease import FIRST_LEASE_BYTES, Usage, Wish, decide_lease
from budget_guard.guard.periods import BudgetLimit, with_approvals
from budget_guard.guard.quote import Quote, decide_quote, range_json
from budget_guard.guard.request import Request, covering_streams, joint_json, whole_stream
from budget_guard.guard.slots import Slots
from budget_guard.ledger.meter import Meter, read_size
from budget_guard.ledger.model import BalanceKey, Balances, Gap, Hold, HoldTerms, Ledger, Posting, Refusal
from budget_guard.markets.model import Interval
from budget_guard.policy.model import Edge, Policy, SessionClause, SessionKind, Stream
from budget_guard.pricing.model import DataRange, UnitPrice

log = logging.getLogger(__name__)


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
        self._coverage = Coverage(policy, clock=clock, prices=prices, windows=windows)
        self.meter_dir = meter_dir
        self.host = host
        self.may_lose_commits = may_lose_commits
        self.alerts = Alerts(policy.budgets)
        self.slots = Slots(policy, ledger, clock, meter_dir, host)
        self.aftercare = Aftercare(ledger, meter_dir, host=host, clock=clock, keep=may_lose_commits)

    # --- live ---------------------------------------------------------------------------------------------

    def decide_live(self, request: Request, *, allowance_bytes: int, only: str | None = None) -> Decision:
        """What `open_live` would say now. Changes nothing, records nothing."""
        terms = self._coverage.terms(request, only)
        if isinstance(terms, Denial):
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
        alike: Sequence[Request] = (),
        beside: Iterable[LiveHold] = (),
    ) -> Admission:
        """Hold a first lease for a connection. Raises RequestsRefused (recorded, no balance changed) with the reasons.

        `allowance_bytes` is what may still arrive between the decision to stop and the vendor's last byte.
        `continues` is the hold that the same open connection drew on until now: periods in which that hold has
        counted the connection do not count it again. `alike` are further requests whose bytes nobody can tell from
        those of the first: they are counted as one, see `join`. `beside` are the holds that the rest of the same
        connection draws on: what they count of it, itself and its hours, is not counted twice.
        """
        requests = (request, *alike)
        members, terms = self._members(requests, only)
        counted: set[BalanceKey] = set() if continues is None else set(continues.connection_keys)
        for other in beside:
            counted |= other.shared_keys
        limits = tuple(limit for limit in terms.limits if limit.key not in counted)
        try:
            hold = self._open_hold(
                requests, replace(terms, limits=limits), connection_id, allowance_bytes, continues
            )
        except Refused as refused:
            self.record_refusal(request, terms.main.stream.name, refused.decision)
            raise RequestsRefused(refused.decision, requests) from refused
        except LedgerError as error:
            self.record_refusal(request, terms.main.stream.name, unavailable(error))
            raise RequestsRefused(unavailable(error), requests) from error
        return Admission(members, hold)

    def _members(
        self, requests: Sequence[Request], only: str | None
    ) -> tuple[tuple[Member, ...], JointTerms]:
        """The streams of requests that are counted as one, and their joint terms. Raises RequestsRefused, recorded."""
        by_stream: dict[str, list[Request]] = {}
        terms: dict[str, Terms] = {}
        for request in dict.fromkeys(requests):
            found = self._coverage.terms(request, only)
            if isinstance(found, Denial):
                self.record_refusal(request, found.stream, found.decision)
                raise RequestsRefused(found.decision, [request])
            terms.setdefault(found.stream.name, found)
            by_stream.setdefault(found.stream.name, []).append(request)
        joint = join(terms.values())
        names = dict.fromkeys((joint.main.stream.name, *by_stream))
        members = tuple(
            Member(terms[name].stream, terms[name].window, tuple(by_stream[name])) for name in names
        )
        return members, joint

    def _open_hold(
        self,
        requests: Sequence[Request],
        terms: JointTerms,
        connection_id: str,
        allowance_bytes: int,
        continues: LiveHold | None,
    ) -> LiveHold:
        """The hold with its meter. Raises Refused, LedgerError."""
        hold_id = uuid.uuid4().hex
        meter = Meter.create(self.meter_dir, hold_id)
        try:
            hold = LiveHold(
                self._hold_terms(hold_id, requests, terms, connection_id, allowance_bytes, meter),
                terms.limits,
                ledger=self.ledger,
                clock=self.clock,
                meter=meter,
                allowance_bytes=allowance_bytes,
                approved=self._approved,
                may_lose_commits=self.may_lose_commits,
                alerts=self.alerts,
            )
            hold.open()
        except Refused:
            meter.close(remove=True)
            raise
        except BaseException:
            # The hold may have been written all the same: recovery settles it by this file.
            meter.close(remove=False)
            raise
        if continues is not None:
            hold.go_on_from(continues)
        return hold

    def window_state(self, stream: Stream, at: datetime) -> tuple[Interval | None, datetime | None]:
        """The window that is open at an instant, if any, and the next opening. Raises CalendarUnknown."""
        windows = self._coverage.windows_of(stream)
        return windows.covering(at), windows.next_open(at)

    def market_is_open(self, stream: Stream, at: datetime) -> bool:
        """Whether a stream's market trades at an instant, whatever the stream's windows are; False if nobody knows."""
        kinds: tuple[SessionKind, ...] = ("full", "extended", "regular")
        for kind in kinds:
            clause = SessionClause(kind, Edge("open"), Edge("close"))
            whole = replace(stream, name=f"{stream.name} ({kind} hours)", windows=(clause,))
            try:
                return self._coverage.windows_of(whole).covering(at) is not None
            except CalendarUnknown:
                continue
        return False

    def live_limits(self, stream: Stream, at: datetime) -> tuple[BudgetLimit, ...]:
        """Every limit that a live connection of a stream counts against at an instant. Raises LedgerError."""
        return self._approved(self._coverage.limits(stream, "live", stream.schema, at))

    def metered_bytes(self, hold: Hold) -> int | None:
        """What the meter of a running hold shows; None where this machine has none of it."""
        terms = hold.terms
        if terms.meter is None or terms.host != self.host:
            return None
        return read_size(self.meter_dir / terms.meter)

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
            limits = self._approved(self._coverage.limits(stream, "historical", quote.range.schema, now))
            balances = self.ledger.balances(limit.key for limit in limits)
        except (CalendarUnknown, LedgerError):
            return False
        decision, _ = decide_quote(self.policy.historical, quote, limits, balances)
        return bool(limits and decision.reasons) and all(
            reason.code == "approval_needed" for reason in decision.reasons
        )

    def open_request(
        self,
        request: Request,
        stream: Stream,
        quote: Quote,
        *,
        approved: bool = False,
        details: Mapping[str, str] | None = None,
    ) -> RequestHold:
        """Hold a quoted request's price. Raises Refused (recorded, no balance changed) with the reasons.

        `details` are kept with what is asked for: what a batch job is known by again.
        """
        now = self.clock.now()
        try:
            limits = self._approved(self._coverage.limits(stream, "historical", request.schema, now))
        except CalendarUnknown as error:
            return self._refuse(request, stream, deny("calendar_unknown", str(error)), quote)
        except LedgerError as error:
            return self._refuse(request, stream, unavailable(error), quote)
        if not limits:
            return self._refuse(request, stream, no_budget(stream, "historical", request.schema), quote)
        decisions: list[Decision] = []
        seen: list[Balances] = []

        def decide(balances: Balances) -> Posting:
            seen.append(balances)
            decision, claims = decide_quote(
                self.policy.historical, quote, limits, balances, approved=approved
            )
            decisions.append(decision)
            return Posting(claims if decision.allowed else None)

        hold_id = uuid.uuid4().hex
        try:
            meter = Meter.create(self.meter_dir, hold_id)
            terms = self._request_terms(hold_id, request, stream, quote, meter, now, details)
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
        self.alerts.look_after(limits, seen[-1])
        return RequestHold(
            terms,
            quote,
            limits,
            ledger=self.ledger,
            clock=self.clock,
            meter=meter,
            may_lose_commits=self.may_lose_commits,
            alerts=self.alerts,
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

    def _approved(self, limits: tuple[BudgetLimit, ...]) -> tuple[BudgetLimit, ...]:
        """The limits with what people have approved now.

        Raises LedgerError: without its approvals a connection would be cut at limits that were raised for it.
        """
        if not limits:
            return limits
        at = self.clock.now()
        return with_approvals(limits, self.ledger.approvals(self.policy.account.name, at), at)

    def _request_terms(
        self,
        hold_id: str,
        request: Request,
        stream: Stream,
        quote: Quote,
        meter: Meter,
        now: datetime,
        details: Mapping[str, str] | None,
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
            residual_bytes_max=quote.bytes_max,
            host=self.host,
            meter=meter.path.name,
            opened_utc=now,
            request=range_json(request, quote, details),
        )

    def _hold_terms(
        self,
        hold_id: str,
        requests: Sequence[Request],
        terms: JointTerms,
        connection_id: str,
        allowance_bytes: int,
        meter: Meter,
    ) -> HoldTerms:
        main = terms.main
        return HoldTerms(
            id=hold_id,
            account=self.policy.account.name,
            stream=main.stream.name,
            dataset=main.stream.dataset,
            schema=main.stream.schema,
            mode="live",
            connection_id=connection_id,
            month=month_of(main.at),
            unit_price_usd=main.price.usd_per_gib,
            price_source=terms.price_source,
            residual_bytes_max=allowance_bytes,
            host=self.host,
            meter=meter.path.name,
            opened_utc=main.at,
            request=joint_json(requests),
        )

"""How things stand at an instant: budgets, running connections, windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from budget_guard.clock import instant_text
from budget_guard.errors import CalendarUnknown
from budget_guard.guard.breakers import breaker_json, open_breakers
from budget_guard.guard.guard import Windows
from budget_guard.guard.periods import BudgetLimit, limit_at, with_approvals
from budget_guard.guard.slots import slot_key
from budget_guard.ledger.amounts import amount_from_count, amount_text
from budget_guard.ledger.model import Approval, Balance, BalanceKey, Breaker, Hold, Ledger, Overrun
from budget_guard.markets.model import Interval
from budget_guard.money import cost_nano_usd, decimal_text, nano_exact_text
from budget_guard.policy.model import Budget, Policy, Stream


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One limit and its balance now. `limit` None is unlimited; amounts are the ledger's integers.

    `limit` is what holds now: the policy's, and `approved` on top of it by the `approvals` that are in force.
    `overruns` are those of this period, oldest first.
    """

    key: BalanceKey
    period_end_utc: datetime
    limit: int | None
    settled: int
    held: int
    amount: Decimal | None = None  # the limit in the unit that people write
    approved: int = 0
    approvals: tuple[Approval, ...] = ()
    overruns: tuple[Overrun, ...] = ()

    @property
    def available(self) -> int | None:
        """What is left, never below zero; None for an unlimited one."""
        return None if self.limit is None else max(0, self.limit - self.settled - self.held)

    @property
    def frozen(self) -> bool:
        """Whether more is booked and held than the limit allows."""
        return self.limit is not None and self.settled + self.held > self.limit

    @property
    def frozen_since_utc(self) -> datetime | None:
        """When the first settlement on record went past the limit; None for one that nothing on record passed."""
        return self.overruns[0].at_utc if self.frozen and self.overruns else None

    def as_json(self) -> dict[str, Any]:
        unit = self.key.unit
        since = self.frozen_since_utc
        available = self.available
        return {
            "account": self.key.account,
            "name": self.key.budget,
            "period": self.key.period,
            "unit": unit,
            "limit": None if self.amount is None else decimal_text(self.amount),
            "approved": amount_text(unit, self.approved),
            "settled": amount_text(unit, self.settled),
            "held": amount_text(unit, self.held),
            "available": None if available is None else amount_text(unit, available),
            "period_start_utc": instant_text(self.key.period_start_utc),
            "period_end_utc": instant_text(self.period_end_utc),
            "frozen": self.frozen,
            "frozen_since_utc": None if since is None else instant_text(since),
            "approvals": [_approval_json(approval) for approval in self.approvals],
            "overruns": [cause_json(overrun) for overrun in self.overruns],
        }


def _approval_json(approval: Approval) -> dict[str, Any]:
    return {
        "id": approval.id,
        "amount": amount_text(approval.unit, approval.amount),
        "from_utc": instant_text(approval.from_utc),
        "until_utc": instant_text(approval.until_utc),
        "reason": approval.reason,
        "by": approval.name,
    }


def cause_json(overrun: Overrun) -> dict[str, Any]:
    """The settlement that recorded an overrun, for those who know of which limit."""
    return {
        "hold": overrun.hold_id,
        "limit": amount_text(overrun.unit, overrun.limit_amount),
        "past": amount_text(overrun.unit, overrun.past),
        "at_utc": instant_text(overrun.at_utc),
        "note": overrun.note,
    }


# A live connection restates its hold every 15 s.
SILENT_AFTER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """A hold that is open: a running connection, or a request on its way.

    `size_bytes` is what its meter shows, None where this machine cannot read it; `unproved` says why nothing
    shows whether its program still runs.
    """

    hold: Hold
    at_utc: datetime
    size_bytes: int | None = None
    unproved: str | None = None

    @property
    def settled_nano_usd(self) -> int | None:
        """What it has used so far: by its meter, else as last restated; None when neither says."""
        if self.size_bytes is not None:
            return cost_nano_usd(self.size_bytes, self.hold.terms.unit_price_usd)
        return _most(self.hold, "usd", settled=True)

    @property
    def held_nano_usd(self) -> int | None:
        """What it may still use of what it was granted."""
        settled, ahead = _most(self.hold, "usd", settled=True), _most(self.hold, "usd", settled=False)
        if settled is None or ahead is None:
            return None
        return max(0, settled + ahead - (self.settled_nano_usd or 0))

    @property
    def silent(self) -> timedelta | None:
        """For how long a live connection that only the ledger knows of has said nothing; None up to a minute."""
        heard_utc = self.hold.heard_utc
        if self.size_bytes is not None or self.hold.terms.mode != "live" or heard_utc is None:
            return None
        silence = self.at_utc - heard_utc
        return silence if silence > SILENT_AFTER else None

    @property
    def age(self) -> timedelta:
        return self.at_utc - self.hold.terms.opened_utc

    @property
    def usd_per_hour(self) -> Decimal | None:
        """Its burn rate since it was opened; None where nothing shows that it runs."""
        settled = self.settled_nano_usd
        seconds = self.age // timedelta(seconds=1)
        if settled is None or seconds <= 0 or self.unproved is not None or self.silent is not None:
            return None
        return (amount_from_count("usd", settled) * 3600 / seconds).quantize(Decimal("0.0001"))

    def as_json(self) -> dict[str, Any]:
        terms = self.hold.terms
        settled, held, rate = self.settled_nano_usd, self.held_nano_usd, self.usd_per_hour
        return {
            "hold": terms.id,
            "connection": terms.connection_id,
            "account": terms.account,
            "stream": terms.stream,
            "dataset": terms.dataset,
            "schema": terms.schema,
            "mode": terms.mode,
            "state": "unproved" if self.unproved else self.hold.state,
            "host": terms.host,
            "opened_utc": instant_text(terms.opened_utc),
            "last_heard_utc": None if self.hold.heard_utc is None else instant_text(self.hold.heard_utc),
            "size_bytes": self.size_bytes,
            "settled_usd": None if settled is None else nano_exact_text(settled),
            "held_usd": None if held is None else nano_exact_text(held),
            "usd_per_hour": None if rate is None else decimal_text(rate),
        }


@dataclass(frozen=True, slots=True)
class StreamState:
    """Whether a stream may run now. `problem` says why nobody knows; an end of None means none is known."""

    name: str
    open: bool
    next_open_utc: datetime | None
    closes_utc: datetime | None
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "open": self.open,
            "next_open_utc": None if self.next_open_utc is None else instant_text(self.next_open_utc),
            "closes_utc": None if self.closes_utc is None else instant_text(self.closes_utc),
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class SlotState:
    """The live connections to a dataset that are open at once, and how many the team may have; None for any number."""

    dataset: str
    taken: int
    most: int | None

    def as_json(self) -> dict[str, Any]:
        return {"dataset": self.dataset, "open": self.taken, "limit": self.most}


@dataclass(frozen=True, slots=True)
class Status:
    at_utc: datetime
    budgets: tuple[BudgetState, ...]
    connections: tuple[ConnectionState, ...]
    streams: tuple[StreamState, ...]
    slots: tuple[SlotState, ...] = ()
    breakers: tuple[Breaker, ...] = ()

    def exhaustion(self, budget: BudgetState) -> timedelta | None:
        """How long a USD budget lasts at the present burn rate of the connections that draw on it."""
        if budget.key.unit != "usd" or budget.available is None:
            return None
        rates = [
            connection.usd_per_hour
            for connection in self.connections
            if any(claim.key == budget.key for claim in connection.hold.claims)
        ]
        rate = sum((rate for rate in rates if rate is not None), Decimal(0))
        if rate <= 0:
            return None
        return timedelta(seconds=int(amount_from_count("usd", budget.available) * 3600 / rate))

    def as_json(self) -> dict[str, Any]:
        return {
            "at_utc": instant_text(self.at_utc),
            "budgets": [budget.as_json() for budget in self.budgets],
            "connections": [connection.as_json() for connection in self.connections],
            "streams": [stream.as_json() for stream in self.streams],
            "slots": [slot.as_json() for slot in self.slots],
            "breakers": [breaker_json(breaker) for breaker in self.breakers],
        }


def take_status(
    policy: Policy,
    ledger: Ledger,
    windows: Callable[[Stream], Windows],
    at: datetime,
    *,
    sizes: Callable[[Hold], int | None] = lambda _hold: None,
    unproved: Mapping[str, str] = MappingProxyType({}),
) -> Status:
    """A policy's budgets, connections and streams at an instant. Raises LedgerError.

    `sizes` reads a hold's meter, `unproved` gives reasons by hold id, as recovery found them.
    """
    made = {name: windows(stream) for name, stream in policy.streams.items()}
    account = policy.account.name
    written = [limit for budget in policy.budgets for limit in _limits_now(policy, budget, made, at)]
    approvals = ledger.approvals(account, at)
    limits = with_approvals(tuple(written), approvals, at)
    balances = ledger.balances(limit.key for limit in limits)
    overruns = ledger.overruns(account)
    holds = [hold for hold in ledger.open_holds(account) if not hold.is_slot]
    return Status(
        at_utc=at,
        budgets=tuple(_budget_state(limit, balances, approvals, overruns) for limit in limits),
        connections=tuple(
            ConnectionState(hold, at, sizes(hold), unproved.get(hold.terms.id)) for hold in holds
        ),
        streams=tuple(
            _stream_state(stream, made[name], at)
            for name, stream in policy.streams.items()
            if stream.mode == "live"
        ),
        slots=_slots(policy, ledger),
        breakers=tuple(open_breakers(ledger, account, at)),
    )


def _slots(policy: Policy, ledger: Ledger) -> tuple[SlotState, ...]:
    streams = policy.streams.values()
    datasets = dict.fromkeys(stream.dataset for stream in streams if stream.mode == "live")
    keys = {dataset: slot_key(policy.account.name, dataset) for dataset in datasets}
    balances = ledger.balances(keys.values())
    return tuple(
        SlotState(dataset, balances[key].held, policy.account.live_billing(dataset).connections)
        for dataset, key in keys.items()
    )


def _limits_now(
    policy: Policy, budget: Budget, windows: Mapping[str, Windows], at: datetime
) -> list[BudgetLimit]:
    """The budget's limits in their present periods; a session limit is left out where no calendar knows it."""

    def session_at(when: datetime) -> Interval:
        stream = next(stream for stream in policy.streams.values() if _could_match(budget, stream))
        return windows[stream.name].session_interval(when)

    found = []
    for limit in budget.limits:
        try:
            found.append(limit_at(policy.account.name, budget, limit, at, session_at))
        except (CalendarUnknown, StopIteration):
            continue
    return found


def _could_match(budget: Budget, stream: Stream) -> bool:
    return any(
        budget.match.covers(stream=stream.name, dataset=stream.dataset, schema=stream.schema, mode=mode)
        for mode in (stream.mode, "historical")
    )


def _budget_state(
    limit: BudgetLimit,
    balances: Mapping[BalanceKey, Balance],
    approvals: list[Approval],
    overruns: list[Overrun],
) -> BudgetState:
    balance = balances[limit.key]
    return BudgetState(
        limit.key,
        limit.period_end_utc,
        limit.limit,
        balance.settled,
        balance.held,
        limit.amount,
        limit.approved,
        tuple(approval for approval in approvals if limit.approved and _raises(approval, limit.key)),
        tuple(overrun for overrun in overruns if overrun.key == limit.key),
    )


def _raises(approval: Approval, key: BalanceKey) -> bool:
    return (approval.budget, approval.unit) == (key.budget, key.unit)


def _stream_state(stream: Stream, windows: Windows, at: datetime) -> StreamState:
    try:
        window, opens = windows.covering(at), windows.next_open(at)
    except CalendarUnknown as error:
        return StreamState(stream.name, open=False, next_open_utc=None, closes_utc=None, problem=str(error))
    # An `always` stream is covered to the end of time: no close will come.
    closes = None if window is None or window.end_utc.year >= 9999 else window.end_utc
    return StreamState(stream.name, open=window is not None, next_open_utc=opens, closes_utc=closes)


def _most(hold: Hold, unit: str, *, settled: bool) -> int | None:
    amounts = [claim.settled if settled else claim.held for claim in hold.claims if claim.key.unit == unit]
    return max(amounts, default=None)

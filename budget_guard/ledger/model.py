"""The ledger's values and its interface. Every amount is an integer: nano-USD, bytes, milliseconds or a count.

One hold stands for one connection (or one historical request) in one set of periods. Its share of each balance
it touches is a `Claim`: what it has settled so far, and what it holds ahead. A balance is the sum of its claims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol

# A hold of this mode stands for a live connection that is open, and claims one of this unit. No money is spent from it.
SLOT_MODE = "slot"
SLOT_UNIT = "slots"

HoldState = Literal["held", "active", "settled", "released"]
Ending = Literal["exact", "residual", "released", "recovered", "resolved", "quoted"]


class _Hashed:
    """Room for a hash beside a value's fields."""

    __slots__ = ("_hash",)
    _hash: int


@dataclass(frozen=True, slots=True, order=True)
class BalanceKey(_Hashed):
    """Which balance: `unit` says what its integers count (usd: nano-USD, gib: bytes, hours: ms, others: 1)."""

    account: str
    budget: str
    period: str
    period_start_utc: datetime
    unit: str

    def __hash__(self) -> int:
        # Worked out once: a renewal looks the same few keys up dozens of times.
        try:
            return self._hash
        except AttributeError:
            found = hash((self.account, self.budget, self.period, self.period_start_utc, self.unit))
            object.__setattr__(self, "_hash", found)
            return found


@dataclass(frozen=True, slots=True)
class Balance:
    """What is spent, what is held ahead, and by how many open holds (which is no part of the amount)."""

    settled: int = 0
    held: int = 0
    holders: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """One hold's share of one balance."""

    key: BalanceKey
    settled: int
    held: int


@dataclass(frozen=True, slots=True)
class HoldTerms:
    """What a hold is for; fixed when it is opened. `id` is made by the caller, so that a retry is a no-op."""

    id: str
    account: str
    stream: str | None
    dataset: str
    schema: str
    mode: str
    connection_id: str  # the same for every hold of one connection
    month: str  # the billing month, YYYY-MM
    unit_price_usd: Decimal  # per GiB
    price_source: str
    residual_bytes_max: (
        int  # the most that an unclean ending leaves uncounted; historical: the whole quoted size
    )
    host: str
    meter: str | None  # the meter file's name; None when nothing is counted
    opened_utc: datetime
    request: str = "{}"  # what the client asked for, as JSON


@dataclass(frozen=True, slots=True)
class Hold:
    terms: HoldTerms
    state: HoldState
    version: int  # of the last restatement
    claims: tuple[Claim, ...]
    heard_utc: datetime | None = field(
        default=None, compare=False
    )  # its owner's last word, where that was looked up

    @property
    def is_slot(self) -> bool:
        """Whether it stands for a connection itself, and not for what comes over it."""
        return self.terms.mode == SLOT_MODE


@dataclass(frozen=True, slots=True)
class Entry:
    """An immutable row: what one connection or request used of one schema at one price in one month."""

    id: str
    hold_id: str
    account: str
    stream: str | None
    dataset: str
    schema: str
    mode: str
    month: str
    started_utc: datetime
    ended_utc: datetime
    size_bytes: int  # counted, control_bytes included
    control_bytes: int
    unit_price_usd: Decimal
    price_source: str
    cost_nano_usd: int  # of size_bytes
    residual_bytes: int  # what may have been billed without being seen: assumed
    residual_nano_usd: int
    ending: Ending
    note: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was refused: it changed no balance. `asked_nano_usd` is its price where that was known."""

    id: str
    at_utc: datetime
    account: str
    stream: str | None
    dataset: str
    schema: str
    mode: str
    code: str
    decision: str  # the decision, as JSON
    asked_nano_usd: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Data that a stream missed: `[start_utc, end_utc)`. `mended` says how, or is empty while it is open."""

    id: str
    account: str
    stream: str
    dataset: str
    schema: str
    start_utc: datetime
    end_utc: datetime
    mended: str
    note: str


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person added to every limit of a budget in one unit, for `[from_utc, until_utc)`. Immutable."""

    id: str
    account: str
    budget: str
    unit: str
    amount: int
    from_utc: datetime
    until_utc: datetime
    reason: str
    name: str


@dataclass(frozen=True, slots=True)
class Overrun:
    """A settlement that took a balance past its limit: by how much, and which hold did it. Immutable."""

    id: str
    hold_id: str
    account: str
    budget: str
    period: str
    period_start_utc: datetime
    unit: str
    limit_amount: int
    past: int
    at_utc: datetime
    note: str

    @property
    def key(self) -> BalanceKey:
        """The balance that went past its limit."""
        return BalanceKey(self.account, self.budget, self.period, self.period_start_utc, self.unit)


@dataclass(frozen=True, slots=True)
class Breaker:
    """A permanent refusal by the vendor that every program of the account believes until `until_utc`.

    `key_id` tells keys apart without showing them: another key may have the licence that one lacks.
    """

    id: str
    account: str
    dataset: str
    mode: str
    key_id: str
    code: str
    message: str
    opened_utc: datetime
    until_utc: datetime


@dataclass(frozen=True, slots=True)
class Purchase:
    """History that was bought, or is being bought: what one historical request covers. Its `id` is its hold's.

    `form` is the request in one canonical form, so that the same request is known again; `symbols` a JSON list.
    `kind` is `stream` or `batch`; `state` is `asked` (nobody knows yet whether it was sold), `bought`, or `lost` (it
    broke off: what flowed was paid for, but nobody has it whole).
    """

    id: str
    account: str
    stream: str
    dataset: str
    schema: str
    stype_in: str
    symbols: str
    start_utc: datetime
    end_utc: datetime
    form: str
    kind: str
    job_id: str
    state: str
    size_bytes: int
    cost_nano_usd: int
    asked_utc: datetime


@dataclass(frozen=True, slots=True)
class Posting:
    """What a pure function decided to write: the hold's new claims, or None to write nothing at all.

    A claim of an earlier version that is missing from the new ones keeps what it has settled and holds nothing.
    """

    claims: tuple[Claim, ...] | None


Balances = Mapping[BalanceKey, Balance]
Decide = Callable[[Balances], Posting]
Overruns = Callable[[Balances], "Sequence[Overrun]"]


class Ledger(Protocol):
    """Where money is held before it can be spent. Every method is one transaction; a repeated id is a no-op.

    What a claim has settled never shrinks: a lower total is a LedgerError. Nothing else bounds it: an overrun is
    recorded in full.

    Errors: LedgerError when the store cannot be reached or is not a ledger of this version; Fenced for a write
    against a hold that is already settled or released; UnknownHold for one that the ledger has never seen, or has
    lost with its last commits. What `decide` raises passes through, and nothing is written. `decide` may be called
    again when a connection to the store breaks: it must be pure. `at_utc` is when a state changed, for the record;
    nothing depends on it.
    """

    @property
    def identity(self) -> str:
        """The id that this ledger was made with: two ledgers never share one."""

    def open_hold(self, terms: HoldTerms, keys: Sequence[BalanceKey], decide: Decide) -> Hold | None:
        """Read the balances, let `decide` choose the claims, write both together. None when it chose none.

        A hold that is already there is returned as it stands and `decide` is not called. All balances are locked
        in one order, whatever the order of `keys`. Claims on other balances than `keys` are a ValueError.
        """

    def activate(self, hold_id: str, at_utc: datetime | None = None) -> None:
        """held -> active: must commit before anything that can be billed is asked of the vendor."""

    def restate(
        self,
        hold_id: str,
        version: int,
        keys: Sequence[BalanceKey],
        decide: Decide,
        at_utc: datetime | None = None,
    ) -> Hold:
        """Replace an active hold's claims by newer totals; `decide` sees balances without this hold's own `held`.

        A version at or below the stored one changes nothing.
        """

    def settle(
        self,
        hold_id: str,
        settled: Mapping[BalanceKey, int],
        entries: Sequence[Entry],
        overruns: Overruns | None = None,
        at_utc: datetime | None = None,
    ) -> None:
        """-> settled: nothing stays held, the claims take their final totals, the entries are written.

        A claim without a total keeps what it has settled. On a settled hold this does nothing. `overruns` sees the
        balances as they are after that, and says what went past a limit; it is written with them.
        """

    def release(self, hold_id: str, at_utc: datetime | None = None) -> None:
        """held -> released: only when nothing was ever sent. LedgerError for a hold that is active."""

    def balances(self, keys: Iterable[BalanceKey]) -> dict[BalanceKey, Balance]:
        """The balances as they stand; a balance never touched is zero."""

    def account_balances(
        self, account: str, start_utc: datetime, end_utc: datetime
    ) -> dict[BalanceKey, Balance]:
        """Every balance of an account that was ever touched and whose period starts in `[start_utc, end_utc)`."""

    def open_holds(self, account: str | None = None) -> list[Hold]:
        """Holds in state held or active, oldest first."""

    def hold(self, hold_id: str) -> Hold | None: ...

    def entries(self, account: str, month: str) -> list[Entry]:
        """A billing month's entries, in the order in which they ended."""

    def record_refusal(self, refusal: Refusal) -> None: ...

    def refusals(self, account: str, month: str) -> list[Refusal]:
        """The refusals of a UTC month, oldest first."""

    def record_gap(self, gap: Gap) -> None:
        """Insert the gap, or replace `mended` and `note` of the one with the same id."""

    def gaps(self, account: str, month: str | None = None) -> list[Gap]:
        """The gaps that began in a UTC month, or all there are, oldest first."""

    def record_approval(self, approval: Approval) -> None: ...

    def approvals(self, account: str, at_utc: datetime | None = None) -> list[Approval]:
        """All approvals of an account, or those in force at an instant; in the order in which they were made."""

    def overruns(self, account: str, month: str | None = None) -> list[Overrun]:
        """All overruns of an account, or those recorded in a UTC month; oldest first."""

    def record_breaker(self, breaker: Breaker) -> None:
        """Insert it, or replace what was said and until when of the one with the same id."""

    def breakers(self, account: str, at_utc: datetime) -> list[Breaker]:
        """The breakers of an account that are open at an instant."""

    def record_purchase(self, purchase: Purchase) -> None:
        """Insert it, or replace job, state, size and cost of the one with the same id."""

    def purchases(
        self,
        account: str,
        dataset: str | None = None,
        *,
        form: str | None = None,
        within: tuple[str, datetime, datetime] | None = None,
    ) -> list[Purchase]:
        """What an account has bought of the past, in the order in which it was asked for.

        `form`: only the same request; `within`: only what overlaps with a schema's `[start, end)`.
        """

    def mark_rehearsal(self) -> None:
        """Mark the ledger as a rehearsal's. LedgerError when it holds real spending."""

    def is_rehearsal(self) -> bool:
        """Whether what it holds was never real spending."""

    def close(self) -> None: ...

"""Whether a ledger agrees with itself: every figure that follows from others is worked out again.

Holds, claims and entries are read side by side in the order of the holds, so the memory that is needed grows with
the number of balances, not with what was booked on them. Everything is read in one snapshot: a ledger in use is
seen as it stood at one instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cache, lru_cache
from itertools import groupby
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, String, Table, Text, func, select, type_coerce

from budget_guard.clock import EPOCH, instant_text, month_of
from budget_guard.ledger import schema
from budget_guard.ledger.schema import MICROSECOND, protected_tables
from budget_guard.ledger.store import SqlLedger
from budget_guard.money import cost_nano_usd, nano_exact_text

# How many findings are kept; the rest are counted.
MOST = 1000
BATCH = 5000
_DAY_US = 86_400_000_000
_OPEN = ("held", "active")
_UNIT_NAMES = {"usd": "USD", "gib": "bytes", "hours": "ms", "connections": "connections"}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not agree: which row, what it should say, what it says, and why that matters."""

    kind: str
    row: str
    expected: str
    found: str
    why: str

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "row": self.row,
            "expected": self.expected,
            "found": self.found,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Audit:
    """What was read and what was found in it; `more` counts findings beyond those that were kept."""

    place: str
    identity: str
    rows: dict[str, int]
    findings: tuple[Finding, ...]
    more: int = 0

    @property
    def sound(self) -> bool:
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        return {
            "ledger": self.place,
            "id": self.identity,
            "sound": self.sound,
            "rows": self.rows,
            "findings": [finding.as_json() for finding in self.findings],
            "more": self.more,
        }


def audit(ledger: SqlLedger, most: int = MOST) -> Audit:
    """Work every balance, claim and cost out again and compare. Raises LedgerError when it cannot be read."""
    with ledger.snapshot() as tx:
        return audit_rows(tx, ledger.place, most)


def audit_rows(tx: Connection, place: str, most: int = MOST) -> Audit:
    """The same inside a transaction of the caller's."""
    rows = {table.name: _count(tx, table) for table in schema.metadata.sorted_tables if table.name != "meta"}
    kept: list[Finding] = []
    more = 0
    for finding in _findings(tx, rows):
        if len(kept) < most:
            kept.append(finding)
        else:
            more += 1
    identity = tx.execute(select(schema.meta.c.value).where(schema.meta.c.name == "id")).scalar()
    return Audit(place, str(identity or ""), rows, tuple(kept), more)


@dataclass(frozen=True, slots=True)
class _Balance:
    """A balance's row, and what the claims on it come to."""

    seq: int
    account: str
    budget: str
    period: str
    start_us: int
    unit: str
    settled: int
    held: int
    holders: int
    sums: list[int] = field(default_factory=lambda: [0, 0, 0])

    @property
    def name(self) -> str:
        since = "" if self.period == "total" else f" from {_instant_text(self.start_us)}"
        return f"balance {self.budget} {self.period} {self.unit} of {self.account}{since}"

    def amount(self, count: int) -> str:
        if self.unit == "usd":
            return _usd_text(count)
        return f"{count} {_UNIT_NAMES.get(self.unit, self.unit)}"


@dataclass(frozen=True, slots=True)
class _Hold:
    seq: int
    id: str
    account: str
    month: str
    state: str
    connection_id: str
    opened_us: int


@dataclass(frozen=True, slots=True)
class _Entry:
    id: str
    account: str
    month: str
    started_us: int
    ended_us: int
    size_bytes: int
    control_bytes: int
    price: str
    cost: int
    residual_bytes: int
    residual: int
    ending: str


# A claim as (hold, balance, settled, held): there are millions of them.
_Claim = tuple[int, int, int, int]


def _findings(tx: Connection, rows: dict[str, int]) -> Iterator[Finding]:
    yield from _about_itself(tx)
    balances = {row.seq: row for row in _balances(tx)}
    joined = 0
    claims = _ByHold(_stream(tx, _CLAIMS))
    for _, group in groupby(_stream(tx, _HOLDS), key=lambda row: row[0]):
        together = list(group)
        hold = _Hold(*together[0][:7])
        entries = [_Entry(*row[7:]) for row in together if row[7] is not None]
        joined += len(entries)
        yield from _strays(claims.before(hold.seq))
        own = claims.of(hold.seq)
        yield from _check_hold(tx, hold, own, entries)
        for entry in entries:
            yield from _check_entry(hold, entry)
        yield from _check_claims(hold, own, entries, balances)
    yield from _strays(claims.before(None))
    for balance in balances.values():
        yield from _check_balance(balance)
    if joined != rows["entries"]:
        why = "it is in exports and reviews, but in no balance"
        yield from _without_holds(tx, schema.entries, "entry", why)
    yield from _without_holds(tx, schema.overruns, "overrun", "nobody can say what went past the limit")


def _about_itself(tx: Connection) -> Iterator[Finding]:
    known = {row.name: row.value for row in tx.execute(select(schema.meta))}
    if not known.get("id"):
        yield Finding(
            "meta",
            "the ledger's id",
            "one",
            "none",
            "a ledger that was replaced could not be told from this one",
        )
    guarded = protected_tables(tx)
    for table in schema.IMMUTABLE:
        if table not in guarded:
            yield Finding(
                "protection",
                f"table {table}",
                "triggers that refuse changes",
                "none",
                "its rows may have been changed or deleted by hand",
            )


def _check_hold(
    tx: Connection, hold: _Hold, claims: list[_Claim], entries: list[_Entry]
) -> Iterator[Finding]:
    name = f"hold {hold.id}"
    if hold.state not in (*_OPEN, "settled", "released"):
        yield Finding(
            "hold_state",
            name,
            "held, active, settled or released",
            hold.state,
            "nobody can say if it still counts",
        )
    opened = _month_at(hold.opened_us)
    if hold.month != opened:
        why = "it is booked in another billing month than the vendor's"
        yield Finding("hold_month", name, opened, hold.month, why)
    if entries and hold.state != "settled":
        why = "what has an entry is over, yet the hold is not settled: it may be counted twice"
        yield Finding(f"{hold.state}_hold_with_entry", name, "no entry", f"{len(entries)}", why)
    if hold.state == "settled" and not entries:
        why = "what it used is in no entry, so exports and reviews miss it"
        yield Finding("hold_without_entry", name, "an entry", "none", why)
    if not claims and not _continues(tx, hold):
        why = "it counts against no budget, so nothing limits it"
        yield Finding("hold_without_claims", name, "a claim on every budget that matches", "none", why)


def _check_entry(hold: _Hold, entry: _Entry) -> Iterator[Finding]:
    name = f"entry {entry.id}"
    yield from _check_costs(name, entry)
    if entry.control_bytes > entry.size_bytes:
        why = "control bytes are a part of all bytes"
        found = f"{entry.control_bytes} bytes"
        yield Finding("entry_size", name, f"at most {entry.size_bytes} bytes", found, why)
    if entry.account != hold.account:
        why = "it shows in another account's exports and reviews than the balances it counts in"
        yield Finding("entry_account", name, hold.account, entry.account, why)
    if entry.month != hold.month:
        why = "it shows in another month's review than the one it was held in"
        yield Finding("entry_month", name, hold.month, entry.month, why)
    if entry.ended_us < entry.started_us:
        expected = f"an end after {_instant_text(entry.started_us)}"
        yield Finding(
            "entry_times", name, expected, _instant_text(entry.ended_us), "it ends before it starts"
        )


def _check_costs(name: str, entry: _Entry) -> Iterator[Finding]:
    price = _price(entry.price)
    if price is None:
        why = "nobody can say what its bytes cost"
        yield Finding("entry_price", name, "a price in USD per GiB", entry.price, why)
        return
    cost = cost_nano_usd(entry.size_bytes, price)
    if entry.cost != cost:
        yield _money("entry_cost", name, cost, entry.cost, "its cost is not its bytes times its price")
    residual = cost_nano_usd(entry.size_bytes + entry.residual_bytes, price) - cost
    # A decision counts what was held, whatever the bytes would cost.
    if entry.residual != residual and entry.ending != "resolved":
        why = "what it assumes is not its residual bytes times its price"
        yield _money("entry_residual", name, residual, entry.residual, why)


def _check_claims(
    hold: _Hold, claims: list[_Claim], entries: list[_Entry], balances: dict[int, _Balance]
) -> Iterator[Finding]:
    """Each claim against the hold's state and entries; and its share is added to its balance's."""
    booked = {
        "usd": sum(entry.cost + entry.residual for entry in entries),
        "gib": sum(entry.size_bytes + entry.residual_bytes for entry in entries),
    }
    decided = any(entry.ending == "resolved" for entry in entries)
    for _, balance_seq, settled, held in claims:
        balance = balances.get(balance_seq)
        if balance is None:
            why = "what it claims counts against no limit"
            yield Finding("claim_without_balance", f"a claim of hold {hold.id}", "a balance", "none", why)
            continue
        _add(balance, settled, held, is_open=hold.state in _OPEN)
        name = f"claim of hold {hold.id} on {balance.name}"
        if balance.account != hold.account:
            why = "another account's limit is charged"
            yield Finding("claim_account", name, hold.account, balance.account, why)
        if balance.period == "month" and _month_at(balance.start_us) != hold.month:
            why = "another month's limit is charged"
            yield Finding("claim_month", name, hold.month, _month_at(balance.start_us), why)
        if held and hold.state not in _OPEN:
            why = f"the hold is {hold.state}: what it holds is kept from everybody for good"
            yield Finding("claim_held", name, balance.amount(0), balance.amount(held), why)
        if hold.state == "released" and settled:
            why = "nothing was ever sent for it, yet something counts as spent"
            yield Finding("claim_settled", name, balance.amount(0), balance.amount(settled), why)
        expected = booked.get(balance.unit)
        if hold.state != "settled" or not entries or expected is None:
            continue
        # A decision in full counts on each budget what was held there, the entry the most of them.
        if settled != expected and not (decided and settled < expected):
            why = "the budget counts something else than the entries say was used"
            yield Finding("claim_settled", name, balance.amount(expected), balance.amount(settled), why)


def _check_balance(balance: _Balance) -> Iterator[Finding]:
    settled, held, holders = balance.sums
    if balance.settled != settled:
        why = "too much is refused" if balance.settled > settled else "more can be spent than the limit says"
        yield Finding(
            "balance_settled", balance.name, balance.amount(settled), balance.amount(balance.settled), why
        )
    if balance.held != held:
        why = "money is kept from use" if balance.held > held else "money that is held can be spent twice"
        yield Finding("balance_held", balance.name, balance.amount(held), balance.amount(balance.held), why)
    if balance.holders != holders:
        why = "what is left near a limit is shared among the wrong number of connections"
        yield Finding("balance_holders", balance.name, f"{holders} holds", f"{balance.holders}", why)


def _add(balance: _Balance, settled: int, held: int, *, is_open: bool) -> None:
    sums = balance.sums
    sums[0] += settled
    sums[1] += held
    sums[2] += is_open


def _strays(claims: Iterable[_Claim]) -> Iterator[Finding]:
    for hold_seq, balance_seq, _, _ in claims:
        row = f"a claim of hold number {hold_seq} on balance number {balance_seq}"
        yield Finding("claim_without_hold", row, "a hold", "none", "nobody can say what it is for, or end it")


def _continues(tx: Connection, hold: _Hold) -> bool:
    """Whether an earlier hold of its connection has claims: a limit in connections counts a connection once."""
    table = schema.holds
    query = (
        select(table.c.seq)
        .join(schema.claims, schema.claims.c.hold_seq == table.c.seq)
        .where(table.c.connection_id == hold.connection_id, table.c.seq < hold.seq)
    )
    return tx.execute(query.limit(1)).first() is not None


def _without_holds(tx: Connection, table: Table, kind: str, why: str) -> Iterator[Finding]:
    """Rows of a table whose hold the ledger does not have."""
    holds = schema.holds
    query = (
        select(table.c.id, table.c.hold_id)
        .join(holds, holds.c.id == table.c.hold_id, isouter=True)
        .where(holds.c.seq.is_(None))
        .order_by(table.c.seq)
    )
    for row in _stream(tx, query):
        yield Finding(f"{kind}_without_hold", f"{kind} {row.id}", f"hold {row.hold_id}", "none", why)


class _ByHold:
    """Claims in the order of their holds, handed out hold by hold."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def before(self, hold_seq: int | None) -> Iterator[_Claim]:
        """The claims up to a hold, without it; all that are left for None."""
        while self._next is not None and (hold_seq is None or self._next[0] < hold_seq):
            yield self._take()

    def of(self, hold_seq: int) -> list[_Claim]:
        found = []
        while self._next is not None and self._next[0] == hold_seq:
            found.append(self._take())
        return found

    def _take(self) -> _Claim:
        taken = self._next
        assert taken is not None
        self._next = next(self._rows, None)
        return (taken[0], taken[1], taken[2], taken[3])


def _raw(column: Any) -> Any:
    """An instant as its integer: making a date of each of millions takes longer than reading them."""
    return type_coerce(column, BigInteger)


_CLAIMS = select(
    schema.claims.c.hold_seq, schema.claims.c.balance_seq, schema.claims.c.settled, schema.claims.c.held
).order_by(schema.claims.c.hold_seq, schema.claims.c.balance_seq)
_HOLDS = (
    select(
        schema.holds.c.seq,
        schema.holds.c.id,
        schema.holds.c.account,
        schema.holds.c.month,
        type_coerce(schema.holds.c.state, Text),
        schema.holds.c.connection_id,
        _raw(schema.holds.c.opened_utc),
        schema.entries.c.id.label("entry_id"),
        schema.entries.c.account.label("entry_account"),
        schema.entries.c.month.label("entry_month"),
        _raw(schema.entries.c.started_utc),
        _raw(schema.entries.c.ended_utc),
        schema.entries.c.size_bytes,
        schema.entries.c.control_bytes,
        type_coerce(schema.entries.c.unit_price_usd, String),
        schema.entries.c.cost_nano_usd,
        schema.entries.c.residual_bytes,
        schema.entries.c.residual_nano_usd,
        schema.entries.c.ending,
    )
    .join(schema.entries, schema.entries.c.hold_id == schema.holds.c.id, isouter=True)
    .order_by(schema.holds.c.seq, schema.entries.c.seq)
)


def _balances(tx: Connection) -> Iterator[_Balance]:
    table = schema.balances
    query = select(
        table.c.seq, table.c.account, table.c.budget, table.c.period, _raw(table.c.period_start_utc),
        table.c.unit, table.c.settled, table.c.held, table.c.holders,
    ).order_by(table.c.seq)  # fmt: skip
    return (_Balance(*row) for row in _stream(tx, query))


def _stream(tx: Connection, query: Select[Any]) -> Iterator[Any]:
    return iter(tx.execute(query, execution_options={"yield_per": BATCH}))


def _count(tx: Connection, table: Any) -> int:
    return int(tx.execute(select(func.count()).select_from(table)).scalar_one())


def _money(kind: str, row: str, expected: int, found: int, why: str) -> Finding:
    return Finding(kind, row, _usd_text(expected), _usd_text(found), why)


def _usd_text(nano_usd: int) -> str:
    return f"{nano_exact_text(nano_usd)} USD"


@lru_cache(maxsize=1024)
def _price(text: str) -> Decimal | None:
    try:
        price = Decimal(text)
    except InvalidOperation:
        return None
    return price if price.is_finite() and price >= 0 else None


def _month_at(microseconds: int) -> str:
    return _month_of_day(microseconds // _DAY_US)


@cache
def _month_of_day(day: int) -> str:
    return month_of(EPOCH + day * _DAY_US * MICROSECOND)


def _instant_text(microseconds: int) -> str:
    return instant_text(EPOCH + microseconds * MICROSECOND)

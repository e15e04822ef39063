"""The auditor: knows what the vendor billed, reads what the ledger says, and lets nothing pass that does not agree.

It uses dicts, integers and Decimals; none of the guard's or the ledger's arithmetic.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.simulation import calendar
from tests.simulation.books import Books, HoldRow, Key, look, rows_of
from tests.simulation.schedule import Setting

# A price times this is whole, so that bills are compared as integers.
_PRICE_SCALE = 10**12
_GIB = 2**30


class Breach(Exception):
    """A promise that was not kept."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who has just written. `kind` is owner, recovery, person or late.

    `boot` is the run of its machine in which the write was sent, whenever it arrived: that is what it knew.
    """

    kind: str
    name: str
    policy: str
    host: str
    boot: int
    wall: datetime


@dataclass(slots=True)
class Truth:
    """What really became of a hold."""

    owner: str
    policy: str
    boot: int
    expected: set[Key]
    price: Decimal
    taken: bool = False  # its owner holds it in its hands
    connected: bool = False  # the vendor was asked
    sent_bytes: int = 0  # billed
    read_bytes: int = 0
    lived_ms: int = 0
    final_ms: int | None = None  # how long it was in use, once its owner has seen its end
    quote_bytes: int | None = None
    dear: bool = False  # settled at the vendor's quote, above the list
    ceilings: dict[Key, int] = field(default_factory=dict)
    owed: dict[Key, int] = field(default_factory=dict)

    @property
    def bill_scaled(self) -> int:
        """Nano-dollars, times 2**30 and the scale of prices."""
        return self.sent_bytes * int(self.price * _PRICE_SCALE) * 10**9


class Auditor:
    """Told by the world what happens; asks the ledger's file what is written."""

    def __init__(self, path: Path, setting: Setting, *, lossy: bool = False) -> None:
        """A lossy ledger is behind until its owners and recovery have written again: it is judged at the end."""
        self._lossy = lossy
        self._reader = sqlite3.connect(path, isolation_level=None)
        self._setting = setting
        self._books = Books({}, {})
        self.truths: dict[str, Truth] = {}
        self._fixed: dict[str, dict[str, dict[str, Any]]] = {"entries": {}, "overruns": {}, "approvals": {}}
        self._approvals: dict[str, dict[str, Any]] = {}
        self._counted: dict[tuple[Key, str], str] = {}  # the hold that counted a connection in a period
        self.checks = 0

    def close(self) -> None:
        self._reader.close()

    # --- what the world tells ----------------------------------------------------------------------------

    def approved(self, row_id: str, **row: Any) -> None:
        self._approvals[row_id] = row

    def taken(
        self, hold_id: str, *, price: Decimal, quote_bytes: int | None = None, dear: bool = False
    ) -> None:
        truth = self.truths[hold_id]
        truth.taken, truth.price, truth.quote_bytes, truth.dear = True, price, quote_bytes, dear

    def left(self, hold_id: str) -> None:
        """Its owner has died, or has left it to recovery."""
        if hold_id in self.truths:
            self.truths[hold_id].taken = False

    def connected(self, hold_id: str) -> None:
        if not self._lossy and self._books.holds[hold_id].state != "active":
            raise Breach(f"the vendor was asked for {hold_id} before the ledger knew that it is active")
        self.truths[hold_id].connected = True

    def sent(self, hold_id: str, size_bytes: int) -> None:
        self.truths[hold_id].sent_bytes += size_bytes

    def read(self, hold_id: str, size_bytes: int) -> None:
        self.truths[hold_id].read_bytes += size_bytes

    def lived(self, hold_id: str, elapsed_ms: int) -> None:
        """How long a hold has been in use, as far as its owner had been granted: its end may still be unseen."""
        truth = self.truths[hold_id]
        row = self._books.holds.get(hold_id)
        claims = row.claims.items() if row is not None else ()
        granted = min((sum(claim) for key, claim in claims if key[3] == "hours"), default=0)
        if elapsed_ms <= granted:
            truth.lived_ms = max(truth.lived_ms, elapsed_ms)

    def finishing(self, hold_id: str, elapsed_ms: int) -> None:
        """Its owner knows that it is over, and when."""
        self.truths[hold_id].final_ms = elapsed_ms

    def vendors_record(self, hold_id: str) -> int:
        """What the vendor sent, for a person whom the ledger asks for it: only where nothing bounds what is free."""
        truth = self.truths[hold_id]
        if truth.price and not self._lossy:
            raise Breach(f"hold {hold_id} costs money, and is not decided in full")
        return truth.sent_bytes

    def counts_at(self, hold_id: str, wall: datetime) -> None:
        """A running connection is about to be read at its host's time: none of its periods may be over."""
        for budget, period, start, unit in self.truths[hold_id].expected:
            zone = self._setting.budgets[budget].timezone
            if calendar.micros(calendar.period_start(period, zone, wall)) > start:
                raise Breach(
                    f"hold {hold_id} still runs at {wall}: its {period} of {budget} ({unit}) is over"
                )

    @property
    def hold_count(self) -> int:
        return len(self._books.holds)

    def holders_of(self, state: str) -> list[str]:
        return [hold.id for hold in self._books.holds.values() if hold.state == state]

    # --- after every write -------------------------------------------------------------------------------

    def observe(self, actor: Actor) -> None:
        """Compare the ledger with what it was before this actor's write."""
        self.checks += 1
        before, after = self._books, look(self._reader)
        if self._lossy:
            self._observe_lossy(after, actor)
            return
        for row in after.holds.values():
            if row.id not in before.holds:
                self._check_new(row, actor)
            elif row != before.holds[row.id]:
                self._check_move(before.holds[row.id], row, actor)
        if gone := before.holds.keys() - after.holds.keys():
            raise Breach(f"holds have vanished: {sorted(gone)}")
        self._books = after
        self._check_sums(after)
        self._check_fixed(before, after)
        self._check_limits(before, after, actor)
        self.check_bills()

    def _observe_lossy(self, after: Books, actor: Actor) -> None:
        for row in after.holds.values():
            if row.id not in self.truths:
                expected = set(row.claims)
                self.truths[row.id] = Truth(actor.name, actor.policy, actor.boot, expected, row.price)
        self._books = after
        self._check_sums(after)

    def look_again(self) -> None:
        """The store has gone back."""
        self._books = look(self._reader)

    def _check_sums(self, books: Books) -> None:
        sums: dict[Key, list[int]] = defaultdict(lambda: [0, 0, 0])
        for hold in books.holds.values():
            for key, (settled, held) in hold.claims.items():
                total = sums[key]
                total[0] += settled
                total[1] += held
                total[2] += hold.open
        for key, balance in books.balances.items():
            if tuple(sums[key]) != balance:
                raise Breach(f"the balance {key} is {balance}, its claims make {tuple(sums[key])}")
        if sums.keys() - books.balances.keys():
            raise Breach("claims without a balance")

    def _check_new(self, row: HoldRow, actor: Actor) -> None:
        if actor.kind not in ("owner", "late") or row.state != "held":
            raise Breach(f"{actor.kind} made a hold {row.id} in state {row.state}")
        if actor.kind == "owner" and row.opened_us != calendar.micros(actor.wall):
            raise Breach(f"hold {row.id} was not opened at its host's time")
        opened = calendar.instant(row.opened_us)
        expected = calendar.keys_at(self._setting, actor.policy, row.stream, row.mode, opened)
        expected -= {key for key in expected if self._is_counted(key, row)}
        if row.claims.keys() != expected:
            raise Breach(f"hold {row.id} claims {_names(row.claims)} instead of {_names(expected)}")
        if any(settled for settled, _ in row.claims.values()):
            raise Breach(f"hold {row.id} has settled something before it began")
        self.truths[row.id] = Truth(actor.name, actor.policy, actor.boot, expected, row.price)

    def _is_counted(self, key: Key, row: HoldRow) -> bool:
        """A connection counts once in each of its periods, also when it goes on under another hold."""
        if key[3] != "connections" or row.mode != "live":
            return False
        first = self._counted.get((key, row.connection))
        return first is not None and first != row.id

    def _check_move(self, was: HoldRow, row: HoldRow, actor: Actor) -> None:
        truth = self.truths[row.id]
        if not was.open:
            raise Breach(f"hold {row.id} was {was.state}, and was changed by {actor.kind}")
        if row.claims.keys() != truth.expected:
            raise Breach(f"hold {row.id} claims {_names(row.claims)} instead of {_names(truth.expected)}")
        for key, (settled, held) in row.claims.items():
            if settled < was.claims[key][0] or held < 0 or (held and not row.open):
                raise Breach(f"hold {row.id} went from {was.claims[key]} to {(settled, held)} on {key}")
        living = truth.taken
        if actor.kind in ("recovery", "person") and living:
            raise Breach(f"hold {row.id} was {row.state} by {actor.kind} while its owner lives")
        if actor.kind in ("owner", "late") and actor.name != truth.owner:
            raise Breach(f"hold {row.id} of {truth.owner} was changed by {actor.name}")
        if was.state == "active" and row.state in ("held", "released"):
            raise Breach(f"hold {row.id} went from active to {row.state}")
        if row.state == "active":
            for key in row.claims:
                if key[3] == "connections":
                    self._counted.setdefault((key, row.connection), row.id)
        if actor.kind in ("owner", "late") and row.state == "settled":
            truth.lived_ms = truth.final_ms or 0
        if actor.kind == "recovery":
            self._check_evidence(was, row, truth, actor)

    def _check_evidence(self, was: HoldRow, row: HoldRow, truth: Truth, actor: Actor) -> None:
        if row.open:
            raise Breach(f"recovery changed hold {row.id}, and left it open")
        # An owner's last word in the meter is evidence in every run of the machine: it was written after all else.
        proven = truth.final_ms is not None or (truth.boot == actor.boot and row.host == actor.host)
        if row.state == "settled" and not proven:
            for key, (settled, _) in row.claims.items():
                if settled < sum(was.claims[key]):
                    raise Breach(f"hold {row.id} gave back {key} on a meter of another run of the machine")

    # --- limits -------------------------------------------------------------------------------------------

    def _check_limits(self, before: Books, after: Books, actor: Actor) -> None:
        """A balance passes its limit only by what was used, and then that is on the record."""
        for row in after.holds.values():
            was = before.holds.get(row.id)
            if row == was:
                continue
            truth = self.truths[row.id]
            for key, (_, held) in row.claims.items():
                limit = self._limit_now(key, actor)
                if limit is None:
                    continue
                if row.open:
                    truth.ceilings[key] = limit
                limit = max(limit, truth.ceilings.get(key, 0))
                grown = _total(after, key) - _total(before, key)
                excess = min(grown, _total(after, key) - limit)
                if excess <= 0:
                    continue
                if row.state == "held" or (row.open and held):
                    raise Breach(f"hold {row.id} holds {key} {excess} past its limit {limit}")
                truth.owed[key] = truth.owed.get(key, 0) + excess
            if row.state == "settled":
                self._check_overruns(row, truth, actor, after)

    def _check_overruns(self, row: HoldRow, truth: Truth, actor: Actor, after: Books) -> None:
        for key, most in truth.owed.items():
            # What others have given back since is not past the limit any more.
            owed = min(most, _total(after, key) - (self._limit_now(key, actor) or 0))
            if key[3] == "hours" and actor.kind in ("recovery", "person"):
                # Time that went by before its owner looked again, and died: nobody is left who knows the limit.
                continue
            noted = sum(
                over["past"]
                for over in self._fixed["overruns"].values()
                if over["hold_id"] == row.id
                and (over["budget"], over["period"], over["period_start_utc"], over["unit"]) == key
            )
            if noted < owed:
                raise Breach(
                    f"{actor.kind} took {key} {owed} past its limit with {row.id}; on record are {noted}"
                )

    def _limit_now(self, key: Key, actor: Actor) -> int | None:
        limit = calendar.limit_of(self._setting, key)
        if limit is None:
            return None
        now = calendar.micros(actor.wall)
        more: int = sum(
            row["amount"]
            for row in self._fixed["approvals"].values()
            if (row["budget"], row["unit"]) == (key[0], key[3])
            # A write that comes late was decided when it was sent.
            and (row["from_utc"] <= now < row["until_utc"] or actor.kind == "late")
        )
        return limit + more

    # --- rows that never change --------------------------------------------------------------------------

    def _check_fixed(self, before: Books, after: Books) -> None:
        for table, known in self._fixed.items():
            found = rows_of(self._reader, table)
            for row_id, row in known.items():
                if found.get(row_id) != row:
                    raise Breach(f"{row_id} of {table} was changed")
            for row_id in found.keys() - known.keys():
                self._check_row(table, found[row_id], after)
            self._fixed[table] = found
        settled = {hold.id for hold in after.holds.values() if hold.state == "settled"}
        booked = [entry["hold_id"] for entry in self._fixed["entries"].values()]
        if sorted(settled) != sorted(booked):
            raise Breach(f"settled holds and entries differ: {settled.symmetric_difference(booked)}")

    def _check_row(self, table: str, row: dict[str, Any], books: Books) -> None:
        if table == "entries":
            self._check_entry(row, books.holds[row["hold_id"]])
        elif table == "approvals":
            asked = self._approvals.get(row["id"])
            if asked is None or any(row[name] != value for name, value in asked.items()):
                raise Breach(f"an approval that nobody gave: {row}")

    def _check_entry(self, entry: dict[str, Any], hold: HoldRow) -> None:
        """What is booked is what the meter, the quote or the hold says, and never less than the bill."""
        truth, ending = self.truths[hold.id], entry["ending"]
        size, residual = entry["size_bytes"], entry["residual_bytes"]
        bound = hold.residual_max
        if ending in ("exact", "residual", "recovered") and size != truth.read_bytes:
            raise Breach(f"{hold.id} ({ending}) books {size} bytes, read were {truth.read_bytes}")
        if ending == "exact" and (residual or size != truth.sent_bytes):
            raise Breach(f"{hold.id} ended exactly with {size} + {residual}, billed were {truth.sent_bytes}")
        if ending == "quoted" and not truth.sent_bytes <= size <= (truth.quote_bytes or 0):
            raise Breach(f"{hold.id} was settled at {size}, billed were {truth.sent_bytes}")
        if ending in ("residual", "recovered") and not 0 <= size + residual - truth.sent_bytes <= bound:
            raise Breach(
                f"{hold.id} ({ending}) books {size} + {residual} bytes, billed were {truth.sent_bytes}; bound {bound}"
            )
        if ending == "resolved":
            return
        for part, cost in ((size, entry["cost_nano_usd"]), (size + residual, _whole_cost(entry))):
            exact = part * Decimal(entry["unit_price_usd"]) * 10**9 / _GIB
            if not 0 <= cost - exact < 1:
                raise Breach(f"{hold.id}: {part} bytes cost {exact} nano-dollars, booked are {cost}")
        for key, (settled, _) in hold.claims.items():
            final = {"usd": _whole_cost(entry), "gib": size + residual}.get(key[3])
            if final is not None and settled != final and ending != "recovered":
                raise Breach(f"{hold.id} settled {settled} on {key}, its entry says {final}")

    # --- the promise ---------------------------------------------------------------------------------------

    def check_bills(self) -> None:
        """The vendor's bill is never above the ledger: of a hold, and of a balance."""
        if self._lossy:
            return
        billed: dict[Key, int] = defaultdict(int)
        claimed: dict[Key, int] = defaultdict(int)
        for hold_id, truth in self.truths.items():
            row = self._books.holds[hold_id]
            if truth.connected and row.state in ("held", "released"):
                raise Breach(f"hold {hold_id} is {row.state}, and the vendor was asked")
            if not truth.dear and truth.connected and row.price != truth.price:
                raise Breach(f"hold {hold_id} is priced at {row.price}, the vendor takes {truth.price}")
            for key in truth.expected:
                bill = self._bill(key, truth, row)
                claim = sum(row.claims[key])
                if bill > claim * _scale(key):
                    raise Breach(
                        f"hold {hold_id} ({row.state}) claims {row.claims[key]} on {key}; "
                        f"{-(-bill // _scale(key))} is billed"
                    )
                billed[key] += bill
                claimed[key] += claim
        for key, bill in billed.items():
            if bill > _total(self._books, key) * _scale(key):
                raise Breach(f"{key}: the bill {bill // _scale(key)} is above {self._books.balances[key]}")

    def _bill(self, key: Key, truth: Truth, row: HoldRow) -> int:
        unit = key[3]
        if unit == "usd":
            return truth.bill_scaled
        if unit == "gib":
            # What costs nothing flows on without a ledger: it is booked now and then, and at the end.
            return 0 if row.open and row.mode == "live" and truth.price == 0 else truth.sent_bytes
        if row.mode != "live":
            return 0
        if unit == "connections":
            return int(truth.connected)
        # While it runs, time is a matter of its owner; once it is over, it has to be booked.
        return 0 if row.open else truth.lived_ms

    def check_end(self) -> None:
        """Everything has ended and been recovered: nothing is open, and each bill is booked."""
        open_ids = [hold.id for hold in self._books.holds.values() if hold.open]
        if open_ids:
            raise Breach(f"holds are left open: {open_ids}")
        for key, (settled, held, holders) in self._books.balances.items():
            if held or holders:
                raise Breach(f"{key} still holds {held} for {holders} when all is over (settled {settled})")
        self._check_connections()
        if self._lossy:
            self._check_booked()

    def _check_booked(self) -> None:
        """Whatever the ledger had lost is in it again."""
        for hold_id, truth in self.truths.items():
            row = self._books.holds.get(hold_id)
            if row is None or row.state != "settled":
                if truth.sent_bytes:
                    raise Breach(f"{hold_id} was billed {truth.sent_bytes} bytes, and is not in the ledger")
                continue
            for key in row.claims:
                bill = self._bill(key, truth, row) if key[3] in ("usd", "gib") else 0
                if bill > row.claims[key][0] * _scale(key):
                    raise Breach(
                        f"{hold_id} settled {row.claims[key]} on {key}, {-(-bill // _scale(key))} is billed"
                    )

    def _check_connections(self) -> None:
        counts: dict[tuple[Key, str], int] = defaultdict(int)
        for hold in self._books.holds.values():
            for key, (settled, _) in hold.claims.items():
                if key[3] == "connections":
                    counts[(key, hold.connection)] += settled
        if twice := [place for place, count in counts.items() if count > 1]:
            raise Breach(f"connections are counted more than once: {twice}")


def _total(books: Books, key: Key) -> int:
    settled, held, _ = books.balances.get(key, (0, 0, 0))
    return settled + held


def _scale(key: Key) -> int:
    return _GIB * _PRICE_SCALE if key[3] == "usd" else 1


def _whole_cost(entry: dict[str, Any]) -> int:
    return int(entry["cost_nano_usd"]) + int(entry["residual_nano_usd"])


def _names(keys: Any) -> str:
    return ", ".join(f"{key[0]} {key[1]} {key[3]}" for key in sorted(keys)) or "nothing"

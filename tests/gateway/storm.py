"""Seeded storms: one client behind the gateway while the vendor fails at random, and what is checked of each.

Whatever happens, the vendor's bill is covered by the ledger and the ledger is within its limits; and of the market's
records the client has each once and in order, or a gap is recorded. `python -m tests.gateway.storm --seeds 100`.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import zstandard

from budget_guard.clock import ManualClock, ns_from_instant
from budget_guard.gateway.live import backoff, pace, watch
from budget_guard.gateway.wire.framer import CONTROL_RTYPES, ts_index
from budget_guard.gateway.wire.records import message_text
from budget_guard.gateway.wire.shapes import SHAPES
from budget_guard.ledger.model import Entry, Gap
from budget_guard.policy.model import AlwaysClause, Budget, HoursClause, Match, Policy, Stream
from budget_guard.sandbox.market.model import Selection
from tests.gateway.desk import GLBX, Desk, budget, limit, policy, recovery, running_desk, stream
from tests.sandbox.bare_client import BareClient

# USD per GiB of each schema that takes part; two of them share a record type.
PRICES = {
    "mbo": "2.16",
    "trades": "33.6",
    "mbp-1": "2.16",
    "tbbo": "33.6",
    "mbp-10": "0.6",
    "bbo-1s": "15.6",
    "ohlcv-1s": "336",
}
CONTRACTS = ("NQ.v.0", "ES.v.0")
DAY = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)
# Shortly before a day ends, and before a month does.
BEFORE_MIDNIGHT = datetime(2026, 11, 24, 23, 59, 56, tzinfo=UTC)
BEFORE_DECEMBER = datetime(2026, 11, 30, 23, 59, 56, tzinfo=UTC)
HEARTBEAT_S = 5
STALE_MARGIN_S = 1.0
SETTLE_S = 30.0
# What the vendor publishes late: a slot, and a bar when its interval is over.
LAST_S = 0.1
TS_OUT_BYTES = 8
SYSTEM_RTYPE, ERROR_RTYPE = 0x17, 0x15
# What strikes the connection that is open, at once or a little later.
STRIKES = ("close", "reset", "corrupt_length", "corrupt_rtype", "unknown_record")
# What strikes the next login, so the one that is open is lost as well.
LOGINS = ("glue_reply", "refuse_live", "unknown_reply_field")

Key = tuple[int, bytes]


class StormFailure(AssertionError):
    """A storm that broke a promise; its text says which."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed draws before anything happens."""

    schemas: tuple[str, ...]
    symbols: tuple[str, ...]
    later: str | None  # a schema that is subscribed to after the start
    begins: datetime
    rate: int
    by_event_time: bool
    ts_out: bool
    zstd: bool
    rules: Policy
    leaves: bool  # the client leaves in the middle of it
    early: bool  # it leaves while its session is being opened
    by_line: bool  # a subscription for each contract: several replays of one type


class Reader:
    """A client made of a socket, on a thread of its own: whole records, and whether it was ended."""

    def __init__(self, desk: Desk, plan: Plan) -> None:
        login = f"|ts_out={int(plan.ts_out)}|heartbeat_interval_s={HEARTBEAT_S}"
        if plan.zstd:
            login += "|compression=zstd"
        symbols = plan.symbols if plan.by_line else (",".join(plan.symbols),)
        lines = [
            f"schema={schema}|stype_in=continuous|symbols={some}"
            for schema in plan.schemas
            for some in symbols
        ]
        self._client: BareClient = desk.bare(*lines, login=login)
        self._plain = zstandard.ZstdDecompressor().decompressobj() if plan.zstd else None
        self._tail = TS_OUT_BYTES if plan.ts_out else 0
        self._rest = bytearray()
        self._headed = False
        self.records: list[bytes] = []
        self.ended = threading.Event()
        self.reading = threading.Event()
        self.reading.set()
        self._client.send("start_session")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def subscribe(self, schema: str, symbols: Iterable[str]) -> None:
        with contextlib.suppress(OSError):  # it was ended before
            self._client.send(f"schema={schema}|stype_in=continuous|symbols={','.join(symbols)}")

    def leave(self, *, rudely: bool) -> None:
        """Half-close, or close at once with what has come unread."""
        with contextlib.suppress(OSError):  # it was ended before
            self._client.socket.shutdown(socket.SHUT_RDWR if rudely else socket.SHUT_WR)

    def close(self) -> None:
        self.reading.set()
        self._thread.join(5)
        self._client.close()

    def said(self) -> list[str]:
        """What the relay and the vendor told in words."""
        return [message_text(one) for one in self.records if one[1] in (SYSTEM_RTYPE, ERROR_RTYPE)]

    def _read(self) -> None:
        try:
            while True:
                self.reading.wait()
                if not (data := self._client.socket.recv(1 << 16)):
                    break
                self._take(data if self._plain is None else self._plain.decompress(data))
        except OSError:
            pass
        finally:
            self.ended.set()

    def _take(self, data: bytes) -> None:
        self._rest += data
        if not self._headed:
            if len(self._rest) < 8 or len(self._rest) < (
                size := 8 + int.from_bytes(self._rest[4:8], "little")
            ):
                return
            del self._rest[:size]
            self._headed = True
        at = 0
        while at < len(self._rest) and at + (size := self._rest[at] * 4) <= len(self._rest):
            record = bytes(self._rest[at : at + size])
            at += size
            self.records.append(_without_ts_out(record, self._tail))
        del self._rest[:at]


@dataclass
class Storm:
    """One storm and its findings."""

    seed: int
    plan: Plan
    desk: Desk
    reader: Reader
    chance: random.Random
    happened: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Time stands until the session has begun: the market's start is then the client's."""
        if self.plan.early:
            time.sleep(self.chance.uniform(0, 0.1))
            self._leave()
            return
        deadline_s = time.monotonic() + 20
        while not self.desk.sandbox.live_progress.streaming and time.monotonic() < deadline_s:
            time.sleep(0.005)

    def blow(self) -> None:
        """Some seconds of market in which things go wrong."""
        for _ in range(self.chance.randrange(4, 14)):
            self._go_on(self.chance.choice((0.02, 0.2, 0.7, 1.5)))
            if self.chance.random() < 0.6:
                self._go_wrong()
        if self.plan.leaves:
            self._leave()

    def _leave(self) -> None:
        rudely = self.chance.random() < 0.5
        self.happened.append("the client leaves" + (" rudely" if rudely else ""))
        self.reader.leave(rudely=rudely)

    def settle(self) -> int:
        """Let the weather clear up, until the client has everything; the instant until which it should have that."""
        desk = self.desk
        desk.sandbox.drop()
        self.reader.reading.set()
        until_ns = ns_from_instant(desk.clock.now())
        deadline_s = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline_s and not self.reader.ended.is_set():
            desk.advance(0.25)
            self._rest(0.05)
            if time.monotonic() > deadline_s - SETTLE_S + 1.5 and not self._open_questions(until_ns):
                break
        return until_ns

    def _open_questions(self, until_ns: int) -> list[str]:
        return missing_records(self, all_gaps(self.desk), until_ns)

    def _go_on(self, seconds: float) -> None:
        self.desk.advance(seconds)
        if self.chance.random() < 0.8:
            self._rest(self.chance.choice((0.02, 0.1)))

    def _rest(self, still_s: float) -> None:
        """Until nothing has come for a moment."""
        deadline_s = time.monotonic() + 2
        before = -1
        while before != len(self.reader.records) and time.monotonic() < deadline_s:
            before = len(self.reader.records)
            time.sleep(still_s)

    def _go_wrong(self) -> None:
        chance, sandbox = self.chance, self.desk.sandbox
        what = chance.choice(
            (*STRIKES, *LOGINS, "close_live", "reset_live", "restart", "error", "silence", "late", "slow")
        )
        self.happened.append(what)
        if what in STRIKES:
            words = {"after": f"{chance.randrange(1, 400)} records"} if chance.random() < 0.7 else {}
            sandbox.arm(what, **words)
        elif what in LOGINS:
            sandbox.arm(what, **({"early": True} if what == "glue_reply" else {}))
            sandbox.reset_live() if chance.random() < 0.5 else sandbox.close_live()
        elif what == "close_live":
            sandbox.close_live()
        elif what == "reset_live":
            sandbox.reset_live()
        elif what == "restart":
            sandbox.arm("gateway_restart", for_="500ms")
        elif what == "error":
            sandbox.arm("error_record", code=chance.choice(("internal_error", "connection_limit")))
        elif what == "silence":
            sandbox.arm("silence", for_="30s")
            self._go_on(HEARTBEAT_S + STALE_MARGIN_S + 0.5)
            self._rest(0.1)
        elif what == "slow":
            self.reader.reading.clear() if self.reader.reading.is_set() else self.reader.reading.set()
        elif self.plan.later is not None and "late" not in self.happened[:-1]:
            self.reader.subscribe(self.plan.later, self.plan.symbols)


# --- what must hold -----------------------------------------------------------------------------------------


def all_gaps(desk: Desk) -> list[Gap]:
    return [gap for month in ("2026-11", "2026-12") for gap in desk.books.gaps("desk", month)]


def all_entries(desk: Desk) -> list[Entry]:
    return [entry for month in ("2026-11", "2026-12") for entry in desk.entries(month)]


def missing_records(storm: Storm, gaps: Sequence[Gap], until_ns: int) -> list[str]:
    """What is wrong with what the client has: a word for each instrument and type."""
    wrong = []
    ended = storm.reader.ended.is_set() or storm.plan.leaves or storm.plan.early
    over = " ".join(storm.reader.said())
    got = by_key(storm.reader.records)
    for (rtype, instrument), market in market_of(storm, until_ns).items():
        schemas = schemas_of(storm.plan, rtype)
        stopped = ended or any(f"stream {schema} " in over for schema in schemas)
        late = storm.plan.later in schemas
        mine = [gap for gap in gaps if gap.schema in schemas and not gap.mended]
        found = compared(market, got.pop((rtype, instrument), []), mine, cut=stopped, late=late)
        wrong += [f"{'/'.join(schemas)} {int.from_bytes(instrument[2:], 'little')}: {one}" for one in found]
    begins_ns = ns_from_instant(storm.plan.begins)
    for (rtype, _), records in got.items():
        if any(begins_ns <= ts_index(one, 0) < until_ns - 2 * 10**9 for one in records):
            wrong.append(f"records of type {rtype} that the market does not have")
    return wrong


def compared(
    market: list[bytes], got: list[bytes], gaps: Sequence[Gap], *, cut: bool, late: bool
) -> list[str]:
    """`cut`: it may end early. `late`: it may begin late."""
    first_ns, last_ns = (ts_index(market[0], 0), ts_index(market[-1], 0)) if market else (0, -1)
    # A bar that had begun before, and what has been published since.
    within = [record for record in got if first_ns <= ts_index(record, 0) <= last_ns]
    wrong, lost, at = [], [], 0
    for record in within:
        place = at
        while place < len(market) and market[place] != record:
            place += 1
        if place == len(market):
            seen = record in market[:at]
            wrong.append(f"{'twice or late' if seen else 'unknown'} at {ts_index(record, 0)}")
            continue
        if not (late and at == 0):
            lost += market[at:place]
        at = place + 1
    if not cut:
        lost += [] if late and at == 0 else market[at:]
    bad = [ts_index(one, 0) for one in lost if not _in_a_gap(ts_index(one, 0), gaps)]
    if bad:
        wrong.append(f"{len(bad)} of {len(lost)} lost are in no gap, from {bad[0]} to {bad[-1]}")
    return wrong[:3] + wrong[-1:] if len(wrong) > 4 else wrong


def market_of(storm: Storm, until_ns: int) -> dict[Key, list[bytes]]:
    """The market's records, by type and instrument, from the start until they were surely published."""
    plan, sandbox = storm.plan, storm.desk.sandbox
    begins_ns = ns_from_instant(plan.begins)
    found: dict[Key, list[bytes]] = defaultdict(list)
    for schema in (*plan.schemas, *([plan.later] if plan.later else [])):
        selection = Selection(GLBX, schema, plan.symbols, "continuous")
        end_ns = until_ns - SHAPES[schema].span_ns - int(LAST_S * 1e9)
        if schema == plan.later and not any(one[1] == SHAPES[schema].rtype for one in storm.reader.records):
            continue
        for part in sandbox.market.parts(selection, begins_ns, max(begins_ns, end_ns)):
            for row in part.rows:
                record = row.tobytes()
                found[record[1], record[2:8]].append(record)
    for records in found.values():
        records.sort(key=lambda one: ts_index(one, 0))
    return found


def by_key(records: Iterable[bytes]) -> dict[Key, list[bytes]]:
    found: dict[Key, list[bytes]] = defaultdict(list)
    for record in records:
        if record[1] not in CONTROL_RTYPES:
            found[record[1], record[2:8]].append(record)
    return found


def schemas_of(plan: Plan, rtype: int) -> list[str]:
    every = (*plan.schemas, *([plan.later] if plan.later else []))
    return [schema for schema in every if SHAPES[schema].rtype == rtype]


def wrong_books(storm: Storm) -> list[str]:
    """Where the bill is not covered, or a limit is passed; once everything is settled."""
    desk, wrong = storm.desk, []
    bill, entries = desk.sandbox.bill(), all_entries(desk)
    size = sum(entry.size_bytes + entry.residual_bytes for entry in entries)
    cost = sum(entry.cost_nano_usd + entry.residual_nano_usd for entry in entries)
    if size < bill["bytes"]:
        wrong.append(f"{bill['bytes']} bytes billed, {size} in the ledger")
    if cost < Decimal(bill["cost_usd"]) * 10**9:
        wrong.append(f"{bill['cost_usd']} USD billed, {cost} nano-USD in the ledger")
    if {entry.ending for entry in entries} == {"exact"} and size != bill["bytes"]:
        wrong.append(f"{bill['bytes']} bytes billed, {size} counted, and every end was exact")
    if desk.books.open_holds():
        wrong.append(f"{len(desk.books.open_holds())} holds are left")
    limits: dict[tuple[str, str, str], Decimal | None] = {
        (one.name, each.period, each.unit): each.amount
        for one in storm.plan.rules.budgets
        for each in one.limits
    }
    day = timedelta(days=60)
    for key, balance in desk.books.account_balances(
        "desk", storm.plan.begins - day, storm.plan.begins + day
    ).items():
        most = limits.get((key.budget, key.period, key.unit))
        if key.unit == "usd" and most is not None and balance.settled + balance.held > int(most * 10**9):
            wrong.append(
                f"{balance.settled} nano-USD of {key.budget} in the {key.period}, the limit is {most} USD"
            )
    return wrong


def _in_a_gap(ts_ns: int, gaps: Sequence[Gap]) -> bool:
    return any(ns_from_instant(one.start_utc) <= ts_ns <= ns_from_instant(one.end_utc) for one in gaps)


def _without_ts_out(record: bytes, tail: int) -> bytes:
    if not tail or record[1] in CONTROL_RTYPES:
        return record
    return bytes([record[0] - tail // 4]) + record[1:-tail]


# --- playing ------------------------------------------------------------------------------------------------


def drawn(chance: random.Random) -> Plan:
    schemas = tuple(chance.sample(sorted(PRICES), chance.randrange(1, 4)))
    left = sorted(set(PRICES) - set(schemas))
    later = chance.choice(left) if chance.random() < 0.3 else None
    taken = (*schemas, *([later] if later else []))
    if len({SHAPES[one].rtype for one in taken}) < len(taken):
        later, schemas = None, tuple(one for one in schemas if one != "tbbo")
        schemas = schemas or ("mbp-1",)
    begins = chance.choice((DAY, DAY, DAY, BEFORE_MIDNIGHT, BEFORE_DECEMBER))
    return Plan(
        schemas,
        chance.choice((CONTRACTS[:1], CONTRACTS)),
        later,
        begins,
        chance.choice((100, 500, 1500)),
        by_event_time=chance.random() < 0.5,
        ts_out=chance.random() < 0.5,
        zstd=chance.random() < 0.5,
        rules=_rules(chance, (*schemas, *([later] if later else [])), begins),
        leaves=chance.random() < 0.3,
        early=chance.random() < 0.1,
        by_line=chance.random() < 0.3,
    )


def _rules(chance: random.Random, schemas: Sequence[str], begins: datetime) -> Policy:
    """Streams named after their schemas; one of them may have little money, or a window that closes."""
    poor = chance.choice(schemas) if chance.random() < 0.4 else None
    short = chance.choice(schemas) if chance.random() < 0.2 else None
    again = chance.choice(
        (
            recovery(replay=timedelta(hours=1), spend_usd=None),
            recovery(replay=timedelta(hours=1), spend_usd=None),
            recovery(replay=timedelta(0)),
            recovery(replay=timedelta(seconds=5), spend_usd=Decimal("0.001")),
        )
    )
    budgets: list[Budget] = [budget(limit("500"), limit("400", "day"))]
    if poor is not None:
        usd = str(round(chance.uniform(1.06, 1.3) * 6.9e6 * float(PRICES[poor]) / 2**30, 6))
        budgets.append(budget(limit(usd), name="poor", match=Match(stream=frozenset({poor}))))

    def one(schema: str) -> Stream:
        windows: tuple[Any, ...] = (AlwaysClause(),)
        if schema == short:
            closes = begins + timedelta(seconds=chance.randrange(2, 9))
            windows = (HoursClause((begins - timedelta(hours=1)).time(), closes.time()),)
        return stream(schema, schema=schema, symbols=CONTRACTS, windows=windows, recovery=again)

    return policy(*map(one, schemas), budgets=budgets)


def play(seed: int, folder: Path) -> list[str]:
    """One storm; what broke, in words, after a line that says what happened."""
    chance = random.Random(seed)
    plan = drawn(chance)
    clock = ManualClock(plan.begins)
    with running_desk(
        folder, plan.rules, clock=clock, rate=plan.rate, replay_by_event_time=plan.by_event_time
    ) as desk:
        reader = Reader(desk, plan)
        storm = Storm(seed, plan, desk, reader, chance)
        try:
            storm.begin()
            storm.blow()
            until_ns = storm.settle()
            ended = reader.ended.is_set()
            wrong = missing_records(storm, all_gaps(desk), until_ns)
            desk.close()
            if wrong and ended:
                wrong = missing_records(storm, all_gaps(desk), until_ns)
            wrong += wrong_books(storm)
        finally:
            reader.close()
        if wrong:
            about = (
                f"{plan.schemas} {plan.symbols} later={plan.later} rate={plan.rate} {plan.begins:%d %H:%M:%S}"
            )
            about += f" event={plan.by_event_time} ts_out={plan.ts_out} zstd={plan.zstd} leaves={plan.leaves}"
            said = sorted(set(reader.said()) - {""})[:6]
            gaps = [
                (gap.schema, str(gap.start_utc), str(gap.end_utc), gap.mended, gap.note)
                for gap in all_gaps(desk)
            ]
            wrong = [
                f"seed {seed}: {about}: {' '.join(storm.happened)}",
                *wrong,
                f"said {said}",
                f"gaps {gaps}",
            ]
        return wrong


def play_all(seeds: Iterable[int]) -> list[str]:
    """Storms one after the other; what broke."""
    found = []
    for seed in seeds:
        with TemporaryDirectory() as folder:
            try:
                found += play(seed, Path(folder))
            except Exception:  # noqa: BLE001 - a storm that breaks the driver is a finding too
                found.append(f"seed {seed}: {traceback.format_exc()}")
    return found


def hurry() -> None:
    """Waits that protect a real vendor would only make storms slow."""
    backoff.FIRST_S, pace.SECOND_NS, watch.WATCH_S = 0.02, 0, 0.02
    watch.STALE_MARGIN_S = STALE_MARGIN_S


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    options = parser.parse_args()
    hurry()
    print(f"storms from seed {options.first} on", flush=True)
    broken = 0
    for seed in range(options.first, options.first + options.seeds):
        found = play_all([seed])
        broken += bool(found)
        if found:
            print("\n  ".join(found), flush=True)
        if (done := seed - options.first + 1) % 20 == 0:
            print(f"{done} done, {broken} broken", flush=True)
    print(f"{options.seeds - broken} of {options.seeds} storms kept every promise")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

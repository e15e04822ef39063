"""What a live connection is sent, as buffers ready for the socket. No I/O and no clock here."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

import databento_dbn as dbn

from budget_guard.sandbox.billing.rules import Kind
from budget_guard.sandbox.live.outgoing import Control, Marks, Outgoing, control, lay_out, unbilled
from budget_guard.sandbox.live.subscribed import (
    SKIPPABLE,
    Subscribed,
    count_ends,
    earliest_replay,
    ends_of_intervals,
    instant_ns_text,
)
from budget_guard.sandbox.live.symbols import DAY_NS, SymbolMap, error_text
from budget_guard.sandbox.live.wire import SubscriptionLine
from budget_guard.sandbox.market.model import MarketData, NoSnapshot, Part, Selection
from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.market.sessions import date_of_ns

# Live records are sent in slots of so much market time, unless the terms say otherwise.
SLOT_NS = 10 * 10**6

HEARTBEAT = dbn.SystemCode.from_int(0)
SUBSCRIPTION_ACK = dbn.SystemCode.from_int(1)
SLOW_READER_WARNING = dbn.SystemCode.from_int(2)
REPLAY_COMPLETED = dbn.SystemCode.from_int(3)
INVALID_SUBSCRIPTION = dbn.ErrorCode.from_int(5)
SKIPPED_RECORDS = dbn.ErrorCode.from_int(7)
REPLAY_DATA_AGED_OUT = dbn.ErrorCode.from_int(8)

# A read of the market is widened or narrowed until it makes buffers of about this many bytes.
_BUFFER_BYTES = 2**20
_WINDOW_MAX_NS = 3600 * 10**9
_WINDOW_MIN_NS = SLOT_NS // 10
_SYSTEM_BYTES = 320
# What is made while the event loop waits: at most so much market time of so many contracts.
_QUICK_NS = 10**9
_QUICK_CONTRACTS = 16
FIREHOSE_RECORDS = 16_384


class FatalSubscription(Exception):
    """A subscription that ends the session; `.code` is the ErrorMsg code."""

    def __init__(self, message: str, code: dbn.ErrorCode) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Terms:
    """How a session is served: what its login asked for, and the sandbox's own rules (see SandboxConfig)."""

    ts_out: bool = False
    skips: bool = True
    replay_limit_s: float = 86_400.0
    replay_by_event_time: bool = False
    remap_continuous: bool = True
    slow_reader_s: float = 5.0
    slot_ns: int = SLOT_NS


class Feed:
    """The records of one connection from its start on: replays first, then live, slot by slot.

    `offered` are the schemas of the dataset. All subscriptions are read at one place of the market's time, the
    cursor, so that records come in the order of publication and those of two subscriptions once.
    """

    def __init__(self, market: MarketData, dataset: str, offered: frozenset[str], terms: Terms) -> None:
        self.generation = 0  # goes up when there are other contracts to send than before
        self._market = market
        self._dataset = dataset
        self._offered = offered
        self._terms = terms
        self._subscribed: list[Subscribed] = []
        self._owed: deque[Outgoing] = deque()
        self._cursor_ns: int | None = None
        self._live_ns = 0  # where live data begins: what was published before is replayed
        self._window_ns = SLOT_NS
        self._warned_ns = 0
        self._made_for = -1  # the generation for which something has been made

    def metadata(self, now_ns: int, lines: Iterable[SubscriptionLine] = ()) -> Outgoing:
        """The DBN header of a live session: no schema, no symbols; it starts where the first replay does."""
        starts = [self._start_of(line, now_ns) for line in lines]
        header = dbn.Metadata(
            dataset=self._dataset,
            start=min(
                (start for start in starts if start is not None and 0 <= start <= now_ns), default=now_ns
            ),
            stype_in=None,
            stype_out=dbn.SType.from_str("instrument_id"),
            schema=None,
            ts_out=self._terms.ts_out,
        )
        return unbilled(header.encode())

    def subscribe(self, line: SubscriptionLine, now_ns: int, *, started: bool = False) -> Outgoing:
        """Take on a subscription and answer it. Raises FatalSubscription when it cannot be."""
        if line.schema not in self._offered or line.schema not in SPECS:
            known = ", ".join(sorted(self._offered))
            raise FatalSubscription(
                f"Invalid schema {line.schema!r} for {self._dataset}; one of {known}",
                INVALID_SUBSCRIPTION,
            )
        start_ns = self._start_of(line, now_ns)
        self._check_replay(line, start_ns, now_ns, started)
        one = self._take_on(line, start_ns, now_ns)
        self._subscribed.append(one)
        self.generation += 1
        acknowledged = self._system(now_ns, SUBSCRIPTION_ACK, _ack_text(line))
        return control(acknowledged, *one.symbols.look(now_ns, one.from_ns, self._stamp(now_ns)))

    def begin(self, now_ns: int) -> None:
        """The session starts: nothing earlier is sent, unless a subscription asked for it."""
        slot_ns = self._slot_of(now_ns)
        for one in self._subscribed:
            if not one.replaying:
                one.move(slot_ns)
        self._live_ns = slot_ns
        self._cursor_ns = min((one.from_ns for one in self._subscribed), default=slot_ns)

    def due(self, now_ns: int) -> Outgoing | None:
        """The next buffer of what the market has published by now; None when there is none yet.

        Raises FatalSubscription when a book that was asked for cannot be told.
        """
        assert self._cursor_ns is not None
        slot_ns = self._slot_of(now_ns)
        ts_out = now_ns if self._terms.ts_out else None
        while True:
            self._arrive(now_ns)
            if self._owed:
                return self._owed.popleft()
            if self._cursor_ns >= slot_ns:
                return None
            end_ns = self._end_of_buffer(self._cursor_ns, self._next_edge(slot_ns))
            parts, kinds = self._parts(self._cursor_ns, end_ns)
            marks = self._marks(self._cursor_ns, end_ns, ts_out)
            self._cursor_ns = end_ns
            self._made_for = self.generation
            if parts or marks:
                return lay_out(parts, ts_out, marks, kinds)

    def is_quick(self, now_ns: int) -> bool:
        """Whether `due` takes a few milliseconds at most: a little time of a few contracts, and not for the first time.

        The first question about a day reads calendars and makes tables, which takes up to a second.
        """
        assert self._cursor_ns is not None
        return (
            self._made_for == self.generation
            and now_ns - self._cursor_ns <= _QUICK_NS
            and sum(one.symbols.contracts for one in self._subscribed) <= _QUICK_CONTRACTS
        )

    @property
    def handed_ns(self) -> int:
        """Up to where everything that was published has been handed out by `due`."""
        assert self._cursor_ns is not None
        return self._cursor_ns

    def replays_done(self, now_ns: int) -> Iterator[Outgoing]:
        """The notices that are owed once `due` has nothing more: each finished replay's, once."""
        for one in self._subscribed:
            if one.replaying:
                one.replaying = False
                yield control(self._system(now_ns, REPLAY_COMPLETED, f"Finished {one.schema} replay"))

    def slow(self, now_ns: int) -> list[Outgoing]:
        """What is said to a client that does not keep up; what it is let off goes from the stream.

        Nothing while it is near enough to live data or still replaying. Warnings come again after as long as it takes
        to be called slow.
        """
        assert self._cursor_ns is not None
        slot_ns = self._slot_of(now_ns)
        patience_ns = int(self._terms.slow_reader_s * 10**9)
        if slot_ns - self._cursor_ns < patience_ns or any(one.replaying for one in self._subscribed):
            return []
        said: list[Control] = []
        if self._terms.skips:
            skipped = [one for one in self._subscribed if one.schema in SKIPPABLE]
            said += [notice for one in skipped for notice in self._skip(one, slot_ns, now_ns)]
        late = [one for one in self._subscribed if one.from_ns < slot_ns]
        if not late:
            self._cursor_ns = slot_ns
        elif now_ns - self._warned_ns >= patience_ns:
            self._warned_ns = now_ns
            behind = f"{(slot_ns - self._cursor_ns) / 10**9:.1f} s behind"
            schemas = ", ".join(sorted({one.schema for one in late}))
            said.append(
                self._system(
                    now_ns, SLOW_READER_WARNING, f"Warning: slow reading of {schemas}, {behind}"[:300]
                )
            )
        return [control(*said)] if said else []

    def heartbeat(self, now_ns: int) -> Outgoing:
        return control(self._system(now_ns, HEARTBEAT, "Heartbeat"))

    def error(self, now_ns: int, message: str, code: dbn.ErrorCode) -> Outgoing:
        return control(self._error(now_ns, message, code))

    def blocks(self, now_ns: int) -> list[Part]:
        """A block of each tick stream subscribed to, each once: what a firehose pours."""
        found = (
            part
            for one in self._subscribed
            for part in self._market.blocks(one.selection, now_ns, FIREHOSE_RECORDS)
        )
        return list({part.source: part for part in found}.values())

    def _slot_of(self, now_ns: int) -> int:
        """Where the slot of an instant begins: what was published before it has been sent, or is due."""
        return now_ns // self._terms.slot_ns * self._terms.slot_ns

    def _take_on(self, line: SubscriptionLine, start_ns: int | None, now_ns: int) -> Subscribed:
        selection = Selection(self._dataset, line.schema, line.symbols, line.stype_in)
        follows = line.stype_in != "continuous" or self._terms.remap_continuous
        symbols = SymbolMap(self._market, selection, follows=follows)
        if not follows:
            selection = self._pinned(selection, now_ns)
        from_ns = self._slot_of(now_ns) if start_ns is None else start_ns
        if self._cursor_ns is not None:
            from_ns = max(from_ns, self._cursor_ns)
        return Subscribed(
            selection,
            symbols,
            from_ns,
            from_ns if start_ns is None else from_ns + SPECS[line.schema].lag_ns,
            replaying=start_ns is not None,
            event_floor_ns=start_ns if self._terms.replay_by_event_time else None,
            snapshot_owed=line.snapshot,
        )

    def _pinned(self, selection: Selection, now_ns: int) -> Selection:
        """The contracts that a selection stands for today, for good."""
        day = date_of_ns(now_ns)
        found = (
            instrument.raw_symbol
            for symbol in selection.symbols
            for instrument in self._market.resolve(self._dataset, symbol, selection.stype_in, day)
        )
        return Selection(self._dataset, selection.schema, tuple(dict.fromkeys(found)), "raw_symbol")

    def _arrive(self, now_ns: int) -> None:
        """What the cursor's place itself asks for: mappings of a new day, the books of those who begin here."""
        assert self._cursor_ns is not None
        ts_out = now_ns if self._terms.ts_out else None
        day = date_of_ns(self._cursor_ns)
        for one in self._subscribed:
            if one.symbols.day < day and (
                said := one.symbols.look(now_ns, self._cursor_ns, self._stamp(now_ns))
            ):
                self._owed.append(control(*said))
                self.generation += 1
            if one.snapshot_owed and self._cursor_ns >= one.from_ns:
                one.snapshot_owed = False
                books = self._books(one)
                self._owed += [lay_out([book], ts_out, kinds=["snapshot"]) for book in books]

    def _books(self, one: Subscribed) -> list[Part]:
        """The books where a subscription begins. Raises FatalSubscription when nobody can tell."""
        try:
            return self._market.snapshot(one.selection, one.from_ns)
        except NoSnapshot as error:
            raise FatalSubscription(f"Invalid snapshot: {error}", INVALID_SUBSCRIPTION) from None

    def _next_edge(self, limit_ns: int) -> int:
        """Where what is sent changes next: a subscription joins, or a day begins."""
        assert self._cursor_ns is not None
        cursor_ns = self._cursor_ns
        joining = (at for one in self._subscribed for at in (one.from_ns, one.data_ns) if at > cursor_ns)
        live = [self._live_ns] if self._live_ns > cursor_ns else []
        return min(limit_ns, (cursor_ns // DAY_NS + 1) * DAY_NS, *joining, *live)

    def _parts(self, start_ns: int, end_ns: int) -> tuple[list[Part], list[Kind | None]]:
        """What is published in an interval that no edge lies in, each contract's records once, and what it is.

        Up to the session's start it is a replay.
        """
        parts: list[Part] = []
        seen: set[Hashable] = set()
        # Who has been on longer leaves nothing out: what it is sent, nobody else needs to be.
        for one in sorted(self._subscribed, key=lambda one: one.from_ns):
            if one.data_ns <= start_ns:
                lag_ns = one.spec.lag_ns
                found = self._market.parts(one.selection, start_ns - lag_ns, end_ns - lag_ns)
                fresh = [part for part in found if part.source not in seen]
                seen |= {part.source for part in fresh}
                parts += one.wanted(fresh)
        return parts, ["replay" if start_ns < self._live_ns else None] * len(parts)

    def _marks(self, start_ns: int, end_ns: int, ts_out: int | None) -> list[Marks]:
        """The intervals that end: one message for each schema and interval, whoever subscribed to it."""
        schemas = dict.fromkeys(one.schema for one in self._subscribed if one.from_ns <= start_ns)
        found = (ends_of_intervals(schema, start_ns, end_ns, ts_out) for schema in schemas)
        return [marks for marks in found if marks is not None]

    def _end_of_buffer(self, start_ns: int, limit_ns: int) -> int:
        """How far to read: a buffer's worth, however long a client has not been reading."""
        end_ns = min(limit_ns, start_ns + self._window_ns)
        size = self._size(start_ns, end_ns)
        if size < _BUFFER_BYTES // 4:
            self._window_ns = min(_WINDOW_MAX_NS, self._window_ns * 2)
        while size > _BUFFER_BYTES and end_ns - start_ns > _WINDOW_MIN_NS:
            self._window_ns = (end_ns - start_ns) // 2
            end_ns = start_ns + self._window_ns
            size = self._size(start_ns, end_ns)
        return end_ns

    def _size(self, start_ns: int, end_ns: int) -> int:
        """The most bytes that an interval holds; overlapping subscriptions count twice."""
        return sum(
            self._count(one, start_ns, end_ns) * one.spec.size
            + count_ends(one.schema, start_ns, end_ns) * _SYSTEM_BYTES
            for one in self._subscribed
            if one.data_ns <= start_ns
        )

    def _count(self, one: Subscribed, start_ns: int, end_ns: int) -> int:
        return self._market.count(one.selection, start_ns - one.spec.lag_ns, end_ns - one.spec.lag_ns)

    def _skip(self, one: Subscribed, to_ns: int, now_ns: int) -> list[Control]:
        """Let a subscription go on at an instant, and say what it has missed."""
        assert self._cursor_ns is not None
        from_ns = max(self._cursor_ns, one.data_ns)
        missed = self._count(one, from_ns, to_ns) if from_ns < to_ns else 0
        one.move(max(to_ns, one.data_ns))
        if not missed:
            return []
        text = (
            f"Slow client detected for {one.schema}: skipped {missed} records "
            f"from {instant_ns_text(from_ns)} to {instant_ns_text(to_ns)}"
        )
        return [self._error(now_ns, text, SKIPPED_RECORDS)]

    def _start_of(self, line: SubscriptionLine, now_ns: int) -> int | None:
        """Where a subscription's replay starts; 0 asks for all there is."""
        if line.start_ns != 0:
            return line.start_ns
        return earliest_replay(self._dataset, line.schema, now_ns, self._terms.replay_limit_s)

    def _check_replay(self, line: SubscriptionLine, start_ns: int | None, now_ns: int, started: bool) -> None:
        limit_s = self._terms.replay_limit_s
        if start_ns is not None and (started or start_ns > now_ns):
            why = "only before start_session" if started else "not from the future"
            raise FatalSubscription(f"Invalid start: replay works {why}", INVALID_SUBSCRIPTION)
        if start_ns is not None:
            earliest_ns = earliest_replay(self._dataset, line.schema, now_ns, limit_s)
            if start_ns < earliest_ns:
                reach = f"{limit_s / 3600:g} h, to {instant_ns_text(earliest_ns)}"
                raise FatalSubscription(f"Invalid start: replay reaches back {reach}", REPLAY_DATA_AGED_OUT)
        if line.snapshot and line.schema != "mbo":
            raise FatalSubscription("Invalid snapshot: only mbo has one", INVALID_SUBSCRIPTION)

    def _system(self, now_ns: int, code: dbn.SystemCode, text: str) -> dbn.SystemMsg:
        return dbn.SystemMsg(now_ns, text, code, **self._stamp(now_ns))

    def _error(self, now_ns: int, message: str, code: dbn.ErrorCode) -> dbn.ErrorMsg:
        return dbn.ErrorMsg(now_ns, error_text(message), True, code, **self._stamp(now_ns))

    def _stamp(self, now_ns: int) -> dict[str, int]:
        return {"ts_out": now_ns} if self._terms.ts_out else {}


def _ack_text(line: SubscriptionLine) -> str:
    number = "" if line.number is None else f" {line.number}"
    return f"Subscription request{number} for {line.schema} data succeeded"

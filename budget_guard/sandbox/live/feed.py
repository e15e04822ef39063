"""What a live connection is sent, as buffers ready for the socket. No I/O and no clock here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import databento_dbn as dbn
import numpy as np

from budget_guard.sandbox.live.wire import SubscriptionLine
from budget_guard.sandbox.market.records import F_LAST, F_SNAPSHOT, SPECS, Rows, as_wire, merged
from budget_guard.sandbox.market.sessions import date_of_ns, sessions_between, trading_label
from budget_guard.sandbox.market.synthetic import Market, Part, symbol_label
from budget_guard.sandbox.market.universe import (
    ALL_SYMBOLS,
    Selection,
    Stream,
    Universe,
    instrument_id,
    raw_symbol,
)

SLOT_NS = 10 * 10**6
DAY_NS = 86_400 * 10**9
SNAPSHOT_RECORDS = 100

HEARTBEAT = dbn.SystemCode.from_int(0)
SUBSCRIPTION_ACK = dbn.SystemCode.from_int(1)
REPLAY_COMPLETED = dbn.SystemCode.from_int(3)
SYMBOL_RESOLUTION_FAILED = dbn.ErrorCode.from_int(4)
INVALID_SUBSCRIPTION = dbn.ErrorCode.from_int(5)
REPLAY_DATA_AGED_OUT = dbn.ErrorCode.from_int(8)

# A read of the market is widened or narrowed until it makes buffers of about this many bytes.
_BUFFER_BYTES = 2**20
_WINDOW_MAX_NS = 3600 * 10**9
_FIREHOSE_RECORDS = 16_384


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes up to `end` that are records of one schema (None: control), each `record_size` long."""

    end: int
    schema: str | None
    record_size: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A buffer for the socket, and whose bytes are in it; without runs nothing of it is billed."""

    data: memoryview
    runs: tuple[Run, ...]


def unbilled(data: bytes) -> Outgoing:
    return Outgoing(memoryview(data), ())


def control(record: dbn.SystemMsg | dbn.ErrorMsg | dbn.SymbolMappingMsg) -> Outgoing:
    data = bytes(record)
    return Outgoing(memoryview(data), (Run(len(data), None, len(data)),))


def lay_out(parts: Sequence[Part], ts_out: int | None) -> Outgoing:
    """Records of several streams in the order of their index timestamps, whatever their sizes."""
    specs = [SPECS[part.stream.schema] for part in parts]
    schemas = {spec.schema for spec in specs}
    order = merged(specs, [part.rows for part in parts]) if len(parts) > 1 else None
    if len(schemas) == 1:
        rows = parts[0].rows if order is None else np.concatenate([part.rows for part in parts])[order]
        wire = as_wire(rows, ts_out)
        return Outgoing(wire.reshape(-1).data, (Run(wire.size, specs[0].schema, wire.shape[1]),))
    assert order is not None
    wires = [as_wire(part.rows, ts_out) for part in parts]
    owner = np.repeat(np.arange(len(wires)), [len(wire) for wire in wires])[order]
    ends = np.cumsum(np.array([wire.shape[1] for wire in wires])[owner])
    buffer = np.empty(int(ends[-1]), dtype=np.uint8)
    for number, wire in enumerate(wires):
        # A stable sort keeps each part's own order, so its rows fill its places from first to last.
        starts = ends[owner == number] - wire.shape[1]
        buffer[starts[:, None] + np.arange(wire.shape[1])] = wire
    last = np.flatnonzero(np.append(np.diff(owner) != 0, True))
    runs = tuple(Run(int(ends[at]), specs[owner[at]].schema, wires[owner[at]].shape[1]) for at in last)
    return Outgoing(buffer.data, runs)


class FatalSubscription(Exception):
    """A subscription that ends the session; `.code` is the ErrorMsg code."""

    def __init__(self, message: str, code: dbn.ErrorCode) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class _Subscribed:
    selection: Selection
    joined_ns: int
    replaying: bool


class Feed:
    """The records of one connection from its start on: replays first, then live, slot by slot.

    `offered` are the schemas of the dataset; `ts_out` says whether records carry the time of sending.
    """

    def __init__(
        self, market: Market, universe: Universe, dataset: str, offered: frozenset[str], *, ts_out: bool
    ) -> None:
        self._market = market
        self._universe = universe
        self._dataset = dataset
        self._offered = offered
        self._ts_out = ts_out
        self._subscribed: list[_Subscribed] = []
        self._cursor_ns: int | None = None
        self._window_ns = SLOT_NS

    def metadata(self, now_ns: int) -> Outgoing:
        """The DBN header of a live session: no schema, no symbols."""
        header = dbn.Metadata(
            dataset=self._dataset,
            start=now_ns,
            stype_in=None,
            stype_out=dbn.SType.from_str("instrument_id"),
            schema=None,
            ts_out=self._ts_out,
        )
        return unbilled(header.encode())

    def subscribe(
        self, line: SubscriptionLine, now_ns: int, replay_limit_s: float, *, started: bool = False
    ) -> list[Outgoing]:
        """Take on a subscription and answer it. Raises FatalSubscription when it cannot be."""
        if line.schema not in self._offered or line.schema not in SPECS:
            known = ", ".join(sorted(self._offered))
            raise FatalSubscription(
                f"Invalid schema {line.schema!r} for {self._dataset}; one of {known}",
                INVALID_SUBSCRIPTION,
            )
        self._check_replay(line, now_ns, replay_limit_s, started)
        selection = Selection(self._universe, self._dataset, line.schema, line.symbols, line.stype_in)
        slot_ns = now_ns // SLOT_NS * SLOT_NS
        # A bar is published when its interval is over, a replay asks for where it began.
        lag_ns = SPECS[line.schema].lag_ns
        joined_ns = slot_ns if line.start_ns is None else line.start_ns + lag_ns
        if self._cursor_ns is not None:
            joined_ns = max(joined_ns, self._cursor_ns)
        self._subscribed.append(_Subscribed(selection, joined_ns, line.start_ns is not None))
        answers = [self._system(now_ns, SUBSCRIPTION_ACK, _ack_text(line))]
        answers += self._mappings(selection, now_ns)
        if line.snapshot:
            answers += self._snapshot(selection, now_ns)
        return answers

    def begin(self, now_ns: int) -> None:
        """The session starts: nothing earlier is sent, unless a subscription asked for it."""
        slot_ns = now_ns // SLOT_NS * SLOT_NS
        for subscribed in self._subscribed:
            if not subscribed.replaying:
                subscribed.joined_ns = slot_ns
        self._cursor_ns = min((item.joined_ns for item in self._subscribed), default=slot_ns)

    def due(self, now_ns: int) -> Outgoing | None:
        """The next buffer of records that the market has published by now; None when there is none yet."""
        assert self._cursor_ns is not None
        slot_ns = now_ns // SLOT_NS * SLOT_NS
        while self._cursor_ns < slot_ns:
            end_ns = self._end_of_buffer(self._cursor_ns, slot_ns)
            parts = self._parts(self._cursor_ns, end_ns)
            self._cursor_ns = end_ns
            if parts:
                return lay_out(parts, now_ns if self._ts_out else None)
        return None

    def replays_done(self, now_ns: int) -> Iterator[Outgoing]:
        """The notices that are owed once `due` has nothing more: each finished replay's, once."""
        for subscribed in self._subscribed:
            if subscribed.replaying:
                subscribed.replaying = False
                text = f"Finished {subscribed.selection.schema} replay"
                yield self._system(now_ns, REPLAY_COMPLETED, text)

    def heartbeat(self, now_ns: int) -> Outgoing:
        return self._system(now_ns, HEARTBEAT, "Heartbeat")

    def error(self, now_ns: int, message: str, code: dbn.ErrorCode) -> Outgoing:
        text = message.encode("ascii", "replace").decode("ascii")[:301]
        return control(dbn.ErrorMsg(now_ns, text, True, code, **self._stamp(now_ns)))

    def tick_streams(self, now_ns: int) -> list[Stream]:
        """The tick streams subscribed to, each once: what a firehose pours."""
        label = trading_label(date_of_ns(now_ns))
        streams = (stream for item in self._subscribed for stream in item.selection.streams(label))
        return [stream for stream in dict.fromkeys(streams) if SPECS[stream.schema].kind == "tick"]

    def _parts(self, start_ns: int, end_ns: int) -> list[Part]:
        parts: list[Part] = []
        seen: set[Stream] = set()
        for item in sorted(self._subscribed, key=lambda item: item.joined_ns):
            lag_ns = SPECS[item.selection.schema].lag_ns
            from_ns = max(start_ns, item.joined_ns)
            if from_ns < end_ns:
                found = self._market.parts([item.selection], from_ns - lag_ns, end_ns - lag_ns)
                fresh = [part for part in found if part.stream not in seen]
                parts += fresh
                seen |= {part.stream for part in fresh}
        return parts

    def _end_of_buffer(self, start_ns: int, limit_ns: int) -> int:
        """How far to read: a buffer's worth, however long a client has not been reading."""
        end_ns = min(limit_ns, start_ns + self._window_ns)
        size = self._size(start_ns, end_ns)
        if size < _BUFFER_BYTES // 4:
            self._window_ns = min(_WINDOW_MAX_NS, self._window_ns * 2)
        while size > _BUFFER_BYTES and end_ns - start_ns > SLOT_NS // 10:
            self._window_ns = (end_ns - start_ns) // 2
            end_ns = start_ns + self._window_ns
            size = self._size(start_ns, end_ns)
        return end_ns

    def _size(self, start_ns: int, end_ns: int) -> int:
        """The most bytes that an interval holds; overlapping subscriptions count twice."""
        return sum(
            self._market.count(item.selection, start_ns, end_ns) * SPECS[item.selection.schema].size
            for item in self._subscribed
        )

    def _check_replay(self, line: SubscriptionLine, now_ns: int, limit_s: float, started: bool) -> None:
        if line.start_ns is not None and (started or line.start_ns > now_ns):
            why = "only before start_session" if started else "not from the future"
            raise FatalSubscription(f"Invalid start: replay works {why}", INVALID_SUBSCRIPTION)
        if line.start_ns is not None and line.start_ns < now_ns - int(limit_s * 10**9):
            raise FatalSubscription(
                f"Invalid start: replay reaches back {limit_s / 3600:g} h", REPLAY_DATA_AGED_OUT
            )
        if line.snapshot and line.schema != "mbo":
            raise FatalSubscription("Invalid snapshot: only mbo has one", INVALID_SUBSCRIPTION)

    def _mappings(self, selection: Selection, now_ns: int) -> list[Outgoing]:
        """A mapping for each contract; an error, which ends nothing, for a symbol that stands for none."""
        label = trading_label(date_of_ns(now_ns))
        midnight_ns = now_ns // DAY_NS * DAY_NS
        answers = []
        for symbol in selection.symbols:
            contracts = selection.contracts(symbol, label)
            if not contracts:
                text = f"Failed to resolve symbol: {symbol}"
                answers.append(self.error(now_ns, text, SYMBOL_RESOLUTION_FAILED))
            for product, rank in contracts:
                raw = raw_symbol(product, rank, label)
                message = dbn.SymbolMappingMsg(
                    0,
                    instrument_id(selection.dataset, raw),
                    now_ns,
                    dbn.SType.from_str(selection.stype_in),
                    raw if symbol == ALL_SYMBOLS else symbol,
                    dbn.SType.from_str("raw_symbol"),
                    raw,
                    midnight_ns,
                    midnight_ns + DAY_NS,
                    **self._stamp(now_ns),
                )
                answers.append(control(message))
        return answers

    def _snapshot(self, selection: Selection, now_ns: int) -> list[Outgoing]:
        parts = []
        for session in self._market.sessions(selection.dataset, "mbo", now_ns, now_ns + 1):
            for stream in selection.streams(symbol_label(session)):
                last = min(SNAPSHOT_RECORDS, self._market.total(stream, session))
                if last:
                    parts.append(
                        Part(stream, _as_snapshot(self._market.rows(stream, session, 0, last), now_ns))
                    )
        return [lay_out(parts, now_ns if self._ts_out else None)] if parts else []

    def _system(self, now_ns: int, code: dbn.SystemCode, text: str) -> Outgoing:
        return control(dbn.SystemMsg(now_ns, text, code, **self._stamp(now_ns)))

    def _stamp(self, now_ns: int) -> dict[str, int]:
        return {"ts_out": now_ns} if self._ts_out else {}


class Firehose:
    """Tick records as fast as they are taken.

    Without a rate no instant has a number of records, so these belong to the connection: two of them, or a replay,
    do not agree. Each stream's block is encoded once and only stamped and numbered anew.
    """

    def __init__(self, seed: int, streams: Sequence[Stream], now_ns: int, *, ts_out: bool) -> None:
        self._ts_out = ts_out
        self._last_ns = now_ns
        self._turn = 0
        # Dense enough that one block lies within one second of the model.
        model = Market(seed, rate=1_000_000)
        (session,) = sessions_between("always", now_ns, now_ns + 1)
        self._blocks = [Part(stream, model.rows(stream, session, 0, _FIREHOSE_RECORDS)) for stream in streams]

    def pour(self, now_ns: int) -> Outgoing:
        """The next block: the streams take turns, time never goes back."""
        count = _FIREHOSE_RECORDS
        first_ns = max(now_ns - count, self._last_ns + 1)
        self._last_ns = first_ns + count - 1
        part = self._blocks[self._turn % len(self._blocks)]
        blocks_before = self._turn // len(self._blocks)
        self._turn += 1
        rows = part.rows.copy()
        stamps = first_ns + np.arange(count)
        rows["ts_event"] = stamps
        rows["ts_recv"] = stamps
        names = rows.dtype.names or ()
        if "sequence" in names:
            rows["sequence"] += np.uint32(blocks_before * count & 0xFFFF_FFFF)
        if "order_id" in names:
            rows["order_id"] += np.uint64(blocks_before * count)
        return lay_out([replace(part, rows=rows)], now_ns if self._ts_out else None)


def _as_snapshot(rows: Rows, now_ns: int) -> Rows:
    rows["action"] = b"A"
    rows["flags"] = F_SNAPSHOT
    rows["flags"][-1] = F_SNAPSHOT | F_LAST
    rows["ts_recv"] = now_ns
    return rows


def _ack_text(line: SubscriptionLine) -> str:
    number = "" if line.number is None else f" {line.number}"
    return f"Subscription request{number} for {line.schema} data succeeded"

"""What a live connection is sent, as buffers ready for the socket. No I/O and no clock here."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import databento_dbn as dbn

from budget_guard.sandbox.live.outgoing import Outgoing, control, lay_out, unbilled
from budget_guard.sandbox.live.wire import SubscriptionLine
from budget_guard.sandbox.market.model import ALL_SYMBOLS, MarketData, Part, Selection
from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.market.sessions import date_of_ns

SLOT_NS = 10 * 10**6
DAY_NS = 86_400 * 10**9

HEARTBEAT = dbn.SystemCode.from_int(0)
SUBSCRIPTION_ACK = dbn.SystemCode.from_int(1)
REPLAY_COMPLETED = dbn.SystemCode.from_int(3)
SYMBOL_RESOLUTION_FAILED = dbn.ErrorCode.from_int(4)
INVALID_SUBSCRIPTION = dbn.ErrorCode.from_int(5)
REPLAY_DATA_AGED_OUT = dbn.ErrorCode.from_int(8)

# A read of the market is widened or narrowed until it makes buffers of about this many bytes.
_BUFFER_BYTES = 2**20
_WINDOW_MAX_NS = 3600 * 10**9
FIREHOSE_RECORDS = 16_384


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

    def __init__(self, market: MarketData, dataset: str, offered: frozenset[str], *, ts_out: bool) -> None:
        self._market = market
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
        selection = Selection(self._dataset, line.schema, line.symbols, line.stype_in)
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
            parts = self._market.snapshot(selection, now_ns)
            answers += [lay_out(parts, now_ns if self._ts_out else None)] if parts else []
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

    def blocks(self, now_ns: int) -> list[Part]:
        """A block of each tick stream subscribed to, each once: what a firehose pours."""
        found = (
            part
            for item in self._subscribed
            for part in self._market.blocks(item.selection, now_ns, FIREHOSE_RECORDS)
        )
        return list({part.source: part for part in found}.values())

    def _parts(self, start_ns: int, end_ns: int) -> list[Part]:
        parts: list[Part] = []
        seen: set[Hashable] = set()
        for item in sorted(self._subscribed, key=lambda item: item.joined_ns):
            lag_ns = SPECS[item.selection.schema].lag_ns
            from_ns = max(start_ns, item.joined_ns)
            if from_ns < end_ns:
                found = self._market.parts(item.selection, from_ns - lag_ns, end_ns - lag_ns)
                fresh = [part for part in found if part.source not in seen]
                parts += fresh
                seen |= {part.source for part in fresh}
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
        day = date_of_ns(now_ns)
        midnight_ns = now_ns // DAY_NS * DAY_NS
        answers = []
        for symbol in selection.symbols:
            instruments = self._market.resolve(selection.dataset, symbol, selection.stype_in, day)
            if not instruments:
                text = f"Failed to resolve symbol: {symbol}"
                answers.append(self.error(now_ns, text, SYMBOL_RESOLUTION_FAILED))
            for instrument in instruments:
                message = dbn.SymbolMappingMsg(
                    0,
                    instrument.instrument_id,
                    now_ns,
                    dbn.SType.from_str(selection.stype_in),
                    instrument.raw_symbol if symbol == ALL_SYMBOLS else symbol,
                    dbn.SType.from_str("raw_symbol"),
                    instrument.raw_symbol,
                    midnight_ns,
                    midnight_ns + DAY_NS,
                    **self._stamp(now_ns),
                )
                answers.append(control(message))
        return answers

    def _system(self, now_ns: int, code: dbn.SystemCode, text: str) -> Outgoing:
        return control(dbn.SystemMsg(now_ns, text, code, **self._stamp(now_ns)))

    def _stamp(self, now_ns: int) -> dict[str, int]:
        return {"ts_out": now_ns} if self._ts_out else {}


def _ack_text(line: SubscriptionLine) -> str:
    number = "" if line.number is None else f" {line.number}"
    return f"Subscription request{number} for {line.schema} data succeeded"

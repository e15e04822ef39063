"""What goes wrong on one live connection: buffers altered, places to stop at, how fast bytes may go. No I/O here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import databento_dbn as dbn

from budget_guard.clock import Clock, ns_from_instant
from budget_guard.sandbox.account import Account
from budget_guard.sandbox.billing.rules import Kind
from budget_guard.sandbox.faults.engine import Armed, Faults
from budget_guard.sandbox.faults.model import ERROR_CODES
from budget_guard.sandbox.live.feed import SLOT_NS
from budget_guard.sandbox.live.outgoing import Outgoing, Run, control
from budget_guard.sandbox.market.records import SPECS

# Kinds that change, add or leave out records; the others change how bytes flow.
_RECORD_KINDS = frozenset(
    {
        "heartbeats_only",
        "corrupt_length",
        "corrupt_rtype",
        "unknown_record",
        "duplicate",
        "out_of_order",
        "lose_replay",
    }
)
_UNKNOWN_BYTES = 24
_BURST_S = 1.0


class Record(NamedTuple):
    """A record on its way; a schema of None is control, and its kind is what the bill's rules ask for."""

    schema: str | None
    data: bytes
    kind: Kind | None = None


class Link:
    """The faults of one connection, from its login on. `ts_out` says whether its records carry the time of sending."""

    def __init__(
        self, faults: Faults, clock: Clock, account: Account, dataset: str, key: str, *, ts_out: bool
    ) -> None:
        self.sent_bytes = 0  # after the DBN header
        self.sent_records = 0  # of market data
        self._faults = faults
        self._clock = clock
        self._account = account
        self._dataset = dataset
        self._key = key
        self._ts_out = ts_out
        self._since_s = clock.elapsed_s()
        self._seen: set[Armed] = set()
        self._lasting: dict[Armed, float | None] = {}
        self._twice = 0
        self._single = 0
        self._held: Record | None = None
        self._live_from_ns: int | None = None  # what the market published before is a replay
        self._replayed = 0
        self._tokens = 0.0
        self._tokens_s = 0.0
        self._base = (0, 0)
        self._writing: Outgoing | None = None
        self.held_until_s: float | None = None  # when what waits now may be let through, by `now_s`
        faults.links.add(self)

    def now_s(self) -> float:
        """The sandbox's clock, for durations: at the pace of its instants, however it is moved."""
        return self._clock.elapsed_s()

    @property
    def idle(self) -> bool:
        """Whether nothing is armed or going on: buffers may pass as they are."""
        return not (self._faults.streams or self._lasting or self._held or self._account.unpaid)

    def instants(self) -> Iterator[datetime]:
        """When something begins or ends for this connection alone: a clock that is moved should stop there."""
        if not (self._faults.streams or self._lasting):
            return
        now, now_s = self._clock.now(), self._clock.elapsed_s()
        moments = [until_s for until_s in self._lasting.values() if until_s is not None]
        moments += [
            self._since_s + armed.fault.after.amount
            for kinds in (True, False)
            for armed in self._waiting(record_kinds=kinds)
            if armed.fault.after is not None and armed.fault.after.unit == "s"
        ]
        if self.held_until_s is not None:
            moments.append(self.held_until_s)
        # Never a little before the moment itself: it would not have come there.
        yield from (
            now + timedelta(microseconds=math.ceil((moment - now_s) * 10**6))
            for moment in moments
            if moment > now_s
        )

    @property
    def silent(self) -> bool:
        """Whether nothing at all may be sent."""
        return self._has("silence")

    @property
    def withholding(self) -> bool:
        """Whether market data is left out and all else goes on."""
        return self._account.unpaid or self._has("heartbeats_only")

    @property
    def delay_s(self) -> float:
        """How long every write waits first."""
        return sum(int(armed.fault.args["ms"]) for armed in self._going_on("delay")) / 1000

    def look(self) -> Armed | None:
        """Strike what is due by now. Returns what ends the connection: close, reset or error_record."""
        for armed in self._due(record_kinds=False):
            if self._strike(armed):
                if armed.fault.do in ("close", "reset", "error_record"):
                    return armed
                self._lasting[armed] = self._until(armed)
                self._single += armed.fault.args.get("bytes", 0)
                self._tokens, self._tokens_s = 0.0, self._clock.elapsed_s()
        return None

    def last_words(self, armed: Armed) -> Outgoing | None:
        """What is said before the end."""
        if armed.fault.do != "error_record":
            return None
        code = armed.fault.args["code"]
        said = (armed.fault.args["text"] or code.replace("_", " ")).encode("ascii", "replace").decode()[:301]
        now_ns = ns_from_instant(self._clock.now())
        stamp = {"ts_out": now_ns} if self._ts_out else {}
        number = dbn.ErrorCode.from_int(ERROR_CODES.index(code) + 1)
        return control(dbn.ErrorMsg(now_ns, said, True, number, **stamp))

    def altered(self, outgoing: Outgoing) -> Outgoing | None:
        """A buffer as it is to be sent; None when nothing of it is."""
        if not outgoing.runs or outgoing.whole:
            return outgoing
        withholding = self.withholding
        losing = [armed.fault.args for armed in self._going_on("lose_replay")]
        actions = self._actions(outgoing)
        if not (actions or losing or self._twice or self._held or withholding):
            return outgoing
        return _joined(self._rewritten(_records(outgoing), actions, losing, withholding=withholding))

    def begin(self, outgoing: Outgoing) -> None:
        """A buffer is about to be written."""
        if self._live_from_ns is None:
            self._live_from_ns = ns_from_instant(self._clock.now()) // SLOT_NS * SLOT_NS
        self._writing = outgoing
        self._base = self.sent_bytes, self.sent_records

    def at(self, position: int) -> None:
        """So much of the buffer is written."""
        assert self._writing is not None
        if self._writing.whole:
            position = self._writing.size if position else 0
        self.sent_bytes = self._base[0] + position
        self.sent_records = self._base[1] + _data_records(self._writing, position)

    def wrote(self, taken: int) -> None:
        """Bytes that were written count towards what may be."""
        self._tokens -= taken
        self._single = max(0, self._single - taken) if self._has("one_byte") else 0

    def hold_back(self, due_s: float) -> None:
        """What is to be written waits, for its delay or for what a slow link lets through in a while."""
        self.held_until_s = (
            max(due_s, self._clock.elapsed_s() + _BURST_S) if self._has("slow_link") else due_s
        )

    def let_through(self) -> None:
        """Nothing waits any more."""
        self.held_until_s = None

    def room(self, position: int, most: int) -> int:
        """How many bytes may be written now, up to the next place where something is to happen; 0: wait a little."""
        assert self._writing is not None
        for stop in self._stops(self._writing):
            if position < stop:
                most = min(most, stop - position)
        if self._has("one_byte") and self._single:
            most = 1
        rates = [armed.fault.args["bytes_per_s"] for armed in self._going_on("slow_link")]
        return min(most, self._allowance(min(rates))) if rates else most

    def _allowance(self, rate: int) -> int:
        now_s = self._clock.elapsed_s()
        earned = (now_s - self._tokens_s) * rate
        self._tokens = min(max(self._tokens, 0.0) + earned, max(1.0, rate * _BURST_S))
        self._tokens_s = now_s
        return int(self._tokens)

    def _stops(self, outgoing: Outgoing) -> Iterator[int]:
        """The places in a buffer at which a fault of the flow strikes."""
        if outgoing.whole:
            return
        for armed in self._waiting(record_kinds=False):
            after = armed.fault.after
            if after is not None and after.unit == "bytes":
                yield int(after.amount) - self._base[0]
            elif after is not None and after.unit == "records":
                yield _end_of_record(outgoing, int(after.amount) - self._base[1])

    def _actions(self, outgoing: Outgoing) -> dict[int, list[Armed]]:
        """What is to happen in a buffer, by the place of the data record to which it happens; counted as struck."""
        total = _data_records(outgoing, len(outgoing.data))
        actions: dict[int, list[Armed]] = {}
        for armed in self._waiting(record_kinds=True):
            if armed.fault.do == "lose_replay" and not self._replays(outgoing):
                continue
            place = self._place(armed, outgoing)
            if place is not None and place < total and self._strike(armed):
                actions.setdefault(place, []).append(armed)
                if armed.fault.do in ("heartbeats_only", "lose_replay"):
                    self._lasting[armed] = self._until(armed)
        return actions

    def _place(self, armed: Armed, outgoing: Outgoing) -> int | None:
        """Which data record of a buffer a fault strikes first; None when it is not due."""
        after = armed.fault.after
        if after is None or after.unit == "s":
            return 0 if self._is_due(armed) else None
        if after.unit == "records":
            return max(0, int(after.amount) - self.sent_records)
        start = int(after.amount) - self.sent_bytes
        return _data_records(outgoing, start, rounded_up=True) if start > 0 else 0

    def _rewritten(
        self,
        records: Iterable[Record],
        actions: dict[int, list[Armed]],
        losing: list[Mapping[str, Any]],
        *,
        withholding: bool,
    ) -> Iterator[Record]:
        place = -1
        for record in records:
            if record.schema is None:
                yield record
                continue
            place += 1
            here = actions.get(place, ())
            for armed in here:
                if armed.fault.do == "unknown_record":
                    yield self._unknown(armed.fault.args["rtype"], record)
                record = self._changed(armed, record)
            kinds = {armed.fault.do for armed in here}
            withholding = withholding or "heartbeats_only" in kinds
            losing = losing + [armed.fault.args for armed in here if armed.fault.do == "lose_replay"]
            lost = [self._loses(args, record) for args in losing]  # each counts its own
            if not withholding and not any(lost):
                yield from self._in_order(record, hold="out_of_order" in kinds)

    def _in_order(self, record: Record, *, hold: bool) -> Iterator[Record]:
        """A record, perhaps twice, and the one that was held back before it."""
        if hold and self._held is None:
            self._held = record
            return
        yield record
        if self._twice:
            self._twice -= 1
            yield record._replace(kind="duplicate")
        if self._held is not None:
            held, self._held = self._held, None
            yield held

    def _changed(self, armed: Armed, record: Record) -> Record:
        data = bytearray(record.data)
        if armed.fault.do == "corrupt_length":
            data[0] = min(255, data[0] + 1)
        elif armed.fault.do == "corrupt_rtype":
            data[1] ^= 0xFF
        elif armed.fault.do == "duplicate":
            self._twice += armed.fault.args["records"]
        return record._replace(data=bytes(data))

    def _unknown(self, rtype: int, beside: Record) -> Record:
        """A sound record of an unknown type, with the publisher, contract and time of another."""
        size = _UNKNOWN_BYTES + (8 if self._ts_out else 0)
        tail = beside.data[-8:] if self._ts_out else b""
        data = bytes((size // 4, rtype)) + beside.data[2:16] + bytes(_UNKNOWN_BYTES - 16) + tail
        return Record(None, data)

    def _loses(self, args: Mapping[str, Any], record: Record) -> bool:
        """Whether a record of a replay is one of those that are lost: of each hundred as many as the share says."""
        stamp_ns, published_ns = _stamps(record)
        if self._live_from_ns is None or published_ns >= self._live_from_ns:
            return False
        first, last = args["from"], args["to"]
        if first is not None and stamp_ns < ns_from_instant(first):
            return False
        if last is not None and stamp_ns >= ns_from_instant(last):
            return False
        before = int(self._replayed * args["share"])
        self._replayed += 1
        return int(self._replayed * args["share"]) > before

    def _replays(self, outgoing: Outgoing) -> bool:
        """Whether a buffer begins with records that the market published before the session."""
        first = next((record for record in _records(outgoing) if record.schema is not None), None)
        return first is not None and self._live_from_ns is not None and _stamps(first)[1] < self._live_from_ns

    def _strike(self, armed: Armed) -> bool:
        self._seen.add(armed)
        return self._faults.strike(armed, self._dataset)

    def _waiting(self, *, record_kinds: bool) -> list[Armed]:
        """Those that may still strike this connection."""
        now = self._clock.now()
        return [
            armed
            for armed in self._faults.streams
            if armed not in self._seen
            and (armed.fault.do in _RECORD_KINDS) == record_kinds
            and armed.state(now) == "armed"
            and armed.fault.matches(self._dataset, self._key)
        ]

    def _due(self, *, record_kinds: bool) -> list[Armed]:
        return [armed for armed in self._waiting(record_kinds=record_kinds) if self._is_due(armed)]

    def _is_due(self, armed: Armed) -> bool:
        after = armed.fault.after
        if after is None:
            return True
        if after.unit == "s":
            return self._clock.elapsed_s() - self._since_s >= after.amount
        return (self.sent_bytes if after.unit == "bytes" else self.sent_records) >= after.amount

    def _until(self, armed: Armed) -> float | None:
        """When a lasting fault is over for this connection, by `now_s`."""
        if armed.fault.for_s is None:
            return None
        if armed.fault.after is not None:
            return self._clock.elapsed_s() + armed.fault.for_s
        assert armed.until is not None
        return self._clock.elapsed_s() + (armed.until - self._clock.now()).total_seconds()

    def _going_on(self, do: str) -> list[Armed]:
        now_s = self._clock.elapsed_s()
        for armed, until_s in list(self._lasting.items()):
            if armed.dropped or (until_s is not None and now_s >= until_s):
                del self._lasting[armed]
        return [armed for armed in self._lasting if armed.fault.do == do]

    def _has(self, do: str) -> bool:
        return bool(self._lasting) and bool(self._going_on(do))


def _stamps(record: Record) -> tuple[int, int]:
    """A record's index timestamp, and when the market published it."""
    assert record.schema is not None
    spec = SPECS[record.schema]
    assert spec.dtype.fields is not None
    place = spec.dtype.fields[spec.index_field][1]
    stamp_ns = int.from_bytes(record.data[place : place + 8], "little")
    return stamp_ns, stamp_ns + spec.lag_ns


def _records(outgoing: Outgoing) -> Iterator[Record]:
    start = 0
    for run in outgoing.runs:
        while start < run.end:
            yield Record(run.schema, bytes(outgoing.data[start : start + run.record_size]), run.kind)
            start += run.record_size


def _joined(records: Iterable[Record]) -> Outgoing | None:
    data = bytearray()
    runs: list[Run] = []
    for record in records:
        data += record.data
        run = Run(len(data), record.schema, len(record.data), record.kind)
        if runs and replace(runs[-1], end=run.end) == run:
            runs[-1] = replace(runs[-1], end=run.end)
        else:
            runs.append(run)
    return Outgoing(memoryview(bytes(data)), tuple(runs)) if runs else None


def _data_records(outgoing: Outgoing, position: int, *, rounded_up: bool = False) -> int:
    """How many records of market data lie whole before a position; with `rounded_up`, one that it cuts counts too."""
    start = count = 0
    for run in outgoing.runs:
        if position <= start:
            break
        if run.schema is not None:
            covered = min(position, run.end) - start
            count += -(-covered // run.record_size) if rounded_up else covered // run.record_size
        start = run.end
    return count


def _end_of_record(outgoing: Outgoing, count: int) -> int:
    """Where the record of market data with that number (from 1) ends; beyond the buffer when it is not in it."""
    start = 0
    for run in outgoing.runs:
        if run.schema is not None:
            here = (run.end - start) // run.record_size
            if count <= here:
                return start + count * run.record_size
            count -= here
        start = run.end
    return len(outgoing.data) + 1

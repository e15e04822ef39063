"""The data path of one relayed connection: vendor's bytes in, whole records out, everything counted on the way.

It lives as long as the client's connection; the vendor's side under it may be lost and opened again. It never
waits: what needs the ledger or the vendor is asked of the connection that owns it, through `PumpOwner`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from budget_guard.clock import Clock, ns_from_instant, uptime_ns
from budget_guard.gateway.live.counting import Counting
from budget_guard.gateway.live.delivered import Position, Tail
from budget_guard.gateway.live.downstream import Downstream
from budget_guard.gateway.live.replay import CatchUp, OwnReplays, Replayed
from budget_guard.gateway.live.sieve import Sieve
from budget_guard.gateway.live.upstream import READ_BYTES, Upstream
from budget_guard.gateway.live.voice import Voice
from budget_guard.gateway.wire.framer import (
    RTYPE_ERROR,
    RTYPE_SYSTEM,
    Framed,
    Framer,
    FramingError,
    split_records,
)
from budget_guard.gateway.wire.records import (
    error_code,
    message_text,
    metadata_start_ns,
    metadata_version,
)
from budget_guard.gateway.wire.refusals import RECORDS_SKIPPED, SEEN_TO
from budget_guard.gateway.wire.scrub import Scrubber
from budget_guard.gateway.wire.subscription import Subscription
from budget_guard.guard.connection import LiveHold


class Stop(Enum):
    """Why a connection to the vendor is being ended from this side."""

    LIMIT = "limit"
    WINDOW = "window"
    CLIENT = "client"
    SHUTDOWN = "shutdown"
    REVOKED = "token revoked"
    VERSION = "version"  # the vendor changed the DBN version between two connections
    FAILED = "failure"  # a defect of ours: fail closed
    PERIOD = "period"  # the billing month ends: reopened at once in the next
    REPLAY_SPEND = "replay spend"  # the replay cost more than recovery.spend: reopened without one
    SHED = "a stream ended"  # the others go on: reopened without it
    STALE = "stale"  # the vendor fell silent: reopened
    WITHOUT_DATA = "without data"  # the vendor is heard, and nothing of an open market comes: reopened
    CORRUPT = "corrupt"  # bytes that are no DBN records: reopened

    @property
    def reopens(self) -> bool:
        """Whether the vendor's side is opened again afterwards."""
        return self in _REOPENED


_REOPENED = frozenset(
    {Stop.PERIOD, Stop.SHED, Stop.REPLAY_SPEND, Stop.STALE, Stop.WITHOUT_DATA, Stop.CORRUPT}
)


@dataclass(frozen=True, slots=True)
class VendorText:
    """The vendor's last ErrorMsg, while no market data came after it. `heard`: the client was given it."""

    code: int
    text: str
    heard: bool


class PumpOwner(Protocol):
    def stop(self, why: Stop) -> None:
        """Begin to end the vendor's connection."""

    def want_renewal(self, hold: LiveHold) -> None:
        """The lease runs low: renew it in the background."""

    def money_ran_out(self, hold: LiveHold) -> None:
        """Nothing is left of the lease: renew it, or stop."""

    def records_skipped(self, text: str) -> None:
        """The vendor has left records out because they were not read in time."""

    def replay_completed(self, schema: str, missing: int) -> None:
        """The gap of a schema before this connection has been mended, but for so many records of its beginning."""


class Pump:
    """Bytes from `upstream` to `down`, counted on the holds of the parts that they belong to."""

    def __init__(
        self,
        owner: PumpOwner,
        down: Downstream,
        voice: Voice,
        clock: Clock,
        scrubber: Scrubber | None = None,
    ) -> None:
        self._owner = owner
        self._down = down
        self._voice = voice
        self._clock = clock
        self._scrubber = scrubber
        self._framer = Framer()
        self._sieve = Sieve(voice.notice)
        self._counting: Counting | None = None
        self._upstream: Upstream | None = None
        self._catch_up: CatchUp | None = None
        self._own_replays = OwnReplays(())
        self.on_resumed: Callable[[], None] = lambda: None  # another session than the first has begun
        self._tail = Tail()
        self._corrupt = False
        self._ending = False
        self.error: VendorText | None = None
        self.last_heard_s = clock.monotonic_s()
        # When, in the market's seconds, the client last had everything there was, and when it was given the last record
        # of which that holds: the record's timestamp is beside it.
        self.current_s = self.level_s = clock.market_s()
        self.level_ns: int | None = None
        self.data_bytes = 0  # market data delivered from the connection that is attached
        self.began_ns = ns_from_instant(clock.now())  # from when on the client was to have everything

    @property
    def last_ts_ns(self) -> int | None:
        """The timestamp of the last record that the client was given."""
        return self._tail.last_ts_ns

    @property
    def replaying(self) -> bool:
        return self._catch_up is not None

    @property
    def ts_out(self) -> bool:
        """Whether each record ends with the time at which it was sent."""
        return self._voice.ts_out

    @property
    def replayed_bytes(self) -> int:
        """What a replay that is not completed has cost so far."""
        return 0 if self._catch_up is None else self._catch_up.size_bytes

    def positions(self) -> dict[int, Position]:
        """Until where the client has each record type, whether or not a replay is under way."""
        found = self._tail.positions(self.began_ns, ts_out=self.ts_out)
        return found if self._catch_up is None else found | self._catch_up.unfinished()

    def unfinished_start_ns(self, schema: str, had: Mapping[int, Position]) -> int | None:
        """Where a replay that is not completed has to go on, given what the client has; None where there is none."""
        replays = self._own_replays if self._catch_up is None else self._catch_up
        start_ns = replays.unfinished_start_ns(schema, had)
        return self.began_ns if start_ns == 0 else start_ns

    def attach(self, upstream: Upstream, counting: Counting, asked: Iterable[Subscription] = ()) -> None:
        """Take bytes from a new connection to the vendor; the first brings the replays that the client `asked` for."""
        first = self._upstream is None
        self._own_replays = OwnReplays(
            Replayed(line.schema, line.start_ns) for line in asked if first and line.start_ns is not None
        )
        self._framer = Framer()
        self._upstream = upstream
        self._counting = counting
        self._catch_up = None
        self._corrupt = False
        self._ending = False
        self.error = None
        self.last_heard_s = self._clock.monotonic_s()
        self.data_bytes = 0

    def expect(self, catch_up: CatchUp) -> None:
        """The new connection starts with records the client may have: those are dropped."""
        self._catch_up = catch_up

    def end(self) -> None:
        """The decision to stop has been made: what still comes is the ending."""
        self._ending = True
        if self._counting is not None:
            for hold in self._counting.holds:
                hold.begin_ending()

    def finish(self) -> None:
        """The connection to the vendor has ended: nothing more comes of it."""
        if self._counting is not None:
            self._counting.finish(uptime_ns())

    def room_bytes(self) -> int:
        """What a read may take so that the leases still cover an ending after it; best with a record at its end."""
        left = None if self._ending or self._counting is None else self._counting.left_bytes
        return self._framer.fitting(READ_BYTES if left is None else min(left, READ_BYTES))

    def upstream_data(self, data: bytes, *, filled: bool = False) -> None:
        """Count, frame, forward. Called for every read; must stay cheap."""
        counting = self._counting
        assert counting is not None
        # The meter's time is the machine's own: another process compares it after a crash.
        now_ns = uptime_ns()
        # As of when the read came: who is given it may have moved the clock on before its writing is over.
        self.last_heard_s = self._clock.monotonic_s()
        came_s = self._clock.market_s()
        framed = self._frame(data)
        if framed is None:
            counting.count_unknown(len(data), now_ns, filled=filled)
            self._owner.stop(Stop.CORRUPT)
        else:
            counting.count(framed, now_ns, filled=filled)
            if framed.metadata is not None:
                self._take_metadata(framed.metadata)
            if framed.records:
                self._forward(framed)
        if self._catch_up is None:
            self.current_s = came_s
            if framed is not None and framed.last_ts_ns is not None:
                self.level_s, self.level_ns = came_s, framed.last_ts_ns
        for hold in counting.holds:
            self._check_money(hold)

    def _frame(self, data: bytes) -> Framed | None:
        """None for what is not DBN, and for everything after it: nobody knows where records begin there."""
        if self._corrupt:
            return None
        try:
            return self._framer.feed(data)
        except FramingError:
            self._corrupt = True
            return None

    def _take_metadata(self, metadata: bytes) -> None:
        version = metadata_version(metadata)
        if self._voice.version is None:
            self._voice.version = version
            self.began_ns = self._own_replays.began_ns(metadata_start_ns(metadata))
            self._down.write(metadata)
        elif version != self._voice.version:
            self._corrupt = True  # records of another version make the client panic
            self._owner.stop(Stop.VERSION)
        else:
            self.on_resumed()

    def _forward(self, framed: Framed) -> None:
        if self._corrupt:
            return
        records = self._sieve.sift(framed, ts_out=self._voice.ts_out)
        if records is None:
            self._corrupt = True
            self._owner.stop(Stop.CORRUPT)
            return
        if self.error is not None and framed.last_ts_ns is not None:
            self.error = None
        if framed.control_bytes:
            records = self._take_control(records, framed.rtypes)
        if self._catch_up is not None:
            records = self._catch_up_with(self._catch_up, records, framed)
        if records:
            self._down.write(records)
            if framed.last_ts_ns is not None:
                self.data_bytes += len(records)
            self._tail.remember(records, framed.rtypes, framed.last_ts_ns)

    def _take_control(self, records: bytes, rtypes: Collection[int]) -> bytes:
        """See what the vendor says beside the data; the records that are for the client."""
        if self._scrubber is not None and (RTYPE_ERROR in rtypes or RTYPE_SYSTEM in rtypes):
            records = self._scrubber.data(records)
        if RTYPE_ERROR in rtypes:
            records = self._take_errors(records)
        if RTYPE_SYSTEM in rtypes and self._catch_up is None and self._voice.version is not None:
            self._own_replays.look(records, self._voice.version)
        return records

    def _catch_up_with(self, catch_up: CatchUp, records: bytes, framed: Framed) -> bytes:
        """The part that the client does not have; ends the connection when its replays cost too much."""
        waiting = catch_up.waiting
        new = catch_up.take(records, framed.rtypes, framed.last_ts_ns, version=self._voice.version)
        for schema in waiting - catch_up.waiting:
            self._owner.replay_completed(schema, catch_up.missing(schema))
        if not catch_up.waiting:
            self._catch_up = None
        elif catch_up.too_dear:
            self._owner.stop(Stop.REPLAY_SPEND)
        return new

    def _take_errors(self, records: bytes) -> bytes:
        """Remember what the vendor complains of; the records without the errors that the relay sees to itself."""
        kept = []
        for record in split_records(records):
            code = error_code(record)
            told = code not in SEEN_TO
            if code is not None:
                self.error = VendorText(code, message_text(record), heard=told and self._catch_up is None)
            if code == RECORDS_SKIPPED:
                self._owner.records_skipped(message_text(record))
            if told:
                kept.append(record)
        return b"".join(kept)

    def _check_money(self, hold: LiveHold) -> None:
        if self._ending:
            left = hold.left_bytes
            if left is not None and left < -hold.allowance_bytes and self._upstream is not None:
                # More came than ending was ever allowed to take: every further byte would be past the limit.
                self._upstream.abort()
            return
        if hold.exhausted:
            self._owner.money_ran_out(hold)
        elif hold.renewal_due:
            self._owner.want_renewal(hold)

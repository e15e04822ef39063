"""The data path of one relayed connection: vendor's bytes in, whole records out, everything counted on the way.

It lives as long as the client's connection; the vendor's side under it may be lost and opened again. It never
waits: what needs the ledger or the vendor is asked of the connection that owns it, through `PumpOwner`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from budget_guard.clock import Clock, ns_from_instant, uptime_ns
from budget_guard.gateway.live.downstream import Downstream
from budget_guard.gateway.live.replay import Deduplicator, Tail
from budget_guard.gateway.live.upstream import Upstream
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
    SYSTEM_REPLAY_COMPLETED,
    error_code,
    error_text,
    metadata_version,
    system_code,
)
from budget_guard.gateway.wire.scrub import Scrubber
from budget_guard.guard.connection import LiveHold

# Live data this much later than the session's start shows that its replays are over, whatever was announced.
REPLAY_OVERDUE_NS = 60 * 10**9


# The records in which the vendor says something in words.
_TEXT_RTYPES = frozenset({RTYPE_ERROR, RTYPE_SYSTEM})


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
    STALE = "stale"  # the vendor fell silent: reopened
    CORRUPT = "corrupt"  # bytes that are no DBN records: reopened

    @property
    def reopens(self) -> bool:
        """Whether the vendor's side is opened again afterwards."""
        return self in _REOPENED


_REOPENED = frozenset({Stop.PERIOD, Stop.REPLAY_SPEND, Stop.STALE, Stop.CORRUPT})


@dataclass(frozen=True, slots=True)
class VendorText:
    """The vendor's last ErrorMsg, while no market data came after it. `heard`: the client was given it."""

    code: int
    text: str
    heard: bool


class PumpOwner(Protocol):
    def stop(self, why: Stop) -> None:
        """Begin to end the vendor's connection."""

    def want_renewal(self) -> None:
        """The lease runs low: renew it in the background."""

    def money_ran_out(self) -> None:
        """Nothing is left of the lease: renew it, or stop."""

    def replay_completed(self) -> None:
        """The gap before this connection has been mended."""


class Pump:
    """Bytes from `upstream` to `down`, counted on `hold`."""

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
        self._hold: LiveHold | None = None
        self._upstream: Upstream | None = None
        self._dedup: Deduplicator | None = None
        self._replays = 0  # that are still to be completed
        self._replays_until_ns = 0
        self._replay_bytes = 0
        self._replay_bytes_max: int | None = None
        self._tail = Tail()
        self._corrupt = False
        self._ending = False
        self.error: VendorText | None = None
        self.last_heard_s = clock.monotonic_s()
        self.current_s = self.last_heard_s  # when the client last had everything there was
        self.data_bytes = 0  # market data delivered from the connection that is attached

    @property
    def last_ts_ns(self) -> int | None:
        """The timestamp of the last record that the client was given."""
        return self._tail.last_ts_ns

    @property
    def replaying(self) -> bool:
        return self._replays > 0

    def attach(self, upstream: Upstream, hold: LiveHold) -> None:
        """Take bytes from a new connection to the vendor."""
        self._framer = Framer()
        self._upstream = upstream
        self._hold = hold
        self._dedup = None
        self._replays = 0
        self._corrupt = False
        self._ending = False
        self.error = None
        self.last_heard_s = self._clock.monotonic_s()
        self.data_bytes = 0

    def expect_replay(self, replays: int, bytes_max: int | None) -> None:
        """The new connection starts with records the client may have: drop those, and stop at `bytes_max`.

        Each of `replays` subscriptions is replayed, and its end announced, by itself.
        """
        now_ns = ns_from_instant(self._clock.now())
        if self._tail.last_ts_ns is not None:
            self._dedup = Deduplicator(
                self._tail.last_ts_ns, self._tail.at_last_ts(), ts_out=self._voice.ts_out
            )
        self._replays = replays
        self._replays_until_ns = now_ns + REPLAY_OVERDUE_NS
        self._replay_bytes = 0
        self._replay_bytes_max = bytes_max

    def end(self) -> None:
        """The decision to stop has been made: what still comes is the ending."""
        self._ending = True
        if self._hold is not None:
            self._hold.begin_ending()

    def swap_hold(self, hold: LiveHold) -> None:
        """Count on another hold from the next byte on."""
        self._hold = hold

    def room_bytes(self) -> int | None:
        """What a read may take so that the lease still covers an ending after it."""
        left = None if self._ending or self._hold is None else self._hold.left_bytes
        # Where reading goes on although nothing is left, another byte is known to cost nothing.
        return None if left is None or left <= 0 else left

    def upstream_data(self, data: bytes) -> None:
        """Count, frame, forward. Called for every read; must stay cheap."""
        hold = self._hold
        assert hold is not None
        # The meter's time is the machine's own: another process compares it after a crash.
        now_ns = uptime_ns()
        self.last_heard_s = self._clock.monotonic_s()
        framed = self._frame(data)
        if framed is None:
            hold.count(len(data), 0, now_ns)
            self._owner.stop(Stop.CORRUPT)
        else:
            hold.count(framed.billable_bytes, framed.control_bytes, now_ns)
            if framed.metadata is not None:
                self._take_metadata(framed.metadata)
            if framed.records:
                self._forward(framed)
        if not self.replaying:
            self.current_s = self.last_heard_s
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
            self._down.write(metadata)
        elif version != self._voice.version:
            self._corrupt = True  # records of another version make the client panic
            self._owner.stop(Stop.VERSION)

    def _forward(self, framed: Framed) -> None:
        records = framed.records
        if self._corrupt:
            return
        if self._scrubber is not None and framed.size_by_rtype.keys() & _TEXT_RTYPES:
            records = self._scrubber.data(records)
        if RTYPE_ERROR in framed.size_by_rtype:
            self._look_for_error(records)
        elif self.error is not None and framed.last_ts_ns is not None:
            self.error = None
        completed = self.replaying and self._replay_is_over(framed)
        if self._dedup is not None:
            records = self._dedup.filter(records)
        if completed:
            self._dedup = None
            self._owner.replay_completed()
        if records:
            if framed.last_ts_ns is not None:
                self.data_bytes += len(records)
            self._tail.remember(records, framed.last_ts_ns)
            self._down.write(records)

    def _replay_is_over(self, framed: Framed) -> bool:
        """Whether every replay is completed with these records; ends the connection when they cost too much."""
        self._replay_bytes += len(framed.records)
        if self._replay_bytes_max is not None and self._replay_bytes > self._replay_bytes_max:
            self._owner.stop(Stop.REPLAY_SPEND)
        if framed.last_ts_ns is not None and framed.last_ts_ns > self._replays_until_ns:
            self._replays = 0
        elif RTYPE_SYSTEM in framed.size_by_rtype and self._voice.version is not None:
            version = self._voice.version
            codes = [system_code(record, version=version) for record in split_records(framed.records)]
            self._replays = max(0, self._replays - codes.count(SYSTEM_REPLAY_COMPLETED))
        return not self.replaying

    def _look_for_error(self, records: bytes) -> None:
        for record in split_records(records):
            code = error_code(record)
            if code is not None:
                self.error = VendorText(code, error_text(record), heard=self._dedup is None)

    def _check_money(self, hold: LiveHold) -> None:
        if self._ending:
            left = hold.left_bytes
            if left is not None and left < -hold.allowance_bytes and self._upstream is not None:
                # More came than ending was ever allowed to take: every further byte would be past the limit.
                self._upstream.abort()
            return
        if hold.exhausted:
            self._owner.money_ran_out()
        elif hold.renewal_due:
            self._owner.want_renewal()

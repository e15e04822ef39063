"""The data path of one relayed connection: vendor's bytes in, whole records out, everything counted on the way.

It lives as long as the client's connection; the vendor's side under it may be lost and opened again. It never
waits: what needs the ledger or the vendor is asked of the connection that owns it, through `PumpOwner`.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import Protocol

from budget_guard.gateway.downstream import Downstream
from budget_guard.gateway.framer import RTYPE_ERROR, RTYPE_SYSTEM, Framed, Framer, FramingError, split_records
from budget_guard.gateway.records import (
    SYSTEM_REPLAY_COMPLETED,
    error_text,
    metadata_version,
    system_code,
)
from budget_guard.gateway.replay import Deduplicator, Tail
from budget_guard.gateway.upstream import Upstream
from budget_guard.gateway.voice import Voice
from budget_guard.guard.connection import LiveHold

# ErrorMsg codes after which the vendor will not serve this session again (DBN specification): authentication
# failed, key deactivated, connection limit.
_FATAL_ERROR_CODES = frozenset({1, 2, 3})
_ERROR_CODE_OFFSET = 16 + 302


class Stop(Enum):
    """Why a connection to the vendor is being ended from this side."""

    LIMIT = "limit"
    WINDOW = "window"
    CLIENT = "client"
    SHUTDOWN = "shutdown"
    PERIOD = "period"  # the billing month ends: reopened at once in the next
    REPLAY_SPEND = "replay spend"  # the replay cost more than recovery.spend: reopened without one
    STALE = "stale"  # the vendor fell silent: reopened
    CORRUPT = "corrupt"  # bytes that are no DBN records: reopened
    VERSION = "version"  # the vendor changed the DBN version between two connections


class PumpOwner(Protocol):
    def stop(self, why: Stop) -> None:
        """Begin to end the vendor's connection."""

    def want_renewal(self) -> None:
        """The lease runs low: renew it in the background."""

    def money_ran_out(self) -> None:
        """Nothing is left of the lease: renew it, or stop."""


class Pump:
    """Bytes from `upstream` to `down`, counted on `hold`."""

    def __init__(self, owner: PumpOwner, down: Downstream, voice: Voice) -> None:
        self._owner = owner
        self._down = down
        self._voice = voice
        self._framer = Framer()
        self._hold: LiveHold | None = None
        self._upstream: Upstream | None = None
        self._dedup: Deduplicator | None = None
        self._replaying = False
        self._replay_bytes = 0
        self._replay_bytes_max: int | None = None
        self._tail = Tail()
        self.ending = False
        self.vendor_error: str | None = None
        self.last_data_s = time.monotonic()
        self.records_bytes = 0  # delivered

    @property
    def last_ts_ns(self) -> int | None:
        """The timestamp of the last record that the client was given."""
        return self._tail.last_ts_ns

    @property
    def replaying(self) -> bool:
        return self._replaying

    def attach(self, upstream: Upstream, hold: LiveHold) -> None:
        """Take bytes from a new connection to the vendor."""
        self._framer = Framer()
        self._upstream = upstream
        self._hold = hold
        self._dedup = None
        self._replaying = False
        self.ending = False
        self.last_data_s = time.monotonic()

    def expect_replay(self, bytes_max: int | None) -> None:
        """The new connection starts with records the client may have: drop those, and stop at `bytes_max`."""
        if self._tail.last_ts_ns is not None:
            self._dedup = Deduplicator(
                self._tail.last_ts_ns, self._tail.at_last_ts(), ts_out=self._voice.ts_out
            )
        self._replaying = True
        self._replay_bytes = 0
        self._replay_bytes_max = bytes_max

    def swap_hold(self, hold: LiveHold) -> None:
        """Count on another hold from the next byte on."""
        self._hold = hold

    def upstream_data(self, data: bytes) -> None:
        """Count, frame, forward. Called for every read; must stay cheap."""
        hold = self._hold
        assert hold is not None
        now_ns = time.monotonic_ns()
        try:
            framed = self._framer.feed(data)
        except FramingError:
            hold.count(len(data), 0, now_ns)
            self._owner.stop(Stop.CORRUPT)
            return
        hold.count(framed.billable_bytes, framed.control_bytes, now_ns)
        self.last_data_s = now_ns / 1e9
        if framed.metadata is not None:
            self._take_metadata(framed.metadata)
        if framed.records:
            self._forward(framed)
        self._check_money(hold)

    def _take_metadata(self, metadata: bytes) -> None:
        version = metadata_version(metadata)
        if self._voice.version is None:
            self._voice.version = version
            self._down.write(metadata)
        elif version != self._voice.version:
            self._owner.stop(Stop.VERSION)

    def _forward(self, framed: Framed) -> None:
        records = framed.records
        if RTYPE_ERROR in framed.size_by_rtype:
            self._look_for_fatal_error(records)
        if self._replaying:
            self._watch_replay(framed)
            if self._dedup is not None:
                records = self._dedup.filter(records)
        if records:
            self._tail.remember(records, framed.last_ts_ns)
            self.records_bytes += len(records)
            self._down.write(records)

    def _watch_replay(self, framed: Framed) -> None:
        self._replay_bytes += len(framed.records)
        if self._replay_bytes_max is not None and self._replay_bytes > self._replay_bytes_max:
            self._owner.stop(Stop.REPLAY_SPEND)
        if RTYPE_SYSTEM not in framed.size_by_rtype or self._voice.version is None:
            return
        codes = {system_code(record, version=self._voice.version) for record in split_records(framed.records)}
        if SYSTEM_REPLAY_COMPLETED in codes:
            self._replaying = False

    def _look_for_fatal_error(self, records: bytes) -> None:
        for record in split_records(records):
            if record[1] != RTYPE_ERROR or len(record) <= _ERROR_CODE_OFFSET:
                continue
            if record[_ERROR_CODE_OFFSET] in _FATAL_ERROR_CODES:
                self.vendor_error = error_text(record)

    def _check_money(self, hold: LiveHold) -> None:
        if self.ending:
            left = hold.left_bytes
            if left is not None and left < -hold.allowance_bytes and self._upstream is not None:
                # More came than ending was ever allowed to take: every further byte would be past the limit.
                self._upstream.abort()
            return
        if hold.exhausted:
            self._owner.money_ran_out()
        elif hold.renewal_due:
            self._owner.want_renewal()

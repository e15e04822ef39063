"""What the relay itself says to a client: errors, notices and heartbeats as records of the client's own stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from budget_guard.clock import Clock, ns_from_instant
from budget_guard.gateway.live.downstream import Downstream
from budget_guard.gateway.wire.records import DBN_VERSION, error_record, session_metadata, system_record


class Voice:
    """Speaks in the DBN version that the client was given a header of, and with the ts_out that it asked for."""

    def __init__(self, down: Downstream, clock: Clock) -> None:
        self._down = down
        self._clock = clock
        self._last_said_s = clock.monotonic_s()
        self.dataset = ""
        self.ts_out = False
        self.version: int | None = None  # of the header that the client was given

    def error(self, text: str) -> None:
        """An ErrorMsg: the official client raises it as `BentoError` when the connection ends."""
        self._say(partial(error_record, text))

    def notice(self, text: str) -> None:
        """A SystemMsg: something to know that is no error."""
        self._say(partial(system_record, text))

    def heartbeat(self, interval_s: int) -> None:
        """A heartbeat, when nothing was said for an interval to a client that has its header."""
        if self.version is not None and self._clock.monotonic_s() - self._last_said_s >= interval_s:
            self._say(partial(system_record, "", heartbeat=True))

    def _say(self, make_record: Callable[..., bytes]) -> None:
        """Put a record into the client's stream, after a header if it has had none."""
        now_ns = ns_from_instant(self._clock.now())
        self._last_said_s = self._clock.monotonic_s()
        if self.version is None:
            self.version = DBN_VERSION
            self._down.write(session_metadata(self.dataset, now_ns, ts_out=self.ts_out))
        self._down.write(make_record(now_ns, version=self.version, ts_out=self.ts_out))

"""Sees how far sandbox, guard and program have come, for the one who moves the clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from budget_guard.clock import Clock, month_bounds
from budget_guard.errors import CalendarUnknown
from budget_guard.guard.guard import Guard
from budget_guard.guard.lease import ENDING_MS
from budget_guard.ledger.meter import read_size
from budget_guard.ledger.model import Hold
from budget_guard.markets.model import Window
from budget_guard.rehearsal.backlog import unread_bytes
from budget_guard.rehearsal.pacing import Sight

if TYPE_CHECKING:
    from budget_guard.sandbox.server import Sandbox
    from budget_guard.streaming.assembly import OpenGateway

# The ledger is asked at least this often; in between its holds change when connections do.
_HOLDS_S = 0.02
# What the sandbox has billed and the guard has not counted by then went down with a connection.
_LOST_S = 1.0
# The program's backlog is asked for when so much may have been added to it: the kernel takes milliseconds to say.
_BACKLOG_BYTES = 64 * 1024


def due_of(hold: Hold, guard: Guard) -> datetime | None:
    """When the guard has to end, renew or roll a live hold; None where no calendar knows."""
    stream = guard.policy.streams[hold.terms.stream or ""]
    opened = hold.terms.opened_utc
    try:
        window, _ = guard.window_state(stream, opened)
        dues = [] if window is None else [window.end_utc]
        while window is not None and window.end_utc.year < 9999:
            window, _ = guard.window_state(stream, window.end_utc)
            dues = dues if window is None else [window.end_utc]
        limits = guard.live_limits(stream, opened)
    except CalendarUnknown:
        return None
    bounded = {limit.key for limit in limits if limit.unit == "hours" and limit.limit is not None}
    granted = [claim.settled + claim.held for claim in hold.claims if claim.key in bounded]
    return min(
        [
            month_bounds(hold.terms.month)[1],
            *dues,
            *(limit.period_end_utc for limit in limits),
            *(opened + timedelta(milliseconds=max(0, ms - ENDING_MS)) for ms in granted),
        ]
    )


class Lookout:
    """Looks at one gateway before the sandbox, for the length of a span."""

    def __init__(
        self,
        sandbox: Sandbox,
        gateway: OpenGateway,
        meters: Path,
        windows: Sequence[Window],
        clock: Clock,
    ) -> None:
        self._sandbox = sandbox
        self._gateway = gateway
        self._guard = gateway.opened.guard
        self._meters = meters
        self._windows = windows
        self._clock = clock
        self._before_bytes = sandbox.live_progress.billed_bytes
        self._holds: list[Hold] = []
        self._dues: dict[tuple[str, int], datetime | None] = {}
        self._asked_s = -1.0
        self._streaming = 0
        self._lost_bytes = 0
        self._taken_bytes = (
            self._before_bytes
        )  # what the sandbox had sent when the program last had all of it
        self._unread = (0, 0.0)  # how much the guard has not read, and since when it is that much

    def look(self) -> Sight:
        """Everything there is to see now."""
        now, real_s = self._clock.now(), self._clock.monotonic_s()
        live = self._sandbox.live_progress
        at_edge = any(due is not None and due <= now for due in self._dues.values())
        stale = real_s - self._asked_s > _HOLDS_S
        counted = None if stale or at_edge or live.streaming != self._streaming else self._counted()
        if counted is None:
            self._ask(real_s)
            counted = self._counted() or 0
        self._streaming = live.streaming
        unread = max(0, live.billed_bytes - self._before_bytes - counted - self._lost_bytes)
        return Sight(
            now=now,
            real_s=real_s,
            streaming=live.streaming,
            opening=live.opening + sum(hold.state == "held" for hold in self._live_holds()),
            mending=self._gateway.host.mending,
            expected=len({w.stream for w in self._windows if w.open_utc <= now < w.close_utc}),
            behind_s=live.lag_s,
            unread_bytes=self._still_unread(unread, real_s, busy=live.lag_s > 0),
            backlog_bytes=self._backlog(live.billed_bytes),
            passed_bytes=live.billed_bytes,
            requests=sum(hold.terms.mode == "historical" for hold in self._holds),
            dues=[due for due in self._dues.values() if due is not None],
            silent=live.silent,
            edge=live.next_fault,
        )

    @property
    def idle(self) -> bool:
        """Whether nothing is held for anything, as the ledger said last."""
        return not self._holds

    def _live_holds(self) -> list[Hold]:
        return [hold for hold in self._holds if hold.terms.mode == "live"]

    def _ask(self, real_s: float) -> None:
        """Read the ledger's open holds, and work out what is due for those that are new or renewed."""
        self._asked_s = real_s
        holds = self._gateway.opened.ledger.open_holds(self._guard.policy.account.name)
        self._holds = [hold for hold in holds if not hold.is_slot]
        known = self._dues
        self._dues = {
            (hold.terms.id, hold.version): known[hold.terms.id, hold.version]
            if (hold.terms.id, hold.version) in known
            else due_of(hold, self._guard)
            for hold in self._live_holds()
        }

    def _counted(self) -> int | None:
        """What the guard has counted of live data; None when a hold has just ended: the ledger has to be asked."""
        # Settled first: a hold that is settled in between is then missed, not counted twice.
        settled = sum(e.size_bytes for e in list(self._gateway.host.outcome.entries) if e.mode == "live")
        total = settled
        for hold in self._live_holds():
            size = None if hold.terms.meter is None else read_size(self._meters / hold.terms.meter)
            if size is None:
                return None
            total += size
        return total

    def _backlog(self, passed_bytes: int) -> int:
        """What the program is still to take, where that can be much."""
        if passed_bytes - self._taken_bytes <= _BACKLOG_BYTES:
            return 0
        waiting = unread_bytes(self._gateway.host.live_port)
        if waiting == 0:
            self._taken_bytes = passed_bytes
        return waiting

    def _still_unread(self, unread: int, real_s: float, *, busy: bool) -> int:
        """What the guard is still to read: what does not change for long went down with a connection."""
        if unread != self._unread[0]:
            self._unread = (unread, real_s)
        elif unread and not busy and real_s - self._unread[1] > _LOST_S:
            self._lost_bytes += unread
            self._unread = (0, real_s)
            return 0
        return unread

"""Time and one live connection: windows that close, periods that end, vendors that fall silent."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Protocol

from budget_guard.clock import month_of, uptime_ns
from budget_guard.decisions import Decision, deny
from budget_guard.errors import CalendarUnknown
from budget_guard.gateway.live.funds import Funds
from budget_guard.gateway.live.pump import Pump, Stop
from budget_guard.gateway.live.states import State
from budget_guard.gateway.live.upstream import Upstream
from budget_guard.gateway.live.voice import Voice
from budget_guard.gateway.shared import Shared
from budget_guard.guard.request import Request

WATCH_S = 0.25
# The vendor's heartbeats may be this late before it counts as silent (the official client's own margin).
STALE_MARGIN_S = 10.0
# Clocks are set back a little now and then: so far, a period or a window counts as begun.
CLOCK_SLACK = timedelta(seconds=5)
# Nobody looked for this long: the machine slept, or the program was stopped.
ASLEEP_NS = 5 * 10**9


class Watched(Protocol):
    """What there is to watch."""

    @property
    def state(self) -> State: ...

    @property
    def upstream(self) -> Upstream: ...

    @property
    def request(self) -> Request: ...

    def end(self, why: Stop, decision: Decision | None) -> None: ...


class Watch:
    """Looks at the clock a few times a second, for as long as the client's connection lasts."""

    def __init__(
        self, shared: Shared, watched: Watched, funds: Funds, pump: Pump, voice: Voice, heartbeat_s: int
    ) -> None:
        self._shared = shared
        self._guard = shared.guard
        self._watched = watched
        self._funds = funds
        self._pump = pump
        self._voice = voice
        self._heartbeat_s = heartbeat_s
        self._looked_ns = uptime_ns()
        self._suspected = False

    async def run(self) -> None:
        """Never ends by itself."""
        while True:
            await asyncio.sleep(self._shared.look_every_s or WATCH_S)
            self._wake_up()
            if self._watched.state is State.STREAMING:
                await self._look()
            elif self._watched.state is State.MENDING:
                self._voice.heartbeat(self._heartbeat_s)

    async def _look(self) -> None:
        admission = self._funds.admission
        assert admission is not None
        now = self._guard.clock.now()
        hold = admission.hold
        if now >= admission.window.end_utc or now + CLOCK_SLACK < admission.window.start_utc:
            await self._leave_window()
        elif month_of(now) != hold.terms.month and hold.terms.unit_price_usd > 0:
            self._watched.end(Stop.PERIOD, None)
        elif now >= hold.period_end_utc or now + CLOCK_SLACK < hold.period_start_utc:
            # The second: the clock has been set back, and the hold is in a period that has not begun.
            self._funds.want_roll(self._watched.request)
        elif self._is_silent():
            self._watched.end(Stop.STALE, None)
        elif hold.time_exhausted:
            self._funds.ran_out()
        elif hold.renewal_overdue:
            self._funds.want_renewal()

    def _wake_up(self) -> None:
        """After a sleep, give what the vendor sent meanwhile the time to be read: the silence was our own."""
        now_ns = uptime_ns()
        if now_ns - self._looked_ns > ASLEEP_NS:
            self._pump.last_heard_s = self._guard.clock.monotonic_s()
        self._looked_ns = now_ns

    def _is_silent(self) -> bool:
        """Whether the vendor has not been heard for too long; while nothing is read, that says nothing.

        It takes two looks: the first may come just before what has arrived meanwhile is read.
        """
        now_s = self._guard.clock.monotonic_s()
        if self._watched.upstream.paused:
            self._pump.last_heard_s = now_s
        suspected = self._suspected
        self._suspected = now_s - self._pump.last_heard_s > self._heartbeat_s + STALE_MARGIN_S
        return self._suspected and suspected

    async def _leave_window(self) -> None:
        """The window has closed, unless the next one began at the same instant."""
        admission = self._funds.admission
        assert admission is not None
        look = partial(self._guard.window_state, admission.stream, self._guard.clock.now())
        try:
            window, opens = await self._shared.in_thread(look)
        except CalendarUnknown as error:
            self._watched.end(Stop.LIMIT, deny("calendar_unknown", str(error)))
            return
        if window is None:
            closed = deny(
                "window_closed",
                f"the window of stream {admission.stream.name} has closed",
                retry_at_utc=opens,
            )
            self._watched.end(Stop.WINDOW, closed)
        else:
            self._funds.prolong(admission.stream, window)

"""Time and one live connection: windows that close, periods that end, vendors that fall silent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from budget_guard.clock import month_of, uptime_ns
from budget_guard.decisions import Decision, deny
from budget_guard.errors import CalendarUnknown
from budget_guard.gateway.live.funds import Funds
from budget_guard.gateway.live.pump import Pump, Stop
from budget_guard.gateway.live.purse import Purse
from budget_guard.gateway.live.staleness import Staleness
from budget_guard.gateway.live.states import State
from budget_guard.gateway.live.upstream import Upstream
from budget_guard.gateway.live.voice import Voice
from budget_guard.gateway.shared import Shared
from budget_guard.guard.admission import Member
from budget_guard.guard.request import Request

WATCH_S = 0.25
# The vendor's heartbeats may be this late before it counts as silent (the official client's own margin).
STALE_MARGIN_S = 10.0
# And this late, before the client is given one of the guard's own: some clients give up after 5 s.
HEARTBEAT_LATE_S = 1.0
# Clocks are set back a little now and then: so far, a period or a window counts as begun.
CLOCK_SLACK = timedelta(seconds=5)
# Nobody looked for this long: the machine slept, or the program was stopped.
ASLEEP_NS = 5 * 10**9
# How often it is looked whether a market is open, once that matters.
ASK_EVERY_S = 1.0

log = logging.getLogger(__name__)


class Watched(Protocol):
    """What there is to watch."""

    @property
    def state(self) -> State: ...

    @property
    def upstream(self) -> Upstream: ...

    def end(self, why: Stop, decision: Decision | None) -> None: ...

    def end_some(self, requests: Collection[Request], why: Stop, decision: Decision) -> None: ...


class Watch:
    """Looks at the clock a few times a second, for as long as the client's connection lasts."""

    def __init__(
        self, shared: Shared, watched: Watched, purse: Purse, pump: Pump, voice: Voice, heartbeat_s: int
    ) -> None:
        self._shared = shared
        self._guard = shared.guard
        self._watched = watched
        self._purse = purse
        self._pump = pump
        self._voice = voice
        self._heartbeat_s = heartbeat_s
        self._looked_ns = uptime_ns()
        self._suspected = False
        self._staleness = Staleness()
        self._data_s = pump.level_s  # from when on data can have been missed
        self._asked_s = 0.0

    async def run(self) -> None:
        """Never ends by itself."""
        while True:
            await asyncio.sleep(self._shared.look_every_s or WATCH_S)
            self._wake_up()
            if self._watched.state is State.STREAMING:
                await self._look()
                self._speak_for_the_vendor()
            elif self._watched.state is State.MENDING:
                self._voice.heartbeat(self._heartbeat_s)

    async def _look(self) -> None:
        await self._close_windows()
        for part in list(self._purse.parts):
            if self._watched.state is State.STREAMING:
                self._look_at(part)
        for text in self._purse.new_alerts():
            self._voice.notice(f"budget-guard: {text}")
        if self._watched.state is State.STREAMING and self._is_silent():
            self._watched.end(Stop.STALE, None)
        elif self._watched.state is State.STREAMING:
            await self._look_for_data()

    async def _look_for_data(self) -> None:
        """Leave a vendor that is heard and sends nothing of an open market, and say so."""
        members = [member for part in self._purse.parts for member in part.members]
        patience_s = self._staleness.patience_s(member.stream.schema for member in members)
        now_s = self._guard.clock.market_s()
        if self._watched.upstream.paused:
            self._data_s = now_s  # what is not read cannot come
        since_s = max(self._pump.level_s, self._data_s)
        if patience_s is None or not self._staleness.wants_to_know(now_s, since_s, patience_s):
            return
        if now_s - self._asked_s < ASK_EVERY_S:
            return
        self._asked_s = now_s
        now = self._guard.clock.now()
        looks = [partial(self._guard.market_is_open, member.stream, now) for member in members]
        is_open = all([await self._shared.in_thread(look) for look in looks])
        if self._staleness.is_stale(now_s, patience_s, is_open=is_open) and self._still(State.STREAMING):
            self._staleness.struck(now_s)
            self._data_s = now_s
            text = f"no market data for {now_s - since_s:.0f} s in an open market, though the vendor is heard"
            log.warning("%s: connecting again", text)
            self._voice.notice(f"budget-guard: {text}: connecting again")
            self._watched.end(Stop.WITHOUT_DATA, None)

    def _still(self, state: State) -> bool:
        return self._watched.state is state

    def _look_at(self, part: Funds) -> None:
        now = self._guard.clock.now()
        hold = part.hold
        if month_of(now) != hold.terms.month and hold.terms.unit_price_usd > 0:
            self._watched.end(Stop.PERIOD, None)
        elif now >= hold.period_end_utc or now + CLOCK_SLACK < hold.period_start_utc:
            # The second: the clock has been set back, and the hold is in a period that has not begun.
            part.want_roll()
        elif hold.time_exhausted:
            part.ran_out()
        elif hold.renewal_overdue:
            part.want_renewal()

    def _speak_for_the_vendor(self) -> None:
        """A vendor that falls silent is the guard's to mend: the client, which counts from heartbeats, stays."""
        silent_s = self._guard.clock.monotonic_s() - self._pump.last_heard_s
        if silent_s >= self._heartbeat_s + HEARTBEAT_LATE_S:
            self._voice.heartbeat(self._heartbeat_s)

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

    async def _close_windows(self) -> None:
        """End the streams whose windows have closed, all at once: one after the other would leave gaps between."""
        now = self._guard.clock.now()
        closed: list[Member] = []
        openings: list[datetime] = []
        for part in list(self._purse.parts):
            for member in part.members:
                if member.window.start_utc - CLOCK_SLACK <= now < member.window.end_utc:
                    continue
                look = partial(self._guard.window_state, member.stream, now)
                try:
                    window, opens = await self._shared.in_thread(look)
                except CalendarUnknown as error:
                    unknown = deny("calendar_unknown", str(error))
                    self._watched.end_some(member.requests, Stop.LIMIT, unknown)
                    continue
                if window is not None:  # the next one began at the same instant
                    part.prolong(member.stream, window)
                    continue
                closed.append(member)
                openings += [] if opens is None else [opens]
        if closed and self._still(State.STREAMING):
            names = " and ".join(sorted({member.stream.name for member in closed}))
            what = f"the window of stream {names} has closed"
            over = deny("window_closed", what, retry_at_utc=min(openings, default=None))
            self._watched.end_some([request for one in closed for request in one.requests], Stop.WINDOW, over)

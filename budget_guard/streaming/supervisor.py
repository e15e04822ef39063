"""Runs a program while its windows are open, again after a crash or at the next window, and a fallback in its place.

What to do next is decided by `supervisor_states`; this looks and does. It lives in the main thread, which never waits
for ledger or vendor while a child runs: signals have to be heard.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from budget_guard.clock import Clock
from budget_guard.errors import KeyRejected, NotEntitled, PaymentRequired
from budget_guard.policy.model import Fallback, Stream
from budget_guard.streaming.child import Child
from budget_guard.streaming.fallback import SOON_S, Cause, fallback_environment, fallbacks_of
from budget_guard.streaming.leftovers import Leftovers
from budget_guard.streaming.supervisor_ending import Ending
from budget_guard.streaming.supervisor_prospects import Prospects
from budget_guard.streaming.supervisor_restarts import Restarts
from budget_guard.streaming.supervisor_signals import Interrupted, Signals
from budget_guard.streaming.supervisor_site import Site
from budget_guard.streaming.supervisor_speech import Speech
from budget_guard.streaming.supervisor_states import Event, Sight, State, judge, step
from budget_guard.streaming.supervisor_windows import Hours

TICK_S = 0.25
# While nothing runs the clock is looked at this often: the machine may have slept.
IDLE_TICK_S = 1.0
# A child that ran for so long has proven itself: what ends it later is another story.
PROVEN_S = 60.0
GRACE_S = 10.0
_NOT_FOUND = 127


@dataclass(frozen=True, slots=True)
class Terms:
    """What is to be run, and how. `streams` are the live ones that it may use; `anytime`: it needs no window."""

    command: tuple[str, ...]
    streams: tuple[Stream, ...]
    anytime: bool = False
    wait: bool = False
    grace_s: float = GRACE_S
    restarts: int = 0
    proven_s: float = PROVEN_S


@dataclass(slots=True)
class Tally:
    """What a supervisor has done."""

    started: int = 0
    restarted: int = 0  # after crashes; these are starts too
    replaced: dict[str, int] = field(default_factory=dict)  # by which fallback, how often


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How it ended. `code` is the last program's own, 128 + n for a signal n; None when none was started."""

    code: int | None = None
    refused: bool = False  # the guard refused or cut the last program
    vendor: bool = False  # the vendor refused it something
    planned: bool = False  # it died of the SIGTERM that it was sent at the close of its window
    insisted: bool = False  # it was killed because somebody insisted
    cause: Cause | None = None  # why no program could run when it ended
    signal: int | None = None  # that asked for the end when nothing ran


class Supervisor:
    """One program, and at most one child at a time."""

    def __init__(
        self,
        terms: Terms,
        *,
        site: Site,
        hours: Hours,
        prospects: Prospects,
        signals: Signals,
        clock: Clock,
        environ: Mapping[str, str],
        key: str,
        speech: Speech,
        leftovers: Leftovers,
        launch: Callable[[Sequence[str], Mapping[str, str]], Child] = Child,
        show: Callable[[Supervisor], None] = lambda _supervisor: None,
    ) -> None:
        """`environ` is what children inherit, `key` what is kept from them; `show` is called at every look."""
        self.terms = terms
        self._site = site
        self.hours = hours
        self.prospects = prospects
        self._signals = signals
        self._clock = clock
        self._environ = environ
        self._key = key
        self._speech = speech
        self._leftovers = leftovers
        self._launcher = launch
        self._show = show
        self._restarts = Restarts(terms.restarts)
        self._streams = {stream.name: stream for stream in terms.streams}
        self._child: Child | None = None
        self._ending: Ending | None = None
        self._code: int | None = None  # of the child that ran last, a fallback included
        self._started_s = self._due_s = 0.0
        self._spares: deque[Fallback] = deque()
        self._names: tuple[str, ...] = ()  # of the streams that were open at the last look
        self._crashed = False  # the next start of the program is one after a crash
        self._pressed = False  # after a request to end, the child has been given its last grace
        self._parted = False
        self._parked = False  # its last window is over, though others may be open
        self._not_before: datetime | None = None  # while it is parked; None when no window is known to come
        self._last = Conclusion()
        self._before = State.WAITING
        self._event = Event.OPEN
        self._displaced: Cause | None = None  # what keeps the program from running
        self._returned_s: float | None = None  # when it was started again because there was money
        self.state = State.WAITING
        self.fallback: Fallback | None = None
        self.tally = Tally()

    # --- the loop -----------------------------------------------------------------------------------------

    def run(self) -> Conclusion:
        """Until it is over. Raises SettingsError, LedgerError, VendorError, and OSError for what cannot be started."""
        try:
            self._announce()
            while self.state is not State.DONE:
                sight = self._look()
                event = judge(self.state, sight)
                if event is not None:
                    self._take(event)
                else:
                    self._show(self)
                    self._signals.wait(self._patience_s())
        finally:
            if self._child is not None and self._child.code is None:
                self._child.send(signal.SIGKILL)
                self._child.wait()
            self._site.close()
        self._take_news()
        return self._last

    @property
    def open_streams(self) -> tuple[str, ...]:
        return self.hours.open_streams(self._clock.now())

    @property
    def cause(self) -> Cause | None:
        """Why no open stream can run."""
        return self.prospects.cause(self.open_streams)

    @property
    def pause_left_s(self) -> float:
        """How long until a program that crashed is started again."""
        return max(0.0, self._due_s - self._clock.monotonic_s())

    def opening(self) -> datetime | None:
        """When the wait is over; None when nobody knows."""
        opening = self.hours.next_opening(self._clock.now())
        return None if opening is None else opening.at_utc

    def _look(self) -> Sight:
        """How things are; what is due on the way is done."""
        now, now_s = self._clock.now(), self._clock.monotonic_s()
        names = self._names = self.hours.open_streams(now)
        running = self._watch_child(now_s)
        # After the child: what it ended over has been noted by then.
        self._take_news()
        self.prospects.look(names)
        cause = self.prospects.cause(names)
        proven = now_s - self._started_s >= self.terms.proven_s
        if self.state is State.RUNNING and running and proven and cause is None:
            self._restarts.proven()
            self.prospects.proven()
        if self.state is State.RUNNING and running and cause is not None and self.prospects.goes_on(cause):
            cause = None
        return Sight(
            open=self._is_open(names, now),
            wait=self.terms.wait,
            hopeless=self._not_before is None if self._parked else not names and self.opening() is None,
            stop=self._signals.asked is not None,
            blocked=None if cause is None else cause.kind,
            spare=bool(self._spares if self.state is State.FALLBACK else self._fallbacks(names)),
            restart=self._restarts.allowed(now_s),
            due=now_s >= self._due_s,
            ended=not running,
            code=self._code or 0,
            refused=self._last.refused or self._last.vendor,
            parted=self._parted,
            proven=proven,
        )

    def _take(self, event: Event) -> None:
        self._before, self._event = self.state, event
        self.state = step(self.state, event)
        self._do()

    def _is_open(self, names: Sequence[str], now: datetime) -> bool:
        if (
            self.state is State.WAITING
            and self._parked
            and (self._not_before is None or now < self._not_before)
        ):
            return False
        return self.terms.anytime or bool(names)

    def _patience_s(self) -> float:
        """How long to wait for a signal or the end of a child before the next look."""
        if self.state is State.PAUSING:
            return min(TICK_S, self.pause_left_s)
        if self.state is not State.WAITING:
            return TICK_S
        opening = self._not_before if self._parked else self.opening()
        left_s = IDLE_TICK_S if opening is None else (opening - self._clock.now()).total_seconds()
        return min(max(left_s, 0.0), IDLE_TICK_S)

    def _take_news(self) -> None:
        news = self.prospects.news()
        self._parted = self._parted or bool(news.closed)
        self._last = replace(
            self._last,
            refused=self._last.refused or bool(news.refused or news.cut or news.shed),
            vendor=self._last.vendor or bool(news.vendor),
        )

    def _watch_child(self, now_s: float) -> bool:
        """Whether a child runs. One that has to end is pressed; of one that has ended the code is kept."""
        child = self._child
        self._leftovers.reap(None if child is None else child.pid)
        if child is None:
            return False
        if child.code is None:
            self._press(now_s)
            return True
        self._child, self._code = None, child.code
        if self._ending is not None and self._ending.killed and not self._signals.insisted:
            self._speech.killed(self.fallback, self.terms.grace_s)
        if self.fallback is None:
            ending = self._ending
            planned = ending is not None and ending.asked and self._signals.asked is None
            self._last = replace(
                self._last,
                code=child.code,
                planned=planned and child.code == 128 + signal.SIGTERM,
                insisted=self._signals.insisted and child.code == 128 + signal.SIGKILL,
            )
        return False

    def _press(self, now_s: float) -> None:
        """Go on with the ending of a child that has to end."""
        if self._ending is None:
            return
        if self._signals.insisted:
            self._ending.kill(now_s)
        elif self.state is not State.STOPPING or self._may_press():
            self._ending.look(now_s)

    def _may_press(self) -> bool:
        """After Ctrl-C a program may take its time until its window closes; after SIGTERM it has its grace."""
        if not self._pressed and self._signals.pressing:
            self._pressed = True
            self._end(told=True)
        elif not self._pressed and not self._is_open(self._names, self._clock.now()):
            self._pressed = True
            self._end()
        return self._pressed

    # --- what is done in each state -----------------------------------------------------------------------

    def _do(self) -> None:
        """What belongs to the state that has just been entered."""
        {
            State.WAITING: self._wait,
            State.STARTING: self._prepare,
            State.RUNNING: self._start,
            State.PAUSING: self._pause,
            State.SWITCHING: self._switch,
            State.FALLBACK: self._replace,
            State.RETURNING: self._return,
            State.HELD: self._hold,
            State.CLOSING: self._close,
            State.STOPPING: self._stop,
            State.DONE: self._conclude,
        }[self.state]()

    def _announce(self) -> None:
        """At the very start: whether there is something to wait for."""
        if not self.terms.anytime and not self.open_streams:
            self._speech.outside(self.hours.next_opening(self._clock.now()))
            if not self.terms.wait:
                self._speech.history_is_free()

    def _wait(self) -> None:
        """Until the next window. One that is open when a program has ended by itself is one that it did not need."""
        opening = self.hours.next_opening(self._clock.now())
        self._parked = self._before is State.RUNNING
        self._not_before = None if opening is None else opening.at_utc
        self.prospects.forget()
        self._displaced = self.fallback = self._returned_s = None
        self._crashed = False
        self._restarts = Restarts(self.terms.restarts)
        self._speech.between(opening)

    def _prepare(self) -> None:
        """Open the gateway, and look at the money where something else could be done than to be refused."""
        self.fallback = self._ending = None
        self._parked = False
        names = self.open_streams
        self.prospects.forget()
        try:
            with self._signals.raising():
                self._site.open()
                if self.terms.wait or self._fallbacks(names):
                    self.prospects.check_money(names)
        except Interrupted:
            pass
        except (KeyRejected, NotEntitled, PaymentRequired) as error:
            if not self._key or not self._fallbacks(names):
                raise
            self.prospects.refused(error)

    def _start(self) -> None:
        command, environment = self._site.program(self.terms.command, self._environ)
        was_money = self._displaced is not None and self._displaced.kind == "money"
        self._returned_s = self._clock.monotonic_s() if was_money else None
        self._last, self._displaced, self._parted = Conclusion(), None, False
        self._speech.started(command, again=self.tally.started > 0)
        self._launch(command, environment)
        self.tally.started += 1
        self.tally.restarted += self._crashed
        self._crashed = False

    def _pause(self) -> None:
        now_s = self._clock.monotonic_s()
        lasted_s = now_s - self._started_s
        self._due_s = now_s + self._restarts.take(now_s)
        self._crashed = True
        self._speech.crashed(
            self._code or 0, lasted_s, self.pause_left_s, self._restarts.used(now_s), self._restarts.per_hour
        )

    def _switch(self) -> None:
        self._displaced = self.prospects.cause(self._names)
        self._end(patient=self._displaced is not None and self._displaced.kind != "unreachable")

    def _replace(self) -> None:
        """Start the fallback: the first for this cause, the next one, or the same again."""
        if self._event is Event.REPLACE:
            self._displaced = self.prospects.cause(self._names)
            self._spares = deque(self._fallbacks(self._names))
            self._crashed = False
        before = self.fallback
        chosen = before if self._event is Event.AGAIN and before is not None else self._spares.popleft()
        if self._event is Event.REPLACE or before is None:
            self._speech.replaced(chosen, self._displaced)
            self._notice_vain()
        else:
            self._speech.next_fallback(chosen, before, self._code or 0)
        self.fallback = chosen
        try:
            self._launch(chosen.run, fallback_environment(self._environ, self._key))
        except OSError as error:
            self._code = _NOT_FOUND
            self._speech.no_fallback(chosen, error)
            return
        self.tally.replaced[chosen.name] = self.tally.replaced.get(chosen.name, 0) + 1

    def _return(self) -> None:
        assert self.fallback is not None
        self._speech.returning(self.fallback)
        self._end()

    def _hold(self) -> None:
        self.fallback = None
        self._crashed = False
        self._displaced = self.prospects.cause(self._names)
        self._speech.held(self._displaced)
        self._notice_vain()

    def _notice_vain(self) -> None:
        """After the start of a program for which there was money, as far as a look could tell."""
        returned_s, self._returned_s = self._returned_s, None
        if returned_s is None or self._displaced is None or self._displaced.kind != "money":
            return
        if self._clock.monotonic_s() - returned_s <= SOON_S:
            self._speech.in_vain(self.prospects.came_back_in_vain())

    def _close(self) -> None:
        # Whose stream the guard ends, or has just ended, knows: it may be about to end by itself.
        streaming = self.fallback is None and (self._site.clients > 0 or self._parted)
        self._speech.closing(self.fallback, streaming=streaming)
        self._end(patient=streaming)

    def _stop(self) -> None:
        self._pressed = False
        self._end(told=True)

    def _conclude(self) -> None:
        """Nothing runs any more."""
        now_s, per_hour = self._clock.monotonic_s(), self._restarts.per_hour
        failed = (
            self._before is State.RUNNING and self._code and not (self._last.refused or self._last.vendor)
        )
        if failed and per_hour and not self._restarts.allowed(now_s):
            self._speech.used_up(self._code or 0, per_hour)
        idle = self._before in (State.WAITING, State.STARTING, State.PAUSING)
        asked = self._signals.asked if idle and self._displaced is None else None
        self._last = replace(self._last, cause=self._displaced, signal=asked)

    # --- children -----------------------------------------------------------------------------------------

    def _launch(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._sweep()
        self._started_s = self._clock.monotonic_s()
        self._code = None
        self._child = self._launcher(command, environment)
        self._signals.attach(self._child)
        self._ending = None

    def _sweep(self) -> None:
        """End what the last child has left behind: beside the next one it would ask for everything twice."""
        left = self._leftovers.alive()
        if not left:
            return
        self._speech.left_behind(len(left))
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self._leftovers.alive():
                return
            self._leftovers.send(number)
            until_s = self._clock.monotonic_s() + self.terms.grace_s
            while self._leftovers.alive() and self._clock.monotonic_s() < until_s:
                self._signals.wait(TICK_S)

    def _end(self, *, patient: bool = False, told: bool = False) -> None:
        assert self._child is not None
        now_s = self._clock.monotonic_s()
        self._ending = Ending(self._child, now_s, self.terms.grace_s, patient=patient, told=told)

    def _fallbacks(self, names: Sequence[str]) -> tuple[Fallback, ...]:
        return fallbacks_of(self._streams[name] for name in names)

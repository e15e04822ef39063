"""One client's live connection from logon to last byte: who may start, when it must end, how a loss is mended.

The data path is `pump`, the money `funds`, time `watch`; this is the life they are parts of, one coroutine per client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine
from functools import partial
from typing import Any, TypeVar

from budget_guard.decisions import Decision
from budget_guard.errors import Refused, VendorError, VendorUnavailable
from budget_guard.gateway.breakers import is_permanent
from budget_guard.gateway.keyring import Bearer
from budget_guard.gateway.live import logon as handshake
from budget_guard.gateway.live.counting import Counting, rtypes_of
from budget_guard.gateway.live.downstream import ClientGone, Downstream
from budget_guard.gateway.live.farewell import say_ended, say_goodbye
from budget_guard.gateway.live.funds import Funds
from budget_guard.gateway.live.mending import Mending
from budget_guard.gateway.live.pump import Pump, Stop
from budget_guard.gateway.live.purse import Purse
from budget_guard.gateway.live.replay import CatchUp
from budget_guard.gateway.live.standing import VendorStanding
from budget_guard.gateway.live.states import Event, State, step
from budget_guard.gateway.live.subscriptions import Subscriptions
from budget_guard.gateway.live.upstream import Upstream, connect, hang_up
from budget_guard.gateway.live.voice import Voice
from budget_guard.gateway.live.watch import Watch
from budget_guard.gateway.shared import Shared
from budget_guard.gateway.wire.lines import LineError
from budget_guard.gateway.wire.refusals import (
    INVALID_SUBSCRIPTION,
    SEEN_TO,
    SessionsFull,
    session_error,
)
from budget_guard.gateway.wire.subscription import Logon, Subscription
from budget_guard.guard.admission import Member
from budget_guard.guard.connection import LiveHold
from budget_guard.guard.coverage import RequestsRefused
from budget_guard.guard.request import Request

log = logging.getLogger(__name__)
T = TypeVar("T")

HANDSHAKE_S = 30.0
# How long the vendor may take to end a session that was half-closed.
ENDING_S = 5.0
# The first connection gives up after this; one that ran before goes on trying while its window is open.
FIRST_CONNECT_S = 30.0


class LiveConnection:
    """Serves one client until it leaves, or until policy, money or vendor say that it is over."""

    def __init__(self, shared: Shared, down: Downstream) -> None:
        self._shared = shared
        self._guard = shared.guard
        self._clock = shared.guard.clock
        self._down = down
        self._voice = Voice(down, self._clock)
        self._pump = Pump(self, down, self._voice, self._clock, shared.scrubber)
        self._loop = asyncio.get_running_loop()
        self.state = State.GREETED
        self.upstream: Upstream
        self._logon: Logon
        self._purse: Purse
        self._mending: Mending
        self._standing: VendorStanding
        self.bearer: Bearer | None = None  # who the client has shown to be
        self._token = ""
        self._only: str | None = None
        self._asked: list[Subscription] = []  # before the start
        self._subscriptions: Subscriptions
        self._stop: Stop | None = None
        self._verdict: Decision | None = None  # what ends it, when the guard or the vendor does
        self._over: asyncio.Future[None] = self._loop.create_future()  # nothing is opened any more
        self.counting = Counting()
        self._flowing = asyncio.Event()
        self._halted: set[Funds] = set()  # the parts whose money has run out
        self._client_reads = True
        self._loops: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        down.on_writable = self._throttle
        down.on_gone = partial(self.stop, Stop.CLIENT)

    # --- the life of a connection -------------------------------------------------------------------------

    async def serve(self) -> None:
        """From greeting to goodbye. Never raises for what a client or the vendor does."""
        challenge = handshake.greet(self._down)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await self._log_on(challenge)
            reading = self._loop.create_task(handshake.read_subscriptions(self._down))
            self._asked = await self._unless_over(reading)
            self._step(Event.START)
            try:
                await self._run()
            finally:
                await self._purse.end()
        except (ClientGone, TimeoutError):
            pass
        except Refused as refused:
            self._tell_refusal(refused.decision)
        except LineError as error:
            self._tell_bad_line(error)
        finally:
            for task in self._loops:
                task.cancel()
            await asyncio.gather(*self._loops, *self._tasks, return_exceptions=True)
            await self._down.leave()

    async def _log_on(self, challenge: str) -> None:
        bearer, self._logon = await handshake.identify(self._down, challenge, self._shared)
        self.bearer, self._token, self._only = bearer, bearer.token, bearer.stream
        self._voice.dataset, self._voice.ts_out = self._logon.dataset, self._logon.ts_out
        self._purse = Purse(self._shared, self, only=self._only)
        self._mending = Mending(self._shared, self, self._purse, self._pump)
        self._standing = VendorStanding(self._shared, self._logon.dataset)
        await self._standing.check(self._token, self._only)
        handshake.accept(self._down, self._logon, self._purse.connection_id)
        self._step(Event.LOGON)

    async def _run(self) -> None:
        """Open, and open again, until it is over."""
        self._subscriptions = Subscriptions(self._shared, self._logon.dataset, self._only, self, self._purse)
        await self._subscriptions.take(self._asked)
        await self._purse.take_slot(self._subscriptions.requests[0])
        await self._open_first()
        self._start_loop(self._watch().run())
        self._start_loop(self._subscriptions.listen(self._down, self._voice))
        try:
            while True:
                clean = await self.upstream.ended
                self._pump.finish()
                await self._purse.settle(self._stop_note(), clean=clean)
                if await self._is_over():
                    self._step(Event.ENDED if self.state is State.ENDING else Event.LOST)
                    break
                self._step(Event.LOST)
                if not await self._mending.mend():
                    break
        except BaseException:
            # Stopped too late for an orderly end, or by a defect: what was counted is in the meter.
            self.upstream.abort()
            self._purse.abandon()
            raise
        finally:
            self._purse.leave()
        say_goodbye(self._shared, self._voice, self._token, self._stop, self._verdict, self._last_member)

    async def _is_over(self) -> bool:
        """Whether the vendor's side, which has ended, stays closed."""
        said = self._pump.error
        if said is not None and said.code in SEEN_TO:
            log.warning("the vendor ended a session: %s", said.text)
            self._voice.notice(f"budget-guard: the vendor ended its session: {said.text}")
        if self._stop is None and said is not None:
            if said.code == INVALID_SUBSCRIPTION:
                if not said.heard:
                    self._voice.error(f"budget-guard: the vendor refused the subscription: {said.text}")
                return True
            refusal = session_error(said.code, said.text)
            if refusal is not None and not self._worth_another_try(refusal):
                await self.refused_by_vendor(refusal)
                return True
        return self._over.done()

    def _worth_another_try(self, refusal: VendorError) -> bool:
        """After a loss the vendor may still count the connection that was lost."""
        return isinstance(refusal, VendorUnavailable) or (
            isinstance(refusal, SessionsFull) and self._pump.last_ts_ns is not None
        )

    # --- opening ------------------------------------------------------------------------------------------

    async def _open_first(self) -> None:
        deadline_s = self._loop.time() + FIRST_CONNECT_S
        asked_utc, tries = self._clock.now(), 0
        while True:
            delay_s = self._mending.next_delay_s()
            tries += 1
            try:
                await self._open(resume=False)
                if tries > 1:
                    await self._mending.began_late(asked_utc)
                return
            except VendorUnavailable as error:
                if self._loop.time() + delay_s > deadline_s:
                    self._voice.error(f"budget-guard: the vendor's live gateway cannot be reached: {error}")
                    self._shared.outcome.unreachable.append((self._logon.dataset, str(error)))
                    raise ClientGone from error
            except VendorError as error:
                raise Refused(await self.refused_by_vendor(error)) from error
            await self.pause(delay_s)

    async def _open(self, *, resume: bool) -> None:
        """Hold money, connect, log on, subscribe, commit, start; after a loss, call the vendor while money is held.

        Raises Refused, VendorError, and ClientGone when it is over before anything was asked for.
        """
        ahead = resume and self._shared.breakers.reachable
        calling = self._loop.create_task(self._connect()) if ahead else None
        try:
            await self._purse.open(self._subscriptions.requests)
        except BaseException:
            await hang_up(calling)
            raise
        try:
            upstream = await (calling or self._connect())
        except BaseException:
            await self._purse.release()
            raise
        lines = self._subscriptions.lines
        admission = self._purse.admission
        assert admission is not None
        catch_up = self._mending.catch_up(admission, lines) if resume else None
        for line in lines:
            if resume:
                upstream.subscribe(line, None if catch_up is None else catch_up.start_ns(line.schema))
            else:
                upstream.subscribe(line, line.start_ns)
        try:
            await self._purse.activate()
            if resume:
                await self._mending.record_gaps(admission, self._stop_note(), catch_up)
        except BaseException:
            upstream.abort()
            raise
        self.upstream = upstream
        if self._over.done():
            upstream.abort()
            await self._purse.settle_nothing()
            raise ClientGone
        self._begin(catch_up)

    def _begin(self, catch_up: CatchUp | None) -> None:
        """Ask for the data: from here on there is something to count."""
        upstream = self.upstream
        self.counting = self._purse.counting(ts_out=self._logon.ts_out)
        self._pump.attach(upstream, self.counting, self._asked)
        if catch_up is not None:
            self._pump.expect(catch_up)
        self._stop = None
        self._mending.opened()
        self._step(Event.OPENED)
        if not self._client_reads:
            upstream.pause("client")
        upstream.start()

    async def _connect(self) -> Upstream:
        shared = self._shared
        await self._unless_over(self._loop.create_task(shared.pacer.turn()))
        connecting = self._loop.create_task(connect(shared.endpoint, shared.key, self._logon, self._pump))
        connecting.add_done_callback(self._drop_if_over)
        upstream = await self._unless_over(connecting)
        self.spawn(self._standing.accepted())
        return upstream

    def _drop_if_over(self, connecting: asyncio.Task[Upstream]) -> None:
        if self._over.done() and not connecting.cancelled() and connecting.exception() is None:
            connecting.result().abort()

    # --- mending ------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        return self._over.done()

    @property
    def stop_reason(self) -> Stop | None:
        return self._stop

    async def reopen(self) -> None:
        await self._open(resume=True)

    def give_up(self, why: Stop, verdict: Decision) -> None:
        self._stop, self._verdict = why, verdict

    def tell(self, text: str) -> None:
        self._voice.notice(text)

    def records_skipped(self, text: str) -> None:
        self._mending.records_skipped(text)

    def replay_completed(self, schema: str, missing: int) -> None:
        self._mending.replay_completed(schema, missing)

    def _stop_note(self) -> str:
        return self._stop.value if self._stop else "ended by the vendor"

    # --- ending -------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where the client is."""
        return self._down.address

    @property
    def leaving(self) -> bool:
        """Whether its client is being closed already."""
        return self._down.leaving

    def turn_away(self) -> None:
        """Close at once: for a client that has not logged on."""
        self._down.abort()

    def hurry(self) -> None:
        """Break off the vendor's side, if it is still there."""
        if self.state in (State.STREAMING, State.ENDING):
            self.upstream.abort()

    def stop(self, why: Stop) -> None:
        """Begin to end the vendor's side: half-close it and read on to its last byte. The first reason counts."""
        if self._stop is not None and not self._stop.reopens:
            return
        self._stop = why
        if not why.reopens and not self._over.done():
            self._over.set_result(None)
        if self.state is not State.STREAMING:
            return
        self._step(Event.FINISH)
        self._pump.end()
        if why is Stop.STALE:
            self.upstream.abort()
            return
        self.upstream.finish()
        self._loop.call_later(ENDING_S, self.upstream.abort)

    def end(self, why: Stop, decision: Decision | None) -> None:
        """Stop, and say why; a reason that came before stays."""
        if self._stop is None or self._stop.reopens:
            self._verdict = decision
            self.stop(why)

    def end_some(self, requests: Collection[Request], why: Stop, decision: Decision) -> None:
        """Some of what was asked for is over; the rest goes on, on a connection without it."""
        if not self._subscriptions.rest(requests):
            self.end(why, decision)
        elif self._stop is None:
            self._leave_out(requests, why, decision)
            self.stop(Stop.SHED)

    def goes_on_without(self, refused: Refused) -> bool:
        decision = refused.decision
        if not isinstance(refused, RequestsRefused) or decision.code == "ledger_unavailable":
            return False
        if not self._subscriptions.rest(refused.requests):
            return False
        why = Stop.WINDOW if decision.code == "window_closed" else Stop.LIMIT
        self._leave_out(refused.requests, why, decision)
        return True

    def _leave_out(self, requests: Collection[Request], why: Stop, decision: Decision) -> None:
        members = [member for member in self._members if set(member.requests) & set(requests)]
        self._subscriptions.drop(requests)
        say_ended(self._shared, self._voice, members, why, decision)

    @property
    def _members(self) -> tuple[Member, ...]:
        admission = self._purse.admission
        return () if admission is None else admission.members

    @property
    def _last_member(self) -> Member | None:
        """Of what was asked for to the end, the one whose window closes first."""
        left = set(self._subscriptions.requests)
        members = [member for member in self._members if left & set(member.requests)]
        return min(members, key=lambda member: member.window.end_utc, default=None)

    async def refused_by_vendor(self, error: VendorError) -> Decision:
        """The vendor's refusal as what ends this connection, and greets the next."""
        self._verdict = await self._standing.refused(error, self._subscriptions.requests)
        return self._verdict

    async def was_refused(self) -> bool:
        verdict = await self._standing.refusal()
        if verdict is None or not is_permanent(verdict.code):
            return False
        self._verdict = verdict
        return True

    # --- what the money and the pump ask for --------------------------------------------------------------

    @property
    def streaming(self) -> bool:
        return self.state is State.STREAMING

    async def until_streaming(self) -> None:
        flowing = self._loop.create_task(self._flowing.wait())
        await self._unless_over(flowing)

    def want_renewal(self, hold: LiveHold) -> None:
        if (part := self._purse.part_of(hold)) is not None:
            part.want_renewal()

    def money_ran_out(self, hold: LiveHold) -> None:
        if (part := self._purse.part_of(hold)) is not None:
            part.ran_out()

    def halt(self, part: Funds) -> None:
        if self.streaming:
            self._halted.add(part)
            self.upstream.pause("money")

    def go_on(self, part: Funds) -> None:
        self._halted.discard(part)
        if not self._halted:
            self.upstream.resume("money")

    def swap_hold(self, old: LiveHold, new: LiveHold, schemas: Collection[str]) -> None:
        self.counting.swap(old, new, rtypes_of(schemas))

    def spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        """Run in the background, to its end; a defect there ends the connection."""
        self._start(coroutine, self._tasks)

    # --- what the client hears and says -------------------------------------------------------------------

    def _tell_refusal(self, decision: Decision) -> None:
        """Refuse: on the logon line before logon, as an ErrorMsg after it."""
        if self.state is State.GREETED:
            self._shared.outcome.refused.append(decision)
            handshake.reject(self._down, decision.wire_text())
            return
        if self._verdict is not decision:
            self._shared.outcome.refused.append(decision)
            self._shared.standing.tokens.add(self._token)
        self._voice.error(decision.wire_text())

    def _tell_bad_line(self, error: LineError) -> None:
        if self.state is State.GREETED:
            handshake.reject(self._down, f"budget-guard: {error}")
        else:
            self._voice.error(f"budget-guard: {error}")

    def ask(self, line: Subscription) -> None:
        if self.streaming:
            self.upstream.subscribe(line, line.start_ns)

    def _throttle(self, writable: bool) -> None:
        """Backpressure: a client that does not read stops the reading upstream."""
        self._client_reads = writable
        if not self.streaming:
            return
        if writable:
            self.upstream.resume("client")
        else:
            self.upstream.pause("client")

    # --- small things -------------------------------------------------------------------------------------

    def _watch(self) -> Watch:
        heartbeat_s = self._logon.heartbeat_interval_s
        return Watch(self._shared, self, self._purse, self._pump, self._voice, heartbeat_s)

    def _step(self, event: Event) -> None:
        self.state = step(self.state, event)
        if self.streaming:
            self._halted.clear()
            self._flowing.set()
        else:
            self._flowing.clear()

    def _start_loop(self, coroutine: Coroutine[None, None, None]) -> None:
        self._start(coroutine, self._loops)

    def _start(self, coroutine: Coroutine[None, None, None], tasks: set[asyncio.Task[None]]) -> None:
        task = self._loop.create_task(coroutine)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(self._look_for_defect)

    def _look_for_defect(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection is ended because of a defect", exc_info=error)
            self.stop(Stop.FAILED)

    async def pause(self, seconds: float) -> None:
        """Wait, but not when it is over."""
        await asyncio.wait({self._over}, timeout=seconds)

    async def _unless_over(self, task: asyncio.Task[T]) -> T:
        """The task's result. Raises ClientGone when it is over first."""
        waited: set[asyncio.Future[Any]] = {task, self._over}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._over.done():
            await asyncio.gather(task, return_exceptions=True)
            raise ClientGone
        return task.result()

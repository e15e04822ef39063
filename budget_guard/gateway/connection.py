"""One client's live connection from logon to last byte: who may start, when it must end, how a loss is mended.

The data path is `pump`; this is the control path around it, one coroutine per client.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from budget_guard.clock import instant_from_ns, instant_text, month_of, ns_from_instant
from budget_guard.decisions import Decision, deny
from budget_guard.errors import CalendarUnknown, LedgerError, Refused, VendorError, VendorUnavailable
from budget_guard.gateway import logon as handshake
from budget_guard.gateway.backoff import delays_s
from budget_guard.gateway.downstream import ClientGone, Downstream
from budget_guard.gateway.lines import LineError, parse_fields
from budget_guard.gateway.outcome import BREAKER_S, vendor_decision
from budget_guard.gateway.pump import Pump, Stop
from budget_guard.gateway.shared import Shared
from budget_guard.gateway.states import Event, State, step
from budget_guard.gateway.subscription import Logon, Subscription, parse_subscription
from budget_guard.gateway.tokens import token_that_answers
from budget_guard.gateway.upstream import Upstream, connect, logon_error
from budget_guard.gateway.voice import Voice
from budget_guard.guard.connection import LiveHold
from budget_guard.guard.guard import Approval
from budget_guard.guard.request import Request
from budget_guard.money import bytes_within, nano_from_usd

log = logging.getLogger(__name__)
T = TypeVar("T")

HANDSHAKE_S = 30.0
# How long the vendor may take to end a session that was half-closed.
ENDING_S = 5.0
WATCH_S = 0.25
# A refused renewal is asked for again at most this often: other connections may have returned money.
RENEWAL_PAUSE_S = 1.0
# The vendor's heartbeats may be this late before it counts as silent (the official client's own margin).
STALE_MARGIN_S = 10.0
# The first connection gives up after this; one that ran before goes on trying while its window is open.
FIRST_CONNECT_S = 30.0

_REOPENED = (Stop.PERIOD, Stop.REPLAY_SPEND, Stop.STALE, Stop.CORRUPT)


class LiveConnection:
    """Serves one client until it leaves, or until policy, money or vendor say that it is over."""

    def __init__(self, shared: Shared, down: Downstream) -> None:
        self._shared = shared
        self._guard = shared.guard
        self._down = down
        self._id = uuid.uuid4().hex
        self._voice = Voice(down, shared.guard.clock)
        self._state = State.GREETED
        self._token = ""
        self._only: str | None = None
        self._logon: Logon | None = None
        self._subscriptions: list[Subscription] = []
        self._request: Request | None = None
        self._approval: Approval | None = None
        self._upstream: Upstream | None = None
        self._pump: Pump | None = None
        self._stop: Stop | None = None
        self._stopped = asyncio.Event()
        self._verdict: Decision | None = None  # what ends it, when the guard or the vendor does
        self._ledger_lock = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()
        self._renewing = False
        self._rolling = False
        self._next_renewal_s = 0.0
        self._started_ns = 0

    # --- the life of a connection -------------------------------------------------------------------------

    async def serve(self) -> None:
        """From greeting to goodbye. Never raises for what a client or the vendor does."""
        challenge = handshake.greet(self._down)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await self._log_on(challenge)
            self._subscriptions = await handshake.read_subscriptions(self._down)
            self._step(Event.START)
            await self._run()
        except (ClientGone, TimeoutError):
            pass
        except Refused as refused:
            self._tell_refusal(refused.decision)
        except LineError as error:
            self._tell_bad_line(error)
        finally:
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)
            self._down.close()

    async def _log_on(self, challenge: str) -> None:
        response, logon = await handshake.read_logon(self._down)
        token = token_that_answers(response, challenge, self._shared.tokens)
        if token is None:
            raise LineError(
                "not this guard's token: remove the API key from the program and let DATABENTO_API_KEY, "
                "as budget-guard sets it, take its place"
            )
        self._token, self._only, self._logon = token, self._shared.tokens[token], logon
        self._voice.dataset, self._voice.ts_out = logon.dataset, logon.ts_out
        await self._check_standing(logon)
        handshake.accept(self._down, logon, self._id)
        self._step(Event.LOGON)

    async def _check_standing(self, logon: Logon) -> None:
        """Refuse on the logon line what was refused before, while the cause stands. Raises Refused."""
        vendor = self._shared.standing.vendor_refusal(logon.dataset, time.monotonic())
        if vendor is not None:
            raise Refused(vendor)
        if not any(stream.dataset == logon.dataset for stream in self._guard.live_streams(only=self._only)):
            raise Refused(await self._in_thread(partial(self._decide_dataset, logon.dataset)))
        if self._token not in self._shared.standing.tokens:
            return
        decision = await self._in_thread(partial(self._decide_dataset, logon.dataset))
        if not decision.allowed:
            raise Refused(decision)
        self._shared.standing.tokens.discard(self._token)

    def _decide_dataset(self, dataset: str) -> Decision:
        allowance = self._shared.allowance_bytes
        return self._guard.decide_dataset(dataset, allowance_bytes=allowance, only=self._only)

    async def _run(self) -> None:
        assert self._logon is not None
        self._request = self._combine(self._subscriptions)
        self._pump = Pump(self, self._down, self._voice)
        self._down.on_writable = self._throttle
        await self._open_first()
        self._down.on_gone = lambda: self.stop(Stop.CLIENT)
        self._spawn(self._watch())
        self._spawn(self._late_lines())
        if self._down.gone.done():
            self.stop(Stop.CLIENT)
        while True:
            assert self._upstream is not None
            clean = await self._upstream.ended
            async with self._ledger_lock:
                await self._settle(clean)
            if self._is_over():
                self._step(Event.ENDED if self._state is State.ENDING else Event.LOST)
                break
            self._step(Event.LOST)
            if not await self._mend():
                break
        self._say_goodbye()

    def _is_over(self) -> bool:
        assert self._pump is not None
        if self._pump.vendor_error is not None:
            self._refused_by_vendor(logon_error(self._pump.vendor_error, self._dataset))
            return True
        if self._down.gone.done():
            self._stop = self._stop if self._stop not in (None, *_REOPENED) else Stop.CLIENT
        return self._stop is not None and self._stop not in _REOPENED

    # --- opening ------------------------------------------------------------------------------------------

    def _combine(self, subscriptions: list[Subscription]) -> Request:
        """All subscription lines as one request of one stream. Raises Refused."""
        now = self._guard.clock.now()
        requests = [line.request(self._dataset, now) for line in subscriptions]
        streams = [self._guard.covering(request, only=self._only) for request in requests]
        if len({stream.name for stream in streams}) > 1:
            names = ", ".join(sorted({stream.name for stream in streams}))
            decision = deny(
                "not_covered",
                f"the subscriptions belong to several streams ({names}): open a connection for each",
            )
            self._guard.record_refusal(requests[0], None, decision)
            raise Refused(decision)
        symbols = dict.fromkeys(symbol for request in requests for symbol in request.symbols)
        first = requests[0]
        return Request(first.dataset, first.schema, tuple(symbols), first.stype_in)

    async def _open_first(self) -> None:
        deadline = time.monotonic() + FIRST_CONNECT_S
        for delay_s in delays_s():
            try:
                await self._open(resume=False)
                return
            except VendorUnavailable as error:
                if time.monotonic() + delay_s > deadline:
                    self._voice.error(f"budget-guard: the vendor's live gateway cannot be reached: {error}")
                    raise ClientGone from error
            except VendorError as error:
                self._refused_by_vendor(error)
                assert self._verdict is not None
                raise Refused(self._verdict) from error
            await self._pause(delay_s)

    async def _open(self, *, resume: bool) -> None:
        """Hold money, connect, log on, subscribe, commit, start: in this order. Raises Refused, VendorError."""
        assert self._request is not None and self._pump is not None and self._logon is not None
        approval = await self._hold_money(self._request)
        hold = approval.hold
        start_ns = self._resume_from(approval) if resume else None
        try:
            upstream = await connect(self._shared.endpoint, self._shared.key, self._logon, self._pump)
            try:
                upstream.subscribe(self._subscriptions, start_ns, resume=resume)
                await self._in_thread(hold.activate)
            except BaseException:
                upstream.abort()
                raise
        except LedgerError as error:
            hold.abandon()
            raise Refused(deny("ledger_unavailable", str(error))) from error
        except BaseException:
            await self._in_thread(hold.release)
            raise
        self._approval, self._upstream = approval, upstream
        self._pump.attach(upstream, hold)
        if resume and start_ns is not None:
            self._pump.expect_replay(_replay_bytes_max(approval))
        elif not resume:
            self._started_ns = ns_from_instant(self._guard.clock.now())
        self._stop = None
        self._step(Event.OPENED)
        upstream.start()

    async def _hold_money(self, request: Request, continues: LiveHold | None = None) -> Approval:
        return await self._in_thread(
            partial(
                self._guard.open_live,
                request,
                connection_id=self._id,
                allowance_bytes=self._shared.allowance_bytes,
                only=self._only,
                continues=continues,
            )
        )

    # --- mending ------------------------------------------------------------------------------------------

    async def _mend(self) -> bool:
        """Open the vendor's side again; False when it is over (and why has been set)."""
        for delay_s in delays_s():
            if self._down.gone.done() or self._stop is Stop.SHUTDOWN:
                return False
            try:
                await self._open(resume=True)
                return True
            except Refused as refused:
                self._end_mending(refused.decision)
                return False
            except VendorUnavailable as error:
                log.warning("stream lost, trying again in %.1f s: %s", delay_s, error)
            except VendorError as error:
                self._refused_by_vendor(error)
                return False
            await self._pause(delay_s)
        return False

    def _end_mending(self, decision: Decision) -> None:
        self._verdict = decision
        self._stop = Stop.WINDOW if decision.code == "window_closed" else Stop.LIMIT

    def _resume_from(self, approval: Approval) -> int | None:
        """Where a replay starts, or None when the gap is too long for one; the gap is recorded either way."""
        assert self._pump is not None
        last_ns = self._pump.last_ts_ns or self._started_ns
        now = self._guard.clock.now()
        silent = timedelta(seconds=time.monotonic() - self._pump.last_data_s)
        replayed = silent <= approval.stream.recovery.replay and self._stop is not Stop.REPLAY_SPEND
        note = (
            f"after {'a stop for ' + self._stop.value if self._stop else 'the vendor ended the connection'}"
        )
        self._spawn(
            self._record_gap(approval, last_ns, mended="replayed" if replayed else "", until=now, note=note)
        )
        return last_ns if replayed else None

    async def _record_gap(
        self, approval: Approval, last_ns: int, *, mended: str, until: datetime, note: str
    ) -> None:
        await self._in_thread(
            partial(
                self._guard.record_gap,
                uuid.uuid4().hex,
                approval.stream,
                instant_from_ns(last_ns),
                until,
                mended=mended,
                note=note,
            )
        )

    # --- ending -------------------------------------------------------------------------------------------

    def stop(self, why: Stop) -> None:
        """Begin to end the vendor's side: half-close it and read on to its last byte. The first reason counts."""
        if self._stop is not None and self._stop not in _REOPENED:
            return
        already_ending = self._state is State.ENDING
        self._stop = why
        self._stopped.set()
        if self._state is not State.STREAMING or already_ending:
            return
        assert self._upstream is not None and self._pump is not None
        self._step(Event.FINISH)
        self._pump.ending = True
        if why is Stop.STALE:
            self._upstream.abort()
            return
        self._upstream.finish()
        asyncio.get_running_loop().call_later(ENDING_S, self._upstream.abort)

    async def _settle(self, clean: bool) -> None:
        """Book what the ended vendor connection used."""
        hold = self._hold
        note = self._stop.value if self._stop else "ended by the vendor"
        try:
            entry = await self._in_thread(partial(hold.finish, note, clean=clean))
            self._shared.outcome.entries.append(entry)
        except LedgerError as error:
            hold.abandon()
            log.error(
                "%d bytes stay held until the next start settles them: %s", hold.counted.size_bytes, error
            )

    def _say_goodbye(self) -> None:
        """Tell the client why it ends: a planned end is no error."""
        if self._stop is Stop.WINDOW:
            self._remember_refusal()
            self._tell_planned_end()
        elif self._verdict is not None:
            if self._stop is Stop.LIMIT:
                self._remember_refusal()
                self._shared.outcome.cut.append(self._verdict)
            self._voice.error(self._verdict.wire_text())
        elif self._stop is Stop.SHUTDOWN:
            self._voice.notice("budget-guard: the guard is being stopped")
        elif self._stop is Stop.VERSION:
            self._voice.error("budget-guard: the vendor changed its DBN version; connect again")

    def _remember_refusal(self) -> None:
        self._shared.standing.tokens.add(self._token)

    def _refused_by_vendor(self, error: VendorError) -> None:
        decision = vendor_decision(error)
        self._verdict = decision
        self._shared.outcome.vendor.append(decision)
        self._shared.standing.vendor[self._dataset] = (decision, time.monotonic() + BREAKER_S)
        if self._request is not None:
            self._guard.record_refusal(self._request, None, decision)

    # --- money --------------------------------------------------------------------------------------------

    def want_renewal(self) -> None:
        """Renew the lease in the background, unless that is under way or was refused a moment ago."""
        if not self._renewing and not self._rolling and time.monotonic() >= self._next_renewal_s:
            self._renewing = True
            self._spawn(self._renew())

    def money_ran_out(self) -> None:
        """Read no further until the ledger has answered; the allowance covers what arrives meanwhile."""
        assert self._upstream is not None
        self._next_renewal_s = 0.0
        self.want_renewal()
        if self._state is State.STREAMING:
            self._upstream.pause()

    async def _renew(self) -> None:
        hold = self._hold
        unreachable: Decision | None = None
        try:
            async with self._ledger_lock:
                if hold is not self._hold or self._state is not State.STREAMING:
                    return
                if not await self._in_thread(hold.renew):
                    self._next_renewal_s = time.monotonic() + RENEWAL_PAUSE_S
        except LedgerError as error:
            log.warning("the ledger cannot be reached: %s", error)
            unreachable = deny("ledger_unavailable", str(error))
            self._next_renewal_s = time.monotonic() + RENEWAL_PAUSE_S
        finally:
            self._renewing = False
        if self._state is not State.STREAMING:
            return
        if hold.exhausted or hold.time_exhausted:
            self._verdict = unreachable or hold.denied
            self.stop(Stop.LIMIT)
        elif self._upstream is not None:
            self._upstream.resume()

    async def _roll(self) -> None:
        """A period has ended: go on under a new hold in the next, or stop where that has no room."""
        old = self._hold
        assert self._request is not None and self._pump is not None
        try:
            async with self._ledger_lock:
                if self._state is not State.STREAMING:
                    return
                approval = await self._hold_money(self._request, continues=old)
                await self._in_thread(approval.hold.activate)
                self._pump.swap_hold(approval.hold)
                self._approval = approval
                ended = partial(old.finish, "period ended; the connection goes on", clean=True)
                self._shared.outcome.entries.append(await self._in_thread(ended))
        except Refused as refused:
            self._verdict = refused.decision
            self.stop(Stop.WINDOW if refused.decision.code == "window_closed" else Stop.LIMIT)
        except LedgerError as error:
            self._verdict = deny("ledger_unavailable", str(error))
            self.stop(Stop.LIMIT)
        finally:
            self._rolling = False

    # --- time ---------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Look at the clock a few times a second."""
        while True:
            await asyncio.sleep(WATCH_S)
            if self._state is State.STREAMING:
                await self._look_at_clock()
            elif self._state is State.MENDING:
                assert self._logon is not None
                self._voice.heartbeat(self._logon.heartbeat_interval_s)

    async def _look_at_clock(self) -> None:
        assert self._approval is not None and self._pump is not None and self._logon is not None
        now = self._guard.clock.now()
        hold = self._hold
        silent_s = time.monotonic() - self._pump.last_data_s
        if now >= self._approval.window.end_utc:
            await self._leave_window()
        elif now >= hold.period_end_utc and not self._rolling:
            if month_of(now) != hold.terms.month and hold.terms.unit_price_usd > 0:
                self.stop(Stop.PERIOD)
            else:
                self._rolling = True
                self._spawn(self._roll())
        elif silent_s > self._logon.heartbeat_interval_s + STALE_MARGIN_S:
            self.stop(Stop.STALE)
        elif hold.time_exhausted:
            self.money_ran_out()
        elif hold.renewal_overdue:
            self.want_renewal()

    async def _leave_window(self) -> None:
        """The window has closed, unless the next one began at the same instant."""
        assert self._approval is not None
        state = partial(self._guard.window_state, self._approval.stream, self._guard.clock.now())
        try:
            window, _ = await self._in_thread(state)
        except CalendarUnknown as error:
            self._verdict = deny("calendar_unknown", str(error))
            self.stop(Stop.LIMIT)
            return
        if window is None:
            self.stop(Stop.WINDOW)
        else:
            self._approval = Approval(self._approval.stream, window, self._approval.hold)

    # --- what the client hears ----------------------------------------------------------------------------

    def _tell_refusal(self, decision: Decision) -> None:
        """Refuse: on the logon line before logon, as an ErrorMsg after it."""
        if self._state in (State.GREETED, State.CLOSED) and self._pump is None:
            self._shared.outcome.refused.append(decision)
            handshake.reject(self._down, decision.wire_text())
            return
        if self._verdict is not decision:
            self._shared.outcome.refused.append(decision)
            self._remember_refusal()
        self._voice.error(decision.wire_text())

    def _tell_bad_line(self, error: LineError) -> None:
        if self._state is State.GREETED:
            handshake.reject(self._down, f"budget-guard: {error}")
        else:
            self._voice.error(f"budget-guard: {error}")

    def _tell_planned_end(self) -> None:
        assert self._approval is not None
        closed = instant_text(self._approval.window.end_utc)
        retry = self._verdict.reasons[0].retry_at_utc if self._verdict and self._verdict.reasons else None
        opens = "" if retry is None else f"; it opens next at {instant_text(retry)}"
        self._voice.notice(
            f"budget-guard: the window of stream {self._approval.stream.name} closed at {closed}{opens}"
        )

    async def _late_lines(self) -> None:
        """Subscriptions after the start: of the same stream they go on to the vendor, others are refused."""
        with contextlib.suppress(ClientGone):
            while True:
                try:
                    fields = parse_fields(await self._down.next_line())
                    if "start_session" in fields:
                        continue
                    self._add_subscription(parse_subscription(fields))
                except LineError as error:
                    self._voice.error(f"budget-guard: {error}")
                except Refused as refused:
                    self._shared.outcome.refused.append(refused.decision)
                    self._voice.error(refused.decision.wire_text())

    def _add_subscription(self, subscription: Subscription) -> None:
        assert self._upstream is not None
        self._request = self._combine([*self._subscriptions, subscription])
        self._subscriptions.append(subscription)
        if self._state is State.STREAMING:
            self._upstream.subscribe([subscription], None, resume=False)

    # --- small things -------------------------------------------------------------------------------------

    @property
    def _hold(self) -> LiveHold:
        assert self._approval is not None
        return self._approval.hold

    @property
    def _dataset(self) -> str:
        return "" if self._logon is None else self._logon.dataset

    def _step(self, event: Event) -> None:
        self._state = step(self._state, event)

    def _throttle(self, writable: bool) -> None:
        """Backpressure: a client that does not read stops the reading upstream."""
        if self._upstream is None or self._state is not State.STREAMING:
            return
        if writable and not self._hold.exhausted:
            self._upstream.resume()
        elif not writable:
            self._upstream.pause()

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not for a client that has gone."""
        await asyncio.wait({self._down.gone}, timeout=seconds)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._shared.executor, call)


def _replay_bytes_max(approval: Approval) -> int | None:
    """How many bytes a replay may cost: what `recovery.spend` buys at the connection's price."""
    spend = approval.stream.recovery.spend_usd
    if spend is None:
        return None
    return bytes_within(nano_from_usd(spend), approval.hold.terms.unit_price_usd)

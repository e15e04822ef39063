"""A live session of the official client through a fault: what it received, what it said, what it was billed.

The market has 1,000 records a second. The clock stands where the session starts and is moved on by a second three
times, each time when everybody has come to rest, and once more if the client came back only then. So whatever is lost
is the same at every run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import databento_dbn as dbn

from budget_guard.clock import SteppedClock, ns_from_instant
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.market.model import Selection
from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.sandbox.proving.outcomes import Outcome, after, said

DATASET = "GLBX.MDP3"
START = datetime(2026, 11, 24, 14, 40, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SECONDS = 3
STEP = timedelta(milliseconds=10)
STEP_S = 5.0
RATE = 1000
STRIKES_AFTER = "500 records"
# The client gives a silent gateway 10 s more than the interval of heartbeats, of which 5 s is the least.
HEARTBEAT_S = 5
QUIET_S = 20.0
# It waits 30 s for the answer to a login.
BOUND_S = 40.0
REST_S = 0.5
STUCK_S = 3.0
LAST_S = 10.0
GUARD = "budget-guard: "
CONTROL = (dbn.SystemMsg, dbn.ErrorMsg, dbn.SymbolMappingMsg)

# A live client of the vendor's, given the options of its constructor, pointed at whatever is tried.
Connect = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class LiveCase:
    """A fault on a live session. `before` login, or in mid-stream; `resets` the session as well, to see it come back.

    `iterates`: the program loops over the client; else it has a callback and waits for the close. `walks`: time goes on
    in small steps while the fault strikes, so that what the client reads at once, and drops with an error, is the same
    at every run.
    """

    fault: str
    where: str
    words: Mapping[str, Any]
    iterates: bool
    reconnects: bool
    before: bool = True
    resets: bool = False
    replays: bool = False
    walks: bool = False


class Program:
    """A program as a user would write it, on a thread of its own."""

    def __init__(self, connect: Connect, case: LiveCase) -> None:
        self.records: list[bytes] = []  # market data that the client decoded
        self.looped = 0  # how many of them came out of its loop
        self.decoded_bytes = 0
        self.error_records: list[str] = []
        self.notices: list[str] = []  # what a SystemMsg tells a person
        self.gaps: list[timedelta] = []
        self.stage = ""  # which call it is in; empty while it streams
        self.error: BaseException | None = None
        self.ended_s: float | None = None
        self.heard_s = time.monotonic()  # when it last decoded anything
        self._connect = connect
        self._case = case
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether it has come to its end, by itself or by an exception."""
        return not self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._stream()
        except Exception as error:  # noqa: BLE001 - whatever the client raises is the finding
            self.error = error
        self.ended_s = time.monotonic()

    def _stream(self) -> None:
        case = self._case
        policy = "reconnect" if case.reconnects else "none"
        client = self._connect(reconnect_policy=policy, heartbeat_interval_s=HEARTBEAT_S)
        self.stage = "`subscribe` "
        client.subscribe(DATASET, "mbo", "NQ.v.0", "continuous", start=START if case.replays else None)
        client.add_callback(self._take)
        client.add_reconnect_callback(lambda start, end: self.gaps.append((end - start).to_pytimedelta()))
        if case.iterates:
            self.stage = ""
            for record in client:
                self.looped += not isinstance(record, CONTROL)
        else:
            self.stage = "`start` "
            client.start()
            self.stage = ""
            client.block_for_close()

    def _take(self, record: Any) -> None:
        self.heard_s = time.monotonic()
        self.decoded_bytes += record.record_size()
        if isinstance(record, dbn.ErrorMsg):
            self.error_records.append(record.err)
        elif isinstance(record, dbn.SystemMsg) and record.msg.startswith(GUARD):
            self.notices.append(record.msg.removeprefix(GUARD))
        elif not isinstance(record, CONTROL):
            self.records.append(bytes(record))


class _ErrorLog(logging.Handler):
    """What the client logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


class Session:
    """One case, from its start to its outcome."""

    def __init__(self, sandbox: Sandbox, clock: SteppedClock, case: LiveCase) -> None:
        self.connect: Connect = sandbox.live
        self.rest_s = REST_S
        self._sandbox = sandbox
        self._clock = clock
        self._case = case
        self._log = _ErrorLog()
        logger = logging.getLogger("databento")
        logger.addHandler(self._log)
        logger.propagate = False
        self._given_up = False

    def run(self) -> Outcome:
        """Play it."""
        case = self._case
        if case.replays:
            self._step(SECOND)
        if case.before:
            self._arm()
        program = Program(self.connect, case)
        self._rest(program)
        quiet = False
        for second in range(SECONDS - case.replays):
            if second == 1 and not case.before:
                self._arm()
            before = len(program.records)
            self._go_on(program, small=case.walks and second == 0)
            quiet = len(program.records) == before
        if quiet:
            quiet = self._waits_on(program)
        by_itself = program.done
        self.close()
        program.join(LAST_S)
        return self._outcome(program, quiet=quiet and not by_itself, by_itself=by_itself)

    def close(self) -> None:
        """End what the program is connected to."""
        self._sandbox.close_live()

    def _arm(self) -> None:
        case = self._case
        self._sandbox.arm(case.fault, **case.words)
        if case.resets:
            self._sandbox.arm("reset", **({"after": STRIKES_AFTER} if case.before else {}))

    def _go_on(self, program: Program, *, small: bool = False) -> None:
        """Another second of the market, and what becomes of it."""
        for _ in range(SECOND // STEP if small else 1):
            if program.done:
                self._seen_to_end()
            self._step(STEP if small else SECOND)
            if small:
                self.caught_up(program)
        self._rest(program)

    def _seen_to_end(self) -> None:
        """Until the gateway has seen that the program has hung up: it sends, and bills, until then."""
        deadline_s = time.monotonic() + STEP_S
        while self._sandbox.live_progress.streaming and time.monotonic() < deadline_s:
            time.sleep(0.001)

    def _step(self, by: timedelta) -> None:
        self._clock.step_to(self._clock.now() + by)
        self._sandbox.wake()

    def caught_up(self, program: Program) -> None:
        """Until the client has what was sent. With an unreadable record it never has, until it ends."""
        deadline_s = time.monotonic() + STEP_S
        while not program.done and time.monotonic() < deadline_s:
            progress = self._sandbox.live_progress
            if not progress.streaming:
                self._rest(program)
                return
            if progress.lag_s == 0 and progress.billed_bytes == program.decoded_bytes:
                return
            time.sleep(0.001)

    def _rest(self, program: Program) -> None:
        """Until nothing moves any more: everything sent is decoded, or the program has ended, or it takes too long."""
        deadline_s = time.monotonic() + BOUND_S
        before, since_s = self._state(program), time.monotonic()
        while not program.done and not self._given_up:
            time.sleep(0.02)
            now = self._state(program)
            if now != before:
                before, since_s = now, time.monotonic()
            streaming, billed, decoded = now
            still_s = time.monotonic() - since_s
            # With no connection it is the client's turn: it reconnects, gives up, or waits for what will not come.
            if streaming and still_s > (self.rest_s if billed == decoded else STUCK_S):
                return
            self._given_up = time.monotonic() > deadline_s

    def _waits_on(self, program: Program) -> bool:
        """Nothing came of the last second: whether the client finds that nothing strange, and waits on.

        If it comes back on another connection there is another second of the market for it.
        """
        lines = len(self._sandbox.bill()["connections"])
        deadline_s = time.monotonic() + QUIET_S
        while not program.done and time.monotonic() < deadline_s:
            time.sleep(0.05)
            if len(self._sandbox.bill()["connections"]) > lines:
                self._rest(program)
                before = len(program.records)
                self._go_on(program)
                return len(program.records) == before
        return True

    def _state(self, program: Program) -> tuple[int, int, int]:
        progress = self._sandbox.live_progress
        return progress.streaming, progress.billed_bytes, program.decoded_bytes

    def _outcome(self, program: Program, *, quiet: bool, by_itself: bool) -> Outcome:
        case = self._case
        bill = self._sandbox.bill()
        market = Counter(self.market())
        received = Counter(program.records)
        known = {record: count for record, count in received.items() if record in market}
        return Outcome(
            case.fault,
            case.where,
            "; ".join(self.words(program, bill, quiet=quiet, by_itself=by_itself)),
            lost=sum((market - received).values()),
            doubled=sum(known.values()) - len(known),
            altered=sum(received.values()) - sum(known.values()),
            disordered=_disordered(program.records),
            beyond=bill["bytes"] - program.decoded_bytes,
        )

    def words(self, program: Program, bill: dict[str, Any], *, quiet: bool, by_itself: bool) -> list[str]:
        """What came of it, in words."""
        words = []
        sessions = len(bill["connections"])
        if sessions > 1:
            words.append("reconnects")
            words += [f"is told of a gap of {gap.total_seconds():g} s" for gap in program.gaps]
            if not program.gaps:
                words.append("is told of no gap")
        words.append(self.end(program, quiet=quiet, by_itself=by_itself))
        if program.error_records:
            words.append(f"gets an ErrorMsg, `{program.error_records[0]}`")
        if self._log.count and program.error is None and not program.error_records:
            words.append("logs an error")
        if self._case.iterates and program.done and program.looped < len(program.records):
            words.append(f"{len(program.records) - program.looped:,} decoded records never reach the loop")
        dearer = Decimal(bill["cost_usd"]) - _cost_at_list_price(bill)
        if dearer:
            words.append(f"costs ${dearer:.6f} more than at the price before")
        return words

    def end(self, program: Program, *, quiet: bool, by_itself: bool) -> str:
        """How the program ended, or did not."""
        if not program.done:
            return f"{program.stage}hangs" + ("" if by_itself else ", even when the gateway closes")
        assert program.ended_s is not None
        if not by_itself:
            going = f"waits, notices nothing in {QUIET_S:g} s" if quiet else "goes on"
            return going if program.error is None else f"{going}; at the end {said(program.error)}"
        late = after(program.ended_s - program.heard_s)
        if program.error is not None:
            return f"{program.stage}raises {said(program.error)}{late}"
        return f"{program.stage}ends without an error{late}"

    def market(self) -> list[bytes]:
        """The records that the market has had since the session's start."""
        selection = Selection(DATASET, "mbo", ("NQ.v.0",), "continuous")
        end = self._clock.now()
        parts = self._sandbox.market.parts(selection, ns_from_instant(START), ns_from_instant(end))
        return [bytes(row.tobytes()) for part in parts for row in part.rows]


def _disordered(records: list[bytes]) -> int:
    """How many records are stamped (ts_recv) earlier than one before them."""
    latest = count = 0
    for record in records:
        stamp = int.from_bytes(record[40:48], "little")
        count += stamp < latest
        latest = max(latest, stamp)
    return count


def _cost_at_list_price(bill: dict[str, Any]) -> Decimal:
    """What the bill would be, had no price changed."""
    return sum((Decimal(row["bytes"]) for row in bill["by_usage"]), Decimal(0)) * Decimal("2.16") / 2**30


def live_outcome(case: LiveCase) -> Outcome:
    """What the official client does with a fault, in a process of its own: it may leave threads behind."""
    clock = SteppedClock(START)
    with running_sandbox(SandboxConfig(clock=clock, rate=RATE, limits=Limits.none())) as sandbox:
        return Session(sandbox, clock, case).run()

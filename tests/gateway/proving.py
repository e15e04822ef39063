"""The faults of tests/sandbox/proving once more, with a gateway between the official client and the sandbox."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import databento

from budget_guard.clock import SteppedClock
from budget_guard.gateway.live import staleness
from budget_guard.ledger.model import Gap
from budget_guard.ledger.store import open_ledger
from budget_guard.sandbox.clients import historical_client
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.server import Sandbox, running_sandbox
from budget_guard.settings import Settings
from budget_guard.streaming.assembly import OpenGateway, open_gateway
from tests.gateway.desk import ACCOUNT, MONTH, policy, recovery, stream
from tests.sandbox.proving import live, requests
from tests.sandbox.proving.faults import Case
from tests.sandbox.proving.live import LiveCase, Program, Session
from tests.sandbox.proving.outcomes import Outcome

# How long a client may take to have what was sent; while the relay reconnects, it is not sent.
CAUGHT_UP_S = 0.5
STALE_S = 1.0
# The guard looks at the market a few times a second, and again at every second of it.
REST_S = 1.5
RECOVERY = recovery(replay=timedelta(minutes=15), client_replay=timedelta(minutes=15))


@dataclass(frozen=True, slots=True)
class Place:
    """A gateway before a sandbox, where the official client asks."""

    sandbox: Sandbox
    gateway: OpenGateway
    settings: Settings

    def live(self, **options: Any) -> databento.Live:
        host = self.gateway.host
        return databento.Live(key=host.token(), gateway="127.0.0.1", port=host.live_port, **options)

    def historical(self) -> databento.Historical:
        return historical_client(self.gateway.host.token(), self.gateway.host.http_url)

    def bill(self) -> dict[str, Any]:
        return self.sandbox.bill()

    def books(self) -> tuple[Decimal, list[Gap]]:
        """What the ledger says was spent, in USD, and the gaps that it knows; once the gateway is closed."""
        ledger = open_ledger(self.settings.ledger_url)
        try:
            entries = ledger.entries(ACCOUNT, MONTH)
            spent = sum(entry.cost_nano_usd + entry.residual_nano_usd for entry in entries)
            return Decimal(spent) / 10**9, ledger.gaps(ACCOUNT, MONTH)
        finally:
            ledger.close()


@contextmanager
def running_place(clock: SteppedClock, **options: Any) -> Iterator[Place]:
    """A gateway and its sandbox on one clock, and a ledger of their own."""
    # What the guard says to people is not what is measured here.
    logging.getLogger("budget_guard").setLevel(logging.CRITICAL)
    # In a process of its own: a market of three steps of a second has no two minutes for a vendor to be without data.
    staleness.LEAST_S, staleness.TIMES = STALE_S, 1
    config = SandboxConfig(clock=clock, limits=Limits.none(), **options)
    with tempfile.TemporaryDirectory() as folder, running_sandbox(config) as sandbox:
        home = Path(folder)
        settings = Settings(
            key=sandbox.key,
            ledger_url=f"sqlite:///{home / 'ledger.sqlite'}",
            live_gateway=("127.0.0.1", sandbox.live_port),
            historical_gateway=sandbox.http_url,
            now=clock.now(),
            data_dir=home,
            cache_dir=home / "cache",
        )
        gateway = open_gateway(policy(stream(recovery=RECOVERY)), settings, clock)
        try:
            yield Place(sandbox, gateway, settings)
        finally:
            gateway.close()


class _Guarded(Session):
    """A live session through the gateway: mended there, where the client sees nothing of it."""

    def __init__(self, place: Place, clock: SteppedClock, case: LiveCase) -> None:
        super().__init__(place.sandbox, clock, case)
        self._place = place
        self.connect = place.live
        self.rest_s = REST_S

    def close(self) -> None:
        self._place.gateway.close()

    def caught_up(self, program: Program) -> None:
        """Until the client has what the market had: what is replayed is billed twice, so bytes say nothing."""
        due = sum(1 for _ in self.market())
        deadline_s = time.monotonic() + CAUGHT_UP_S
        while not program.done and len(program.records) < due and time.monotonic() < deadline_s:
            time.sleep(0.001)

    def words(self, program: Program, bill: dict[str, Any], *, quiet: bool, by_itself: bool) -> list[str]:
        words = []
        again = len(bill["connections"]) - 1
        if again > 0:
            words.append("the relay reconnects" + (f" {again} times" if again > 1 else ""))
        words.append(self.end(program, quiet=quiet, by_itself=by_itself))
        words += [f"is told `{notice}`" for notice in program.notices if not _is_farewell(notice)][:2]
        if program.error_records and program.error is None:
            words.append(f"gets an ErrorMsg, `{program.error_records[0]}`")
        return words


def _is_farewell(notice: str) -> bool:
    """What every session is told when the gateway is stopped at its end."""
    return "is being stopped" in notice


def guarded_outcome_of(case: Case) -> Outcome:
    """What the official client does behind the guard, and whether the ledger covers the bill.

    In a process of its own.
    """
    return _live_outcome(case) if isinstance(case, LiveCase) else _request_outcome(case)


def _live_outcome(case: LiveCase) -> Outcome:
    clock = SteppedClock(live.START)
    with running_place(clock, rate=live.RATE) as place:
        return _judged(_Guarded(place, clock, case).run(), place)


def _request_outcome(case: requests.RequestCase) -> Outcome:
    clock = SteppedClock(requests.NOW)
    with running_place(clock) as place:
        return _judged(requests.play_request(case, place.sandbox, clock, place), place)


def _judged(outcome: Outcome, place: Place) -> Outcome:
    """With what the ledger says of it."""
    place.gateway.close()
    spent, gaps = place.books()
    words = [outcome.does]
    open_s = sum((gap.end_utc - gap.start_utc).total_seconds() for gap in gaps if not gap.mended)
    if open_s:
        words.append(f"a gap of {open_s:.1f} s is recorded")
    elif gaps:
        words.append("a gap is recorded and replayed")
    billed = Decimal(place.bill()["cost_usd"])
    if billed > spent:
        words.append(f"**the ledger is ${billed - spent:.6f} short**")
    return replace(outcome, does="; ".join(words))

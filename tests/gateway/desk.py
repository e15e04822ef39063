"""A desk for gateway tests: a sandbox as the vendor, a gateway before it, the real client, and the ledger."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import databento
from databento_dbn import DBNRecord

from budget_guard.clock import Clock, ManualClock
from budget_guard.gateway.wire.framer import CONTROL_RTYPES
from budget_guard.guard.quote import Quote
from budget_guard.ledger.model import Entry, Gap, Hold, Ledger, Refusal
from budget_guard.ledger.store import open_ledger
from budget_guard.policy.model import (
    Account,
    AlwaysClause,
    Budget,
    HistoricalRules,
    Limit,
    LiveBilling,
    Match,
    PeriodName,
    Policy,
    Recovery,
    Stream,
    Unit,
)
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.server import Sandbox, running_sandbox
from budget_guard.settings import Settings
from budget_guard.streaming.assembly import OpenGateway, open_gateway
from tests.sandbox.bare_client import BareClient

GLBX = "GLBX.MDP3"
ACCOUNT = "desk"
# A Tuesday, half past nine in Chicago: inside every window of the markets used here.
NOW = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)
MONTH = "2026-11"
TIMEOUT_S = 20.0
ANY_TIME = (AlwaysClause(),)
NQ = {"dataset": GLBX, "schema": "mbo", "stype_in": "continuous", "symbols": "NQ.v.0"}


def stream(name: str = "nq", **changes: Any) -> Stream:
    """One stream of NQ's orders that may run at any time."""
    terms: dict[str, Any] = {
        "dataset": GLBX,
        "schema": "mbo",
        "symbols": ("NQ.v.0",),
        "stype_in": "continuous",
        "windows": ANY_TIME,
    }
    return Stream(name, **{**terms, **changes})


def limit(amount: str | None, period: PeriodName = "month", unit: Unit = "usd") -> Limit:
    return Limit(period, unit, None if amount is None else Decimal(amount))


def budget(
    *limits: Limit, name: str = "account", timezone: str = "UTC", match: Match | None = None
) -> Budget:
    return Budget(name, limits or (limit("100"),), match or Match(), (), timezone)


def policy(
    *streams: Stream,
    budgets: Sequence[Budget] = (),
    historical: HistoricalRules | None = None,
    billing: Mapping[str, LiveBilling] | None = None,
) -> Policy:
    chosen = streams or (stream(),)
    return Policy(
        "test",
        "UTC",
        Account(ACCOUNT, billing or {}),
        tuple(budgets) or (budget(),),
        {one.name: one for one in chosen},
        historical or HistoricalRules(),
    )


def recovery(**changes: Any) -> Recovery:
    return replace(Recovery(), **changes)


@dataclass
class Collector:
    """What a client was given, as bytes in order; waiting for it needs no sleep."""

    records: list[bytes] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, record: DBNRecord) -> None:
        with self._changed:
            self.records.append(bytes(record))
            self._changed.notify_all()

    def wait_for(self, holds: Callable[[list[bytes]], Any], timeout_s: float = TIMEOUT_S) -> None:
        """Until something is true of the records. Raises AssertionError when it does not become so."""
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self.records), timeout_s), (
                f"it did not come to that; {len(self.records)} records came"
            )

    def wait_for_data(self, count: int) -> None:
        """Until that many records of market data came."""
        self.wait_for(lambda records: len(records) >= count and len(self.data) >= count)

    @property
    def data(self) -> list[bytes]:
        """Market data only."""
        return [record for record in self.records if record[1] not in CONTROL_RTYPES]

    def texts(self, rtype: int) -> list[str]:
        """The texts of the records of a control type."""
        return [one[16:].split(b"\0", 1)[0].decode() for one in self.records if one[1] == rtype]


def eventually(holds: Callable[[], Any]) -> None:
    """Until something is true that nobody announces."""
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        threading.Event().wait(0.002)


class Observed(list[Any]):
    """A list whose growth can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def append(self, item: Any) -> None:
        with self._changed:
            super().append(item)
            self._changed.notify_all()

    def wait_for_length(self, length: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self) >= length, TIMEOUT_S)


@dataclass
class Desk:
    """A sandbox, a gateway before it, and what has come of them."""

    sandbox: Sandbox
    gateway: OpenGateway
    settings: Settings
    clock: Clock
    clients: list[databento.Live] = field(default_factory=list)
    settled: Observed = field(default_factory=Observed)
    _books: Ledger | None = None

    def __post_init__(self) -> None:
        self.gateway.host.outcome.entries = self.settled

    @property
    def token(self) -> str:
        return self.gateway.host.token()

    @property
    def live_port(self) -> int:
        return self.gateway.host.live_port

    def live(self, stream: str | None = None, **options: Any) -> databento.Live:
        """A client of the vendor's own, pointed at the relay."""
        key = options.pop("key", self.gateway.host.token(stream))
        client = databento.Live(key=key, gateway="127.0.0.1", port=self.live_port, **options)
        self.clients.append(client)
        return client

    def streaming(self, stream: str | None = None, **options: Any) -> tuple[databento.Live, Collector]:
        """A client that subscribed to NQ's orders and was started."""
        client = self.live(stream, **options)
        collector = Collector()
        client.subscribe(**NQ)  # type: ignore[arg-type]
        client.add_callback(collector.take)
        client.start()
        return client, collector

    def begin(self, collector: Collector) -> None:
        """Move time on, a little each time, until the stream has begun to flow."""
        self.until(collector, lambda _: collector.data)

    def until(self, collector: Collector, holds: Callable[[list[bytes]], Any]) -> None:
        """Move time on, a little each time, until something is true of the records."""
        for _ in range(200):
            self.advance(0.02)
            with contextlib.suppress(AssertionError):
                collector.wait_for(holds, 0.1)
                return
        raise AssertionError("it did not come to that")

    def flow(self, collector: Collector, seconds: float) -> None:
        """Let the vendor publish that much time of market, and wait until the client has it (but for a last slot)."""
        rate = self.sandbox.config.rate
        assert rate is not None
        expected = len(collector.data) + int(rate * (seconds - 0.03))
        self.advance(seconds)
        collector.wait_for_data(expected)

    def bare(self, *subscriptions: str, **options: Any) -> BareClient:
        """A client made of a socket, at the relay."""
        place = SimpleNamespace(
            config=SimpleNamespace(host="127.0.0.1"), live_port=self.live_port, key=self.token
        )
        return BareClient(place, *subscriptions, **options)  # type: ignore[arg-type]

    def advance(self, seconds: float) -> None:
        """Move the clock of both, the vendor and the guard."""
        assert isinstance(self.clock, ManualClock)
        self.clock.advance(seconds)

    def close(self) -> None:
        """End and settle everything; the ledger can be read afterwards too."""
        for client in self.clients:
            if client.is_connected():
                client.terminate()
        self.clients.clear()
        self.gateway.close()

    @property
    def books(self) -> Ledger:
        if self._books is None:
            self._books = open_ledger(self.settings.ledger_url)
        return self._books

    def holds(self) -> list[Hold]:
        """The open holds for money; connections themselves have slots beside them."""
        return [hold for hold in self.books.open_holds() if not hold.is_slot]

    def entries(self, month: str = MONTH) -> list[Entry]:
        return self.books.entries(ACCOUNT, month)

    def refusals(self) -> list[Refusal]:
        return self.books.refusals(ACCOUNT, MONTH)

    def gaps(self) -> list[Gap]:
        return self.books.gaps(ACCOUNT, MONTH)

    def spent_nano_usd(self) -> int:
        """Settled and still held, of the month's dollars."""
        balances = self.books.account_balances(ACCOUNT, NOW - timedelta(days=60), NOW + timedelta(days=60))
        return sum(
            balance.settled + balance.held
            for key, balance in balances.items()
            if key.unit == "usd" and key.period == "month" and key.budget == "account"
        )

    def billed_nano_usd(self) -> Decimal:
        """The sandbox's own bill."""
        return Decimal(self.sandbox.bill()["cost_usd"]) * 10**9


@contextmanager
def running_desk(
    folder: Path,
    rules: Policy | None = None,
    *,
    clock: Clock | None = None,
    approve: Callable[[Quote], bool] | None = None,
    ledger_url: str | None = None,
    **sandbox: Any,
) -> Iterator[Desk]:
    """A desk whose clock stands still unless told otherwise: data comes when the test moves time on."""
    shared = clock or ManualClock(NOW)
    # A clock that stands still would never let the vendor's limits go.
    sandbox.setdefault("limits", Limits.none())
    with running_sandbox(SandboxConfig(clock=shared, **sandbox)) as vendor:
        settings = Settings(
            key=vendor.key,
            ledger_url=ledger_url or f"sqlite:///{folder / 'ledger.sqlite'}",
            live_gateway=("127.0.0.1", vendor.live_port),
            historical_gateway=vendor.http_url,
            now=shared.now(),
            data_dir=folder,
            cache_dir=folder / "cache",
        )
        gateway = open_gateway(rules or policy(), settings, shared, approve=approve)
        desk = Desk(vendor, gateway, settings, shared)
        try:
            yield desk
        finally:
            desk.close()
            if desk._books is not None:
                desk._books.close()

"""Hosts with clocks of their own, and the lines over which the vendor sends and bills."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from budget_guard.clock import ManualClock
from budget_guard.markets.model import Interval
from budget_guard.policy.model import Mode, Stream
from budget_guard.pricing.model import DataRange, UnitPrice
from tests.simulation.calendar import session_start

READ_BYTES = 64 * 1024
# What the vendor may have billed and nobody read: its queue and the receive buffer, in small.
UNSEEN_BYTES = 448 * 1024
ALLOWANCE_BYTES = UNSEEN_BYTES + READ_BYTES
# The assumption about rates under which a residual covers what was not seen: a second, and a burst.
_LINGER_S = 1
_BURST_BYTES = 64 * 1024


class HostClock(ManualClock):
    """A machine's clock: it can be set wrong, and what the machine sleeps does not count as elapsed."""

    _slept_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self._slept_s

    def sleep(self, seconds: float) -> None:
        """The machine is suspended for so long."""
        self.jump(seconds)
        self._slept_s += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock."""
        self._now += timedelta(seconds=seconds)

    def boot(self) -> None:
        """A new run of the machine counts its seconds anew."""
        self._elapsed_s, self._slept_s = 1.0, 0.0


@dataclass(slots=True)
class Host:
    name: str
    clock: HostClock
    meters: Path
    boot: int = 1
    cut: bool = False  # from the ledger

    @property
    def boot_id(self) -> str:
        return f"{self.name}-{self.boot}"

    @property
    def now_ns(self) -> int:
        return int(self.clock.monotonic_s() * 10**9)


@dataclass(slots=True)
class Line:
    """One connection to the vendor: what is sent is billed at once, whether it arrives or not.

    `true_s` reads the time that really passes, in which the vendor's rate is bound.
    """

    true_s: Callable[[], float]
    tell: Callable[[int], None]  # the auditor, what is billed
    flying_bytes: int = 0
    biggest_read: int = 0
    last_read_s: float = 0.0
    ended: bool = False  # it has our end: it sends no more
    most_bytes: int | None = None  # of the whole answer; None for a stream
    sent_bytes: int = 0
    reads: int = field(default=0)

    def send(self, size_bytes: int) -> int:
        """Hand over up to so many bytes: as many as fit unseen, by the assumptions that the guard prints."""
        if self.ended:
            return 0
        room = UNSEEN_BYTES
        if self.reads:
            seconds = self.true_s() - self.last_read_s + _LINGER_S
            # A tenth of a second is the shortest time in which the guard measures a rate.
            room = min(room, _BURST_BYTES + int(self.biggest_read * 10 * seconds))
        if self.most_bytes is not None:
            room = min(room, self.flying_bytes + self.most_bytes - self.sent_bytes)
        size = max(0, min(size_bytes, room - self.flying_bytes))
        self.flying_bytes += size
        self.sent_bytes += size
        self.tell(size)
        return size

    def take(self, most_bytes: int) -> int:
        """Read what has arrived, up to so many bytes."""
        size = min(self.flying_bytes, most_bytes)
        self.flying_bytes -= size
        self.biggest_read = max(self.biggest_read, size)
        self.last_read_s = self.true_s()
        self.reads += 1
        return size


@dataclass(frozen=True, slots=True)
class SimPrices:
    """The vendor's prices, as the guard is told them."""

    usd: dict[str, Decimal]
    streams: dict[tuple[str, str], str]

    def price(self, dataset: str, schema: str, mode: Mode) -> UnitPrice | None:
        found = self.usd.get(self.streams.get((dataset, schema), ""))
        return None if found is None else UnitPrice(found, "vendor", "the vendor's list")

    def price_whole(self, data_range: DataRange, at: datetime) -> UnitPrice | None:
        return self.price(data_range.dataset, data_range.schema, "historical")


@dataclass(frozen=True, slots=True)
class SimWindows:
    """Always open, but for the stream that closes in the hour before each session."""

    closes: bool

    def covering(self, at: datetime) -> Interval | None:
        if not self.closes:
            return Interval(datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
        session = self.session_interval(at)
        window = Interval(session.start_utc, session.end_utc - timedelta(hours=1))
        return window if at in window else None

    def next_open(self, at: datetime) -> datetime | None:
        return self.session_interval(at).end_utc

    def session_interval(self, at: datetime) -> Interval:
        start = session_start(at)
        return Interval(start, start + timedelta(days=1))


def windows_of(stream: Stream) -> SimWindows:
    return SimWindows(stream.name == "day")

"""The faults that are armed, what has struck, and whose turn it is. One loop's own; no I/O but a clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from weakref import WeakSet

from budget_guard.clock import Clock, instant_text
from budget_guard.sandbox.faults.model import Fault

# How many strikes, and how many faults that are over, can still be asked for.
_LOG_MAX = 1000
_OVER_MAX = 100


class Struck(Protocol):
    """A connection that faults strike."""

    def instants(self) -> Iterator[datetime]:
        """When something begins or ends for it alone."""


@dataclass(eq=False, slots=True)
class Armed:
    """A fault that waits for its moment, or has come to it. `left` None: it may strike without end."""

    number: int
    fault: Fault
    at: datetime
    until: datetime | None
    left: int | None
    skip: int
    struck: int = 0
    on: bool = False  # switches only
    dropped: bool = False

    def state(self, now: datetime) -> str:
        """`waiting` for its instant, `armed`, or `over`."""
        if now < self.at:
            return "waiting"
        ended = self.until is not None and now >= self.until
        return "over" if self.dropped or self.left == 0 or ended else "armed"


class Faults:
    """Everything that is to go wrong. `clock` is the sandbox's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._armed: list[Armed] = []
        self._log: deque[dict[str, Any]] = deque(maxlen=_LOG_MAX)
        self._count = 0
        self.streams: list[Armed] = []  # those of live connections: looked at for every buffer, so kept apart
        self.links: WeakSet[Struck] = WeakSet()
        self.armed_changed: Callable[[], None] = lambda: None

    def arm(self, fault: Fault) -> int:
        """Let a fault wait for its moment. Returns its number."""
        now = self._clock.now()
        at = now + fault.at if isinstance(fault.at, timedelta) else fault.at or now
        ends = fault.for_s is not None and fault.after is None
        until = at + timedelta(seconds=fault.for_s or 0) if ends else None
        self._count += 1
        armed = Armed(self._count, fault, at, until, fault.times, fault.skip)
        self._armed.append(armed)
        self._refresh()
        self.armed_changed()
        return armed.number

    def drop(self, do: str | None = None, dataset: str | None = None, number: int | None = None) -> int:
        """Call faults off: one by its number, those of a kind (and dataset), or all. Returns how many."""
        gone = [
            armed
            for armed in self._armed
            if not armed.dropped
            and number in (None, armed.number)
            and do in (None, armed.fault.do)
            and (dataset is None or armed.fault.dataset == dataset)
        ]
        for armed in gone:
            armed.dropped = True
        self._refresh()
        self.armed_changed()
        return len(gone)

    def listing(self) -> dict[str, Any]:
        """What waits, what is armed and what has struck, as JSON."""
        now = self._clock.now()
        return {
            "at_utc": instant_text(now),
            "faults": [
                {
                    "number": armed.number,
                    "state": "struck" if armed.on else armed.state(now),
                    "struck": armed.struck,
                    "at_utc": instant_text(armed.at),
                    "fault": armed.fault.words(),
                }
                for armed in self._armed
            ],
            "struck": list(self._log),
        }

    def next_instant(self) -> datetime | None:
        """The next instant at which a fault begins or ends: a clock that is moved from outside should stop there."""
        now = self._clock.now()
        moments = [
            moment
            for armed in self._armed
            if not armed.dropped and armed.left != 0
            for moment in (armed.at, armed.until)
            if moment is not None
        ]
        moments += [moment for link in list(self.links) for moment in link.instants()]
        return min((moment for moment in moments if moment > now), default=None)

    def ready(self, do: str, dataset: str | None, key: str | None) -> Iterator[Armed]:
        """Those of a kind that may strike this dataset and key now, in the order in which they were armed."""
        now = self._clock.now()
        for armed in list(self._armed):
            fault = armed.fault
            if fault.do == do and armed.state(now) == "armed" and fault.matches(dataset, key):
                yield armed

    def take(
        self, do: str, dataset: str | None = None, key: str | None = None, *, named: bool = False
    ) -> Armed | None:
        """The one of a kind that strikes now, counted as struck; None when nothing is to go wrong.

        With `named` only those that name a dataset or key.
        """
        for armed in self.ready(do, dataset, key):
            if named and (armed.fault.dataset, armed.fault.key) == (None, None):
                continue
            if self.strike(armed, dataset or ""):
                return armed
        return None

    def strike(self, armed: Armed, where: str) -> bool:
        """Count a strike; False when it is one of those that are to be let pass."""
        if armed.skip > 0:
            armed.skip -= 1
            return False
        if armed.left == 0:
            return False
        armed.struck += 1
        if armed.left is not None:
            armed.left -= 1
        self._note(armed, where)
        self._refresh()
        return True

    def switches(self) -> list[tuple[Armed, bool]]:
        """The switches that are to be turned now, with where to. They count as turned."""
        now = self._clock.now()
        turned = []
        for armed in self._armed:
            on = armed.fault.door == "switch" and armed.state(now) == "armed"
            if on != armed.on:
                armed.on = on
                if on:
                    armed.struck += 1
                    self._note(armed, armed.fault.dataset or "")
                turned.append((armed, on))
        return turned

    def awaits(self) -> bool:
        """Whether a switch has still to be turned, one way or the other, as time goes on."""
        now = self._clock.now()
        return any(
            armed.fault.door == "switch"
            and (armed.state(now) == "waiting" or (armed.on and armed.until is not None))
            for armed in self._armed
        )

    def is_on(self, do: str, dataset: str | None) -> bool:
        """Whether a switch of a kind is on for a dataset; None: for all of them."""
        now = self._clock.now()
        return any(
            armed.fault.do == do and armed.state(now) == "armed" and armed.fault.matches(dataset, None)
            for armed in self._armed
        )

    def _note(self, armed: Armed, where: str) -> None:
        entry = {"at_utc": instant_text(self._clock.now()), "number": armed.number, "do": armed.fault.do}
        self._log.append(entry | ({"where": where} if where else {}))

    def _refresh(self) -> None:
        """Forget the oldest of what is over, and pick out what live connections have to look at."""
        now = self._clock.now()
        over = [armed for armed in self._armed if armed.state(now) == "over" and not armed.on]
        forgotten = set(over[:-_OVER_MAX])
        self._armed = [armed for armed in self._armed if armed not in forgotten]
        self.streams = [
            armed for armed in self._armed if armed.fault.door == "stream" and armed.state(now) != "over"
        ]

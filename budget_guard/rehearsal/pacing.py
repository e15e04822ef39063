"""How fast a rehearsal's clock may go: as fast as everybody follows, and never past an instant that somebody waits for.

Pure: it is told what there is to see and says where the clock may go. Time-outs count the machine's own seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

# A step of the clock, in seconds of the market, and the bytes that make it longer or shorter.
STEP_S_MIN, STEP_S_MAX = 0.02, 60.0
STEP_BYTES_LOW, STEP_BYTES_HIGH = 512 * 1024, 2 * 2**20
# After a connection, or a window's opening, others may follow: so long it has to be quiet before the clock goes on.
QUIET_S = 0.3
# What a guard may take to end or renew what is due. Then the clock goes on all the same.
EDGE_S = 10.0
# How long time runs as it does outside while the guard tries to open a lost connection again, or hears nothing; again
# so long when a fault ends meanwhile.
MEND_S = 120.0
# How small the last step to such an instant is: the sandbox sends in slots of half of it.
_EVE = timedelta(milliseconds=20)


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is to see at one moment.

    `streaming` and `opening` count live connections to the vendor, `mending` those that the guard tries to open again,
    `expected` those that there could be: the streams with an open window. `behind_s`, `unread_bytes` and
    `backlog_bytes` are what sandbox, guard and program have still to send, to read and to take; `passed_bytes` is what
    the sandbox has sent in all. `requests` counts downloads that are under way. `dues` are the instants at which the
    guard has to act for something that runs. `silent` counts connections that a fault keeps silent, `edge` is the next
    instant at which a fault begins or ends.
    """

    now: datetime
    real_s: float
    streaming: int = 0
    opening: int = 0
    mending: int = 0
    expected: int = 1
    behind_s: float = 0.0
    unread_bytes: int = 0
    backlog_bytes: int = 0
    passed_bytes: int = 0
    requests: int = 0
    dues: Sequence[datetime] = ()
    silent: int = 0
    edge: datetime | None = None

    @property
    def settled(self) -> bool:
        """Whether everybody has everything until now."""
        return not (self.opening or self.behind_s > 0 or self.unread_bytes or self.backlog_bytes)

    @property
    def busy(self) -> tuple[int, ...]:
        """Changes as long as anything moves."""
        return (
            self.streaming,
            self.opening,
            self.unread_bytes,
            self.backlog_bytes,
            self.passed_bytes,
            self.requests,
        )


class Pacer:
    """Says where the clock may go, look by look, from the start of a span to its end.

    `patience_s` is how long the clock waits for a program that does not connect, or does not read, before it goes on
    without it. `speed` is the most seconds of the market in one of the machine's. `opens` are the instants at which
    further windows open: the clock stops there for a moment.
    """

    def __init__(
        self,
        end_utc: datetime,
        *,
        patience_s: float,
        speed: float | None = None,
        opens: Sequence[datetime] = (),
    ) -> None:
        self._end_utc = end_utc
        self._opens = opens
        self._patience_s = patience_s
        self._speed = speed
        self._step_s = 1.0
        self._began: Sight | None = None
        self._last: Sight | None = None
        self._moved_s = 0.0  # when something last moved
        self._lost_s: float | None = None  # since when there are fewer connections than there were
        self._most = 0  # connections that there were, as far as they are waited for
        self._silent_s: float | None = None  # since when there is a connection that is kept silent
        self._edge: datetime | None = None  # where a fault begins or ends, as the clock is on its way there
        self._changed_s = 0.0  # when the number of connections last changed, or that of open windows grew
        self._step_bytes = 0
        self._waited: tuple[datetime, float] | None = (
            None  # an instant that is due, and since when it is waited for
        )
        self._passed: set[datetime] = set()  # that were waited for in vain
        self.connected = False
        self.gave_up = False  # went on without a program that did not connect, or did not read

    def next(self, sight: Sight) -> datetime:
        """The instant that the clock may show next; `sight.now` to stand still."""
        self._look(sight)
        target = self._target(sight)
        if self._speed is not None and self._began is not None:
            allowed_s = (sight.real_s - self._began.real_s) * self._speed
            target = min(target, self._began.now + timedelta(seconds=allowed_s))
        self._last = sight
        self._edge = sight.edge
        stops = [opens for opens in self._opens if opens > sight.now]
        if sight.edge is not None and sight.edge > sight.now:
            # By a last small step: a fault must not strike what came before it and is still to be sent.
            eve = sight.edge - _EVE
            stops.append(eve if eve > sight.now else sight.edge)
        return max(sight.now, min([target, self._end_utc, *stops]))

    def _look(self, sight: Sight) -> None:
        last = self._last
        if self._began is None or last is None:
            self._began = last = sight
            self._moved_s = self._changed_s = self._lost_s = sight.real_s
        if sight.busy != last.busy:
            self._moved_s = sight.real_s
        if sight.streaming != last.streaming or sight.expected > last.expected:
            self._changed_s = sight.real_s
        self.connected = self.connected or sight.streaming > 0
        if sight.streaming >= max(1, self._most):
            self._most, self._lost_s = sight.streaming, None
        elif self._lost_s is None or self._outage_may_be_over(sight):
            self._lost_s = sight.real_s
            self._most = max(self._most, sight.streaming + sight.mending)
        if not sight.silent:
            self._silent_s = None
        elif self._silent_s is None:
            self._silent_s = sight.real_s

    def _outage_may_be_over(self, sight: Sight) -> bool:
        """Whether the clock has come to where a fault ends while the guard tries to mend what it did."""
        return self._edge is not None and self._edge <= sight.now and sight.mending > 0

    def _target(self, sight: Sight) -> datetime:
        patient = sight.real_s - self._moved_s < self._patience_s
        if not sight.settled and patient:
            return sight.now
        due = self._due(sight)
        while due is not None and due <= sight.now:
            if not self._past(due, sight.real_s):
                return sight.now
            due = self._due(sight)
        if not self.connected and not sight.requests and patient:
            return sight.now
        if sight.requests or self._missed(sight) or self._silent(sight):
            return self._capped(sight.now, self._real_pace(sight), due)
        if self._joining(sight):
            return sight.now
        self.gave_up = self.gave_up or not sight.settled or not self.connected
        return self._capped(sight.now, sight.now + timedelta(seconds=self._step(sight)), due)

    def _due(self, sight: Sight) -> datetime | None:
        return min((due for due in sight.dues if due not in self._passed), default=None)

    def _past(self, due: datetime, real_s: float) -> bool:
        """Whether an instant that is due has been waited for long enough."""
        if self._waited is None or self._waited[0] != due:
            self._waited = (due, real_s)
        if real_s - self._waited[1] < EDGE_S:
            return False
        self._passed.add(due)
        return True

    def _missed(self, sight: Sight) -> bool:
        """Whether a connection that was lost may still come back: so long, time runs as it does outside."""
        if self._lost_s is None or not self.connected:
            return False
        if sight.real_s - self._lost_s < (MEND_S if sight.mending else self._patience_s):
            return True
        self._most = sight.streaming
        return False

    def _silent(self, sight: Sight) -> bool:
        """Whether the guard may be about to notice that nothing is heard: its patience is the machine's own seconds."""
        return self._silent_s is not None and sight.real_s - self._silent_s < MEND_S

    def _joining(self, sight: Sight) -> bool:
        """Whether further connections may be about to follow the one that has just come."""
        return sight.streaming < sight.expected and sight.real_s - self._changed_s < QUIET_S

    def _real_pace(self, sight: Sight) -> datetime:
        since_s = 0.0 if self._last is None else sight.real_s - self._last.real_s
        return sight.now + timedelta(seconds=since_s)

    def _step(self, sight: Sight) -> float:
        """The next step: longer after one that brought little, shorter after one that brought much."""
        size = sight.passed_bytes - self._step_bytes
        self._step_bytes = sight.passed_bytes
        if size < STEP_BYTES_LOW:
            self._step_s = min(STEP_S_MAX, self._step_s * 2)
        elif size > STEP_BYTES_HIGH:
            self._step_s = max(STEP_S_MIN, self._step_s / 2)
        return self._step_s

    @staticmethod
    def _capped(now: datetime, target: datetime, due: datetime | None) -> datetime:
        """The target, but never past an instant that is due, and to that only by a last small step.

        The guard may act as soon as the clock shows it: by then everybody must have what came before.
        """
        if due is None or target < due:
            return target
        eve = due - _EVE
        return due if now >= eve else eve

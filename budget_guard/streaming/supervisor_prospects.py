"""Whether a program could run just now: what its gateway has to say, the money, the vendor."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from budget_guard.clock import Clock
from budget_guard.errors import BudgetGuardError, VendorError, VendorUnavailable
from budget_guard.policy.model import Stream
from budget_guard.streaming.fallback import Cause, Looks, News, Obstacles, Vain, money_cause
from budget_guard.streaming.supervisor_site import Site
from budget_guard.streaming.supervisor_states import Kind

log = logging.getLogger(__name__)
T = TypeVar("T")

# A vendor that could not be reached for so long is out of reach.
UNREACHABLE_S = 60.0


class Asking(Generic[T]):
    """One question at a time, in a thread of its own that nobody waits for: signals are heard meanwhile."""

    def __init__(self) -> None:
        self._answers: list[T] = []
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def ask(self, question: Callable[[], T]) -> None:
        """Ask, unless another question is still open. One that fails has no answer."""
        if not self.busy:
            self._thread = threading.Thread(target=self._run, args=(question,), daemon=True)
            self._thread.start()

    def answer(self) -> T | None:
        """An answer that has come since the last call."""
        return self._answers.pop() if self._answers else None

    def _run(self, question: Callable[[], T]) -> None:
        try:
            self._answers.append(question())
        except (BudgetGuardError, OSError, RuntimeError) as error:
            log.info("a question was not answered: %s", error)


class Prospects:
    """Which streams cannot run, and when to ask again whether they can."""

    def __init__(
        self,
        site: Site,
        streams: Sequence[Stream],
        obstacles: Obstacles,
        clock: Clock,
        *,
        looks: Looks | None = None,
        asking: Asking[Mapping[str, Cause | None]] | None = None,
        unreachable_s: float = UNREACHABLE_S,
    ) -> None:
        self._site = site
        self._streams = {stream.name: stream for stream in streams}
        self._obstacles = obstacles
        self._clock = clock
        self._looks = looks or Looks()
        self._vain = Vain()
        self._limits: dict[
            str, Hashable
        ] = {}  # by stream, when the money was looked at before the last start
        self._unreachable_s = unreachable_s
        self._mending_since_s: float | None = None
        self._asking = asking or Asking()

    def cause(self, names: Iterable[str]) -> Cause | None:
        """Why none of these streams can run; None while one of them can."""
        return self._obstacles.cause(names)

    def goes_on(self, cause: Cause) -> bool:
        """Whether the program has a stream all the same: what keeps one from starting may let another run on."""
        # Clients that wait for a lost connection have one until the vendor is out of reach.
        waiting = self._site.mending if cause.kind == "unreachable" else 0
        return self._site.going_on > waiting

    def next_look_s(self, cause: Cause) -> float | None:
        """How long until the next look whether a cause is over."""
        return self._looks.next_in_s(cause, self._clock.monotonic_s(), self._clock.now())

    def news(self) -> News:
        """What has happened since the last call, taken in."""
        news = self._site.news()
        self._obstacles.hear(news)
        return news

    def look(self, names: Sequence[str]) -> None:
        """Ask again what may have changed. Never waits."""
        self._watch_mending(names)
        self._ask_again()

    def check_money(self, names: Iterable[str]) -> None:
        """Begin anew with these streams: whether the guard would let them start. Blocks."""
        self.forget()
        self._limits.clear()
        for name in names:
            self._learn_limits(name)
            self._obstacles.learn(name, money_cause(name, self._site.money(self._streams[name])))

    def forget(self) -> None:
        """Nothing is known to be in the way."""
        self._obstacles.forget()
        self._vain.end()

    def refused(self, error: VendorError) -> None:
        """The vendor refused before there was anything to guard: no stream can run."""
        self._obstacles.forget()
        self._obstacles.add("vendor", None, f"{error.code}: {error}")

    def proven(self) -> None:
        """The program has run for a while without anything in its way."""
        self._looks.proven()
        self._vain.proven()

    def came_back_in_vain(self) -> float:
        """Money was found for the program, and it was refused again: the seconds for which that is not tried again."""
        return self._vain.begin(self._limits, self._clock.monotonic_s())

    # --- inside -------------------------------------------------------------------------------------------

    def _watch_mending(self, names: Iterable[str]) -> None:
        """The vendor is out of reach when every client has waited for it for long."""
        now_s = self._clock.monotonic_s()
        waiting = self._site.mending
        if not waiting or waiting < self._site.clients:
            self._mending_since_s = None
            return
        if self._mending_since_s is None:
            self._mending_since_s = now_s
        if now_s - self._mending_since_s >= self._unreachable_s:
            for name in names:
                text = f"no connection for {self._unreachable_s:.0f} s"
                self._obstacles.learn(name, Cause("unreachable", name, text))

    def _ask_again(self) -> None:
        answers = self._asking.answer() or {}
        now_s, now = self._clock.monotonic_s(), self._clock.now()
        for name, cause in answers.items():
            self._obstacles.learn(name, cause)
        causes = self._obstacles.causes
        if not causes:
            self._looks.rest()
        elif not self._asking.busy and self._looks.due(causes[0], now_s, now):
            self._looks.plan(causes[0].kind, now_s, now)
            self._asking.ask(lambda: self._find_out(causes))

    def _find_out(self, causes: Sequence[Cause]) -> Mapping[str, Cause | None]:
        """Whether these causes are over: the guard is asked for money, the vendor by a logon that costs nothing."""
        found = {cause.stream: self._find_money(cause) for cause in causes if cause.kind == "money"}
        others = [cause for cause in causes if cause.kind != "money"]
        if others:
            datasets = list(dict.fromkeys(self._streams[cause.stream].dataset for cause in others))
            said = self._site.probe(datasets)
            for dataset in (name for name, error in said.items() if error is None):
                self._site.welcome(dataset)
            for cause in others:
                found[cause.stream] = _vendor_cause(cause, said[self._streams[cause.stream].dataset])
        return found

    def _find_money(self, cause: Cause) -> Cause | None:
        stream = self._streams[cause.stream]
        decision = self._site.money(stream)
        if decision.code == "ledger_unavailable":
            return cause  # nobody knows
        found = money_cause(cause.stream, decision)
        if found is not None:
            return found
        now_s, now = self._clock.monotonic_s(), self._clock.now()
        return cause if self._vain.stands(cause, self._site.limits(stream), now_s, now) else None

    def _learn_limits(self, name: str) -> None:
        """Those of a ledger that is away are not known: nothing will be taken for a change of them."""
        try:
            self._limits[name] = self._site.limits(self._streams[name])
        except BudgetGuardError as error:
            log.info("the limits of stream %s are not known: %s", name, error)


def _vendor_cause(cause: Cause, error: VendorError | None) -> Cause | None:
    if error is None:
        return None
    kind: Kind = "unreachable" if isinstance(error, VendorUnavailable) else "vendor"
    return Cause(kind, cause.stream, str(error))

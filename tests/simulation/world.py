"""Many hosts and processes over one ledger: carries out a schedule's steps, one at a time, and tells the auditor."""

from __future__ import annotations

import sqlite3
import struct
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

from budget_guard.errors import LedgerError
from budget_guard.guard.guard import Guard
from budget_guard.ledger.backends import Backend
from budget_guard.ledger.evidence import look
from budget_guard.ledger.recovery import KEPT_S, Recovered, recover_orphans
from budget_guard.ledger.resolving import resolve
from budget_guard.ledger.store import _NothingToWrite
from tests.simulation import calendar
from tests.simulation.auditor import Actor, Auditor, Breach
from tests.simulation.driver import Download, Ending, Live, Process
from tests.simulation.places import Host, HostClock, SimPrices, windows_of
from tests.simulation.schedule import MIB, Schedule, Step
from tests.simulation.store import Killed, Seat, SimLedger, Work

_PAGE_COUNTERS = struct.Struct("=9Q")  # of a meter's page, from its size on
_COUNTERS_AT = 16
_FILLED_AT = 448
_PROCESSES_MAX = 6


class World:
    """Everything that a schedule runs in."""

    def __init__(
        self, schedule: Schedule, folder: Path, backend: Backend, identity: str, auditor: Auditor
    ) -> None:
        self.setting = schedule.setting
        self.auditor = auditor
        self._lossy = schedule.lossy
        self._copies: deque[sqlite3.Connection] = deque(maxlen=4)  # the ledger as it was, newest last
        self.counts: Counter[str] = Counter()
        self.fired: Counter[str] = Counter()
        self.true_s = 0.0
        self._backend, self._identity, self._path = backend, identity, folder / "ledger.sqlite"
        self._policies = {policy.name: policy for policy in self.setting.policies}
        self.hosts = [
            self._make_host(n, skew, folder / f"meters-{n}")
            for n, skew in enumerate(self.setting.skews_s, start=1)
        ]
        self.processes: list[Process] = []
        self._delayed: list[tuple[Seat, Work]] = []
        # name: host, its run when it sat down, policy, kind. Nobody outlives the run of their machine.
        self._seats: dict[str, tuple[Host, int, str, str]] = {}
        self._names = 0
        self.here = self.hosts[0]  # the machine whose code is running
        self._steps: Mapping[str, Callable[[Step], None]] = {
            "start": self._start,
            "recover": self._recover,
            "open": self._open,
            "flow": self._flow,
            "tick": self._tick,
            "end": self._end,
            "drain": self._drain,
            "request": self._request,
            "answer": self._answer,
            "close_request": self._close_request,
            "kill": self._kill,
            "torn": self._torn,
            "crash": self._crash,
            "approve": self._approve,
            "cut": self._cut,
            "mend": self._mend,
            "jump": self._jump,
            "suspend": self._suspend,
            "to_period_end": self._to_period_end,
            "late": self._late,
            "failover": self._failover,
        }

    def _make_host(self, number: int, skew_s: int, meters: Path) -> Host:
        clock = HostClock(self.setting.start_utc + timedelta(seconds=skew_s))
        clock.advance(1000.0 * number)
        clock.jump(-1000.0 * number)
        return Host(f"host-{number}", clock, meters)

    # --- running ------------------------------------------------------------------------------------------

    def take(self, step: Step) -> None:
        """Carry out a step. Raises Breach."""
        self._steps[step.kind](step)
        self.counts[step.kind] += 1
        self.auditor.check_bills()

    def finish(self) -> None:
        """Let everything end and be recovered, as an operator would in the end. Raises Breach."""
        for host in self.hosts:
            host.cut = False
        for process in list(self.processes):
            self._wind_up(process)
        self._deliver(len(self._delayed))
        for host in self.hosts:
            self._settle_left(host)
        if self._lossy:
            # Long after, the meters that were kept for a failover are swept.
            self._pass(KEPT_S + 1)
            for host in self.hosts:
                self._settle_left(host)
        self.auditor.check_end()
        leftovers = [
            path.name for host in self.hosts if host.meters.is_dir() for path in host.meters.iterdir()
        ]
        if leftovers:
            raise Breach(f"meters are left: {leftovers}")

    def bury_all(self) -> None:
        """Let go of every meter, and of every copy."""
        for copy in self._copies:
            copy.close()
        for process in list(self.processes):
            self._bury(process)

    def _wind_up(self, process: Process) -> None:
        process.seat.fault = None
        with self._acting(process):
            for live in list(process.lives):
                process.end(live, "clean")
            for download in list(process.downloads):
                process.close_request(download, "clean")
        self._bury(process)

    def _settle_left(self, host: Host) -> None:
        """Recover twice, decide about what nothing proves, and sweep what that leaves."""
        for _ in range(2):
            for found in self._recover_on(host, None):
                if found.outcome == "unresolved":
                    self._decide(host, found.hold_id)

    def _decide(self, host: Host, hold_id: str) -> None:
        """As `ledger resolve` does: in full, and where that says nothing, what the vendor's own record says."""
        ledger = self._ledger("person", host, "first", "person")
        hold = ledger.hold(hold_id)
        assert hold is not None
        evidence = look(hold.terms, host.meters, host=host.name, boot_id=host.boot_id)
        act = partial(
            resolve, ledger, hold_id, now=host.clock.now(), by="a person", reason="over", evidence=evidence
        )
        try:
            act(size_bytes=None)
            self.counts["recovered: resolved"] += 1
        except LedgerError:
            act(size_bytes=self.auditor.vendors_record(hold_id))
            self.counts["recovered: resolved by the vendor's record"] += 1

    def _guarded(self, process: Process, step: Step, act: Callable[[], None]) -> None:
        """Let a process act; if it is killed meanwhile, it is gone."""
        process.seat.fault = step.fault
        with self._acting(process):
            act()
        process.seat.fault = None

    def _acting(self, process: Process) -> _Acting:
        return _Acting(self, process)

    def _bury(self, process: Process) -> None:
        process.die()
        if process in self.processes:
            self.processes.remove(process)

    # --- who writes ---------------------------------------------------------------------------------------

    def _ledger(self, name: str, host: Host, policy: str, kind: str) -> SimLedger:
        self._seats[name] = (host, host.boot, policy, kind)
        seat = Seat(name, self._committed, is_cut=lambda: host.cut, fired=self.fired, delayed=self._delayed)
        return SimLedger(self._backend, self._identity, seat)

    def _committed(self, seat: Seat) -> None:
        self.auditor.observe(self._actor(seat.name))
        if self._lossy:
            if len(self._copies) == self._copies.maxlen:
                self._copies[0].close()
            self._copies.append(self._copy_to(sqlite3.connect(":memory:")))

    def _copy_to(self, copy: sqlite3.Connection) -> sqlite3.Connection:
        with closing(sqlite3.connect(self._path)) as ledger:
            ledger.backup(copy)
        return copy

    def _failover(self, step: Step) -> None:
        """The store comes back without its last few commits."""
        back = 1 + step.choice % 3
        if len(self._copies) <= back:
            return
        for _ in range(back):
            self._copies.pop().close()
        with closing(sqlite3.connect(self._path)) as ledger:
            self._copies[-1].backup(ledger)
        self.counts["commits lost"] += back
        self.auditor.look_again()

    def _actor(self, name: str, kind: str | None = None) -> Actor:
        host, boot, policy, own_kind = self._seats[name]
        return Actor(kind or own_kind, name, policy, host.name, boot, host.clock.now())

    def _late(self, step: Step) -> None:
        self._deliver(1 + step.choice % 3)

    def _deliver(self, count: int) -> None:
        """Writes arrive that their senders have given up."""
        for _ in range(min(count, len(self._delayed))):
            seat, work = self._delayed.pop(0)
            self.here = self._seats[seat.name][0]
            ledger = SimLedger(self._backend, self._identity, seat)
            with suppress(LedgerError, _NothingToWrite):
                ledger.run_late(work)
                self.counts["late write"] += 1
            kind = self._seats[seat.name][3]
            self.auditor.observe(self._actor(seat.name, "late" if kind == "owner" else kind))

    # --- processes ----------------------------------------------------------------------------------------

    def _start(self, step: Step) -> None:
        host = self.hosts[step.pick % len(self.hosts)]
        if len(self.processes) >= _PROCESSES_MAX:
            return
        self._recover_on(host, step)
        self._names += 1
        name = f"p{self._names}"
        policy = self.setting.policies[step.choice % len(self.setting.policies)]
        ledger = self._ledger(name, host, policy.name, "owner")
        streams = {(stream.dataset, stream.schema): stream.name for stream in policy.streams.values()}
        guard = Guard(
            policy,
            ledger=ledger,
            clock=host.clock,
            prices=SimPrices(dict(self.setting.prices), streams),
            windows=windows_of,
            meter_dir=host.meters,
            host=host.name,
            may_lose_commits=self._lossy,
        )
        self.processes.append(
            Process(
                name,
                host,
                guard,
                ledger.seat,
                self.auditor,
                lambda: self.true_s,
                self.counts,
                dict(self.setting.prices),
            )
        )

    def _recover(self, step: Step) -> None:
        self._recover_on(self.hosts[step.pick % len(self.hosts)], step)

    def _recover_on(self, host: Host, step: Step | None) -> list[Recovered]:
        """What every command does first; it may be killed too."""
        self._names += 1
        ledger = self._ledger(f"r{self._names}", host, "first", "recovery")
        ledger.seat.fault = step.fault if step else None
        self.here = host
        try:
            found = recover_orphans(
                ledger, host.meters, host=host.name, boot_id=host.boot_id, clock=host.clock, keep=self._lossy
            )
        except (Killed, LedgerError):
            self.counts["recovery broke off"] += 1
            return []
        for each in found:
            self.counts[f"recovered: {each.outcome}"] += 1
        return found

    def _process(self, pick: int) -> Process | None:
        return self.processes[pick % len(self.processes)] if self.processes else None

    def _kill(self, step: Step) -> None:
        process = self._process(step.pick)
        if process is not None:
            self._fill_lines(process)
            self._bury(process)

    def _fill_lines(self, process: Process) -> None:
        """What the vendor still sends before it learns of the death."""
        lines = [live.line for live in process.lives] + [each.line for each in process.downloads]
        for line in lines:
            line.send(4 * MIB)

    def _torn(self, step: Step) -> None:
        """Killed within a count: the bytes are in the meter, the time of the read is not."""
        found = self._live(step.pick)
        if found is None:
            return
        process, live = found
        left = live.hold.left_bytes
        most = 4096 if left is None else max(0, min(left, 4096))
        size = live.line.take(most)
        self.auditor.read(live.hold.terms.id, size)
        path = process.host.meters / str(live.hold.terms.meter)
        with path.open("r+b") as page:
            page.seek(_COUNTERS_AT)
            counters = list(_PAGE_COUNTERS.unpack(page.read(_PAGE_COUNTERS.size)))
            counters[0] += size
            page.seek(_COUNTERS_AT)
            page.write(_PAGE_COUNTERS.pack(*counters))
            if size == most:
                page.seek(_FILLED_AT)
                page.write(struct.pack("=Q", 1))
        self._bury(process)

    def _crash(self, step: Step) -> None:
        """A machine goes down with all that runs on it; its meters may have lost what they counted."""
        host = self.hosts[step.pick % len(self.hosts)]
        for process in [each for each in self.processes if each.host is host]:
            self._fill_lines(process)
            self._bury(process)
        for path in sorted(host.meters.glob("*.meter")):
            if step.choice % 3 == 1:
                with path.open("r+b") as page:
                    page.seek(_COUNTERS_AT)
                    page.write(bytes(_PAGE_COUNTERS.size))
            elif step.choice % 3 == 2:
                path.unlink()
        host.boot += 1
        host.clock.boot()

    # --- connections --------------------------------------------------------------------------------------

    def _live(self, pick: int, *, ending: bool | None = None) -> tuple[Process, Live] | None:
        found = [
            (process, live)
            for process in self.processes
            for live in process.lives
            if ending is None or live.ending == ending
        ]
        return found[pick % len(found)] if found else None

    def _open(self, step: Step) -> None:
        process = self._process(step.pick)
        if process is None:
            return
        streams = list(process.guard.policy.streams.values())
        # Mostly the streams that share most.
        stream = streams[(0, 0, 1, 2, 3, 4)[step.choice % 6] % len(streams)]
        self._guarded(process, step, partial(process.open, stream, step.size % 16 == 0))

    def _flow(self, step: Step) -> None:
        found = self._live(step.pick)
        if found is not None:
            process, live = found
            burst = (4096, 65_536, 448 * 1024)[step.choice % 3]
            self._guarded(process, step, partial(process.flow, live, min(step.size, burst * 300), burst))

    def _end(self, step: Step) -> None:
        found = self._live(step.pick)
        if found is not None:
            process, live = found
            ending: Ending = "broken" if step.choice % 3 == 0 else "clean"
            act = (
                partial(process.begin_ending, live)
                if step.choice % 4 == 1
                else partial(process.end, live, ending)
            )
            self._guarded(process, step, act)

    def _drain(self, step: Step) -> None:
        found = self._live(step.pick, ending=True)
        if found is not None:
            self._guarded(found[0], step, partial(found[0].drain, found[1], step.size))

    def _request(self, step: Step) -> None:
        process = self._process(step.pick)
        if process is not None:
            streams = list(process.guard.policy.streams.values())
            stream = streams[step.choice % len(streams)]
            size = step.size + step.choice % 4 * 4 * MIB
            act = partial(process.ask_for, stream, size, step.choice // 8, step.choice % 32 < 8)
            self._guarded(process, step, act)

    def _download(self, pick: int) -> tuple[Process, Download] | None:
        found = [(process, each) for process in self.processes for each in process.downloads]
        return found[pick % len(found)] if found else None

    def _answer(self, step: Step) -> None:
        found = self._download(step.pick)
        if found is not None:
            self._guarded(found[0], step, partial(found[0].answer, found[1], step.size))

    def _close_request(self, step: Step) -> None:
        found = self._download(step.pick)
        if found is not None:
            endings: tuple[Ending, ...] = ("clean", "clean", "broken", "quoted", "refused")
            act = partial(found[0].close_request, found[1], endings[step.choice % len(endings)])
            self._guarded(found[0], step, act)

    # --- time and place -----------------------------------------------------------------------------------

    def _tick(self, step: Step) -> None:
        """Time passes everywhere, by seconds mostly; then every gateway looks at its connections."""
        seconds = (step.size % 40) / 4 if step.choice % 3 else step.size % 900
        self._pass(seconds)
        self._look_all(step)

    def _pass(self, seconds: float, asleep: Host | None = None) -> None:
        self.true_s += seconds
        for host in self.hosts:
            if host is asleep:
                host.clock.sleep(seconds)
            else:
                host.clock.advance(seconds)

    def _look_all(self, step: Step) -> None:
        for number, process in enumerate(list(self.processes)):
            mine = step if number == step.pick % max(1, len(self.processes)) else Step("", 0, 0, 0)
            self._guarded(process, mine, partial(_look_at_each, process))

    def _to_period_end(self, step: Step) -> None:
        """Time passes to the edge of a period, a second before it, or well into the next."""
        host = self.hosts[step.pick % len(self.hosts)]
        now = host.clock.now()
        zones = sorted({budget.timezone for budget in self.setting.budgets.values()})
        periods = ("session", "day", "week", "month")
        starts = [
            calendar.period_start(periods[step.choice % 4], zone, now + timedelta(days=32 if n else 1))
            for n, zone in enumerate(zones)
        ]
        ahead = min((start - now for start in starts if start > now), default=timedelta(hours=1))
        seconds = min(ahead.total_seconds(), 40 * 86_400.0)
        self._pass(max(0.0, seconds + (-1, 0, 0, 1, 30)[step.size % 5]))
        self._look_all(step)

    def _jump(self, step: Step) -> None:
        """A clock is set an hour off, either way."""
        self.hosts[step.pick % len(self.hosts)].clock.jump(3600 if step.choice % 2 else -3600)

    def _suspend(self, step: Step) -> None:
        """A machine sleeps; its vendors go on until their queues are full."""
        host = self.hosts[step.pick % len(self.hosts)]
        self._pass(step.size % 4000, asleep=host)
        for process in [each for each in self.processes if each.host is host]:
            self._fill_lines(process)

    def _cut(self, step: Step) -> None:
        self.hosts[step.pick % len(self.hosts)].cut = True

    def _mend(self, step: Step) -> None:
        for host in self.hosts:
            host.cut = False

    def _approve(self, step: Step) -> None:
        process = self._process(step.pick)
        if process is None:
            return
        budgets = list(process.guard.policy.budgets)
        budget = budgets[step.choice % len(budgets)]
        unit = budget.limits[step.choice // 8 % len(budget.limits)].unit
        amount = {
            "usd": step.size * 10,
            "gib": step.size,
            "hours": step.size,
            "connections": 1 + step.size % 3,
        }
        length = timedelta(seconds=(30, 600, 86_400)[step.choice % 3])
        self._guarded(process, step, partial(process.approve, budget.name, unit, amount[unit], length))


class _Acting:
    """While a process acts, its machine is the one that runs; a kill ends the process and no more."""

    def __init__(self, world: World, process: Process) -> None:
        self._world, self._process = world, process

    def __enter__(self) -> None:
        self._world.here = self._process.host

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool:
        if kind is not Killed:
            return False
        self._world.counts["killed in a write"] += 1
        self._world._fill_lines(self._process)
        self._world._bury(self._process)
        return True


def _look_at_each(process: Process) -> None:
    for live in list(process.lives):
        process.look(live)

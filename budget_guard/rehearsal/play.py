"""Plays the days: a sandbox, the guard before it as `run` mounts it, and the user's program in every window."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING

from budget_guard.clock import SteppedClock, instant_text
from budget_guard.decisions import Decision
from budget_guard.ledger.backends import meter_directory
from budget_guard.markets.model import Window
from budget_guard.policy.model import Policy
from budget_guard.rehearsal.lookout import Lookout
from budget_guard.rehearsal.pacing import EDGE_S, Pacer
from budget_guard.rehearsal.program import Interrupts, Program, pause, rehearsal_environ
from budget_guard.rehearsal.spans import Span
from budget_guard.settings import Settings
from budget_guard.streaming.assembly import OpenGateway, open_gateway
from budget_guard.streaming.child import child_environment, without_key

if TYPE_CHECKING:
    from budget_guard.sandbox.server import Sandbox

# How often the clock's mover and the guard's connections look: time may run ten thousand times as fast as usual.
LOOK_S = 0.0005
GUARD_LOOK_S = 0.01
# How often it is shown how far it has come.
SHOW_S = 0.5
# The interpreter's threads take turns at this pace, so that nobody waits long for the one who works.
_SWITCH_S = 0.0005


@dataclass(frozen=True, slots=True)
class Pace:
    """`patience_s`: how long the clock waits for a program. `speed`: market seconds in a second at most, or None."""

    patience_s: float = 10.0
    speed: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the program: from a span's start until it ended, in the market's time.

    `ended` says how: by itself, at the close, or interrupted. `connected` whether it ever had live data, `waited`
    whether the clock went on without it.
    """

    span: Span
    ended_utc: datetime
    code: int | None
    ended: str
    connected: bool
    waited: bool
    cut: tuple[Decision, ...]
    refused: tuple[Decision, ...]
    vendor: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rehearsal has come: the market's time, and what the sandbox has billed by then."""

    session: date
    now: datetime
    end_utc: datetime
    size_bytes: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class Stage:
    """What every run of a rehearsal has in common. `stdout` None: the program's output goes where ours would."""

    policy: Policy
    stream: str | None
    command: tuple[str, ...]
    environ: Mapping[str, str]
    settings: Settings
    sandbox: Sandbox
    clock: SteppedClock
    pace: Pace
    interrupts: Interrupts
    say: Callable[[str], None]
    show: Callable[[Progress], None]
    stdout: IO[str] | None = None


def rehearsal_settings(settings: Settings, sandbox: Sandbox, folder: Path, now: datetime) -> Settings:
    """The user's settings with everything that is spent, kept or asked turned to the sandbox and the folder.

    The calendars that are kept are the user's own.
    """
    return replace(
        settings,
        key=sandbox.key,
        ledger_url=f"sqlite:///{folder / 'ledger.sqlite'}",
        live_gateway=sandbox.live_gateway,
        historical_gateway=sandbox.http_url,
        now=now,
        data_dir=folder,
        metadata_dir=folder,
    )


def play(stage: Stage, spans: Sequence[Span], windows: Sequence[Window]) -> Iterator[Run]:
    """Run the program in every span. Ends early when interrupted. Raises OSError when it cannot be started."""
    with _quick_turns():
        for span in spans:
            if stage.interrupts.count:
                return
            stage.clock.step_to(span.start_utc)
            yield _run(stage, span, windows)


def _run(stage: Stage, span: Span, windows: Sequence[Window]) -> Run:
    """The program behind a guard of its own, as one `budget-guard run` at the span's start."""
    stage.say(f"{span.session}: {instant_text(span.start_utc)} to {instant_text(span.end_utc)}")
    gateway = open_gateway(stage.policy, stage.settings, stage.clock, look_every_s=GUARD_LOOK_S)
    try:
        program = _start(stage, gateway)
        meters = meter_directory(stage.settings.ledger_url, stage.settings.data_dir)
        lookout = Lookout(stage.sandbox, gateway, meters, windows, stage.clock)
        pacer = Pacer(
            span.end_utc,
            patience_s=stage.pace.patience_s,
            speed=stage.pace.speed,
            opens=[window.open_utc for window in windows],
        )
        try:
            ended = _follow(stage, span, program, lookout, pacer)
            ended_utc = stage.clock.now()
        finally:
            program.end()
    finally:
        gateway.close()
    outcome = gateway.host.outcome
    return Run(
        span,
        ended_utc,
        program.code,
        ended,
        pacer.connected,
        pacer.gave_up,
        tuple(outcome.cut),
        tuple(outcome.refused),
        tuple(outcome.vendor),
    )


def _start(stage: Stage, gateway: OpenGateway) -> Program:
    key, host = stage.sandbox.key, gateway.host
    environment = child_environment(rehearsal_environ(stage.environ), host, stage.stream, key=key)
    command = [without_key(part, key, host.token(stage.stream)) for part in stage.command]
    program = Program(command, environment, stage.stdout)
    stage.interrupts.attach(program.process)
    return program


def _follow(stage: Stage, span: Span, program: Program, lookout: Lookout, pacer: Pacer) -> str:
    """Move the clock through the span; how the program ended."""
    shown_s = stage.clock.monotonic_s()
    while stage.clock.now() < span.end_utc:
        if stage.interrupts.count:
            program.wait(stage.pace.patience_s)
            return "interrupted"
        if not program.running:
            return "by itself"
        sight = lookout.look()
        if sight.real_s - shown_s >= SHOW_S:
            shown_s = sight.real_s
            bill = stage.sandbox.bill()
            size, cost = int(bill["bytes"]), Decimal(bill["cost_usd"])
            stage.show(Progress(span.session, sight.now, span.end_utc, size, cost))
        target = pacer.next(sight)
        if target > sight.now:
            stage.clock.step_to(target)
            stage.sandbox.wake()
        pause(LOOK_S)
    return _close(stage, program, lookout)


def _close(stage: Stage, program: Program, lookout: Lookout) -> str:
    """The window has closed: let the guard end what runs, and the program take what is on its way, and end."""
    began_s = moved_s = stage.clock.monotonic_s()
    before: tuple[int, ...] = ()
    while program.running:
        if stage.interrupts.count > 0:
            program.wait(stage.pace.patience_s)
            return "interrupted"
        sight = lookout.look()
        if sight.busy != before:
            before, moved_s = sight.busy, sight.real_s
        if sight.real_s - max(moved_s, began_s) > stage.pace.patience_s:
            return "at the close"
        pause(LOOK_S)
    while not lookout.idle and stage.clock.monotonic_s() - began_s < EDGE_S:
        lookout.look()
        pause(LOOK_S)
    return "by itself"


@contextmanager
def _quick_turns() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)

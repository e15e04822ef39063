"""The whole of a rehearsal: which days, the stage they are played on, and the report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from budget_guard.clock import SteppedClock, SystemClock, month_of
from budget_guard.gateway.live.upstream import Endpoint, ending_allowance_bytes
from budget_guard.ledger.model import BalanceKey, Ledger
from budget_guard.ledger.store import open_ledger
from budget_guard.markets.model import Window
from budget_guard.markets.windows import list_windows
from budget_guard.money import nano_from_usd, usd_from_nano, usd_text
from budget_guard.policy.model import Policy, Stream
from budget_guard.rehearsal.model import SYNTHETIC, Rehearsal
from budget_guard.rehearsal.play import Pace, Progress, Run, Stage, play, rehearsal_settings
from budget_guard.rehearsal.program import Interrupts, counted_interrupts
from budget_guard.rehearsal.report import (
    Played,
    absences,
    count_sessions,
    fault_uses,
    holdbacks,
    limit_uses,
    program_runs,
    read_ledger,
    refused,
    uses,
)
from budget_guard.rehearsal.spans import ListWindows, merge_windows, next_windows
from budget_guard.rehearsal.vendor import vendor_config
from budget_guard.settings import Settings

if TYPE_CHECKING:
    from decimal import Decimal

    from budget_guard.sandbox.config import SandboxConfig
    from budget_guard.sandbox.server import Sandbox

_SYNTHETIC_NOTE = (
    "all data is synthetic: its volumes are the sandbox's, or the policy's own `volume:` figures, so the dollars are "
    "only as good as those"
)
_RECORDED_NOTE = "what was recorded is all the market there is: the dollars are those of the recorded days"
_YEARS = timedelta(days=20 * 365)


class NothingToRehearse(Exception):
    """The policy has no window in the days asked for; the text says so."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be rehearsed: `days` sessions from the label `first` on, or the next ones.

    `keep_ledger` is where the ledger is copied to; `vendor` may set up the sandbox in another way, and `source` says
    what its data is then.
    """

    command: tuple[str, ...]
    days: int = 1
    first: date | None = None
    stream: str | None = None
    seed: int = 0
    pace: Pace = field(default_factory=Pace)
    keep_ledger: Path | None = None
    vendor: Callable[[SandboxConfig], SandboxConfig] = lambda config: config
    source: str = SYNTHETIC


def rehearse(
    policy: Policy,
    wish: Wish,
    *,
    settings: Settings,
    environ: Mapping[str, str],
    say: Callable[[str], None],
    show: Callable[[Progress], None] = lambda _: None,
    stdout: IO[str] | None = None,
) -> Rehearsal:
    """Play the days and report. Must be called from the main thread: it handles signals.

    `show` is told twice a second how far it has come.

    Raises NothingToRehearse, CalendarUnknown, and OSError when the program cannot be started.
    """
    from budget_guard.sandbox.server import running_sandbox

    streams = [
        stream
        for stream in policy.streams.values()
        if stream.mode == "live" and wish.stream in (None, stream.name)
    ]
    listed = partial(_list_windows, policy, settings)
    windows = _windows(wish, streams, listed)
    _say_which_day(wish, windows, say)
    spans = merge_windows(windows)
    system = SystemClock()
    began_s = system.monotonic_s()
    clock = SteppedClock(spans[0].start_utc)
    config = wish.vendor(vendor_config(policy, clock, seed=wish.seed))
    runs: list[Run] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="budget-guard-rehearsal-")))
        sandbox = stack.enter_context(running_sandbox(config))
        interrupts = stack.enter_context(counted_interrupts())
        own = rehearsal_settings(settings, sandbox, folder, clock.now())
        stage = _stage(policy, wish, environ, own, sandbox, clock, interrupts, say, show, stdout)
        runs += play(stage, spans, windows)
        if not runs:
            raise KeyboardInterrupt
        ledger = open_ledger(own.ledger_url)
        try:
            played = _played(policy, ledger, _that_were_played(windows, runs), runs, sandbox)
            report = _report(wish, played, ledger, sandbox, streams, listed)
        finally:
            ledger.close()
        if wish.keep_ledger is not None:
            keep_ledger(folder / "ledger.sqlite", wish.keep_ledger)
    return replace(
        report,
        planned=len({window.session for window in windows}),
        took_s=system.monotonic_s() - began_s,
        interrupted=interrupts.count > 0,
    )


def _stage(
    policy: Policy,
    wish: Wish,
    environ: Mapping[str, str],
    settings: Settings,
    sandbox: Sandbox,
    clock: SteppedClock,
    interrupts: Interrupts,
    say: Callable[[str], None],
    show: Callable[[Progress], None],
    stdout: IO[str] | None,
) -> Stage:
    return Stage(
        policy=policy,
        stream=wish.stream,
        command=wish.command,
        environ=environ,
        settings=settings,
        sandbox=sandbox,
        clock=clock,
        pace=wish.pace,
        interrupts=interrupts,
        say=say,
        show=show,
        stdout=stdout,
    )


def _windows(wish: Wish, streams: Sequence[Stream], listed: ListWindows) -> list[Window]:
    if not streams:
        raise NothingToRehearse("the policy has no live stream: there is no window to rehearse in")
    now = SystemClock().now()
    first = wish.first or now.date()
    since = now if wish.first is None else datetime.combine(wish.first, time(), UTC) - _YEARS
    windows = next_windows(streams, listed, since, first, wish.days)
    if not windows:
        raise NothingToRehearse(f"no stream of the policy has a window from {first} on")
    return windows


def _say_which_day(wish: Wish, windows: Sequence[Window], say: Callable[[str], None]) -> None:
    """A day that was asked for may have no session: say which one is played instead."""
    session = min(window.session for window in windows)
    if wish.first is not None and session != wish.first:
        say(f"no window opens on {wish.first}: the first session played is {session}")


def _list_windows(
    policy: Policy, settings: Settings, stream: Stream, first: date, last: date
) -> list[Window]:
    return list_windows(stream, policy.timezone, first, last, cache_dir=settings.cache_dir)


def _that_were_played(windows: Sequence[Window], runs: Sequence[Run]) -> tuple[Window, ...]:
    """The windows of the runs: of one that was interrupted, what had passed of them."""
    ends = [(run.span, run.ended_utc if run.ended == "interrupted" else run.span.end_utc) for run in runs]
    played = []
    for window in windows:
        for span, end in ends:
            if span.start_utc <= window.open_utc < span.end_utc and window.open_utc <= end:
                played.append(replace(window, close_utc=min(window.close_utc, end)))
    return tuple(played)


def _played(
    policy: Policy,
    ledger: Ledger,
    windows: tuple[Window, ...],
    runs: Sequence[Run],
    sandbox: Sandbox,
) -> Played:
    months = dict.fromkeys(month_of(at) for run in runs for at in (run.span.start_utc, run.ended_utc))
    entries, refusals, gaps, requests = read_ledger(ledger, policy.account.name, months)
    return Played(policy, windows, tuple(runs), entries, refusals, gaps, sandbox.bill(), requests)


def _report(
    wish: Wish,
    played: Played,
    ledger: Ledger,
    sandbox: Sandbox,
    streams: Sequence[Stream],
    listed: ListWindows,
) -> Rehearsal:
    policy = played.policy
    month = month_of(played.runs[0].span.start_utc)
    sessions = tuple(dict.fromkeys(window.session for window in played.windows))
    month_sessions = count_sessions(streams, listed, month)
    # A part of a session is none: counted as a whole one it keeps the projection a lower bound, alone it is no ground.
    whole = len(sessions) - any(run.ended == "interrupted" for run in played.runs)
    limits = limit_uses(
        played,
        _balances(ledger, policy),
        sessions=len(sessions) if whole else 0,
        month_sessions=month_sessions,
    )
    spent = sum(entry.cost_nano_usd + entry.residual_nano_usd for entry in played.entries)
    cost: Decimal = _cost(played.bill)
    return Rehearsal(
        policy=policy.name,
        account=policy.account.name,
        command=wish.command,
        seed=wish.seed,
        source=wish.source,
        planned=len(sessions),
        sessions=sessions,
        took_s=0.0,
        month=month,
        month_sessions=month_sessions,
        uses=uses(played, sandbox.market, streams),
        refused=refused(played),
        gaps=played.gaps,
        runs=program_runs(played),
        limits=limits,
        spent_nano_usd=spent,
        bill_nano_usd=nano_from_usd(cost),
        unpriced_bytes=int(played.bill["unpriced_bytes"]),
        notes=_notes(played, wish),
        absences=absences(played, streams),
        faults=fault_uses(sandbox.faults()),
        holdbacks=holdbacks(
            played,
            here_bytes=ending_allowance_bytes(Endpoint(*sandbox.live_gateway)),
            network_bytes=ending_allowance_bytes(Endpoint()),
        ),
    )


def _cost(bill: Mapping[str, object]) -> Decimal:
    from decimal import Decimal

    return Decimal(str(bill["cost_usd"]))


def _balances(ledger: Ledger, policy: Policy) -> dict[BalanceKey, int]:
    start, end = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
    found = ledger.account_balances(policy.account.name, start, end)
    return {key: balance.settled for key, balance in found.items()}


def _notes(played: Played, wish: Wish) -> tuple[str, ...]:
    notes = [_SYNTHETIC_NOTE if wish.source == SYNTHETIC else _RECORDED_NOTE]
    if any(run.cut for run in played.runs):
        notes.append("a session that was cut would have cost more: the projection is a lower bound")
    residual = sum(entry.residual_nano_usd for entry in played.entries)
    if residual:
        notes.append(
            f"the ledger is above the bill by what may have been billed and never read on connections that broke: "
            f"{usd_text(usd_from_nano(residual))} of it is such a residual"
        )
    if any(gap.mended == "replayed" for gap in played.gaps):
        notes.append("records that a replay brought again are counted, billed and booked again")
    if any(run.waited for run in played.runs):
        notes.append(
            f"the clock waited {wish.pace.patience_s:g} s for a program that did not connect, or did not read, and "
            "went on without it (--patience)"
        )
    if any(not run.connected for run in played.runs):
        notes.append("a program that never connects costs nothing here and misses everything")
    return tuple(notes)


def keep_ledger(source: Path, target: Path) -> None:
    """Copy a ledger, its log included, in place of what is there."""
    import sqlite3
    from contextlib import closing

    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
        read.backup(written)

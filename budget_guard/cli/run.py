"""`budget-guard run`: a program behind the guard, unchanged."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from budget_guard.cli.exits import INTERRUPTED, REFUSED, VENDOR_REFUSED
from budget_guard.cli.screen import say
from budget_guard.clock import Clock
from budget_guard.loading import load_policy
from budget_guard.money import size_text, usd_from_nano, usd_text
from budget_guard.policy.model import Policy, Stream
from budget_guard.settings import Settings, load_settings

if TYPE_CHECKING:
    from budget_guard.gateway.outcome import Outcome
    from budget_guard.streaming.supervisor import Conclusion, Supervisor, Terms
    from budget_guard.streaming.supervisor_display import Display
    from budget_guard.streaming.supervisor_signals import Signals
    from budget_guard.streaming.supervisor_site import GuardSite


@click.command("run", context_settings={"ignore_unknown_options": True})
@click.argument("policy", type=click.Path(dir_okay=False))
@click.option("--stream", metavar="NAME", help="Let the program use this stream only.")
@click.option(
    "--wait",
    is_flag=True,
    help="Wait for the next window, also after the close of one, instead of ending there.",
)
@click.option(
    "--grace",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="What a program that has to end gets before SIGKILL.",
)
@click.option(
    "--restart",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Start a program that failed again, at most so many times in an hour.",
)
@click.option("--quiet", is_flag=True, help="No line at the bottom of the terminal.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    policy: str,
    stream: str | None,
    wait: bool,
    grace: float,
    restart: int,
    quiet: bool,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND with its Databento clients pointed at the guard.

    The program needs no change and never sees the API key. It is ended at the close of the last window of its
    streams. Everything this command says goes to stderr.

    \b
    Exit codes: the program's own; 4 when the guard refused or cut it, or outside every window;
    5 when the vendor refused (licence, key, payment); 130 when it was interrupted while it waited.
    """
    from budget_guard.streaming.secrecy import log_without_key
    from budget_guard.streaming.supervisor import Terms

    if command[0].startswith("-"):
        raise click.UsageError(
            f"no such option: {command[0]}; write the program after --, as: -- python app.py"
        )
    settings = load_settings()
    log_without_key(sys.stderr, settings.key)
    loaded = load_policy(policy, cache_dir=settings.cache_dir)
    streams = _live_streams(loaded, stream)
    # Windows bind live data only: a program with an approved historical stream has work at any time.
    has_history = any(s.mode == "historical" and stream in (None, s.name) for s in loaded.streams.values())
    terms = Terms(
        command,
        streams,
        anytime=has_history or not streams,
        wait=wait,
        grace_s=grace,
        restarts=restart,
    )
    return _run(loaded, settings, settings.clock(), stream, terms, quiet=quiet)


def _run(
    policy: Policy, settings: Settings, clock: Clock, only: str | None, terms: Terms, *, quiet: bool
) -> int:
    """Supervise the program, settle, and say what it came to."""
    from budget_guard.streaming.child import hide_own_environment
    from budget_guard.streaming.reach import left_out, not_reached
    from budget_guard.streaming.supervisor_signals import Signals
    from budget_guard.streaming.supervisor_site import GuardSite

    hide_own_environment()
    kept_away = left_out(terms.command)
    if kept_away is not None:
        _say(kept_away)
    site = GuardSite(policy, settings, clock, only=only)
    signals = Signals()
    display = None if quiet else _display(policy, site, clock, terms)
    supervisor = _supervisor(policy, settings, clock, site, signals, terms, display)
    with signals.heard():
        try:
            conclusion = supervisor.run()
        except OSError as error:
            raise click.ClickException(f"cannot run {terms.command[0]}: {error.strerror or error}") from error
        finally:
            if display is not None:
                display.hide()
    if conclusion.signal is not None:
        _say("interrupted" if conclusion.signal == signal.SIGINT else "ended by a signal")
    if site.is_open or supervisor.tally.replaced:
        _conclude(site.outcome, supervisor)
    if conclusion.code and kept_away is None and (missed := not_reached(site.visits)) is not None:
        _say(missed)
    return exit_code(conclusion)


def _display(policy: Policy, site: GuardSite, clock: Clock, terms: Terms) -> Display | None:
    """The line at the bottom of the terminal that stderr is; None where it is none."""
    from budget_guard.streaming.live_line import LiveLine, can_show
    from budget_guard.streaming.supervisor_display import Display

    try:
        terminal = sys.stderr.fileno()
    except (OSError, ValueError):
        return None
    if not can_show(terminal, os.environ):
        return None
    budgets = {
        budget.name
        for stream in terms.streams
        for budget in policy.budgets_for(
            stream=stream.name, dataset=stream.dataset, schema=stream.schema, mode="live"
        )
    }
    return Display(LiveLine(terminal), site, clock, budgets or {budget.name for budget in policy.budgets})


def _supervisor(
    policy: Policy,
    settings: Settings,
    clock: Clock,
    site: GuardSite,
    signals: Signals,
    terms: Terms,
    display: Display | None,
) -> Supervisor:
    from budget_guard.streaming.fallback import Obstacles
    from budget_guard.streaming.leftovers import Leftovers
    from budget_guard.streaming.supervisor import Supervisor
    from budget_guard.streaming.supervisor_prospects import Prospects
    from budget_guard.streaming.supervisor_speech import Speech
    from budget_guard.streaming.supervisor_windows import Hours

    if display is not None:
        signals.before_pause = display.hide
    return Supervisor(
        terms,
        site=site,
        hours=Hours({stream.name: site.windows(stream) for stream in terms.streams}, _say),
        prospects=Prospects(site, terms.streams, Obstacles(policy, terms.streams), clock),
        signals=signals,
        leftovers=Leftovers(),
        clock=clock,
        environ=os.environ,
        key=settings.key or "",
        speech=Speech(_say, partial(_local, policy), policy.name),
        show=(lambda _supervisor: None) if display is None else display.show,
    )


def _live_streams(policy: Policy, only: str | None) -> tuple[Stream, ...]:
    if only is not None and only not in policy.streams:
        raise click.UsageError(f"no stream {only!r} in the policy; it has {', '.join(policy.streams)}")
    return tuple(
        stream
        for stream in policy.streams.values()
        if stream.mode == "live" and (only is None or stream.name == only)
    )


def _local(policy: Policy, at: datetime) -> str:
    return f"{at.astimezone(ZoneInfo(policy.timezone)):%a %Y-%m-%d %H:%M} {policy.timezone}"


def _conclude(outcome: Outcome, supervisor: Supervisor) -> None:
    """What it came to, on stderr."""
    from budget_guard.streaming.supervisor_speech import tally_text

    tally = supervisor.tally
    _say(tally_text(tally.started, tally.restarted, tally.replaced))
    entries = outcome.entries
    size = sum(entry.size_bytes for entry in entries)
    cost = sum(entry.cost_nano_usd for entry in entries)
    residual = sum(entry.residual_nano_usd for entry in entries)
    assumed = f" and {usd_text(usd_from_nano(residual))} assumed" if residual else ""
    unbooked = sum(outcome.unbooked)
    more = (
        f", and {size_text(unbooked)} more that could not be booked: it stays held until a command on this machine "
        "finds the ledger"
        if unbooked
        else ""
    )
    _say(f"{size_text(size)} for {usd_text(usd_from_nano(cost))}{assumed} went through the guard{more}")
    for text in dict.fromkeys([*outcome.closed, *outcome.notes, *outcome.incomplete]):
        _say(text)
    for line in decision_lines(outcome):
        _say(line)


def decision_lines(outcome: Outcome) -> list[str]:
    """What was refused or cut, each once: a refusal of the vendor's that was repeated to a client is the vendor's."""
    said = {decision.text() for decision in outcome.vendor}
    refused = [decision for decision in outcome.refused if decision.text() not in said]
    rows = (("vendor refused", outcome.vendor), ("refused", refused), ("cut", outcome.cut))
    return list(dict.fromkeys(f"{label}: {one.text()}" for label, found in rows for one in found))


def exit_code(conclusion: Conclusion) -> int:
    """The code of `run`: what kept the program from running, else what happened to its last run, else its own."""
    if conclusion.signal is not None:
        return 128 + conclusion.signal
    if conclusion.cause is not None:
        return REFUSED if conclusion.cause.kind == "money" else VENDOR_REFUSED
    if conclusion.vendor:
        return VENDOR_REFUSED
    if conclusion.refused or conclusion.code is None:
        return REFUSED
    if conclusion.insisted:
        return INTERRUPTED
    return 0 if conclusion.planned else conclusion.code


def _say(text: str) -> None:
    # A terminal that has been closed is no reason to leave what is running.
    with contextlib.suppress(OSError):
        say(text)

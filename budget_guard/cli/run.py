"""`budget-guard run`: a program behind the guard, unchanged."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import threading
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from budget_guard.cli.exits import REFUSED, VENDOR_REFUSED
from budget_guard.clock import Clock, instant_text
from budget_guard.errors import CalendarUnknown
from budget_guard.loading import load_policy
from budget_guard.money import size_text, usd_from_nano, usd_text
from budget_guard.policy.model import Policy, Stream
from budget_guard.settings import Settings, load_settings

if TYPE_CHECKING:
    from budget_guard.gateway.outcome import Outcome

# A wait looks at the clock at least this often: the machine may have slept.
_LOOK_EVERY_S = 30.0


@click.command("run", context_settings={"ignore_unknown_options": True})
@click.argument("policy", type=click.Path(dir_okay=False))
@click.option("--stream", metavar="NAME", help="Let the program use this stream only.")
@click.option(
    "--wait", is_flag=True, help="Outside every window, wait for the next one instead of exiting with 4."
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def command(policy: str, stream: str | None, wait: bool, command: tuple[str, ...]) -> int:
    """Run COMMAND with its Databento clients pointed at the guard.

    The program needs no change and never sees the API key. Everything this command says goes to stderr.

    \b
    Exit codes: the program's own; 4 when the guard refused or cut it, or outside every window;
    5 when the vendor refused (licence, key, payment).
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="budget-guard: %(message)s")
    if command[0].startswith("-"):
        raise click.UsageError(
            f"no such option: {command[0]}; write the program after --, as: -- python app.py"
        )
    settings = load_settings()
    loaded = load_policy(policy, cache_dir=settings.cache_dir)
    clock = settings.clock()
    streams = _live_streams(loaded, stream)
    # Windows bind live data only: a program with an approved historical stream has work at any time.
    has_history = any(s.mode == "historical" and stream in (None, s.name) for s in loaded.streams.values())
    if streams and not has_history and not _await_window(loaded, settings, clock, streams, wait=wait):
        return REFUSED
    return _run(loaded, settings, clock, stream, command)


def _run(
    policy: Policy, settings: Settings, clock: Clock, stream: str | None, command: tuple[str, ...]
) -> int:
    """Start the gateway, run the program behind it, settle, and say what it came to."""
    from budget_guard.streaming.approval import ask_on_terminal
    from budget_guard.streaming.assembly import open_gateway
    from budget_guard.streaming.child import (
        child_environment,
        forwarded_signals,
        hide_own_environment,
        run_child,
        without_key,
    )

    hide_own_environment()
    gateway = open_gateway(policy, settings, clock, approve=ask_on_terminal)
    host, key = gateway.host, settings.key or ""
    command = tuple(without_key(part, key, host.token(stream)) for part in command)
    with forwarded_signals() as signals:
        try:
            environment = child_environment(os.environ, host, stream, key=key)
            _say(f"{shlex.join(command)} runs behind policy {policy.name}")
            code = run_child(command, environment, signals)
        except OSError as error:
            raise click.ClickException(f"cannot run {command[0]}: {error.strerror or error}") from error
        finally:
            gateway.close()
    return _conclude(host.outcome, code)


def _live_streams(policy: Policy, only: str | None) -> list[Stream]:
    if only is not None and only not in policy.streams:
        raise click.UsageError(f"no stream {only!r} in the policy; it has {', '.join(policy.streams)}")
    return [
        stream
        for stream in policy.streams.values()
        if stream.mode == "live" and (only is None or stream.name == only)
    ]


def _await_window(
    policy: Policy, settings: Settings, clock: Clock, streams: list[Stream], *, wait: bool
) -> bool:
    """Whether a window is open, if need be after waiting for it."""
    while True:
        now = clock.now()
        openings = _openings(policy, settings, streams, now)
        if not openings:
            _say("no stream of the policy has a window that is open or known to open: nothing was started")
            return False
        at, name = min(openings)
        if at <= now:
            return True
        _say(f"outside every window; stream {name} opens next at {instant_text(at)} ({_local(policy, at)})")
        if not wait:
            return False
        _sleep_until(clock, at)


def _openings(
    policy: Policy, settings: Settings, streams: list[Stream], now: datetime
) -> list[tuple[datetime, str]]:
    """When each stream opens, with its name; one that is open has `now`. What nobody knows is said and left out."""
    from budget_guard.streaming.assembly import stream_windows

    openings: list[tuple[datetime, str]] = []
    for stream in streams:
        windows = stream_windows(policy, settings, stream)
        try:
            at = now if windows.covering(now) is not None else windows.next_open(now)
        except CalendarUnknown as error:
            _say(f"stream {stream.name}: calendar_unknown: {error}")
            continue
        if at is not None:
            openings.append((at, stream.name))
    return openings


def _local(policy: Policy, at: datetime) -> str:
    return f"{at.astimezone(ZoneInfo(policy.timezone)):%a %Y-%m-%d %H:%M} {policy.timezone}"


def _sleep_until(clock: Clock, at: datetime) -> None:
    never = threading.Event()
    while (left_s := (at - clock.now()).total_seconds()) > 0:
        never.wait(min(left_s, _LOOK_EVERY_S))


def _conclude(outcome: Outcome, code: int) -> int:
    """What it came to, on stderr, and the exit code."""
    entries = outcome.entries
    size = sum(entry.size_bytes for entry in entries)
    cost = sum(entry.cost_nano_usd for entry in entries)
    residual = sum(entry.residual_nano_usd for entry in entries)
    assumed = f" and {usd_text(usd_from_nano(residual))} assumed" if residual else ""
    _say(f"{size_text(size)} for {usd_text(usd_from_nano(cost))}{assumed} went through the guard")
    for text in dict.fromkeys(outcome.closed):
        _say(text)
    for label, decisions in (
        ("vendor refused", outcome.vendor),
        ("refused", outcome.refused),
        ("cut", outcome.cut),
    ):
        for text in dict.fromkeys(decision.text() for decision in decisions):
            _say(f"{label}: {text}")
    if outcome.vendor:
        return VENDOR_REFUSED
    return REFUSED if outcome.refused or outcome.cut else code


def _say(text: str) -> None:
    click.echo(f"budget-guard: {text}", err=True)

"""`budget-guard run`: a program behind the guard, unchanged."""

from __future__ import annotations

import logging
import os
import sys
import threading
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from budget_guard.cli.exits import REFUSED, VENDOR_REFUSED
from budget_guard.clock import Clock, instant_text
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
    from budget_guard.streaming.approval import ask_on_terminal
    from budget_guard.streaming.assembly import open_gateway
    from budget_guard.streaming.child import child_environment, hide_own_environment, run_child

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="budget-guard: %(message)s")
    loaded = load_policy(policy)
    settings = load_settings()
    clock = settings.clock()
    streams = _live_streams(loaded, stream)
    if streams and not _await_window(loaded, settings, clock, streams, wait=wait):
        return REFUSED
    hide_own_environment()
    gateway = open_gateway(loaded, settings, clock, approve=ask_on_terminal)
    try:
        environment = child_environment(os.environ, gateway.host, stream)
        _say(f"{' '.join(command)} runs behind policy {loaded.name}")
        code = run_child(command, environment)
    except OSError as error:
        raise click.ClickException(f"cannot run {command[0]}: {error.strerror or error}") from error
    finally:
        gateway.close()
    return _conclude(gateway.host.outcome, code)


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
    """Whether a window is open, if need be after waiting for it. Raises CalendarUnknown."""
    while True:
        now = clock.now()
        opens = _next_opening(policy, settings, streams, now)
        if opens is None:
            _say("no stream of the policy has a window that is open or known to open: nothing was started")
            return False
        name, at = opens
        if at <= now:
            return True
        _say(f"outside every window; stream {name} opens next at {instant_text(at)} ({_local(policy, at)})")
        if not wait:
            return False
        _sleep_until(clock, at)


def _next_opening(
    policy: Policy, settings: Settings, streams: list[Stream], now: datetime
) -> tuple[str, datetime] | None:
    """The stream that is open, or opens first, and when; an open one has `now`."""
    from budget_guard.streaming.assembly import stream_windows

    openings: list[tuple[datetime, str]] = []
    for stream in streams:
        windows = stream_windows(policy, settings, stream)
        at = now if windows.covering(now) is not None else windows.next_open(now)
        if at is not None:
            openings.append((at, stream.name))
    if not openings:
        return None
    at, name = min(openings)
    return name, at


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

"""`budget-guard gateway`: the guard as a service for several programs and hosts."""

from __future__ import annotations

import json
import logging
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from budget_guard.addresses import is_loopback
from budget_guard.cli.exits import DONE, FAILED
from budget_guard.cli.screen import say
from budget_guard.loading import load_policy
from budget_guard.policy.model import Policy
from budget_guard.settings import Settings, load_settings

if TYPE_CHECKING:
    from budget_guard.gateway.token_store import TokenStore
    from budget_guard.streaming.assembly import OpenGateway

_PORT = click.IntRange(0, 65535)


@click.command("gateway")
@click.argument("policy", type=click.Path(dir_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--live-port", type=_PORT, default=13001, show_default=True, help="Port of live data; 0 picks a free one."
)
@click.option(
    "--http-port", type=_PORT, default=8081, show_default=True, help="Port of history; 0 picks a free one."
)
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write here, as JSON, where it listens, as soon as it does.",
)
@click.option("--verbose", is_flag=True, help="Log what connections do, too.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(
    policy: str, host: str, live_port: int, http_port: int, ready_file: Path | None, verbose: bool, form: str
) -> int:
    """Run the guard's gateway as a service: programs connect with tokens (`budget-guard token make`).

    It runs until SIGTERM or SIGINT, then ends and settles every connection, in 15 seconds at most; a second signal
    breaks off what still runs. Everything it says goes to stderr; with --format json, one line on stdout says where it
    listens.

    \b
    Exit codes: 0 ended and settled; 1 it could not listen, or not all of it ended in time;
    2 wrong usage, as another host without tokens; 5 the vendor rejects the key.
    """
    from budget_guard.gateway.token_store import TokenStore
    from budget_guard.streaming.secrecy import forget_key_in_environment, hide_process, log_without_key

    hide_process()
    settings = load_settings()
    log_without_key(
        sys.stderr,
        settings.key,
        level=logging.INFO if verbose else logging.WARNING,
        form="budget-guard: %(asctime)s %(message)s",
    )
    forget_key_in_environment()
    loaded = load_policy(policy, cache_dir=settings.cache_dir)
    store = TokenStore(settings.data_dir)
    _check_tokens(loaded, store, host, policy)
    gateway = _open(loaded, settings, store, host, live_port, http_port)
    return _serve(gateway, host, ready_file, form)


def _check_tokens(policy: Policy, store: TokenStore, host: str, path: str) -> None:
    """Who may come in. Raises UsageError where strangers could reach it and nobody is let in."""
    usable = [row for row in store.rows() if row.policy == policy.name and row.revoked_utc is None]
    make = f"budget-guard token make {path}"
    if not usable and not is_loopback(host):
        raise click.UsageError(
            f"on {host} programs need tokens, and policy {policy.name} has none: make one with: {make}"
        )
    if not usable:
        say(f"policy {policy.name} has no tokens yet: nobody can connect until one is made, with: {make}")
    for row in usable:
        if row.stream is not None and row.stream not in policy.streams:
            say(f"token {row.id} ({row.name}) is for stream {row.stream}, which the policy does not have")
    if not is_loopback(host):
        say(
            f"listening on {host}: neither protocol is encrypted, and a historical request shows its token to whoever "
            "can read the network; let programs come through a VPN or an SSH tunnel"
        )


def _open(
    policy: Policy, settings: Settings, store: TokenStore, host: str, live_port: int, http_port: int
) -> OpenGateway:
    from budget_guard.gateway.host import Listen
    from budget_guard.streaming.approval import ask_on_terminal
    from budget_guard.streaming.assembly import open_gateway
    from budget_guard.streaming.service import open_patiently

    listen = Listen(host, live_port, http_port)

    def pause(seconds: float) -> None:
        threading.Event().wait(seconds)

    try:
        return open_patiently(
            lambda: open_gateway(
                policy, settings, settings.clock(), approve=ask_on_terminal, listen=listen, tokens=store
            ),
            say=say,
            pause=pause,
        )
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error.strerror or error}") from error


def _serve(gateway: OpenGateway, host: str, ready_file: Path | None, form: str) -> int:
    """Until a signal; then end and settle everything."""
    from budget_guard.streaming.service import announced, ended_by_signals, facts, tell_manager

    found = facts(gateway, host)
    try:
        with ended_by_signals(gateway.host.hurry) as ending:
            with announced(found, ready_file):
                if form == "json":
                    click.echo(json.dumps(found))
                say(
                    f"policy {found['policy']}: live data at {found['live_gateway']}, history at {found['http_url']}; "
                    "SIGTERM or Ctrl-C ends it"
                )
                tell_manager("READY=1")
                ending.wait()
            tell_manager("STOPPING=1")
            say(f"ending; {gateway.host.clients} live connections are settled first")
            settled = gateway.close()
    except OSError as error:
        gateway.close()
        raise click.ClickException(f"cannot write {ready_file}: {error.strerror}") from error
    say("ended" if settled else "ended, but not everything is settled: the next start does that")
    return DONE if settled else FAILED

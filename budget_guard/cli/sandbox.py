"""`budget-guard sandbox`: a local Databento to rehearse against."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from budget_guard.cli.exits import DONE
from budget_guard.clock import RehearsalClock, SystemClock, instant_text, parse_instant

if TYPE_CHECKING:
    from budget_guard.sandbox.config import SandboxConfig
    from budget_guard.sandbox.server import Sandbox


def _instant(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    try:
        return None if value is None else parse_instant(value)
    except ValueError as error:
        # Python's own words for what is no instant at all help nobody.
        said = (
            str(error) if "time zone" in str(error) or "years" in str(error) else f"{value!r} is no instant"
        )
        hint = "" if "write it" in said else ": write it as 2026-11-23T14:30:00Z"
        raise click.BadParameter(said + hint) from None


def _rate(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    if value == "market":
        return None
    if not value.isdigit():
        raise click.BadParameter(f"{value!r} should be records/s, 0 for as fast as possible, or 'market'")
    return int(value)


_PORT = click.IntRange(0, 65535)


@click.command(name="sandbox")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--live-port", type=_PORT, default=13000, show_default=True, help="Live port; 0 picks a free one."
)
@click.option(
    "--http-port", type=_PORT, default=8080, show_default=True, help="HTTP port; 0 picks a free one."
)
@click.option(
    "--scenario",
    metavar="FILE|NAME",
    help="Set up and made to fail as this file says, or a bundled scenario; 'list' shows those.",
)
@click.option(
    "--now", callback=_instant, metavar="ISO", help="Start its clock here, as 2026-11-23T14:30:00Z."
)
@click.option(
    "--rate",
    callback=_rate,
    default="1000",
    show_default=True,
    help="Live records/s of each subscribed instrument; 0: as fast as they are read; market: the market's own pace.",
)
@click.option(
    "--slot-ms",
    type=int,
    default=10,
    show_default=True,
    help="Live records leave together every so many ms: 1, 2, 5 or 10.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed is another market.")
@click.option(
    "--replay",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Serve this recorded DBN file instead of synthetic data, from its first record on; again for more.",
)
@click.option("--key", "keys", multiple=True, help="An API key to accept; may be given again.")
@click.option(
    "--live", "live", multiple=True, metavar="DATASET", help="License live only for this; again for more."
)
@click.option("--historical", multiple=True, metavar="DATASET", help="License history only for this.")
@click.option(
    "--bill",
    "bill_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the bill here; go on with one that is here.",
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(
    host: str,
    live_port: int,
    http_port: int,
    scenario: str | None,
    replay: tuple[Path, ...],
    form: str,
    **settings: Any,
) -> int:
    """Run a local Databento: metadata and history over HTTP, live over TCP, and its own bill.

    All its data is synthetic, unless it replays recorded files. It runs until it is interrupted or terminated. What
    is given on the command line goes before what a scenario says.
    """
    import asyncio

    if scenario == "list":
        click.echo(_scenarios())
        return DONE
    given = _given(settings)
    if replay and given.get("rate") is not None:
        raise click.UsageError("--rate does not go with --replay: recorded files have a pace of their own")
    try:
        ports = {"host": host, "live_port": live_port, "http_port": http_port}
        config = _config(scenario, {**ports, "replay": replay, **given})
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        asyncio.run(_serve(config, form))
    except OSError as error:
        raise click.ClickException(f"cannot run the sandbox: {error}") from None
    return DONE


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given on the command line; what was left out is for the scenario to say."""
    source_of = click.get_current_context().get_parameter_source
    return {name: value for name, value in settings.items() if source_of(name) is not ParameterSource.DEFAULT}


def _config(scenario: str | None, given: dict[str, Any]) -> SandboxConfig:
    """Raises ValueError with all that is wrong."""
    from dataclasses import replace

    from budget_guard.sandbox.config import SandboxConfig
    from budget_guard.sandbox.faults.scenario import load_scenario

    base = SandboxConfig() if scenario is None else load_scenario(scenario)
    if "now" in given:
        given["clock"] = RehearsalClock(given.pop("now"))
    for name in ("live", "historical"):
        if name in given:
            given[f"{name}_entitlements"] = frozenset(given.pop(name))
    return replace(base, **given)


def _scenarios() -> str:
    from budget_guard.sandbox.faults.scenario import about, bundled_scenarios

    found = bundled_scenarios()
    width = max(map(len, found))
    return "\n".join(f"{name:<{width}}  {about(path)}" for name, path in found.items())


async def _serve(config: SandboxConfig, form: str) -> None:
    import asyncio
    import signal

    from rich.console import Console

    from budget_guard.sandbox.billing.table import print_bill
    from budget_guard.sandbox.market.recorded_file import RecordingError
    from budget_guard.sandbox.server import Sandbox

    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    try:
        sandbox = Sandbox(config)
    except RecordingError as error:
        raise click.UsageError(str(error)) from None
    await sandbox.start()
    if before := sandbox.bill()["bytes"]:
        click.echo(f"sandbox: goes on with the bill of {before:,} bytes at {config.bill_path}", err=True)
    try:
        click.echo(json.dumps(_facts(sandbox)) if form == "json" else _text(sandbox))
        await done.wait()
    finally:
        await sandbox.stop()
    bill = sandbox.bill()
    click.echo(
        f"sandbox: billed {bill['bytes']:,} bytes, {bill['cost_usd']} USD ({_kind(sandbox)})", err=True
    )
    if bill["bytes"] or bill["uncertain_bytes"]:
        print_bill(Console(stderr=True), bill)


def _facts(sandbox: Sandbox) -> dict[str, Any]:
    return {
        "synthetic": sandbox.recording is None,
        "pid": os.getpid(),
        "host": sandbox.config.host,
        "live_port": sandbox.live_port,
        "http_port": sandbox.http_port,
        "live_gateway": f"{sandbox.config.host}:{sandbox.live_port}",
        "http_url": sandbox.http_url,
        "key": sandbox.key,
        "now_utc": instant_text(sandbox.config.clock.now()),
    }


def _kind(sandbox: Sandbox) -> str:
    return "synthetic" if sandbox.recording is None else "recorded"


def _replay_lines(sandbox: Sandbox) -> list[str]:
    if sandbox.recording is None:
        return []
    from budget_guard.sandbox.replay import described

    return [
        *described(sandbox.recording),
        "Without --now its clock starts with the first record. Live sends each record as the clock comes to it;",
        "history has what is past: start with --now at the end to have all of it.",
    ]


def _text(sandbox: Sandbox) -> str:
    facts = _facts(sandbox)
    # Without a start of its own it runs on the machine's clock, as the guard does.
    started_elsewhere = not isinstance(sandbox.config.clock, SystemClock)
    return "\n".join(
        (
            f"A local Databento with {_kind(sandbox)} data. Point the guard at it with:",
            f"  export DATABENTO_API_KEY={facts['key']}",
            f"  export BUDGET_GUARD_LIVE_GATEWAY={facts['live_gateway']}",
            f"  export BUDGET_GUARD_HISTORICAL_GATEWAY={facts['http_url']}",
            "  export BUDGET_GUARD_LEDGER=sqlite:////tmp/budget-guard-rehearsal.sqlite",
            *([f"  export BUDGET_GUARD_NOW={facts['now_utc']}"] if started_elsewhere else []),
            *_replay_lines(sandbox),
            f"Its clock: {facts['now_utc']}. Its bill: {facts['http_url']}/bill. Ctrl-C ends it.",
        )
    )

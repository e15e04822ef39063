"""`budget-guard rehearse`: days of a program behind the guard, against a local Databento, in minutes."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from budget_guard.cli.exits import DONE, FAILED, INTERRUPTED, OVER, REFUSED, UNKNOWN, VENDOR_REFUSED
from budget_guard.cli.reports import write_report
from budget_guard.cli.screen import say
from budget_guard.clock import SystemClock
from budget_guard.money import size_text, usd_text
from budget_guard.settings import load_settings

if TYPE_CHECKING:
    from budget_guard.policy.model import Policy
    from budget_guard.rehearsal.model import Rehearsal
    from budget_guard.rehearsal.play import Progress
    from budget_guard.rehearsal.rehearse import Wish


# Where stderr is no terminal, how far it has come is a line this often.
_LINE_EVERY_S = 15.0


def _day(context: click.Context, parameter: click.Parameter, value: str | None) -> date | None:
    try:
        return None if value is None else date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not a date: write it as 2026-11-23", context, parameter
        ) from None


@click.command("rehearse", context_settings={"ignore_unknown_options": True})
@click.argument("policy", type=click.Path(dir_okay=False))
@click.option("--days", type=click.IntRange(1, 260), default=1, show_default=True, help="Sessions to play.")
@click.option(
    "--from", "first", callback=_day, metavar="DATE", help="The first session's date. Default: the next one."
)
@click.option("--stream", metavar="NAME", help="Let the program use this stream only.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed is another market.")
@click.option(
    "--scenario", metavar="FILE", help="What goes wrong: a scenario's file, or the name of a bundled one."
)
@click.option(
    "--replay",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Play this recorded DBN file instead of synthetic data; again for more.",
)
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), help="At most this many times as fast as time."
)
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the clock waits for a program that does not connect, read, or end at the close.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also write the report and the ledger there.",
)
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    policy: str,
    days: int,
    first: date | None,
    stream: str | None,
    seed: int,
    scenario: str | None,
    replay: tuple[Path, ...],
    speed: float | None,
    patience: float,
    output: Path | None,
    format_: str,
    command: tuple[str, ...],
) -> int:
    """Play days of COMMAND behind the guard, in minutes, and report what the guard would have done.

    The market is a local, synthetic one: no key is needed, nothing is spent, and nothing outside this machine is
    contacted. The report goes to stderr, with --format json to stdout, and the program's output then to stderr.

    \b
    Exit codes: 4 when the guard refused or cut the program; 5 when the vendor's side refused; else the
    program's own, the first that is not 0; 3 when the month would be over a budget at this rate; 6 when nobody
    can tell, because data was missed or none came.
    """
    from budget_guard.loading import load_policy
    from budget_guard.rehearsal.play import Pace
    from budget_guard.rehearsal.rehearse import Wish
    from budget_guard.streaming.secrecy import log_without_key

    log_without_key(sys.stderr, None)
    if command[0].startswith("-"):
        raise click.UsageError(
            f"no such option: {command[0]}; write the program after --, as: -- python app.py"
        )
    loaded = load_policy(policy, cache_dir=load_settings().cache_dir)
    if stream is not None and stream not in loaded.streams:
        raise click.UsageError(f"no stream {stream!r} in the policy; it has {', '.join(loaded.streams)}")
    wish = Wish(command, days, first, stream, seed, Pace(patience, speed))
    if scenario is not None:
        wish = _with_scenario(wish, scenario, loaded)
    if replay:
        wish = _with_recording(wish, replay)
    report = _rehearse(loaded, wish, output, as_json=format_ == "json")
    return _conclude(report, output, format_)


def _with_scenario(wish: Wish, source: str, policy: Policy) -> Wish:
    """The wish against a sandbox to which a scenario happens, from the day on which it begins."""
    from budget_guard.rehearsal.vendor import product_of, with_scenario
    from budget_guard.sandbox.faults.scenario import ScenarioError, load_scenario

    try:
        streams = policy.streams.values()
        scenario = load_scenario(
            source,
            datasets={stream.dataset for stream in streams},
            products={product_of(symbol) for stream in streams for symbol in stream.symbols},
        )
    except ScenarioError as error:
        raise click.UsageError(str(error)) from None
    begins = None if isinstance(scenario.clock, SystemClock) else scenario.clock.now().date()
    return replace(wish, first=wish.first or begins, vendor=partial(with_scenario, scenario=scenario))


def _with_recording(wish: Wish, files: tuple[Path, ...]) -> Wish:
    """The wish against recorded files, from the day of their first record on."""
    from budget_guard.clock import instant_from_ns
    from budget_guard.sandbox.config import SandboxConfig
    from budget_guard.sandbox.market.recorded import Recording
    from budget_guard.sandbox.market.recorded_file import RecordingError

    try:
        begins = wish.first or instant_from_ns(Recording(files).first_ns).date()
    except RecordingError as error:
        raise click.UsageError(str(error)) from None

    def recorded(config: SandboxConfig) -> SandboxConfig:
        return replace(wish.vendor(config), replay=files)

    return replace(
        wish, first=begins, vendor=recorded, source=f"recorded ({', '.join(f.name for f in files)})"
    )


def _rehearse(policy: Policy, wish: Wish, output: Path | None, *, as_json: bool) -> Rehearsal:
    from budget_guard.rehearsal.rehearse import NothingToRehearse, rehearse

    screen = _Screen()
    keep = None if output is None else output / f"rehearsal-{policy.name}.sqlite"
    try:
        return rehearse(
            policy,
            replace(wish, keep_ledger=keep),
            settings=load_settings(),
            environ=os.environ,
            say=screen.say,
            show=screen.show,
            stdout=sys.stderr if as_json else None,
        )
    except NothingToRehearse as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot run {wish.command[0]}: {error.strerror or error}") from error
    finally:
        screen.clear()


def _conclude(report: Rehearsal, output: Path | None, format_: str) -> int:
    """Show the report, write it, and say by the exit code what it came to."""
    from budget_guard.render.console import report_console
    from budget_guard.render.rehearsal import render_json, render_markdown, render_rehearsal

    if format_ == "json":
        click.echo(render_json(report), nl=False)
    else:
        report_console(stderr=True).print(render_rehearsal(report))
    if output is not None:
        texts = {"md": partial(render_markdown, report), "json": partial(render_json, report)}
        write_report(output, f"rehearsal-{report.policy}", texts)
    return _exit_code(report)


def _exit_code(report: Rehearsal) -> int:
    kinds = {row.kind for row in report.refused}
    codes = [run.code for run in report.runs if run.code and run.ended == "by itself"]
    if report.interrupted:
        return INTERRUPTED
    if report.bill_nano_usd > report.spent_nano_usd:
        return FAILED
    if "vendor" in kinds:
        return VENDOR_REFUSED
    if kinds:
        return REFUSED
    if codes:
        return codes[0]
    return {"over": OVER, "unknown": UNKNOWN}.get(report.verdict, DONE)


class _Screen:
    """What is said while days are played: on a terminal one line that changes, elsewhere a line now and then."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown_s = SystemClock().monotonic_s()
        self._dirty = False

    def say(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        say(text)

    def show(self, progress: Progress) -> None:
        """How far it has come."""
        text = (
            f"{progress.session}: {progress.now:%H:%M:%S} of {progress.end_utc:%H:%M} UTC, "
            f"{size_text(progress.size_bytes)}, {usd_text(progress.cost_usd)}"
        )
        now_s = SystemClock().monotonic_s()
        if self._live:
            self._dirty = True
            click.echo(f"\rbudget-guard: {text}\x1b[K", err=True, nl=False)
        elif now_s - self._shown_s >= _LINE_EVERY_S:
            self._shown_s = now_s
            self.say(text)

    def clear(self) -> None:
        """Take the line that changes away."""
        if self._dirty:
            self._dirty = False
            click.echo("\r\x1b[K", err=True, nl=False)

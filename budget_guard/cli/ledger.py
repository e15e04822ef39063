"""`budget-guard ledger`: export, explain, verify, resolve and copy what the ledger holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from budget_guard.cli.approve import words
from budget_guard.cli.exits import DONE, FAILED
from budget_guard.cli.options import check_month, user_name
from budget_guard.cli.screen import say
from budget_guard.errors import LedgerError, UnknownHold
from budget_guard.settings import Settings, load_settings

if TYPE_CHECKING:
    from budget_guard.ledger.evidence import Evidence
    from budget_guard.ledger.model import Entry, HoldTerms
    from budget_guard.ledger.opening import OpenedLedger
    from budget_guard.ledger.recovery import Recovered
    from budget_guard.ledger.store import SqlLedger
    from budget_guard.ledger.story import Story

# 1 PiB, more than a line of 10 Gbit/s carries in ten days: beyond that it is a slip of the keyboard.
_BYTES_MAX = 2**50
_format = click.option(
    "--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True
)


@click.group()
def command() -> None:
    """Look into the ledger: export it, explain a hold, verify it, decide what nothing proves, move it."""


@command.command("export")
@click.argument("policy", type=click.Path(path_type=Path))
@click.option(
    "--month", callback=check_month, metavar="YYYY-MM", help="One billing month (UTC). Default: all."
)
@click.option("--all", "everything", is_flag=True, help="Also refusals, gaps and holds that are over.")
def export_command(policy: Path, month: str | None, everything: bool) -> int:
    """Write the entries, approvals and overruns of POLICY's account as JSON lines, in an order that never changes.

    Each line says its `kind`. Amounts are exact decimals as text. What programs that died left is settled first.
    """
    from budget_guard.ledger.export import export_rows
    from budget_guard.loading import load_policy

    settings = load_settings()
    loaded = load_policy(policy, cache_dir=settings.cache_dir)
    with _opened(settings) as opened:
        out, written = sys.stdout, False
        for row in export_rows(opened.ledger, loaded.account.name, month, everything=everything):
            written = True
            out.write(json.dumps(row) + "\n")
        out.flush()
        if not written:
            when = f" in {month}" if month else ""
            click.echo(
                f"budget-guard: {opened.ledger.place} has nothing of account {loaded.account.name}{when}",
                err=True,
            )
    return DONE


@command.command("explain")
@click.argument("name", metavar="ID")
@_format
def explain_command(name: str, output: str) -> int:
    """Tell what happened to one hold: ID is the hold's, its connection's or its entry's, or how one of them begins.

    Nothing is changed by looking.
    """
    from budget_guard.ledger.story import tell
    from budget_guard.render.ledger import story_text

    settings = load_settings()
    with _reading(settings) as ledger, _unknown_is_usage(ledger.place):
        stories = tell(ledger, name, now=settings.clock().now(), look=_look(settings))
    if output == "json":
        click.echo(json.dumps([story.as_json() for story in stories], indent=2))
    else:
        click.echo("\n".join(story_text(story) for story in stories), nl=False)
    return DONE


@command.command("verify")
@_format
def verify_command(output: str) -> int:
    """Work every balance, claim and cost of the ledger out again, and say what differs. Exits with 1 if anything does.

    It may be in use meanwhile: it is seen as it stood at one instant.
    """
    from budget_guard.ledger.audit import audit
    from budget_guard.render.ledger import audit_text

    with _reading(load_settings()) as ledger:
        found = audit(ledger)
    click.echo(
        json.dumps(found.as_json(), indent=2) + "\n" if output == "json" else audit_text(found), nl=False
    )
    return DONE if found.sound else FAILED


@command.command("resolve")
@click.argument("name", metavar="[HOLD]", required=False)
@click.option("--reason", callback=words, help="Why; it is kept on record.")
@click.option("--by", callback=words, help="Who says so; by default the name of this user.")
@click.option(
    "--bytes",
    "size_bytes",
    type=click.IntRange(min=1, max=_BYTES_MAX),
    help="The vendor's record says so many were sent.",
)
@click.option("--in-full", is_flag=True, help="Count all that it holds.")
@click.option("--nothing-was-sent", is_flag=True, help="The vendor's record says that nothing was.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_format
def resolve_command(
    name: str | None,
    reason: str | None,
    by: str | None,
    size_bytes: int | None,
    in_full: bool,
    nothing_was_sent: bool,
    yes: bool,
    output: str,
) -> int:
    """Decide what a hold has used where nothing proves it. Without HOLD: list what is open, and what is known of it.

    The decision is an entry of its own, with its reason and who took it. What is known is never decided away.
    """
    from budget_guard.ledger.story import open_stories, tell
    from budget_guard.render.ledger import open_holds_text

    settings = load_settings()
    now = settings.clock().now()
    if name is None and (size_bytes or in_full or nothing_was_sent or reason or by):
        raise click.UsageError("name the hold that this is about; without options, the open ones are listed")
    with _opened(settings, unproven=False) as opened:
        if name is None:
            stories = open_stories(opened.ledger, now=now, look=_look(settings))
            text = json.dumps([story.as_json() for story in stories], indent=2)
            place = f"ledger: {opened.ledger.place}"
            click.echo(text if output == "json" else open_holds_text(stories) + place)
            return DONE
        with _unknown_is_usage(opened.ledger.place):
            story = _only(tell(opened.ledger, name, now=now, look=_look(settings)), opened.recovered)
        chosen = _decision(size_bytes, in_full=in_full, nothing_was_sent=nothing_was_sent)
        if not reason:
            raise click.UsageError("say why with --reason: it is kept on record")
        entry = _resolve(opened, story, chosen, settings, by=by or user_name(), reason=reason, yes=yes)
    _say_resolved(entry, output)
    return DONE


@command.command("copy")
@click.argument("from_url")
@click.argument("to_url")
@_format
def copy_command(from_url: str, to_url: str, output: str) -> int:
    """Move a ledger from one database to another, with every row: TO_URL is the ledger from then on.

    The old one refuses further use and names the new place. No hold may be open, and the new place must be empty.
    """
    from budget_guard.ledger.copying import copy_ledger
    from budget_guard.render.ledger import rows_text

    settings = load_settings()
    copied = copy_ledger(from_url, to_url, settings.data_dir, clock=settings.clock())
    _report(copied.recovered)
    if output == "json":
        click.echo(json.dumps(copied.as_json(), indent=2))
        return DONE
    click.echo(
        f"moved {copied.source} to {copied.target}: {rows_text(copied.audit.rows)}; every row arrived and agrees.\n"
        "Set BUDGET_GUARD_LEDGER to the new URL wherever the old one was used."
    )
    return DONE


def _decision(size_bytes: int | None, *, in_full: bool, nothing_was_sent: bool) -> int | None:
    """How many bytes were sent; None for all that is held."""
    if (size_bytes is not None) + in_full + nothing_was_sent != 1:
        raise click.UsageError(
            "say what it used, with one of: --bytes N (the vendor's record says so many), --nothing-was-sent, "
            "--in-full (all that it holds)"
        )
    return 0 if nothing_was_sent else size_bytes


def _only(stories: tuple[Story, ...], recovered: tuple[Recovered, ...]) -> Story:
    """The one hold that is open of those that a name means."""
    still_open = [story for story in stories if story.is_open]
    if len(still_open) > 1:
        names = ", ".join(story.terms.id for story in still_open)
        raise click.UsageError(f"that connection has several open holds: {names}. Name one of them")
    if still_open:
        return still_open[0]
    settled = {found.hold_id for found in recovered}
    story = stories[-1]
    how = "it has just been, from its meter" if story.terms.id in settled else f"it is {story.state} already"
    raise LedgerError(f"hold {story.terms.id} needs no decision: {how}")


def _resolve(
    opened: OpenedLedger,
    story: Story,
    size_bytes: int | None,
    settings: Settings,
    *,
    by: str,
    reason: str,
    yes: bool,
) -> Entry:
    from budget_guard.ledger.resolving import resolve, why_not
    from budget_guard.render.ledger import story_text

    now = settings.clock().now()
    refusal = why_not(story, now)
    if refusal is not None:
        raise LedgerError(refusal)
    click.echo(story_text(story), err=True)
    how = "in full" if size_bytes is None else f"as {size_bytes} bytes" if size_bytes else "as nothing sent"
    if not yes:
        if not _is_terminal():
            raise click.UsageError("this is no terminal, so nobody can be asked: add --yes if you are sure")
        if not click.confirm(f"Close hold {story.terms.id} {how}, for good?", err=True):
            raise LedgerError(f"nothing was decided: hold {story.terms.id} stays open")
    return resolve(
        opened.ledger,
        story.terms.id,
        size_bytes=size_bytes,
        now=now,
        by=by,
        reason=reason,
        evidence=story.evidence,
    )


def _say_resolved(entry: Entry, output: str) -> None:
    from budget_guard.ledger.export import entry_json
    from budget_guard.money import nano_exact_text

    if output == "json":
        click.echo(json.dumps(entry_json(entry), indent=2))
        return
    counts = nano_exact_text(entry.cost_nano_usd + entry.residual_nano_usd)
    click.echo(f"hold {entry.hold_id} is settled with {counts} USD, entry {entry.id}: {entry.note}")


def _is_terminal() -> bool:
    return sys.stdin.isatty()


@contextmanager
def _opened(settings: Settings, *, unproven: bool = True) -> Iterator[OpenedLedger]:
    """The ledger with what dead programs left settled, and told on stderr. None is made: an empty one would mislead.

    Without `unproven`, holds that nothing proves are left out of that: the caller shows them.
    """
    from budget_guard.ledger.backends import need_file
    from budget_guard.ledger.opening import open_for_use

    need_file(settings.ledger_url)
    opened = open_for_use(
        settings.ledger_url, settings.data_dir, clock=settings.clock(), rehearsal=settings.rehearsal
    )
    try:
        _report(tuple(found for found in opened.recovered if unproven or found.outcome != "unresolved"))
        yield opened
    finally:
        opened.ledger.close()


@contextmanager
def _reading(settings: Settings) -> Iterator[SqlLedger]:
    """The ledger as it is: nothing is made, and nothing is settled."""
    from budget_guard.ledger.backends import need_file
    from budget_guard.ledger.store import open_ledger

    need_file(settings.ledger_url)
    ledger = open_ledger(settings.ledger_url)
    try:
        yield ledger
    finally:
        ledger.close()


def _look(settings: Settings) -> Callable[[HoldTerms], Evidence]:
    from budget_guard.ledger.backends import meter_directory
    from budget_guard.ledger.evidence import look
    from budget_guard.ledger.machine import boot_id, host_name

    folder = meter_directory(settings.ledger_url, settings.data_dir)
    return partial(look, meter_dir=folder, host=host_name(), boot_id=boot_id())


def _report(recovered: tuple[Recovered, ...]) -> None:
    for found in recovered:
        say(found.message)


@contextmanager
def _unknown_is_usage(place: str) -> Iterator[None]:
    try:
        yield
    except UnknownHold as error:
        raise click.UsageError(f"{error}\nledger: {place}") from None

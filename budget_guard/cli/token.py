"""`budget-guard token`: who may use a gateway that runs as a service."""

from __future__ import annotations

import getpass
import json
from typing import TYPE_CHECKING, Any

import click

from budget_guard.cli.exits import DONE
from budget_guard.cli.screen import say
from budget_guard.clock import instant_text
from budget_guard.loading import load_policy
from budget_guard.settings import load_settings

if TYPE_CHECKING:
    from budget_guard.gateway.token_store import ListedToken, TokenStore


@click.group("token")
def command() -> None:
    """Make, list and revoke the tokens with which programs use `budget-guard gateway`.

    A token stands where the API key stood. Run these commands as the user that the gateway runs as.
    """


@command.command("make")
@click.argument("policy", type=click.Path(dir_okay=False))
@click.option("--stream", metavar="NAME", help="For this stream only; else for any stream of the policy.")
@click.option(
    "--name", metavar="WHO", help="Whose it is, for the list and the log; by default this user's name."
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def make(policy: str, stream: str | None, name: str | None, form: str) -> int:
    """Make a token for POLICY and show it, once, on stdout.

    It is kept nowhere. A gateway that runs lets it in at once.
    """
    settings = load_settings()
    loaded = load_policy(policy, cache_dir=settings.cache_dir)
    if stream is not None and stream not in loaded.streams:
        raise click.UsageError(f"no stream {stream!r} in the policy; it has {', '.join(loaded.streams)}")
    whose = getpass.getuser() if name is None else name
    if not whose.isprintable() or not whose.strip():
        raise click.UsageError("--name should be a text of printable characters")
    row, token = _store().make(loaded.name, stream, whose, settings.clock().now())
    if form == "json":
        click.echo(json.dumps({**row.as_json(), "token": token}))
        return DONE
    which = f"stream {stream}" if stream is not None else "any stream"
    say(f"token {row.id} for {whose}: {which} of policy {loaded.name}. It is not shown again.")
    click.echo(token)
    return DONE


@command.command("list")
@click.argument("policy", type=click.Path(dir_okay=False), required=False)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def list_them(policy: str | None, form: str) -> int:
    """List the tokens of POLICY, or of all; revoked ones too. The tokens themselves are not kept."""
    rows = _store().rows()
    if policy is not None:
        name = load_policy(policy, cache_dir=load_settings().cache_dir).name
        rows = [row for row in rows if row.policy == name]
    if form == "json":
        click.echo(json.dumps([row.as_json() for row in rows], indent=2))
    elif rows:
        click.echo(_table([_cells(row) for row in rows]))
    else:
        say("there are no tokens")
    return DONE


@command.command("revoke")
@click.argument("token_id", metavar="ID")
def revoke(token_id: str) -> int:
    """Revoke the token with this ID, as `token list` shows it (or its beginning), for good.

    A gateway that runs ends its live connections within a second and lets it in no more; a historical request that has
    begun runs to its end.
    """
    store = _store()
    found = [row.id for row in store.rows() if row.id.startswith(token_id)]
    if len(found) != 1:
        what = "no token" if not found else f"{len(found)} tokens ({', '.join(found)})"
        raise click.UsageError(
            f"{what} with an ID that begins with {token_id}; `budget-guard token list` shows them"
        )
    row = store.revoke(found[0], load_settings().clock().now())
    assert row.revoked_utc is not None
    say(f"token {row.id} ({row.name}) is revoked since {instant_text(row.revoked_utc)}")
    return DONE


def _store() -> TokenStore:
    from budget_guard.gateway.token_store import TokenStore

    return TokenStore(load_settings().data_dir)


def _cells(row: ListedToken) -> list[str]:
    revoked = "" if row.revoked_utc is None else instant_text(row.revoked_utc)
    return [row.id, row.policy, row.stream or "(any)", row.name, instant_text(row.made_utc), revoked]


def _table(rows: list[list[str]]) -> str:
    lines: list[list[Any]] = [["id", "policy", "stream", "name", "made", "revoked"], *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )

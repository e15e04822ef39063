"""`budget-guard gaps`: what live streams missed, and filling it from history."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

import click

from budget_guard.cli.exits import DONE, FAILED, REFUSED, VENDOR_REFUSED
from budget_guard.cli.options import check_month
from budget_guard.cli.screen import say
from budget_guard.settings import Settings, load_settings

if TYPE_CHECKING:
    from budget_guard.backfill.model import Filled, GapList, GapRow
    from budget_guard.backfill.quoting import Quoter
    from budget_guard.clock import Clock
    from budget_guard.ledger.model import Gap
    from budget_guard.policy.model import Policy
    from budget_guard.streaming.assembly import OpenGateway
    from budget_guard.vendor.cache import MetadataCache

_POLICY = "budget-guard.yaml"


class _ListedByDefault(click.Group):
    """`gaps POLICY` lists; a policy called `fill` is written `./fill`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("gaps", cls=_ListedByDefault, subcommand_metavar="[list|fill] [POLICY] ...")
def command() -> None:
    """What live streams missed: list it (`gaps POLICY`), or buy it from history (`gaps fill POLICY`).

    \b
    budget-guard gaps budget-guard.yaml --month 2026-11
    budget-guard gaps fill budget-guard.yaml --all --max 5
    """


@command.command("list")
@click.argument("policy", type=click.Path(path_type=Path), default=_POLICY)
@click.option("--month", callback=check_month, help="Gaps that began in this UTC month; all unless given.")
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def list_command(policy: Path, month: str | None, output: str) -> int:
    """List the gaps of POLICY's account with bounds, length, state, and what filling the open ones would cost.

    Prices are the vendor's own quotes, which are free to ask for; without DATABENTO_API_KEY there are none.
    """
    from budget_guard.loading import load_policy
    from budget_guard.render.gaps import render_json

    settings = load_settings()
    loaded = load_policy(policy, cache_dir=settings.cache_dir)
    found = _list(loaded, settings, settings.clock(), month)
    if output == "json":
        click.echo(render_json(found), nl=False)
    else:
        _show(found)
    return DONE


def _amount(context: click.Context, parameter: click.Parameter, value: str | None) -> Decimal | None:
    if value is None:
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite() or amount < 0:
        raise click.BadParameter(f"{value!r} should be an amount in USD, as 5 or 2.50")
    return amount


@command.command("fill")
@click.argument("policy", type=click.Path(path_type=Path), default=_POLICY)
@click.option(
    "--gap", "names", multiple=True, metavar="ID", help="This gap, by how its id begins; repeatable."
)
@click.option("--all", "everything", is_flag=True, help="Every open gap.")
@click.option(
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("gaps"),
    show_default=True,
    help="The folder for the files, one DBN file for each gap.",
)
@click.option(
    "--max", "most", callback=_amount, metavar="USD", help="Buy without asking up to this sum, no more."
)
@click.option("--yes", is_flag=True, help="Buy without asking.")
def fill_command(
    policy: Path, names: tuple[str, ...], everything: bool, folder: Path, most: Decimal | None, yes: bool
) -> int:
    """Buy what live streams missed through the guard's own historical door, one file for each gap.

    Shows the prices first, and asks. Every limit, approval and hold of the policy applies. Each file is compared with
    the vendor's count of its records; then its gap is marked as filled, and is never bought again.

    \b
    Exit codes: 0 when all were filled; 4 when the guard refused one, or --max; 5 when the vendor did; 1 otherwise.
    """
    if bool(names) == everything:
        raise click.UsageError("say which gaps: --all, or --gap ID for each (budget-guard gaps lists them)")
    from budget_guard.backfill.files import only_one
    from budget_guard.loading import load_policy
    from budget_guard.streaming.approval import ask_on_terminal
    from budget_guard.streaming.assembly import open_gateway
    from budget_guard.streaming.secrecy import log_without_key

    settings = load_settings()
    log_without_key(sys.stderr, settings.key)
    loaded = load_policy(policy, cache_dir=settings.cache_dir)
    clock = settings.clock()
    with only_one(settings.data_dir):
        gateway = open_gateway(loaded, settings, clock, approve=ask_on_terminal)
        try:
            return _fill(loaded, settings, clock, gateway, folder, names, most, yes=yes)
        finally:
            gateway.close()


def _fill(
    policy: Policy,
    settings: Settings,
    clock: Clock,
    gateway: OpenGateway,
    folder: Path,
    names: Sequence[str],
    most: Decimal | None,
    *,
    yes: bool,
) -> int:
    from budget_guard.backfill.door import HistoricalDoor
    from budget_guard.backfill.filling import Filler
    from budget_guard.backfill.model import GapList

    ledger, account = gateway.opened.ledger, policy.account.name
    chosen = _choose(ledger.gaps(account), names)
    if not chosen:
        click.echo(f"no open gaps of account {account}")
        return DONE
    rows = _quoter(policy, settings, clock, gateway.cache, folder).rows(chosen)
    listed = GapList(account, None, rows)
    _show(listed)
    ready = [row for row in rows if row.cost_nano_usd is not None]
    if ready and (refusal := _refusal(listed, ready, most, yes=yes)) is not None:
        return refusal
    filler = Filler(policy, ledger, HistoricalDoor(gateway.host.http_url, gateway.host.token()), folder)
    results = []
    for row in ready:
        results.append(filler.fill(row.gap))
        _say(results[-1])
    return _exit_code(results, left=len(rows) - len(ready))


def _choose(gaps: Sequence[Gap], names: Sequence[str]) -> list[Gap]:
    """The open gaps that are meant: those whose ids begin so, or all of them."""
    from budget_guard.backfill.model import state_of

    if not names:
        return [gap for gap in gaps if state_of(gap) == "open"]
    chosen: dict[str, Gap] = {}
    for name in names:
        found = [gap for gap in gaps if gap.id.startswith(name)]
        if len(found) != 1:
            what = "no gap" if not found else f"{len(found)} gaps"
            raise click.BadParameter(f"{what} whose id begins with {name!r}", param_hint="--gap")
        if state_of(found[0]) != "open":
            click.echo(f"gap {name} is {found[0].mended} already")
        else:
            chosen[found[0].id] = found[0]
    return list(chosen.values())


def _refusal(listed: GapList, ready: Sequence[GapRow], most: Decimal | None, *, yes: bool) -> int | None:
    """The exit code of what nobody agreed to, or that costs more than --max; None when it may be bought."""
    from budget_guard.money import usd_from_nano, usd_text

    total = usd_from_nano(listed.total_nano_usd)
    if most is not None and total > most:
        text = f"that is {usd_text(total)}, more than --max {usd_text(most)}"
        say(f"{text}: nothing is bought")
        return REFUSED
    if yes or most is not None:
        return None
    if not sys.stdin.isatty():
        raise click.UsageError(
            "this is no terminal, so nobody can be asked: add --max USD, or --yes if any price is right"
        )
    what = "it" if len(ready) == 1 else f"these {len(ready)}"
    if not click.confirm(f"Buy {what} for {usd_text(total)}?", err=True):
        click.echo("nothing is bought", err=True)
        return FAILED
    return None


def _say(filled: Filled) -> None:
    from budget_guard.render.gaps import ID_LENGTH

    short = filled.gap.id[:ID_LENGTH]
    if filled.outcome == "filled":
        click.echo(f"{short}: filled with {filled.message}")
    elif filled.outcome == "already":
        click.echo(f"{short}: {filled.message}")
    else:
        where = "" if filled.path is None else f" ({filled.path})"
        say(f"{short} is not filled: {filled.message}{where}")


def _exit_code(results: Sequence[Filled], *, left: int) -> int:
    outcomes = {filled.outcome for filled in results}
    if "refused" in outcomes:
        return REFUSED
    if "vendor" in outcomes:
        return VENDOR_REFUSED
    return FAILED if left or outcomes - {"filled", "already"} else DONE


def _list(policy: Policy, settings: Settings, clock: Clock, month: str | None) -> GapList:
    """The gaps, priced where a key is there and the vendor answers."""
    from budget_guard.backfill.model import GapList, GapRow, state_of
    from budget_guard.errors import KeyRejected
    from budget_guard.streaming.assembly import metadata_cache

    account = policy.account.name
    gaps = _gaps(settings, clock, account, month)
    plain = tuple(GapRow(gap) for gap in gaps)
    if not any(state_of(gap) == "open" for gap in gaps):
        return GapList(account, month, plain)
    if settings.key is None:
        return GapList(
            account, month, plain, "DATABENTO_API_KEY is not set, so the vendor was not asked for prices"
        )
    with _closing(metadata_cache(settings)) as cache:
        try:
            return GapList(account, month, _quoter(policy, settings, clock, cache).rows(gaps))
        except KeyRejected as error:
            return GapList(account, month, plain, f"no prices: {error}")


def _gaps(settings: Settings, clock: Clock, account: str, month: str | None) -> list[Gap]:
    from budget_guard.ledger.backends import need_file
    from budget_guard.ledger.opening import open_for_use

    need_file(settings.ledger_url)
    opened = open_for_use(settings.ledger_url, settings.data_dir, clock=clock, rehearsal=settings.rehearsal)
    try:
        for found in opened.recovered:
            say(found.message)
        return opened.ledger.gaps(account, month)
    finally:
        opened.ledger.close()


def _quoter(
    policy: Policy, settings: Settings, clock: Clock, cache: MetadataCache, folder: Path | None = None
) -> Quoter:
    from datetime import timedelta

    from budget_guard.backfill.quoting import Quoter
    from budget_guard.streaming.assembly import fetch_prices
    from budget_guard.vendor.client import VendorClient

    assert settings.key is not None
    vendor = VendorClient(
        settings.key, settings.historical_gateway, cache=cache, clock=clock, prices_kept=timedelta(0)
    )
    return Quoter(policy, vendor, fetch_prices(policy, vendor), clock.now(), folder)


@contextmanager
def _closing(cache: MetadataCache) -> Iterator[MetadataCache]:
    try:
        yield cache
    finally:
        cache.close()


def _show(gaps: GapList) -> None:
    from budget_guard.render.console import report_console
    from budget_guard.render.gaps import remarks, render_gaps

    report_console().print(render_gaps(gaps))
    for line in remarks(gaps):
        click.echo(line)

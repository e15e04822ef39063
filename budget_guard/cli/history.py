"""`budget-guard history`: what was bought of the past, what is kept of it, and what a range would cost now."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from budget_guard.cli.reports import show_report
from budget_guard.settings import Settings, load_settings

if TYPE_CHECKING:
    from budget_guard.clock import Clock
    from budget_guard.guard.bought import HistoryReport, KeptFile
    from budget_guard.guard.purchases import Purchases
    from budget_guard.guard.quote import Quote
    from budget_guard.policy.model import Policy


@click.command("history")
@click.argument("policy", type=click.Path(path_type=Path), default="budget-guard.yaml")
@click.option("--dataset", metavar="NAME", help="Only purchases of this dataset.")
@click.option("--stream", metavar="NAME", help="Price the data of this stream from --start to --end.")
@click.option("--start", metavar="TIME", help="As 2026-11-20T14:30, UTC unless it says otherwise.")
@click.option(
    "--end", metavar="TIME", help="Left out: the end of the day, hour or minute that --start names."
)
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(
    policy: Path, dataset: str | None, stream: str | None, start: str | None, end: str | None, format_: str
) -> None:
    """List what POLICY's account has bought of the past, and the answers that are kept on this machine.

    With --stream and --start it also says what that range costs, how much of it was bought before, and what the
    missing part alone would cost. That asks the vendor (DATABENTO_API_KEY), and costs nothing.
    """
    from budget_guard.loading import load_policy
    from budget_guard.render.history import render_history, render_json

    if (stream is None) != (start is None):
        raise click.UsageError("--stream and --start go together: they say what to price")
    settings = load_settings()
    loaded = load_policy(policy, cache_dir=settings.cache_dir)
    if stream is not None and stream not in loaded.streams:
        raise click.UsageError(f"no stream {stream!r} in the policy; it has {', '.join(loaded.streams)}")
    report = _report(loaded, settings, dataset, stream, start, end)
    show_report(format_, partial(render_history, report), {"json": partial(render_json, report)})


def _report(
    policy: Policy,
    settings: Settings,
    dataset: str | None,
    stream: str | None,
    start: str | None,
    end: str | None,
) -> HistoryReport:
    from budget_guard.guard.bought import HistoryReport
    from budget_guard.guard.purchases import Purchases
    from budget_guard.ledger.store import open_ledger

    clock = settings.clock()
    account = policy.account.name
    ledger = open_ledger(settings.ledger_url)
    try:
        purchases = Purchases(ledger, account, clock)
        rows = tuple(purchases.known(dataset))
        quote = None
        if stream is not None and start is not None:
            quote = _quote(policy, settings, clock, purchases, stream, start, end)
        return HistoryReport(account, rows, _kept(policy, clock), quote)
    finally:
        ledger.close()


def _kept(policy: Policy, clock: Clock) -> tuple[KeptFile, ...]:
    from budget_guard.gateway.historical.shelf import Shelf
    from budget_guard.guard.bought import KeptFile
    from budget_guard.streaming.assembly import keeping_terms

    terms = keeping_terms(policy)
    if terms is None or not terms.folder.is_dir():
        return ()
    found = Shelf(terms.folder, terms.keep).listed(clock.now())
    return tuple(
        KeptFile(str(kept.path), kept.note.size_bytes, kept.stored_utc, kept.note.form) for kept in found
    )


def _quote(
    policy: Policy,
    settings: Settings,
    clock: Clock,
    purchases: Purchases,
    name: str,
    start: str,
    end: str | None,
) -> Quote:
    """What a stream's range costs, and what of it was bought before. Raises VendorError."""
    from budget_guard.errors import KeyRejected
    from budget_guard.gateway.historical.form import FormError, parse_range_request
    from budget_guard.gateway.historical.quoting import fetch_quote, with_owned
    from budget_guard.streaming.assembly import fetch_prices, metadata_cache
    from budget_guard.vendor.client import VendorClient

    if settings.key is None:
        raise KeyRejected(
            "DATABENTO_API_KEY is not set", advice="a range is priced by the vendor, for this key"
        )
    stream = policy.streams[name]
    fields = {
        "dataset": stream.dataset,
        "schema": stream.schema,
        "symbols": ",".join(stream.symbols),
        "stype_in": stream.stype_in,
        "start": start,
        "end": end or "",
    }
    try:
        wanted = parse_range_request(fields)
    except FormError as error:
        raise click.UsageError(str(error)) from None
    cache = metadata_cache(settings)
    try:
        vendor = VendorClient(settings.key, settings.historical_gateway, cache=cache, clock=clock)
        price = fetch_prices(policy, vendor).price_whole(wanted.range, clock.now())
        if price is None:
            raise click.ClickException(f"no price is known for {stream.schema} of {stream.dataset}")
        return with_owned(vendor, purchases, fetch_quote(vendor, wanted, price))
    finally:
        cache.close()

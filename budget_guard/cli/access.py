"""`budget-guard access`: what this key may use, and what to do where it may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from budget_guard.cli.exits import DONE, UNKNOWN, VENDOR_REFUSED
from budget_guard.cli.options import check_month
from budget_guard.cli.reports import show_report
from budget_guard.cli.screen import progress_bar
from budget_guard.errors import LedgerError, SettingsError
from budget_guard.settings import Settings, load_settings

if TYPE_CHECKING:
    from budget_guard.errors import VendorError
    from budget_guard.planning.model import AccessReport, AccessVerdict, Plan
    from budget_guard.policy.model import Policy
    from budget_guard.vendor.client import VendorClient

_EXITS: Mapping[AccessVerdict, int] = {"granted": DONE, "refused": VENDOR_REFUSED, "unknown": UNKNOWN}


@click.command("access")
@click.argument("policy", type=click.Path(path_type=Path), required=False)
@click.option(
    "--month",
    callback=check_month,
    metavar="YYYY-MM",
    help="The month that alternatives are priced for. Default: the current one.",
)
@click.option("--refresh", is_flag=True, help="Ask the vendor again for what is kept on disk.")
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def command(
    context: click.Context, policy: Path | None, month: str | None, refresh: bool, format_: str
) -> None:
    """Show what the key may use of each dataset in POLICY, live and historical, and what to do where it may not.

    Without POLICY: each dataset that the vendor lists and the bundled price sheet knows. Nothing that it asks costs
    anything: live access is tried by a logon that starts no session.

    \b
    Exit codes: 0 everything that POLICY needs is there; 5 the vendor refuses some of it, or the key;
    6 some of it could not be found out; 2 without a key.
    """
    from budget_guard import api
    from budget_guard.loading import load_policy
    from budget_guard.render.access import render_access, render_json

    settings = load_settings()
    if settings.key is None:
        raise SettingsError("DATABENTO_API_KEY is not set: set it to the key whose access is to be shown")
    loaded = None if policy is None else load_policy(policy)
    with api.open_metadata(settings, refresh=refresh) as vendor:
        assert vendor is not None
        report = _report(loaded, settings, vendor, month)
    show_report(format_, partial(render_access, report), {"json": partial(render_json, report)})
    context.exit(_EXITS[report.verdict])


def _report(
    policy: Policy | None, settings: Settings, vendor: VendorClient, month: str | None
) -> AccessReport:
    from budget_guard.planning.access import access_report

    now = settings.clock().now()
    host = "the vendor's live gateways"
    if settings.live_gateway is not None:
        host = ":".join(map(str, settings.live_gateway))
    return access_report(
        policy,
        vendor=vendor,
        live_gateway=host,
        probe=partial(_probe, settings, policy),
        plan_of=partial(_plan, settings, vendor, month),
        now=now,
    )


def _probe(
    settings: Settings, policy: Policy | None, datasets: Sequence[str]
) -> Mapping[str, VendorError | None]:
    from budget_guard.gateway.live.probe import PAUSE_S, probe_live
    from budget_guard.gateway.live.upstream import Endpoint

    endpoint = Endpoint() if settings.live_gateway is None else Endpoint(*settings.live_gateway)
    pause_s = 0.0 if endpoint.is_loopback else PAUSE_S
    assert settings.key is not None
    with progress_bar("trying live access") as progress:
        answers = probe_live(endpoint, settings.key, datasets, pause_s=pause_s, done=progress)
    if policy is not None:
        _close_breakers(settings, policy, [dataset for dataset, error in answers.items() if error is None])
    return answers


def _close_breakers(settings: Settings, policy: Policy, accepted: Sequence[str]) -> None:
    """Programs that were refused these datasets before may ask for them again, if there is a ledger that says so."""
    from budget_guard.gateway.breakers import close_accepted
    from budget_guard.ledger.backends import need_file
    from budget_guard.ledger.store import open_ledger

    assert settings.key is not None
    try:
        need_file(settings.ledger_url)
        ledger = open_ledger(settings.ledger_url)
    except LedgerError:
        return  # nobody has been refused anything in a ledger that is not there
    try:
        now = settings.clock().now()
        for dataset in close_accepted(ledger, policy.account.name, settings.key, accepted, now):
            click.echo(
                f"budget-guard: the vendor accepts {dataset or 'this key'} again: programs ask it now",
                err=True,
            )
    except LedgerError as error:
        click.echo(
            f"budget-guard: what the vendor refused before still stands in the ledger: {error}", err=True
        )
    finally:
        ledger.close()


def _plan(settings: Settings, vendor: VendorClient, month: str | None, policy: Policy) -> Plan:
    from budget_guard.clock import month_of
    from budget_guard.planning.calendar import market_calendar
    from budget_guard.planning.plan import plan

    now = settings.clock().now()
    calendar = market_calendar(settings.cache_dir)
    with progress_bar("sizing past sessions") as progress:
        return plan(
            policy, month or month_of(now), now=now, vendor=vendor, calendar=calendar, progress=progress
        )

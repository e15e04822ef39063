"""`budget-guard demo`: everything once, against a local Databento, without a key."""

from __future__ import annotations

import time
from pathlib import Path

import click

from budget_guard.cli.exits import DONE, FAILED
from budget_guard.money import usd_text


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the reports go; default: reports/demo in a checkout, else budget-guard-demo here.",
)
def command(output: Path | None) -> int:
    """Plan, stream, request and review against a local Databento: no key, no cost, under a minute.

    All data is synthetic. At the end three figures have to agree: the vendor's bill is at most what the ledger
    says, and the ledger at most the limit.
    """
    from budget_guard.demo.story import DemoFailed, figures_json, tell

    folder = output or _default_output()
    began_s = time.monotonic()
    try:
        figures = tell(folder, click.echo)
    except DemoFailed as error:
        click.echo(f"budget-guard demo: {error}", err=True)
        return FAILED
    (folder / "figures.json").write_text(figures_json(figures) + "\n", encoding="utf-8")
    verdict = "holds" if figures.hold else "DOES NOT HOLD"
    bill, ledger, limit = (
        usd_text(amount, 6) for amount in (figures.bill_usd, figures.ledger_usd, figures.limit_usd)
    )
    click.echo("\n== The promise: vendor's bill <= ledger <= limit")
    click.echo(f"live data   bill {bill} <= ledger {ledger} <= limit {limit}   {verdict}")
    click.echo(
        f"everything  bill {usd_text(figures.bill_all_usd, 6)} <= ledger {usd_text(figures.ledger_all_usd, 6)}"
    )
    click.echo(f"\nReports are in {folder}; it took {time.monotonic() - began_s:.0f} s.")
    return DONE if figures.hold else FAILED


def _default_output() -> Path:
    in_checkout = Path("reports").is_dir() and Path("pyproject.toml").is_file()
    return Path("reports/demo") if in_checkout else Path("budget-guard-demo")

"""`budget-guard init`: a starting policy to edit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from budget_guard.cli.exits import DONE
from budget_guard.policy.filling import Values, fill
from budget_guard.policy.templates import template_names, template_summary, template_text

_USUAL, _TO_FILL_IN = "nq-futures", "live"
_CONTINUOUS = re.compile(r"[^.\s]+\.[cnv]\.[0-9]+")
_PARENT = re.compile(r"[^.\s]+\.(FUT|OPT)")


def _print_list(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked:
        width = max(len(name) for name in template_names())
        for name in template_names():
            click.echo(f"{name:<{width}}  {template_summary(name)}")
        context.exit()


@click.command()
@click.option(
    "--template",
    type=click.Choice(template_names()),
    help=f"Start from this. Default: {_USUAL}; {_TO_FILL_IN} where data is named.",
)
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_list,
    help="List the templates and stop.",
)
@click.option("--name", help="The policy's name.")
@click.option("--budget", metavar="AMOUNT", help="The limit of a month, as '200 USD'.")
@click.option("--timezone", metavar="ZONE", help="Of hours, days and weeks, as America/New_York.")
@click.option("--dataset", help="The stream's dataset, as GLBX.MDP3.")
@click.option("--schema", help="The stream's schema, as mbp-1.")
@click.option("--symbols", metavar="A,B,...", help="The stream's symbols, as ES.v.0,NQ.v.0.")
@click.option("--stype-in", help="The symbols' type. Default: what they look like.")
@click.argument("path", type=click.Path(path_type=Path), default="budget-guard.yaml")
def command(
    template: str | None,
    name: str | None,
    budget: str | None,
    timezone: str | None,
    dataset: str | None,
    schema: str | None,
    symbols: str | None,
    stype_in: str | None,
    path: Path,
) -> int:
    """Write a commented policy to PATH (budget-guard.yaml). A file that is already there is never overwritten.

    The options are filled in; what comes out passes `check`, or nothing is written.
    """
    data = {"dataset": dataset, "schema": schema, "symbols": symbols, "stype_in": stype_in}
    named = any(value is not None for value in data.values())
    if named and template not in (None, _TO_FILL_IN):
        raise click.UsageError(
            f"--dataset, --schema, --symbols and --stype-in fill in template {_TO_FILL_IN}: leave --template out"
        )
    template = template or (_TO_FILL_IN if named else _USUAL)
    text = template_text(template)
    if symbols is not None:
        text = _with_market(text, dataset or "GLBX.MDP3", symbols.split(","))
    values = {**_policy_values(name, budget, timezone or _zone_of(dataset))}
    if named:
        values |= _stream_values(dataset, schema, symbols, stype_in)
    if values:
        text = _filled(text.replace(f"policies/{template}.yaml", str(path)), values, path)
    _write(path, text)
    click.echo(f"wrote {path}; next: budget-guard check {path}, then budget-guard plan {path}", err=True)
    return DONE


def _policy_values(name: str | None, budget: str | None, timezone: str | None) -> Values:
    given = {("name",): name, ("timezone",): timezone, ("budgets", 0, "month"): budget}
    return {keys: value for keys, value in given.items() if value is not None}


def _stream_values(
    dataset: str | None, schema: str | None, symbols: str | None, stype_in: str | None
) -> Values:
    stream: dict[str, str | Sequence[str]] = {}
    if dataset is not None:
        if symbols is None:
            raise click.UsageError(
                f"--dataset {dataset} needs its --symbols (ALL_SYMBOLS is the whole dataset)"
            )
        stream["dataset"] = dataset
        if _market_of(dataset) is None:
            stream["windows"] = "always"
            click.echo(
                f"nobody knows the hours of {dataset} here, so its windows are `always`: day and night, weekends too; "
                "write `hours:` to narrow them",
                err=True,
            )
    if schema is not None:
        stream["schema"] = schema
    if symbols is not None:
        names = [symbol.strip() for symbol in symbols.split(",") if symbol.strip()]
        stream["symbols"] = names
        stream["stype_in"] = stype_in or _stype_of(names)
    elif stype_in is not None:
        stream["stype_in"] = stype_in
    return {("streams", "main", key): value for key, value in stream.items()}


def _with_market(text: str, dataset: str, symbols: list[str]) -> str:
    """The template with the product group's own market, where the dataset's default is not it."""
    from budget_guard.markets.products import product_group
    from budget_guard.markets.table import MARKETS

    groups = {product_group(dataset, symbol.strip()) for symbol in symbols}
    usual = _market_of(dataset)
    known = sorted(group for group in groups if group is not None and group != usual and group in MARKETS)
    if len(known) != 1:
        return text
    line = "    dataset: GLBX.MDP3\n"
    text = text.replace(
        line, f"{line}    market: {known[0]}              # whose hours its windows follow\n", 1
    )
    if "regular" not in MARKETS[known[0]].hours:
        text = text.replace("windows: {session: regular}", "windows: {session: full}   ", 1)
    return text


def _stype_of(symbols: list[str]) -> str:
    for pattern, stype_in in ((_CONTINUOUS, "continuous"), (_PARENT, "parent")):
        if symbols and all(pattern.fullmatch(symbol) for symbol in symbols):
            return stype_in
    return "raw_symbol"


def _market_of(dataset: str) -> str | None:
    from budget_guard.errors import CalendarUnknown
    from budget_guard.markets.table import market_for

    try:
        return market_for(dataset)
    except CalendarUnknown:
        return None


def _zone_of(dataset: str | None) -> str | None:
    """The exchange's time zone, where the dataset has a market."""
    from budget_guard.markets.table import MARKETS

    market = None if dataset is None else _market_of(dataset)
    return None if market is None else MARKETS[market].timezone


def _filled(text: str, values: Values, path: Path) -> str:
    """The text with the values, checked as `check` would. Raises UsageError with every problem."""
    from budget_guard.markets.checks import find_problems
    from budget_guard.policy.loading import parse_document
    from budget_guard.settings import load_settings

    filled = fill(text, values)
    loaded = parse_document(filled, str(path))
    if loaded.policy is not None:
        loaded = loaded.with_problems(find_problems(loaded, cache_dir=load_settings().cache_dir))
    if loaded.policy is None:
        problems = (problem.message for problem in loaded.problems if problem.severity == "problem")
        raise click.UsageError("nothing is written: " + "; ".join(problems))
    return filled


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise click.UsageError(f"{path} is already there: give another PATH, or move it away") from None
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror or error}") from None

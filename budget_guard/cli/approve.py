"""`budget-guard approve`: more for a budget, for a while, on the record."""

from __future__ import annotations

import getpass
import json
import uuid
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

import click

from budget_guard.clock import instant_text, parse_instant
from budget_guard.settings import load_settings

if TYPE_CHECKING:
    from budget_guard.ledger.model import Approval
    from budget_guard.policy.model import Budget, Policy

UNITS = ("usd", "gib", "hours", "connections")


def _instant(context: click.Context, parameter: click.Parameter, value: str) -> datetime:
    try:
        return parse_instant(value)
    except ValueError as error:
        raise click.BadParameter(f"{error} (an instant with its zone, as 2026-11-23T21:00:00Z)") from None


def _amount(context: click.Context, parameter: click.Parameter, value: str) -> Decimal:
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite() or amount <= 0:
        raise click.BadParameter(f"{value!r} should be an amount above 0, as 25 or 2.50")
    return amount


def _text(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.strip():
        raise click.BadParameter("say something: it is kept on record")
    return value


@click.command()
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--budget", "name", required=True, help="The budget to add to, as the policy names it.")
@click.option("--amount", required=True, callback=_amount, help="How much to add, as 25.")
@click.option(
    "--unit", type=click.Choice(UNITS), default="usd", show_default=True, help="What the amount counts."
)
@click.option("--until", required=True, callback=_instant, metavar="ISO", help="When it ends.")
@click.option("--reason", required=True, callback=_text, help="Why; it is kept on record.")
@click.option("--by", callback=_text, help="Who says so; by default the name of this user.")
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(
    policy: Path,
    name: str,
    amount: Decimal,
    unit: str,
    until: datetime,
    reason: str,
    by: str | None,
    output: str,
) -> None:
    """Add an amount to every limit of one of POLICY's budgets in one unit, until an instant.

    It counts from now on for whatever runs under the account, on every machine that shares the ledger, and is an
    entry of the ledger that nothing changes. Running programs see it when they next renew, within seconds.
    """
    from budget_guard.guard.periods import count_from_amount
    from budget_guard.ledger.model import Approval
    from budget_guard.ledger.opening import open_for_use
    from budget_guard.loading import load_policy

    settings = load_settings()
    loaded = load_policy(policy, cache_dir=settings.cache_dir)
    budget = _find(loaded, name, unit)
    clock = settings.clock()
    now = clock.now()
    if until <= now:
        raise click.BadParameter(
            f"{instant_text(until)} is over; it is {instant_text(now)}", param_hint="--until"
        )
    approval = Approval(
        id=uuid.uuid4().hex,
        account=loaded.account.name,
        budget=budget.name,
        unit=unit,
        amount=count_from_amount(unit, amount),
        from_utc=now,
        until_utc=until,
        reason=reason.strip(),
        name=(by or getpass.getuser()).strip(),
    )
    if approval.amount == 0:
        raise click.BadParameter(f"{amount} {unit} is too little to count", param_hint="--amount")
    opened = open_for_use(settings.ledger_url, settings.data_dir, clock=clock, rehearsal=settings.rehearsal)
    try:
        opened.ledger.record_approval(approval)
    finally:
        opened.ledger.close()
    if output == "json":
        click.echo(json.dumps(_as_json(approval, amount), indent=2))
        return
    click.echo(_said(approval, budget, amount, opened.ledger.place))


def _find(policy: Policy, name: str, unit: str) -> Budget:
    """The budget, which limits something in this unit."""
    import difflib

    names = [budget.name for budget in policy.budgets]
    found = next((budget for budget in policy.budgets if budget.name == name), None)
    if found is None:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise click.BadParameter(
            f"the policy has no budget {name!r}{hint} It has {', '.join(names)}", param_hint="--budget"
        )
    if not any(limit.unit == unit and limit.amount is not None for limit in found.limits):
        units = sorted({limit.unit for limit in found.limits if limit.amount is not None})
        limited = f"it limits {', '.join(units)}" if units else "nothing in it is limited"
        raise click.BadParameter(f"budget {name} has no limit in {unit}; {limited}", param_hint="--unit")
    return found


def _as_json(approval: Approval, amount: Decimal) -> dict[str, str]:
    return {
        "id": approval.id,
        "account": approval.account,
        "budget": approval.budget,
        "unit": approval.unit,
        "amount": str(amount),
        "from_utc": instant_text(approval.from_utc),
        "until_utc": instant_text(approval.until_utc),
        "reason": approval.reason,
        "by": approval.name,
    }


def _said(approval: Approval, budget: Budget, amount: Decimal, place: str) -> str:
    limits = (limit for limit in budget.limits if limit.unit == approval.unit and limit.amount is not None)
    raised = "; ".join(
        f"{limit.period} {limit.amount} -> {limit.amount + amount}" for limit in limits if limit.amount
    )
    return (
        f"{approval.budget} of {approval.account}: {amount} {approval.unit} more until "
        f"{instant_text(approval.until_utc)} ({raised}), said {approval.name}: {approval.reason}\nledger: {place}"
    )

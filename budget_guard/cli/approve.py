"""`budget-guard approve`: more for a budget, for a while, on the record."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from budget_guard.cli.options import user_name
from budget_guard.cli.screen import say
from budget_guard.clock import instant_text, parse_instant
from budget_guard.money import decimal_text
from budget_guard.settings import load_settings

if TYPE_CHECKING:
    from budget_guard.ledger.model import Approval
    from budget_guard.policy.model import Budget, Policy

UNITS = ("usd", "gib", "hours", "connections")
# The ledger's integers have 64 bits; half of that leaves room to add approvals and limits up.
COUNT_MAX = 2**62

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
# No exponents, digit separators or digits of other scripts: an amount should look like what it is.
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


def _until(context: click.Context, parameter: click.Parameter, value: str) -> datetime | date:
    """An instant, or a date, of which only the policy's time zone says when it ends."""
    if _DATE.fullmatch(value):
        try:
            return date.fromisoformat(value) + timedelta(days=1)
        except (ValueError, OverflowError):
            raise click.BadParameter(f"{value!r} should be a date, as 2026-11-23") from None
    try:
        datetime.fromisoformat(value)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} should be an instant with its zone, as 2026-11-23T21:00:00Z, or a date, as 2026-11-23"
        ) from None
    try:
        return parse_instant(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _amount(context: click.Context, parameter: click.Parameter, value: str) -> Decimal:
    amount = Decimal(value) if _NUMBER.fullmatch(value) else Decimal(0)
    if not amount:
        raise click.BadParameter(
            f"{value!r} should be an amount above 0, as 25 or 2.50: digits alone, --unit says of what"
        )
    return amount


def words(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A reason or a name that goes on record: one line that every terminal shows as it is. Raises BadParameter."""
    if value is None:
        return None
    if not value.strip():
        raise click.BadParameter("say something: it is kept on record")
    if not value.strip().isprintable():
        raise click.BadParameter("write it in one line, without tabs and control characters")
    return value.strip()


@click.command()
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--budget", "name", required=True, help="The budget to add to, as the policy names it.")
@click.option("--amount", required=True, callback=_amount, help="How much to add, as 25 or 2.50.")
@click.option(
    "--unit", type=click.Choice(UNITS), default="usd", show_default=True, help="What the amount counts."
)
@click.option(
    "--until",
    required=True,
    callback=_until,
    metavar="ISO",
    help="When it ends: an instant, or a date, which is included whole (in the policy's time zone).",
)
@click.option("--reason", required=True, callback=words, help="Why; it is kept on record.")
@click.option("--by", callback=words, help="Who says so; by default the name of this user.")
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(
    policy: Path,
    name: str,
    amount: Decimal,
    unit: str,
    until: datetime | date,
    reason: str,
    by: str | None,
    output: str,
) -> None:
    """Add an amount to every limit of one of POLICY's budgets in one unit, until an instant.

    It counts from now on for whatever runs under the account, on every machine that shares the ledger, and is an
    entry of the ledger that nothing changes. Running programs see it when they next renew, within seconds.
    """
    from budget_guard.ledger.model import Approval
    from budget_guard.ledger.opening import open_for_use
    from budget_guard.loading import load_policy

    settings = load_settings()
    loaded = load_policy(policy, cache_dir=settings.cache_dir)
    budget = _find(loaded, name, unit)
    clock = settings.clock()
    now = clock.now()
    until_utc = until if isinstance(until, datetime) else _midnight(until, loaded.timezone)
    if until_utc <= now:
        over = instant_text(until_utc)
        past = f"{over} is over" if isinstance(until, datetime) else f"that day ended at {over}"
        raise click.BadParameter(f"{past}; it is {instant_text(now)}", param_hint="--until")
    approval = Approval(
        id=uuid.uuid4().hex,
        account=loaded.account.name,
        budget=budget.name,
        unit=unit,
        amount=_count(unit, amount),
        from_utc=now,
        until_utc=until_utc,
        reason=reason,
        name=by or user_name(),
    )
    opened = open_for_use(settings.ledger_url, settings.data_dir, clock=clock, rehearsal=settings.rehearsal)
    try:
        for found in opened.recovered:
            say(found.message)
        earlier = opened.ledger.approvals(approval.account, now)
        opened.ledger.record_approval(approval)
    finally:
        opened.ledger.close()
    if output == "json":
        click.echo(json.dumps(_as_json(approval, amount), indent=2))
        return
    click.echo(_said(approval, budget, amount, earlier, opened.ledger.place))


def _midnight(day: date, timezone: str) -> datetime:
    """The instant at which a day begins; clocks that change just then have two, or none."""
    zone = ZoneInfo(timezone)
    first, second = (datetime(day.year, day.month, day.day, tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() != second.utcoffset():
        raise click.BadParameter(
            f"clocks in {timezone} change as that day ends: write the instant", param_hint="--until"
        )
    return first.astimezone(UTC)


def _count(unit: str, amount: Decimal) -> int:
    """The amount as the ledger counts it."""
    from budget_guard.ledger.amounts import count_from_amount

    if unit == "connections" and amount != amount.to_integral_value():
        raise click.BadParameter(f"connections are counted whole, and {amount} is not", param_hint="--amount")
    count = count_from_amount(unit, amount)
    if count == 0:
        raise click.BadParameter(f"{amount} {unit} is too little to count", param_hint="--amount")
    if count > COUNT_MAX:
        raise click.BadParameter(f"{amount} {unit} is more than a ledger can count", param_hint="--amount")
    return count


def _find(policy: Policy, name: str, unit: str) -> Budget:
    """The budget, which limits something in this unit."""
    import difflib

    names = [budget.name for budget in policy.budgets]
    found = next((budget for budget in policy.budgets if budget.name == name), None)
    if found is None:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
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
        "amount": decimal_text(amount),
        "from_utc": instant_text(approval.from_utc),
        "until_utc": instant_text(approval.until_utc),
        "reason": approval.reason,
        "by": approval.name,
    }


def _said(
    approval: Approval, budget: Budget, amount: Decimal, earlier: Iterable[Approval], place: str
) -> str:
    """What was recorded, and what each limit was and is, with what had been approved before."""
    from budget_guard.ledger.amounts import amount_from_count

    same = (other for other in earlier if (other.budget, other.unit) == (approval.budget, approval.unit))
    before = sum((amount_from_count(other.unit, other.amount) for other in same), Decimal(0))
    raised = "; ".join(
        f"{limit.period} {decimal_text(limit.amount + before)} -> "
        f"{decimal_text(limit.amount + before + amount)} {limit.unit}"
        for limit in budget.limits
        if limit.unit == approval.unit and limit.amount is not None
    )
    return (
        f"{approval.budget} of {approval.account}: {decimal_text(amount)} {approval.unit} more until "
        f"{instant_text(approval.until_utc)} ({raised}), said {approval.name}: {approval.reason}\nledger: {place}"
    )

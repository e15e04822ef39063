"""What is paid by the month whatever is used: plans and licences. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal

from budget_guard.planning.model import FixedLine
from budget_guard.policy.model import Account, Budget, Stream
from budget_guard.pricing.sheet import PLAN_FEES_SOURCE, plan_family, plan_fee


def fixed_lines(account: Account, streams: Iterable[Stream], on: date) -> tuple[FixedLine, ...]:
    """The plan of every dataset that a stream uses and the account has flat, at the fee of the day.

    For historical streams too: their history may be included, and what includes it is not free.

    Plans that are sold together (one fee for all US equities datasets) are one line. A fee that nobody knows is None.
    """
    datasets = dict.fromkeys(stream.dataset for stream in streams)
    groups: dict[tuple[str, str], list[str]] = {}
    for dataset in datasets:
        billing = account.live_billing(dataset)
        if billing.kind == "flat":
            family = plan_family(dataset)
            name = dataset if family is None else family.name
            groups.setdefault((name, (billing.plan or "").lower()), []).append(dataset)
    return tuple(_line(account, members, plan, on) for (_, plan), members in groups.items())


def _line(account: Account, datasets: Sequence[str], plan: str, on: date) -> FixedLine:
    fee = plan_fee(datasets[0], plan, on) if plan else None
    licences = sum((account.live_billing(dataset).license_usd for dataset in datasets), Decimal(0))
    if fee is None:
        source = f"no fee is known of a '{plan or 'nameless'}' plan on {on}"
        return FixedLine(tuple(datasets), plan or "flat", None, licences, source)
    since, usd = fee
    source = f"{PLAN_FEES_SOURCE}; this one since {since}"
    return FixedLine(tuple(datasets), plan, usd, licences, source)


def fixed_total_usd(lines: Iterable[FixedLine]) -> Decimal | None:
    """Fees and licences together, or None as soon as one fee is unknown."""
    total = Decimal(0)
    for line in lines:
        if line.fee_usd is None:
            return None
        total += line.fee_usd + line.license_usd
    return total


def lines_within(budget: Budget, lines: Iterable[FixedLine], streams: Iterable[Stream]) -> list[FixedLine]:
    """The lines that count against a budget: those of datasets of which it covers a stream's live data.

    A plan is paid for live data, also where the policy uses no more than the history in it.
    """
    covered = {
        stream.dataset
        for stream in streams
        if budget.match.covers(stream=stream.name, dataset=stream.dataset, schema=stream.schema, mode="live")
    }
    return [line for line in lines if covered.intersection(line.datasets)]

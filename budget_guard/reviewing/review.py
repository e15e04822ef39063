"""A month from the ledger: what was spent and by what, what was refused, what was missed, and how that compares."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from budget_guard.clock import EPOCH, month_bounds, month_of
from budget_guard.ledger.model import SLOT_MODE, Approval, Balance, BalanceKey, Entry, Hold, Ledger, Refusal
from budget_guard.ledger.model import Overrun as Recorded
from budget_guard.money import cost_nano_usd, usd_from_nano, usd_text
from budget_guard.planning.fixed import fixed_lines, fixed_total_usd
from budget_guard.policy.model import Match, Policy
from budget_guard.reviewing.model import Against, FixedFee, Group, RefusedGroup, Review, Spent
from budget_guard.reviewing.overruns import find_overruns

Labels = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class _Use:
    """One entry or one running connection, as the groups see it."""

    stream: str | None
    dataset: str
    schema: str
    mode: str
    started_utc: datetime
    spent: Spent


def review(
    policy: Policy, ledger: Ledger, month: str, *, now: datetime, plan_usd: Decimal | None = None
) -> Review:
    """The review of a billing month (`YYYY-MM`) of a policy's account, other policies of the account included.

    `plan_usd` is what a plan of the month said (its p50, fees included). Raises ValueError for a month that is
    none, LedgerError when the ledger cannot be read. Run recovery first: it settles what dead programs left open.
    """
    start, end = month_bounds(month)
    month = month_of(start)
    account = policy.account.name
    # What a person decided about a slot says nothing of what was spent.
    entries = [entry for entry in ledger.entries(account, month) if entry.mode != SLOT_MODE]
    running = [hold for hold in ledger.open_holds(account) if hold.terms.month == month and not hold.is_slot]
    shares = [(hold, _share(hold)) for hold in running]
    uses = [_entry_use(entry) for entry in entries]
    uses += [_hold_use(hold, spent) for hold, spent in shares if spent is not None]
    refusals = ledger.refusals(account, month)
    fixed = fixed_lines(policy.account, policy.streams.values(), start.date())
    fees = tuple(
        FixedFee(line.datasets, line.plan, line.fee_usd, line.license_usd, line.source) for line in fixed
    )
    unmeasured = sum(spent is None for _, spent in shares)
    result = Review(
        policy=policy.name,
        account=account,
        month=month,
        generated_utc=now,
        spent=sum((use.spent for use in uses), Spent()),
        fixed=fees,
        fixed_usd=fixed_total_usd(fixed),
        by_stream=_group(uses, lambda use: (("stream", use.stream),)),
        by_day=_group(uses, lambda use: (("day", _utc_day(use.started_utc).isoformat()),)),
        by_schema=_group(
            uses, lambda use: (("dataset", use.dataset), ("schema", use.schema), ("mode", use.mode))
        ),
        refusals=_refused(refusals),
        against=Against(plan_usd=plan_usd, budget_usd=account_budget_usd(policy)),
        overruns=find_overruns(
            policy,
            _balances(ledger, account, start, end),
            ledger.approvals(account),
            _recorded(ledger, account, start, end),
            since_utc=start,
        ),
        gaps=tuple(ledger.gaps(account, month)),
        notes=(),
        approvals=_approvals(ledger, account, start, end),
    )
    notes = _notes(policy, result, running=len(running), unmeasured=unmeasured, over=now >= end)
    return replace(result, notes=tuple(notes))


def account_budget_usd(policy: Policy) -> Decimal | None:
    """The account's month limit: the smallest in USD of a budget that matches everything; None without one."""
    amounts = [
        limit.amount
        for budget in policy.budgets
        if budget.match == Match()
        for limit in budget.limits
        if limit.period == "month" and limit.unit == "usd" and limit.amount is not None
    ]
    return min(amounts, default=None)


def _utc_day(instant: datetime) -> date:
    return instant.astimezone(UTC).date()


def _entry_use(entry: Entry) -> _Use:
    spent = Spent(
        settled_nano_usd=entry.cost_nano_usd + entry.residual_nano_usd,
        residual_nano_usd=entry.residual_nano_usd,
        size_bytes=entry.size_bytes,
        control_bytes=entry.control_bytes,
        residual_bytes=entry.residual_bytes,
        uses=1,
    )
    return _Use(entry.stream, entry.dataset, entry.schema, entry.mode, entry.started_utc, spent)


def _hold_use(hold: Hold, spent: Spent) -> _Use:
    terms = hold.terms
    return _Use(terms.stream, terms.dataset, terms.schema, terms.mode, terms.opened_utc, spent)


def _share(hold: Hold) -> Spent | None:
    """What an open hold has used and holds, from any claim in USD or GiB; None when it has neither.

    Its claims on different budgets say the same thing of the same bytes, so the largest counts, not their sum.
    """
    price = hold.terms.unit_price_usd
    usd = [claim for claim in hold.claims if claim.key.unit == "usd"]
    gib = [claim for claim in hold.claims if claim.key.unit == "gib"]
    size = max((claim.settled for claim in gib), default=0)
    if usd:
        settled = max(claim.settled for claim in usd)
        held = max(claim.held for claim in usd)
    elif gib:
        settled = cost_nano_usd(size, price)
        held = max(cost_nano_usd(claim.settled + claim.held, price) for claim in gib) - settled
    elif price == 0:
        settled = held = 0
    else:
        return None
    return Spent(settled_nano_usd=settled, held_nano_usd=held, size_bytes=size, uses=1)


def _group(uses: Iterable[_Use], labels_of: Callable[[_Use], Labels]) -> tuple[Group, ...]:
    groups: dict[Labels, Spent] = defaultdict(Spent)
    for use in uses:
        groups[labels_of(use)] += use.spent
    ordered = sorted(groups.items(), key=lambda item: [(text is None, text or "") for _, text in item[0]])
    return tuple(Group(labels, spent) for labels, spent in ordered)


def _refused(refusals: Iterable[Refusal]) -> tuple[RefusedGroup, ...]:
    groups: dict[tuple[str, str | None], list[Refusal]] = defaultdict(list)
    for refusal in refusals:
        groups[refusal.code, refusal.stream].append(refusal)
    found = (
        RefusedGroup(
            code,
            stream,
            len(group),
            sum(refusal.asked_nano_usd or 0 for refusal in group),
            sum(refusal.asked_nano_usd is None for refusal in group),
        )
        for (code, stream), group in groups.items()
    )
    return tuple(sorted(found, key=lambda group: (-group.count, group.code, group.stream or "")))


def _balances(ledger: Ledger, account: str, start: datetime, end: datetime) -> dict[BalanceKey, Balance]:
    """The account's balances whose period starts in the month, and those without an end."""
    forever = ledger.account_balances(account, EPOCH, EPOCH + timedelta(microseconds=1))
    return {**ledger.account_balances(account, start, end), **forever}


def _recorded(ledger: Ledger, account: str, start: datetime, end: datetime) -> list[Recorded]:
    """The overruns of periods that began in the month; without an end, those that had happened by the month's end."""
    return [
        overrun
        for overrun in ledger.overruns(account)
        if (overrun.at_utc < end if overrun.period == "total" else start <= overrun.period_start_utc < end)
    ]


def _approvals(ledger: Ledger, account: str, start: datetime, end: datetime) -> tuple[Approval, ...]:
    """Those that were in force in a part of the month."""
    return tuple(
        approval
        for approval in ledger.approvals(account)
        if approval.from_utc < end and approval.until_utc > start
    )


def _notes(policy: Policy, result: Review, *, running: int, unmeasured: int, over: bool) -> list[str]:
    """What a reader must know beside the figures."""
    notes = [] if over else ["The month is not over: these are the figures so far."]
    if result.spent.residual_nano_usd:
        residual = usd_text(usd_from_nano(result.spent.residual_nano_usd))
        notes.append(
            f"{residual} of what is settled is assumed: it may have been billed without being seen, "
            "at connections that did not end cleanly."
        )
    if running:
        notes.append(
            f"Still running: {running}. What was used so far is settled, what may still be used is held."
        )
    if unmeasured:
        notes.append(
            f"Of these, {unmeasured} under no limit in USD or GiB: what was used shows when it ends."
        )
    if result.refused_unpriced:
        notes.append(
            f"{result.refused_unpriced} of {result.refused} refusals have no known price "
            "and are not in what was saved."
        )
    notes += [
        f"Fixed costs are unknown: {fee.source} ({', '.join(fee.datasets)})."
        for fee in result.fixed
        if fee.fee_usd is None
    ]
    names = (dict(group.labels)["stream"] for group in result.by_stream)
    strangers = [name for name in names if name is not None and name not in policy.streams]
    if strangers:
        notes.append(f"Streams of other policies of this account are included: {', '.join(strangers)}.")
    if result.fixed and result.against.budget_usd is not None:
        notes.append("Budgets limit what is used; plan fees and licences are outside of them.")
    return notes

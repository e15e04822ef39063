"""What a key may use next to what a policy needs, and the step to take where the two differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from budget_guard.errors import KeyRejected, RateLimited, VendorError, VendorUnavailable
from budget_guard.money import usd_from_nano, usd_text
from budget_guard.planning.model import (
    AccessProblem,
    AccessReport,
    AccessState,
    AccessStep,
    AccessVerdict,
    DatasetAccess,
    Plan,
    SchemaRange,
    StreamPlan,
)
from budget_guard.policy.model import LiveBilling, Policy
from budget_guard.pricing.sheet import PLAN_FAMILIES, SHEET, VENUE_LICENCES, plan_family, plan_fee_usd
from budget_guard.vendor.answers import DatasetRange

# What the live gateway says to a logon for each dataset; None is welcome.
Probe = Callable[[Sequence[str]], Mapping[str, VendorError | None]]
# The plan of a policy, to know what its streams would cost otherwise.
PlanOf = Callable[[Policy], Plan]


class Ranges(Protocol):
    """The metadata calls that are made; `vendor.client.VendorClient` has them. Each raises VendorError."""

    @property
    def gateway(self) -> str: ...

    def fetch_dataset_range(self, dataset: str) -> DatasetRange: ...

    def fetch_datasets(self) -> list[str]: ...


def access_report(
    policy: Policy | None, *, vendor: Ranges, live_gateway: str, probe: Probe, plan_of: PlanOf, now: datetime
) -> AccessReport:
    """Ask for each dataset what may be used. Nothing that is asked costs anything.

    Without a policy: the datasets that the vendor lists and the bundled sheet knows. Raises KeyRejected: with a wrong
    key there is nothing to report on.
    """
    notes: list[str] = []
    datasets = _known_datasets(vendor, notes) if policy is None else _datasets_of(policy)
    history = _histories(vendor, datasets)
    live = probe(datasets)
    rows = [_row(policy, dataset, history[dataset], live[dataset]) for dataset in datasets]
    steps = _Steps(policy, _next_day(policy, rows, plan_of, notes), now)
    rows = [replace(row, steps=tuple(steps.of(row))) for row in rows]
    return AccessReport(
        policy=None if policy is None else policy.name,
        at_utc=now,
        source=f"get_dataset_range at {vendor.gateway}, and a logon without a session at {live_gateway}",
        datasets=tuple(rows),
        verdict=_verdict(rows),
        notes=tuple(notes),
    )


def _datasets_of(policy: Policy) -> list[str]:
    return list(dict.fromkeys(stream.dataset for stream in policy.streams.values()))


def _known_datasets(vendor: Ranges, notes: list[str]) -> list[str]:
    known = {*SHEET, *(dataset for family in PLAN_FAMILIES for dataset in family.datasets)}
    try:
        listed = known.intersection(vendor.fetch_datasets())
    except KeyRejected:
        raise
    except VendorError as error:
        notes.append(f"the vendor's datasets could not be listed: {error}")
        listed = set()
    return sorted(listed or known)


def _histories(vendor: Ranges, datasets: Sequence[str]) -> dict[str, DatasetRange | VendorError]:
    """What may be seen of each dataset, or why not; a vendor that cannot be reached is asked once."""
    answers: dict[str, DatasetRange | VendorError] = {}
    down: VendorUnavailable | None = None
    for dataset in datasets:
        if down is not None:
            answers[dataset] = down
            continue
        try:
            answers[dataset] = vendor.fetch_dataset_range(dataset)
        except KeyRejected:
            raise
        except VendorError as error:
            answers[dataset] = error
            if isinstance(error, VendorUnavailable):
                down = error
    return answers


def _row(
    policy: Policy | None, dataset: str, history: DatasetRange | VendorError, live: VendorError | None
) -> DatasetAccess:
    streams = [] if policy is None else [one for one in policy.streams.values() if one.dataset == dataset]
    billing = None if policy is None else policy.account.live_billing(dataset)
    failed = history if isinstance(history, VendorError) else None
    return DatasetAccess(
        dataset=dataset,
        needs_live=tuple(stream.name for stream in streams if stream.mode == "live"),
        needs_history=tuple(stream.name for stream in streams if stream.mode == "historical"),
        history=_state(failed),
        ranges=() if isinstance(history, VendorError) else _ranges(history),
        history_problem=_problem(failed),
        live=_state(live),
        live_problem=_problem(live),
        billing=None if billing is None else billing.kind,
        plan=None if billing is None else billing.plan,
    )


def _ranges(found: DatasetRange) -> tuple[SchemaRange, ...]:
    """Each schema's range; the dataset's own under `*` where the vendor names no schemas."""
    by_schema = found.by_schema or {"*": (found.start_utc, found.end_utc)}
    return tuple(SchemaRange(schema, start, end) for schema, (start, end) in by_schema.items())


def _state(error: VendorError | None) -> AccessState:
    if error is None:
        return "granted"
    return "unknown" if isinstance(error, VendorUnavailable | RateLimited) else "refused"


def _problem(error: VendorError | None) -> AccessProblem | None:
    if error is None:
        return None
    unknown = isinstance(error, VendorUnavailable | RateLimited)
    return AccessProblem("vendor_unavailable" if unknown else _code(error), error.message, error.advice)


def _code(error: VendorError) -> str:
    """A reason's code; a request that was rejected has the vendor's own name for it."""
    return error.case or "request_rejected" if error.code == "size_unknown" else error.code


def _verdict(rows: Sequence[DatasetAccess]) -> AccessVerdict:
    """What the policy needs and is refused, then what could not be found out; the rest does not matter."""
    needed = [row.live for row in rows if row.needs_live] + [row.history for row in rows if row.needs_history]
    if "refused" in needed:
        return "refused"
    return "unknown" if "unknown" in needed else "granted"


def _next_day(
    policy: Policy | None, rows: Sequence[DatasetAccess], plan_of: PlanOf, notes: list[str]
) -> dict[str, tuple[str, StreamPlan]]:
    """The streams that are refused live as history of the day after: their month and plan; none if that fails."""
    refused = {name for row in rows if row.live == "refused" for name in row.needs_live}
    if policy is None or not refused:
        return {}
    streams = {
        name: replace(policy.streams[name], mode="historical") for name in policy.streams if name in refused
    }
    try:
        made = plan_of(replace(policy, streams=streams))
    except VendorError as error:
        notes.append(f"what history of the day after would cost is not known: {error}")
        return {}
    return {stream.name: (made.month, stream) for stream in made.streams}


@dataclass(frozen=True, slots=True)
class _Steps:
    """Writes what to do, or to know, about each dataset."""

    policy: Policy | None
    next_day: Mapping[str, tuple[str, StreamPlan]]
    now: datetime

    def of(self, row: DatasetAccess) -> Iterator[AccessStep]:
        if row.history == "refused" and row.needs_history and row.history_problem is not None:
            yield AccessStep(f"history: {row.history_problem.advice}")
        if row.live == "granted":
            yield from self._granted(row)
        elif row.needs_live and row.live_problem is not None:
            if row.live_problem.code == "not_entitled":
                yield from self._no_licence(row)
            else:
                yield AccessStep(f"live: {row.live_problem.advice}")
            if row.live == "refused":
                yield from (self._until_then(name) for name in row.needs_live if name in self.next_day)
        elif (
            row.billing == "flat" and row.live_problem is not None and row.live_problem.code == "not_entitled"
        ):
            yield AccessStep(
                f"the policy says that the account has the {row.plan} plan of {row.dataset}, the gateway says that it "
                "has no live licence: no stream needs live data, but history in the plan is planned as included"
            )

    def _granted(self, row: DatasetAccess) -> Iterator[AccessStep]:
        """The key may use it: does the policy know?"""
        family = plan_family(row.dataset)
        if row.billing == "none":
            yield AccessStep(
                f"the policy says that live data of {row.dataset} is not bought (live: none), though the key may use it"
            )
        elif row.billing == "metered" and row.needs_live and family is not None:
            yield AccessStep(
                f"the policy says that live data of {row.dataset} is metered; by the byte it has not been sold to new "
                f"subscribers since {family.metered_until}: if a plan pays for it, write "
                f"`billing: {{{row.dataset}: {{live: flat, plan: standard}}}}`"
            )

    def _no_licence(self, row: DatasetAccess) -> Iterator[AccessStep]:
        billing = LiveBilling() if self.policy is None else self.policy.account.live_billing(row.dataset)
        if billing.kind == "flat":
            plan = billing.plan or "flat"
            fee = plan_fee_usd(row.dataset, plan, self.now.date())
            paid = "" if fee is None else f" ({usd_text(fee)} a month)"
            yield AccessStep(
                f"a plan is not a licence: the policy says the {plan} plan{paid}, the gateway knows no licence of "
                f"{row.dataset}; ask for it in the vendor's portal",
                billing.license_usd or None,
            )
            return
        yield AccessStep(
            f"no {row.dataset} live licence: ask for it in the vendor's portal{self._offer(row.dataset)}",
            plan_fee_usd(row.dataset, "standard", self.now.date()),
        )

    def _offer(self, dataset: str) -> str:
        """What is sold there, as far as it is known."""
        family = plan_family(dataset)
        if family is None or plan_fee_usd(dataset, "standard", self.now.date()) is None:
            return "; what it costs there is not known here"
        text = f"; it comes with the {family.name} standard plan, and the venue's licence on top"
        licence = VENUE_LICENCES.get(dataset)
        if licence is None:
            return text
        return f"{text} ({licence.what}: {usd_text(licence.fee_usd)} a month in {licence.since:%Y-%m})"

    def _until_then(self, name: str) -> AccessStep:
        month, stream = self.next_day[name]
        what = f"until then: '{name}' as history of the day after"
        if stream.price is not None and stream.price.kind == "plan":
            return AccessStep(f"{what} costs nothing more: {stream.price.source}", Decimal(0))
        if stream.cost is None:
            why = ", ".join(reason.code for reason in stream.unknown)
            return AccessStep(
                f"{what}: what it costs is not known ({why}); `budget-guard plan` says what would help"
            )
        cost = usd_from_nano(stream.cost.p50)
        return AccessStep(f"{what}, planned for {month}", cost)

"""What a key may use next to what the policy needs: plan and licence told apart, and the step to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from budget_guard.errors import (
    KeyRejected,
    NotEntitled,
    PaymentRequired,
    RateLimited,
    RequestRejected,
    VendorError,
    VendorUnavailable,
)
from budget_guard.gateway.wire.refusals import SessionsFull
from budget_guard.planning.access import access_report
from budget_guard.planning.model import AccessReport, DatasetAccess, Plan
from budget_guard.planning.plan import plan
from budget_guard.policy.model import LiveBilling, Policy
from budget_guard.vendor.answers import DatasetRange
from tests.planning.desk import GLBX, NOW, policy, stream

START = datetime(2017, 5, 21, tzinfo=UTC)
NO_LICENCE = NotEntitled(f"A live data license is required to access {GLBX}.", advice="ask for it")
DOWN = VendorUnavailable("no connection", advice="check the network")
FLAT = {GLBX: LiveBilling("flat", "standard", Decimal("36.50"))}


@dataclass
class FakeRanges:
    """A vendor's metadata; `refusals` by dataset, or `list` for the list of datasets."""

    refusals: Mapping[str, VendorError] = field(default_factory=dict)
    datasets: Sequence[str] = (GLBX, "OPRA.PILLAR", "XEUR.EOBI")
    asked: list[str] = field(default_factory=list)
    gateway: str = "http://127.0.0.1:1"

    def fetch_dataset_range(self, dataset: str) -> DatasetRange:
        self.asked.append(dataset)
        if dataset in self.refusals:
            raise self.refusals[dataset]
        return DatasetRange(START, NOW, {"mbo": (START, NOW), "trades": (START, NOW)})

    def fetch_datasets(self) -> list[str]:
        if "list" in self.refusals:
            raise self.refusals["list"]
        return list(self.datasets)


def reported(
    whole: Policy | None, live: VendorError | None = None, vendor: FakeRanges | None = None
) -> AccessReport:
    def plan_of(other: Policy) -> Plan:
        return plan(other, "2026-11", now=NOW)

    return access_report(
        whole,
        vendor=vendor or FakeRanges(),
        live_gateway="127.0.0.1:2",
        probe=lambda datasets: dict.fromkeys(datasets, live),
        plan_of=plan_of,
        now=NOW,
    )


def only(report: AccessReport) -> DatasetAccess:
    assert len(report.datasets) == 1
    return report.datasets[0]


def texts(report: AccessReport) -> str:
    return "\n".join(step.text for step in only(report).steps)


LIVE = stream(gib_per_session=Decimal(1))


def test_a_key_that_may_use_everything_is_granted() -> None:
    """Live by logon, history by its range, schema by schema; nothing to do on a flat plan."""
    report = reported(policy(LIVE, stream("old", mode="historical"), billing=FLAT))
    one = only(report)
    assert (report.verdict, one.live, one.history, one.steps) == ("granted", "granted", "granted", ())
    assert (one.needs_live, one.needs_history) == (("nq-mbo",), ("old",))
    assert [(found.schema, found.start_utc, found.end_utc) for found in one.ranges] == [
        ("mbo", START, NOW),
        ("trades", START, NOW),
    ]


def test_no_licence_on_a_metered_account_names_what_is_sold_and_what_to_do_until_then() -> None:
    """The portal, the plan's fee, the venue's licence, and the stream as history of the day after."""
    report = reported(policy(LIVE), NO_LICENCE)
    ask, until = only(report).steps
    assert (report.verdict, only(report).live) == ("refused", "refused")
    assert f"no {GLBX} live licence: ask for it in the vendor's portal" in ask.text
    assert "$36.50 a month" in ask.text
    assert ask.cost_usd == Decimal(199)
    assert "'nq-mbo' as history of the day after, planned for 2026-11" in until.text
    made = plan(policy(stream(gib_per_session=Decimal(1), mode="historical")), "2026-11", now=NOW)
    assert made.total is not None
    assert until.cost_usd is not None
    assert until.cost_usd * 10**9 == made.total.p50


def test_a_plan_without_a_licence_is_told_apart() -> None:
    """The policy pays for a plan, the gateway knows no licence: the licence is what is missing."""
    report = reported(policy(LIVE, billing=FLAT), NO_LICENCE)
    licence, until = only(report).steps
    assert "a plan is not a licence" in licence.text
    assert "standard plan ($199.00 a month)" in licence.text
    assert licence.cost_usd == Decimal("36.50")
    assert "costs nothing more" in until.text
    assert until.cost_usd == 0


def test_a_licence_without_a_plan_is_told_apart() -> None:
    """The key may use live data that the policy calls metered, which is not sold to new subscribers any more."""
    report = reported(policy(LIVE))
    assert report.verdict == "granted"
    assert "since 2025-04-16: if a plan pays for it, write `billing:" in texts(report)


def test_live_data_that_the_policy_does_not_buy_is_told_apart() -> None:
    """`live: none` while the key may use it: said, and no reason to fail."""
    report = reported(policy(stream(mode="historical"), billing={GLBX: LiveBilling("none")}))
    assert report.verdict == "granted"
    assert "not bought (live: none), though the key may use it" in texts(report)


def test_a_refusal_of_what_nobody_needs_is_no_failure() -> None:
    """Streams of history do not need a live licence; a plan in the policy is still doubted."""
    report = reported(policy(stream(mode="historical"), billing=FLAT), NO_LICENCE)
    assert (report.verdict, only(report).live) == ("granted", "refused")
    assert "no live licence" in texts(report)


@pytest.mark.parametrize(
    ("error", "state", "verdict", "code"),
    [
        (NO_LICENCE, "refused", "refused", "not_entitled"),
        (SessionsFull("full", advice="close one"), "refused", "refused", "sessions_full"),
        (PaymentRequired("unpaid", advice="pay"), "refused", "refused", "payment_required"),
        (KeyRejected("no", advice="check it"), "refused", "refused", "key_rejected"),
        (DOWN, "unknown", "unknown", "vendor_unavailable"),
    ],
)
def test_each_answer_of_the_live_gateway_has_a_code_and_a_step(
    error: VendorError, state: str, verdict: str, code: str
) -> None:
    """Refused is not the same as not found out, and every one says what to do."""
    report = reported(policy(LIVE), error)
    one = only(report)
    assert one.live_problem is not None
    assert (one.live, report.verdict, one.live_problem.code) == (state, verdict, code)
    assert one.steps


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (NotEntitled("no", advice="attach"), "refused", "not_entitled"),
        (RequestRejected("no", advice="check", case="dataset_unknown"), "refused", "dataset_unknown"),
        (DOWN, "unknown", "vendor_unavailable"),
        (RateLimited("slow", advice="wait"), "unknown", "vendor_unavailable"),
    ],
)
def test_history_that_is_refused_counts_where_a_stream_needs_it(
    error: VendorError, state: str, code: str
) -> None:
    """For a historical stream it decides; for a live one it is shown."""
    vendor = FakeRanges({GLBX: error})
    needed = reported(policy(stream(mode="historical")), None, vendor)
    problem = only(needed).history_problem
    assert problem is not None
    assert (only(needed).history, needed.verdict, problem.code) == (state, state, code)
    assert reported(policy(LIVE), None, vendor).verdict == "granted"


def test_a_rejected_key_ends_the_report() -> None:
    """Nothing that it says would mean anything."""
    with pytest.raises(KeyRejected):
        reported(policy(LIVE), None, FakeRanges({GLBX: KeyRejected("no", advice="check it")}))


def test_a_vendor_that_is_down_is_asked_once() -> None:
    """Each further dataset would only wait as long again."""
    vendor = FakeRanges({GLBX: DOWN, "OPRA.PILLAR": DOWN})
    report = reported(policy(LIVE, stream("b", dataset="OPRA.PILLAR", schema="trades")), None, vendor)
    assert vendor.asked == [GLBX]
    assert [one.history for one in report.datasets] == ["unknown", "unknown"]


def test_without_a_policy_the_datasets_are_those_listed_and_known() -> None:
    """Nothing is needed, so nothing fails."""
    report = reported(None, NO_LICENCE)
    assert [one.dataset for one in report.datasets] == [GLBX, "OPRA.PILLAR"]
    assert (report.verdict, report.datasets[0].steps) == ("granted", ())


@pytest.mark.parametrize("vendor", [FakeRanges(datasets=()), FakeRanges({"list": DOWN})])
def test_a_list_that_is_empty_or_missing_is_no_error(vendor: FakeRanges) -> None:
    """Then the bundled sheet says what to ask for."""
    assert GLBX in [one.dataset for one in reported(None, None, vendor).datasets]


def test_an_alternative_that_cannot_be_planned_leaves_the_rest_standing() -> None:
    """An unpaid account answers no sizes: the refusal and its step are shown all the same."""

    def unpaid(other: Policy) -> Plan:
        raise PaymentRequired("unpaid", advice="pay")

    report = access_report(
        policy(LIVE),
        vendor=FakeRanges(),
        live_gateway="127.0.0.1:2",
        probe=lambda datasets: dict.fromkeys(datasets, NO_LICENCE),
        plan_of=unpaid,
        now=NOW,
    )
    assert (report.verdict, len(only(report).steps)) == ("refused", 1)
    assert any("unpaid" in note for note in report.notes)


def test_an_alternative_that_cannot_be_priced_says_why() -> None:
    """Unknown is not free."""
    until = only(reported(policy(stream()), NO_LICENCE)).steps[-1]
    assert until.cost_usd is None
    assert "not known (size_unknown)" in until.text

"""What filling a gap would cost, and why one cannot be filled: from the vendor's free answers and the policy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from budget_guard.backfill.files import file_name, unchecked
from budget_guard.backfill.model import GapRow, Price
from budget_guard.backfill.quoting import Quoter, range_of
from budget_guard.errors import KeyRejected, VendorUnavailable
from budget_guard.policy.model import HistoricalRules, Match, Policy
from budget_guard.pricing.model import DataRange, UnitPrice
from budget_guard.vendor.answers import DatasetRange
from tests.backfill.samples import missed
from tests.gateway.desk import NOW, budget, limit, policy, stream

SIZE = 2**20


@dataclass
class Vendor:
    """Answers as a test says."""

    reaches: datetime = NOW
    begins: datetime = datetime(2010, 6, 6, tzinfo=UTC)
    error: Exception | None = None
    kept: datetime | None = None  # until when history reached when that was last asked
    asked: list[str] = field(default_factory=list)  # datasets whose range was asked for afresh

    def fetch_billable_size(self, data_range: DataRange) -> int:
        if self.error is not None:
            raise self.error
        return SIZE

    def fetch_cost(self, data_range: DataRange) -> Decimal:
        return Decimal("0.01")

    def fetch_dataset_range(self, dataset: str, *, fresh: bool = False) -> DatasetRange:
        if fresh:
            self.asked.append(dataset)
        ends = self.reaches if fresh or self.kept is None else self.kept
        return DatasetRange(self.begins, NOW, {"mbo": (self.begins, ends)})


@dataclass
class Prices:
    known: bool = True

    def price_whole(self, data_range: DataRange, at: datetime) -> UnitPrice | None:
        return UnitPrice(Decimal("1.8"), "vendor", "the vendor's list") if self.known else None


def row(rules: Policy | None = None, vendor: Vendor | None = None, **changes: Any) -> GapRow:
    known = changes.pop("known", True)
    return Quoter(rules or policy(), vendor or Vendor(), Prices(known), NOW).row(missed(**changes))


def test_an_open_gap_is_priced_at_what_the_guard_will_hold_for_it() -> None:
    """The dearer of the vendor's quote and the list price."""
    assert row().price == Price(SIZE, 10_000_000)


@pytest.mark.parametrize("mended", ["replayed", "filled: 7 records, /data/nq.dbn.zst"])
def test_a_gap_that_is_made_up_for_is_not_priced(mended: str) -> None:
    found = row(vendor=Vendor(error=AssertionError("asked")), mended=mended)
    assert (found.price, found.trouble) == (None, "")
    assert found.state == mended.split(":")[0]


def test_a_gap_too_recent_for_history_says_when_to_try_again() -> None:
    """As far behind as history is now: after the end of the gap by so much."""
    behind = timedelta(hours=8)
    found = row(vendor=Vendor(reaches=NOW - behind))
    assert found.trouble.startswith(
        "too recent: this key sees history of mbo of GLBX.MDP3 until 2026-11-24T07:30:00Z."
    )
    assert found.retry_at_utc == missed().end_utc + behind
    assert found.trouble.endswith("try again at 2026-11-24T22:30:12Z")


def test_a_gap_that_a_kept_range_makes_too_recent_has_the_range_asked_for_afresh() -> None:
    """History has moved on since the range was read."""
    vendor = Vendor(kept=NOW - timedelta(hours=8))
    assert row(vendor=vendor).price is not None
    assert vendor.asked == ["GLBX.MDP3"]


def test_a_range_that_is_kept_and_reaches_far_enough_is_not_asked_for_again() -> None:
    vendor = Vendor(kept=missed().end_utc)
    assert row(vendor=vendor).price is not None
    assert vendor.asked == []


def test_however_many_gaps_are_too_recent_a_dataset_is_asked_for_afresh_once() -> None:
    """And all of them go by the fresh answer."""
    vendor = Vendor(reaches=NOW - timedelta(hours=2), kept=NOW - timedelta(hours=8))
    found = Quoter(policy(), vendor, Prices(), NOW).rows([missed(), missed(id="77bb")])
    assert ["until 2026-11-24T13:30:00Z" in one.trouble for one in found] == [True, True]
    assert vendor.asked == ["GLBX.MDP3"]


def test_a_gap_before_all_history_says_so() -> None:
    assert (
        "begins only at 2026-11-24T15:00:00Z"
        in row(vendor=Vendor(begins=NOW - timedelta(minutes=30))).trouble
    )


def test_without_the_stream_nothing_says_for_which_symbols() -> None:
    found = row(policy(stream("es")))
    assert "the policy has no stream of that name now" in found.trouble
    assert "Add a stream nq for mbo of GLBX.MDP3" in found.trouble
    assert "has it for trades of GLBX.MDP3 now" in row(policy(stream(schema="trades"))).trouble


def test_a_budget_has_to_match_the_past_too() -> None:
    live_only = budget(limit("10"), match=Match(mode=frozenset({"live"})))
    found = row(policy(budgets=[live_only]))
    assert "no budget of the policy matches historical mbo of stream nq" in found.trouble


def test_a_whole_dataset_has_to_be_allowed_for_history() -> None:
    whole = policy(stream(symbols=("ALL_SYMBOLS",)))
    assert "set historical.all_symbols: true" in row(whole).trouble
    assert row(replace(whole, historical=HistoricalRules(all_symbols=True))).price is not None


def test_an_unknown_price_is_not_zero() -> None:
    found = row(known=False)
    assert found.cost_nano_usd is None
    assert "no historical price is known" in found.trouble


def test_a_vendor_in_trouble_prices_nothing_and_says_so() -> None:
    away = VendorUnavailable("the vendor does not answer", advice="try again later")
    found = row(vendor=Vendor(error=away))
    assert (found.price, found.trouble) == (None, str(away))


def test_a_wrong_key_is_no_matter_of_one_gap() -> None:
    with pytest.raises(KeyRejected):
        row(vendor=Vendor(error=KeyRejected("the key is wrong", advice="")))


def test_what_was_bought_before_and_is_still_to_be_checked_costs_nothing_more(tmp_path: Path) -> None:
    gap = missed()
    path = unchecked(tmp_path / file_name(gap))
    path.touch()
    vendor = Vendor(error=AssertionError("asked"))
    found = Quoter(policy(), vendor, Prices(), NOW, tmp_path).row(gap)
    assert (found.kept, found.cost_nano_usd) == (path, 0)


def test_what_is_bought_is_the_gap_of_the_streams_symbols() -> None:
    gap = missed()
    wanted = range_of(policy(), gap)
    assert (wanted.symbols, wanted.stype_in) == (("NQ.v.0",), "continuous")
    assert (wanted.start_utc, wanted.end_utc) == (gap.start_utc, gap.end_utc)

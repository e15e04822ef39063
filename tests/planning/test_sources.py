"""Every source of a figure, missing one at a time: each refuses with a code of its own, and none becomes zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from budget_guard.clock import ManualClock
from budget_guard.decisions import Decision
from budget_guard.errors import NotEntitled, Refused, RequestRejected, VendorError, VendorUnavailable
from budget_guard.gateway.historical.form import RangeRequest, parse_range_request
from budget_guard.gateway.historical.quoting import fetch_quote
from budget_guard.gateway.outcome import vendor_decision
from budget_guard.guard.guard import Guard
from budget_guard.guard.request import whole_stream
from budget_guard.ledger.store import open_ledger
from budget_guard.markets.model import Interval
from budget_guard.markets.windows import WindowBook
from budget_guard.planning.model import Plan
from budget_guard.planning.plan import plan
from budget_guard.policy.model import LiveBilling, Policy, SessionClause, Stream
from budget_guard.pricing import book as books
from budget_guard.pricing.book import price_book
from budget_guard.pricing.model import DataRange
from tests.planning.desk import FULL, GLBX, NOW, FakeVendor, policy, stream

# A Friday afternoon in New York, within regular hours.
OPEN = datetime(2026, 11, 20, 18, tzinfo=UTC)
LIST = {"live": {"mbo": Decimal("2.16")}, "historical-streaming": {"mbo": Decimal("1.80")}}
OVERRIDES = {(GLBX, "live", "mbo"): Decimal("2.16"), (GLBX, "historical", "mbo"): Decimal("1.80")}


@pytest.fixture
def no_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled sheet, empty."""
    monkeypatch.setattr(books, "sheet_price", lambda dataset, schema, mode: None)


def planned(whole: Policy, month: str = "2026-11", **options: Any) -> Plan:
    return plan(whole, month, now=NOW, **options)


def refused_as(result: Plan) -> set[str]:
    """The codes of a plan that does not know: it has no total, no verdict and no cost that is zero."""
    assert (result.total, result.verdict) == (None, "unknown")
    assert all(one.cost is None for one in result.streams if one.unknown)
    return {reason.code for one in result.streams for reason in one.unknown}


# --- prices: override, the account's list, the sheet --------------------------------------------------------


@pytest.mark.parametrize("source", ["override", "vendor", "sheet"])
def test_a_price_from_one_source_alone_is_enough(source: str, request: pytest.FixtureRequest) -> None:
    """Each of the three makes the figure by itself."""
    if source != "sheet":
        request.getfixturevalue("no_sheet")
    prices = OVERRIDES if source == "override" else {}
    vendor = FakeVendor(prices=LIST if source == "vendor" else {})
    one = planned(policy(stream(), prices=prices), vendor=vendor).streams[0]
    assert one.price is not None
    assert (one.price.kind, one.price.usd_per_gib) == (source, Decimal("2.16"))
    assert one.cost is not None


@pytest.mark.usefixtures("no_sheet")
def test_without_any_of_them_the_price_is_unknown_everywhere(tmp_path: Path) -> None:
    """The plan, a live connection and a download refuse with `price_unknown`."""
    whole = policy(stream())
    assert refused_as(planned(whole, vendor=FakeVendor())) == {"price_unknown"}
    with guard_of(whole, tmp_path) as guard:
        assert live_decision(guard).code == "price_unknown"
        assert history_refusal(guard) == "price_unknown"


# --- sizes: billable size, volume, profile, intraday shape --------------------------------------------------


def test_without_a_billable_size_the_size_is_unknown() -> None:
    """The vendor does not say how much it was."""
    for error in (RequestRejected("bad", advice="spell it"), VendorUnavailable("down", advice="later")):
        vendor = FakeVendor(refusals={"fetch_billable_sizes": error})
        assert refused_as(planned(policy(stream()), vendor=vendor)) == {"size_unknown"}


def test_without_volume_profile_and_key_the_size_is_unknown() -> None:
    """With the policy's figure it is known; without it, and without a profile, it is not."""
    assert planned(policy(stream(gib_per_session=Decimal(1)))).total is not None
    assert refused_as(planned(policy(stream()))) == {"size_unknown"}
    assert planned(policy(stream()), offline=True).total is not None
    assert refused_as(planned(policy(stream(symbols=("RTY.v.0",))), offline=True)) == {"size_unknown"}


def test_without_an_intraday_shape_part_of_a_session_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole sessions need no shape; their parts are never taken by the hour."""
    monkeypatch.setattr("budget_guard.planning.shapes.SHAPES", {})
    sized = stream(gib_per_session=Decimal(1))
    assert planned(policy(replace(sized, windows=(FULL,)))).total is not None
    assert refused_as(planned(policy(sized))) == {"size_unknown"}


# --- what the vendor says may be asked: the dataset's range -------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotEntitled("no", advice="attach it"), "not_entitled"),
        (VendorUnavailable("down", advice="later"), "size_unknown"),
    ],
)
def test_without_the_datasets_range_nothing_is_sampled(error: VendorError, code: str) -> None:
    """No size is asked for that may be of half a session."""
    vendor = FakeVendor(refusals={"fetch_dataset_range": error})
    assert refused_as(planned(policy(stream()), vendor=vendor)) == {code}
    assert vendor.sized == []


# --- the calendar -------------------------------------------------------------------------------------------


def test_without_a_calendar_nobody_knows_the_hours(tmp_path: Path) -> None:
    """A dataset without a market, and a date that nobody has checked: plan and guard refuse alike."""
    nowhere = stream(dataset="XTKT.ITCH", gib_per_session=Decimal(1))
    prices = {("XTKT.ITCH", "live", "mbo"): Decimal(1)}
    assert refused_as(planned(policy(nowhere, prices=prices))) == {"calendar_unknown"}
    with guard_of(policy(nowhere, prices=prices), tmp_path) as guard:
        assert live_decision(guard).code == "calendar_unknown"
    later = policy(stream(gib_per_session=Decimal(1)))
    assert refused_as(planned(later, "2035-01")) == {"calendar_unknown"}
    with guard_of(later, tmp_path, now=datetime(2035, 1, 5, 18, tzinfo=UTC)) as guard:
        assert live_decision(guard).code == "calendar_unknown"


# --- what is paid by the month: plan fee and licence --------------------------------------------------------


def test_without_a_plans_fee_the_total_is_unknown() -> None:
    """The stream's own cost is a known zero; what makes it zero has no price."""
    result = planned(policy(stream(), billing={"GLBX.MDP3": LiveBilling("flat", "gold")}))
    assert (result.fixed_usd, result.total, result.verdict) == (None, None, "unknown")
    assert {reason.code for row in result.budgets for reason in row.unknown} == {"price_unknown"}


def test_before_a_fee_was_known_it_is_unknown() -> None:
    """A fee of 2026 says nothing about 2025's first months."""
    billing = {"XNAS.ITCH": LiveBilling("flat", "standard")}
    assert planned(policy(stream(dataset="XNAS.ITCH"), billing=billing), "2026-11").fixed_usd == Decimal(199)
    assert planned(policy(stream(), billing={GLBX: LiveBilling("flat", "standard")}), "2025-03").total is None


def test_without_a_licence_live_data_is_not_entitled(tmp_path: Path) -> None:
    """Not sold to the account is `not_entitled`, with a price on the sheet or without."""
    whole = policy(stream(gib_per_session=Decimal(1)), billing={GLBX: LiveBilling("none")})
    assert refused_as(planned(whole)) == {"not_entitled"}
    with guard_of(whole, tmp_path) as guard:
        assert live_decision(guard).code == "not_entitled"


# --- a download's quote: size and cost ----------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["fetch_billable_size", "fetch_cost"])
def test_a_download_without_its_size_or_cost_is_refused(missing: str) -> None:
    """Either is needed for a quote; the refusal's code is `size_unknown`, and `not_entitled` stays what it is."""
    price = price_book({}, {}).price(GLBX, "mbo", "historical")
    assert price is not None
    for error, code in (
        (VendorUnavailable("down", advice="later"), "size_unknown"),
        (NotEntitled("no", advice="attach it"), "not_entitled"),
    ):
        with pytest.raises(VendorError) as caught:
            fetch_quote(_Quoter(missing, error), _download(), price)
        assert vendor_decision(caught.value).code == code


class _Quoter:
    """A quote's two questions, one of which has no answer."""

    def __init__(self, missing: str, error: VendorError) -> None:
        self._missing, self._error = missing, error

    def fetch_billable_size(self, data_range: DataRange) -> int:
        self._fail("fetch_billable_size")
        return 1000

    def fetch_cost(self, data_range: DataRange) -> Decimal:
        self._fail("fetch_cost")
        return Decimal(0)

    def _fail(self, name: str) -> None:
        if name == self._missing:
            raise self._error

    def forget(self, data_range: DataRange) -> None:
        """Nothing is kept here."""


def _download() -> RangeRequest:
    return parse_range_request(
        {
            "dataset": GLBX,
            "schema": "mbo",
            "symbols": "NQ.v.0",
            "stype_in": "continuous",
            "start": "2026-11-18T14:30",
            "end": "2026-11-18T15:00",
            "encoding": "dbn",
        }
    )


# --- the guard ----------------------------------------------------------------------------------------------


class _Windows:
    """A stream's windows as the guard asks for them."""

    def __init__(self, book: WindowBook) -> None:
        self.covering: Callable[[datetime], Interval | None] = book.covering
        self.next_open: Callable[[datetime], datetime | None] = book.next_open
        self._book = book

    def session_interval(self, at: datetime) -> Interval:
        period = self._book.session_at(at)
        return Interval(period.start_utc, period.end_utc)


@contextmanager
def guard_of(whole: Policy, folder: Path, *, now: datetime = OPEN) -> Iterator[Guard]:
    """A guard over an empty ledger, priced by the policy and the sheet."""

    def windows(one: Stream) -> _Windows:
        return _Windows(WindowBook(one, whole.timezone))

    ledger = open_ledger(f"sqlite:///{folder / f'ledger-{now:%Y}.sqlite'}")
    try:
        yield Guard(
            whole,
            ledger=ledger,
            clock=ManualClock(now),
            prices=price_book(whole.account.prices, whole.account.billing),
            windows=windows,
            meter_dir=folder,
            host="test",
        )
    finally:
        ledger.close()


def live_decision(guard: Guard) -> Decision:
    one = next(iter(guard.policy.streams.values()))
    return guard.decide_live(whole_stream(one), allowance_bytes=1000)


def history_refusal(guard: Guard) -> str | None:
    one = next(iter(guard.policy.streams.values()))
    with pytest.raises(Refused) as caught:
        guard.historical_price(replace(whole_stream(one), mode="historical"))
    return caught.value.decision.code


def test_with_every_source_in_place_nothing_is_refused(tmp_path: Path) -> None:
    """What the tests above take away is there: the same plan, connection and download are known and let through."""
    clause = SessionClause("regular", skip=frozenset({date(2026, 11, 27)}))
    whole = policy(stream(windows=(clause,)))
    result = planned(whole, vendor=FakeVendor(prices=LIST))
    assert result.total is not None
    assert result.total.p50 > 0
    with guard_of(whole, tmp_path) as guard:
        assert live_decision(guard).allowed
        assert guard.historical_price(replace(whole_stream(stream()), mode="historical")).usd_per_gib > 0
    price = price_book({}, {}).price(GLBX, "mbo", "historical")
    assert price is not None
    assert (
        fetch_quote(_Quoter("nothing", VendorUnavailable("", advice="")), _download(), price).size_bytes
        == 1000
    )

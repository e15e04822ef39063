"""A month as a whole: known where everything is known, unknown where anything is missing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from budget_guard.errors import (
    KeyRejected,
    NotEntitled,
    PaymentRequired,
    RequestRejected,
    VendorError,
    VendorUnavailable,
)
from budget_guard.loading import load_policy
from budget_guard.money import GIB
from budget_guard.planning.calendar import month_labels
from budget_guard.planning.model import Cost, Plan, StreamPlan
from budget_guard.planning.plan import plan
from budget_guard.policy.model import (
    AlwaysClause,
    Edge,
    HoursClause,
    LiveBilling,
    Match,
    Policy,
    SessionClause,
)
from budget_guard.pricing.model import DataRange
from tests.planning.desk import FULL, GLBX, NOW, REGULAR, FakeVendor, budget, limit, policy, stream

POLICIES = Path(__file__).parents[2] / "policies"
NOVEMBER, DECEMBER = "2026-11", "2026-12"


def planned(
    whole: Policy, month: str = NOVEMBER, vendor: FakeVendor | None = None, offline: bool = False
) -> Plan:
    return plan(whole, month, now=NOW, vendor=vendor, offline=offline)


def only(result: Plan) -> StreamPlan:
    """The single stream of a plan."""
    return result.streams[0]


def codes(one: StreamPlan) -> list[str]:
    return [reason.code for reason in one.unknown]


def test_the_full_feed_costs_what_was_billed() -> None:
    """15.9 GiB x 21 sessions x $2.16 = $721.224, and a budget of $200 is over."""
    result = planned(load_policy(POLICIES / "full-feed.yaml"))
    assert result.total == Cost(721_224_000_000, 721_224_000_000)
    assert only(result).windows is not None
    assert len(only(result).windows or ()) == 21
    assert result.verdict == "over"
    regular = next(way for way in result.ways_down if way.way == "regular_hours")
    assert 0 < regular.cost.p50 < 721_224_000_000


def test_regular_hours_of_an_ordinary_day_are_73_hundredths_of_it() -> None:
    """By the shape, not by the clock: 6.5 of 23 hours would be 28 hundredths."""
    one_day = SessionClause("regular", only=frozenset({date(2026, 11, 18)}))
    result = planned(policy(stream(gib_per_session=Decimal(1), windows=(one_day,))))
    forecast = only(result).forecast
    assert forecast is not None
    assert forecast.size_bytes.p50 == Fraction(73, 100) * GIB
    assert any("assumed" in note for note in forecast.notes)


def test_every_month_is_the_sum_of_its_sessions() -> None:
    """p50 and p90 of the month are the sums of the windows'."""
    vendor = FakeVendor(lambda asked: (asked.start_utc.day + 1) * 1000)
    result = planned(policy(stream()), vendor=vendor)
    forecast = only(result).forecast
    assert forecast is not None
    assert len(forecast.windows) == len(only(result).windows or ()) == 20
    assert forecast.size_bytes.p50 == sum(sized.size_bytes.p50 for sized in forecast.windows)
    assert forecast.size_bytes.p90 == sum(sized.size_bytes.p90 for sized in forecast.windows)
    assert forecast.size_bytes.p50 < forecast.size_bytes.p90


def test_a_stream_is_sampled_over_its_own_hours_in_recent_sessions() -> None:
    """Ten past sessions per shape, for the same local hours, widened to ten minutes, all of them complete."""
    clause = SessionClause(
        "regular", Edge("open", -timedelta(minutes=5)), Edge("close", timedelta(minutes=5))
    )
    vendor = FakeVendor()
    planned(policy(stream(windows=(clause,))), DECEMBER, vendor)
    ordinary = [asked for asked in vendor.sized if asked.end_utc.time() == time(21, 10)]
    assert len(set(ordinary)) == 10
    assert {asked.start_utc.time() for asked in ordinary} == {time(14, 20)}
    assert all(asked.end_utc <= NOW - timedelta(hours=24) for asked in vendor.sized)
    assert max(ordinary, key=lambda asked: asked.end_utc).start_utc.date() == date(2026, 11, 20)


def test_an_early_close_is_sized_by_the_same_hours_of_ordinary_sessions() -> None:
    """November 27 ends at 13:15 New York: ordinary days are asked for 09:30 to 13:15 and no hour is scaled."""

    def busy_mornings(asked: DataRange) -> int:
        return 900 if asked.end_utc - asked.start_utc < timedelta(hours=5) else 1000

    vendor = FakeVendor(busy_mornings)
    result = planned(policy(stream()), vendor=vendor)
    forecast = only(result).forecast
    assert forecast is not None
    sizes = {sized.window.session: sized.size_bytes.p50 for sized in forecast.windows}
    assert sizes[date(2026, 11, 27)] == 900
    assert sizes[date(2026, 11, 25)] == 1000
    assert date(2026, 11, 26) not in sizes


def test_nothing_is_asked_that_the_key_may_not_see() -> None:
    """The vendor's own end of the available range bounds the samples."""
    end = datetime(2026, 11, 13, tzinfo=UTC)
    vendor = FakeVendor(end_utc=end)
    planned(policy(stream()), vendor=vendor)
    assert vendor.sized
    assert all(asked.end_utc <= end for asked in vendor.sized)


def test_too_short_a_past_is_unknown() -> None:
    """Two sessions are not a sample."""
    vendor = FakeVendor(start_utc=datetime(2026, 11, 19, tzinfo=UTC))
    result = planned(policy(stream()), vendor=vendor)
    assert codes(only(result)) == ["size_unknown"]
    assert (only(result).forecast, only(result).cost, result.total, result.verdict) == (
        None,
        None,
        None,
        "unknown",
    )


def test_a_stream_that_never_had_data_is_unknown_not_free() -> None:
    """Ten sizes of zero mean a wrong symbol, not a month for nothing."""
    result = planned(policy(stream()), vendor=FakeVendor(lambda asked: 0))
    assert codes(only(result)) == ["size_unknown"]
    assert result.total is None


@pytest.mark.parametrize("offline", [False, True])
def test_without_a_key_a_missing_volume_is_unknown(offline: bool) -> None:
    """Nothing to sample with and no profile: the reason says what would help."""
    result = planned(policy(stream(schema="mbp-10")), offline=offline)
    assert codes(only(result)) == ["size_unknown"]
    assert "DATABENTO_API_KEY" in only(result).unknown[0].message
    assert result.verdict == "unknown"


def test_offline_uses_the_bundled_profile_and_asks_nobody() -> None:
    """0.44 GB a session of NQ, from the sheet's price; the vendor is not called."""
    vendor = FakeVendor()
    result = planned(policy(stream(windows=(FULL,))), vendor=vendor, offline=True)
    forecast = only(result).forecast
    assert forecast is not None
    assert forecast.size_bytes.p50 == 21 * 440_000_000
    assert forecast.grade == "profile"
    assert vendor.calls == []
    assert "offline" in result.source


def test_the_users_own_figure_comes_before_samples() -> None:
    """With a volume in the policy the stream is not sampled, though its prices are the account's."""
    vendor = FakeVendor(prices={"live": {"mbo": Decimal(3)}})
    result = planned(policy(stream(windows=(FULL,), gib_per_session=Decimal(1))), vendor=vendor)
    assert vendor.sized == []
    assert only(result).price is not None
    assert result.total == Cost(63 * 10**9, 63 * 10**9)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"dataset": "XEUR.EOBI"}, "price_unknown"),
        ({"dataset": "NDEX.IMPACT"}, "calendar_unknown"),
        ({"schema": "imbalance"}, "price_unknown"),
        ({"market": "nowhere"}, "calendar_unknown"),
    ],
)
def test_a_missing_source_is_unknown_never_zero(changes: dict[str, str], code: str) -> None:
    """A price or a calendar that nobody knows leaves cost, total and verdict unknown."""
    result = planned(policy(stream(gib_per_session=Decimal(1), **changes)))
    assert code in codes(only(result))
    assert (only(result).cost, result.total, result.verdict) == (None, None, "unknown")


def test_a_month_beyond_the_checked_calendar_is_unknown() -> None:
    """Nobody has checked 2028."""
    result = planned(policy(stream(gib_per_session=Decimal(1))), "2028-01")
    assert codes(only(result)) == ["calendar_unknown"]
    assert only(result).windows is None


def test_one_unknown_stream_does_not_hide_the_others() -> None:
    """The known stream keeps its figures; the total is unknown."""
    known = stream("known", gib_per_session=Decimal(1))
    result = planned(policy(known, stream("missing")))
    assert result.streams[0].cost is not None
    assert result.total is None


def test_live_data_that_is_not_sold_is_not_entitled() -> None:
    """`live: none` is a reason of its own."""
    result = planned(policy(stream(gib_per_session=Decimal(1)), billing={GLBX: LiveBilling("none")}))
    assert codes(only(result)) == ["not_entitled"]


def test_a_flat_plan_costs_its_fee_and_nothing_more() -> None:
    """$199 and the licence; the stream's cost is a known zero even where its size is not known."""
    billing = {GLBX: LiveBilling("flat", "standard", Decimal("36.50"))}
    result = planned(policy(stream(), billing=billing, budgets=[budget(limit("235.49"))]))
    assert only(result).cost == Cost(0, 0)
    assert result.fixed_usd == Decimal("235.50")
    assert result.total == Cost(235_500_000_000, 235_500_000_000)
    assert result.verdict == "over"


def test_the_fee_of_a_month_is_that_of_its_first_day() -> None:
    """June 2026 was cheaper than July."""
    whole = policy(stream(), billing={GLBX: LiveBilling("flat", "standard")})
    assert planned(whole, "2026-06").fixed_usd == Decimal(179)
    assert planned(whole, "2026-07").fixed_usd == Decimal(199)


def test_one_fee_covers_the_datasets_of_one_plan() -> None:
    """Two US equities datasets on the standard plan are one fee and two licences."""
    streams = [
        stream("a", dataset="XNAS.ITCH", stype_in="raw_symbol", symbols=("AAPL",)),
        stream("b", dataset="EQUS.MINI", stype_in="raw_symbol", symbols=("AAPL",), schema="mbp-1"),
    ]
    billing = {name: LiveBilling("flat", "standard", Decimal(10)) for name in ("XNAS.ITCH", "EQUS.MINI")}
    assert planned(policy(*streams, billing=billing)).fixed_usd == Decimal(219)


def test_a_fee_that_nobody_knows_makes_the_total_unknown() -> None:
    """A plan of another name has no fee, not a fee of zero."""
    result = planned(policy(stream(), billing={GLBX: LiveBilling("flat", "gold")}))
    assert (result.fixed_usd, result.total, result.verdict) == (None, None, "unknown")


def test_a_plan_that_no_stream_uses_is_not_charged() -> None:
    """The fee belongs to the datasets of this policy's live streams."""
    billing = {"OPRA.PILLAR": LiveBilling("flat", "standard")}
    assert planned(policy(stream(gib_per_session=Decimal(1)), billing=billing)).fixed_usd == 0


@pytest.mark.parametrize("error", [KeyRejected("no", advice="x"), PaymentRequired("no", advice="x")])
def test_a_rejected_key_ends_the_plan(error: VendorError) -> None:
    """Nothing else would be answered either."""
    with pytest.raises(type(error)):
        planned(policy(stream()), vendor=FakeVendor(refusals={"fetch_unit_prices": error}))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotEntitled("no licence", advice="attach it"), "not_entitled"),
        (RequestRejected("bad symbol", advice="spell it"), "size_unknown"),
        (VendorUnavailable("down", advice="later"), "size_unknown"),
    ],
)
def test_a_size_that_the_vendor_refuses_is_unknown_with_its_reason(error: VendorError, code: str) -> None:
    """The vendor's words and advice reach the plan."""
    result = planned(policy(stream()), vendor=FakeVendor(refusals={"fetch_billable_sizes": error}))
    assert codes(only(result)) == [code]
    assert error.advice in only(result).unknown[0].message


def test_prices_that_do_not_come_fall_back_to_the_sheet_and_say_so() -> None:
    """The sheet's date is in the source, the vendor's refusal in the notes."""
    refusal = NotEntitled("no licence", advice="attach it")
    result = planned(policy(stream()), vendor=FakeVendor(refusals={"fetch_unit_prices": refusal}))
    price = only(result).price
    assert price is not None
    assert "bundled sheet of 2026-06-12" in price.source
    assert any("no licence" in note for note in result.notes)


def test_a_vendor_that_is_down_is_asked_once() -> None:
    """Each further question would only wait as long again."""
    vendor = FakeVendor(refusals={"fetch_unit_prices": VendorUnavailable("down", advice="later")})
    result = planned(policy(stream("a"), stream("b", schema="trades")), vendor=vendor)
    assert vendor.calls == ["fetch_unit_prices"]
    assert result.verdict == "unknown"


def test_a_month_without_windows_costs_nothing_for_certain() -> None:
    """A stream whose only day is in another month is a known zero."""
    clause = SessionClause("regular", only=frozenset({date(2027, 1, 5)}))
    result = planned(policy(stream(windows=(clause,))))
    assert only(result).cost == Cost(0, 0)
    assert result.verdict == "fits"


def test_an_always_stream_is_connected_all_month_and_sized_by_sessions() -> None:
    """30 days of windows; bytes flow in 21 full sessions."""
    result = planned(policy(stream(windows=(AlwaysClause(),), gib_per_session=Decimal(1))))
    assert len(only(result).windows or ()) == 30
    assert result.total == Cost(21 * 2_160_000_000, 21 * 2_160_000_000)


def test_a_historical_stream_is_priced_as_history() -> None:
    """Without windows it is one purchase of every full session at the historical price."""
    result = planned(policy(stream(mode="historical", windows=(), gib_per_session=Decimal(1))))
    assert result.total == Cost(21 * 1_800_000_000, 21 * 1_800_000_000)
    assert result.ways_down == ()


def test_wall_clock_hours_are_sized_by_their_own_samples() -> None:
    """Half an hour on Sunday and Monday evenings is compared with such half hours."""
    clause = HoursClause(time(18), time(18, 30), frozenset({"sun", "mon"}))
    vendor = FakeVendor()
    result = planned(policy(stream(windows=(clause,))), DECEMBER, vendor)
    own = [asked for asked in vendor.sized if asked.end_utc - asked.start_utc == timedelta(minutes=30)]
    # Sunday evening in New York is still Sunday in UTC; the session's label is Monday.
    assert {asked.start_utc.weekday() for asked in own} == {6, 0}
    assert only(result).cost is not None


def test_ways_down_cost_less_and_say_how_much() -> None:
    """Regular hours, the day after, and a smaller schema, the largest saving first; none that saves nothing."""

    def size(asked: DataRange) -> int:
        narrow = asked.end_utc - asked.start_utc < timedelta(hours=8)
        return {"mbo": 1000, "mbp-1": 100, "tbbo": 10**6}[asked.schema] * 10**6 // (2 if narrow else 1)

    result = planned(policy(stream(windows=(FULL,), cheaper=("mbp-1", "tbbo"))), vendor=FakeVendor(size))
    assert [way.way for way in result.ways_down] == ["cheaper_schema", "regular_hours", "next_day_historical"]
    assert result.total is not None
    for way in result.ways_down:
        assert way.cost.p50 + way.saves.p50 == result.total.p50


def test_regular_hours_are_no_way_down_from_regular_hours() -> None:
    """Nothing is proposed that the policy already does."""
    result = planned(policy(stream(windows=(REGULAR,), gib_per_session=Decimal(1))))
    assert [way.way for way in result.ways_down] == ["next_day_historical"]


def test_a_way_that_rests_on_the_assumed_shape_says_so() -> None:
    """The full feed needs no shape, its regular hours do."""
    result = planned(policy(stream(windows=(FULL,), gib_per_session=Decimal(1))))
    regular = next(way for way in result.ways_down if way.way == "regular_hours")
    assert not any("assumed" in note for note in only(result).notes)
    assert any("assumed" in note for note in regular.notes)


def test_a_dated_contract_is_sampled_with_a_warning() -> None:
    """Its own past is that of a back month."""
    dated = stream(symbols=("NQH7",), stype_in="raw_symbol")
    result = planned(policy(dated), DECEMBER, FakeVendor())
    assert any("dated contract" in note for note in only(result).notes)
    assert not any("dated" in note for note in only(planned(policy(stream()), vendor=FakeVendor())).notes)


def test_a_limit_that_will_cut_the_stream_is_said_aloud() -> None:
    """The month fits, and every session is cut: the plan says both."""
    whole = policy(stream(gib_per_session=Decimal(1)), budgets=[budget(limit("200"), limit("1", "session"))])
    result = planned(whole)
    assert result.verdict == "fits"
    assert any("session limit of budget 'account'" in note for note in result.notes)


def test_a_budget_of_history_is_not_charged_for_live() -> None:
    """A match keeps a stream's cost out of other budgets."""
    spent = budget(limit("0"), name="history", match=Match(mode=frozenset({"historical"})))
    result = planned(policy(stream(gib_per_session=Decimal(1)), budgets=[spent]))
    assert result.verdict == "fits"


def test_the_same_plan_is_the_same_value() -> None:
    """Nothing in a plan depends on when or how often it is made, but its date."""
    whole = policy(stream(), stream("es", symbols=("ES.v.0",)))
    first = plan(whole, NOVEMBER, now=NOW, vendor=FakeVendor())
    again = plan(whole, NOVEMBER, now=NOW, vendor=FakeVendor())
    assert first == again
    assert replace(first, generated_utc=NOW) == first


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "november", "2026-11-01", ""])
def test_a_month_is_written_one_way(month: str) -> None:
    """YYYY-MM and nothing else."""
    with pytest.raises(ValueError, match=r"month|match|format"):
        month_labels(month)


def test_a_plan_whose_vendor_could_not_be_reached_does_not_name_it_as_its_source() -> None:
    down = FakeVendor(refusals={"fetch_unit_prices": VendorUnavailable("down", advice="later")})
    made = planned(policy(stream(gib_per_session=Decimal(1))), vendor=down)
    assert "could not be reached" in made.source

"""Every kind of limit over every kind of period, through the guard, whatever store the ledger is kept in."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from budget_guard.clock import ManualClock
from budget_guard.decisions import Decision
from budget_guard.errors import Refused
from budget_guard.guard.guard import Admission, Guard
from budget_guard.guard.quote import Quote
from budget_guard.guard.request import Request, whole_stream
from budget_guard.guard.status import take_status
from budget_guard.ledger.amounts import MS_PER_HOUR
from budget_guard.ledger.model import Balance, BalanceKey, Ledger
from budget_guard.loading import load_policy
from budget_guard.markets.model import Interval
from budget_guard.markets.windows import WindowBook
from budget_guard.money import GIB
from budget_guard.policy.model import AlwaysClause, Limit, PeriodName, Policy, Stream, Unit
from budget_guard.pricing.model import UnitPrice
from budget_guard.streaming.assembly import StreamWindows
from tests.gateway import desk as gateway_desk
from tests.gateway.desk import TIMEOUT_S, running_desk
from tests.guard.samples import (
    HISTORY,
    LIVE,
    NOW,
    STREAM,
    Desk,
    OneWindow,
    budget,
    data_range,
    limit,
    policy,
)

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
# What ending may take in these tests: little, so that limits can be small.
ALLOWANCE = 64 * 1024
PERIODS: tuple[PeriodName, ...] = ("session", "day", "week", "month", "total")
UNITS: tuple[Unit, ...] = ("usd", "gib", "hours", "connections")
EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))


def around(at: datetime) -> Interval:
    """The session of an instant, at an exchange that is open from 23:00 to 23:00 UTC."""
    start = at.replace(hour=23, minute=0, second=0, microsecond=0)
    start -= DAY if start > at else timedelta(0)
    return Interval(start, start + DAY)


class Exchange(OneWindow):
    """Always open, with a session every day."""

    def session_interval(self, at: datetime) -> Interval:
        return around(at)


@pytest.fixture
def desk(ledger: Ledger, tmp_path: Path) -> Desk:
    known = Interval(NOW - 400 * DAY, NOW + 400 * DAY)
    return Desk(ledger, tmp_path / "meters", ManualClock(NOW), lambda _: Exchange(known, known))


def connect(guard: Guard, request: Request = LIVE, continues: Admission | None = None) -> Admission:
    """A connection that has been let through and may be spent from."""
    admission = guard.open_live(
        request,
        connection_id="c",
        allowance_bytes=ALLOWANCE,
        continues=None if continues is None else continues.hold,
    )
    admission.hold.activate()
    return admission


def refusal(guard: Guard) -> Decision:
    """Why a connection is refused now."""
    with pytest.raises(Refused) as refused:
        connect(guard)
    return refused.value.decision


def move_to(desk: Desk, at: datetime) -> None:
    desk.clock.advance((at - desk.clock.now()).total_seconds())


def balances(desk: Desk, account: str = "desk") -> dict[BalanceKey, Balance]:
    """Every balance that was ever touched and is not zero."""
    found = desk.ledger.account_balances(account, *EVER)
    return {key: balance for key, balance in found.items() if balance != Balance()}


def quote(size_bytes: int = GIB) -> Quote:
    return Quote(data_range(), size_bytes, UnitPrice(Decimal("1.80"), "vendor", "a list"), Decimal("1.80"))


# --- all of them at once --------------------------------------------------------------------------------------


def of_every_kind(amount: str | None = "1000") -> tuple[Limit, ...]:
    return tuple(limit(period, unit, amount) for period in PERIODS for unit in UNITS)


def test_a_hold_touches_every_limit_of_every_budget_that_matches(desk: Desk) -> None:
    guard = desk.guard(policy(budget("first", *of_every_kind()), budget("second", *of_every_kind(None))))
    admission = connect(guard)
    held = balances(desk)
    assert len(held) == 2 * len(PERIODS) * len(UNITS)
    assert all(balance.held > 0 and balance.settled == 0 for balance in held.values())
    admission.hold.count(GIB, 0, time.monotonic_ns())
    desk.clock.advance(1800)
    admission.hold.finish("done", clean=True)
    used = {"usd": 2_160_000_000, "gib": GIB, "hours": MS_PER_HOUR // 2, "connections": 1}
    assert balances(desk) == {key: Balance(used[key.unit], 0) for key in held}


@pytest.mark.parametrize("period", PERIODS)
def test_one_limit_without_room_leaves_all_others_as_they_were(desk: Desk, period: PeriodName) -> None:
    guard = desk.guard(
        policy(budget("first", *of_every_kind()), budget("last", limit(period, "gib", "0.0001")))
    )
    (reason,) = refusal(guard).reasons
    assert (reason.code, reason.budget, reason.period, reason.unit) == (
        "limit_reached",
        "last",
        period,
        "gib",
    )
    assert balances(desk) == {}
    assert desk.ledger.open_holds() == []


@pytest.mark.parametrize("unit", UNITS)
def test_a_limit_stops_what_comes_after_it_until_its_period_ends(desk: Desk, unit: Unit) -> None:
    """For each kind of period: used up now, refused with the time to try again, and open again from then on."""
    small = {"usd": "0.0025", "gib": "0.001", "hours": "0.5", "connections": "1"}
    for period in PERIODS:
        guard = desk.guard(policy(budget(period, limit(period, unit, small[unit]))))
        first = connect(guard)
        first.hold.count(1_000_000, 0, time.monotonic_ns())
        desk.clock.advance(1799)
        first.hold.finish("done", clean=True)
        (reason,) = refusal(guard).reasons
        assert (reason.code, reason.period, reason.unit) == ("limit_reached", period, unit)
        if period == "total":
            assert reason.retry_at_utc is None
            continue
        assert reason.retry_at_utc is not None
        move_to(desk, reason.retry_at_utc - timedelta(milliseconds=1))
        assert refusal(guard).code == "limit_reached"
        move_to(desk, reason.retry_at_utc)
        connect(guard).hold.finish("done", clean=True)


@pytest.mark.parametrize("unit", UNITS)
def test_a_limit_of_0_refuses_everything_that_its_budget_matches(desk: Desk, unit: Unit) -> None:
    """Live and historical, also where the unit is one that a download does not use."""
    guard = desk.guard(
        policy(budget("none", limit("month", unit, 0)), budget("account", limit("month", "usd", 200)))
    )
    assert refusal(guard).reasons[0].budget == "none"
    with pytest.raises(Refused) as refused:
        guard.open_request(HISTORY, STREAM, quote())
    assert [reason.budget for reason in refused.value.decision.reasons] == ["none"]
    assert balances(desk) == {}


# --- periods that end under a connection ----------------------------------------------------------------------


def test_a_connection_counts_in_every_period_that_it_reaches_whichever_of_them_ends_first(desk: Desk) -> None:
    """A period that has counted it already still ends, and the next of its kind counts it too."""
    guard = desk.guard(policy(budget("account", limit("session", "usd", 9), limit("day", "connections", 9))))
    move_to(desk, NOW.replace(hour=22))
    running = connect(guard)
    ends = []
    for _ in range(4):
        ends.append(running.hold.period_end_utc)
        move_to(desk, ends[-1])
        following = connect(guard, continues=running)
        running.hold.finish("its period has ended", clean=True)
        running = following
    running.hold.finish("done", clean=True)
    eve, midnight = NOW.replace(hour=23), NOW.replace(hour=0) + DAY
    assert ends == [eve, midnight, eve + DAY, midnight + DAY]
    days = {
        key.period_start_utc: balance for key, balance in balances(desk).items() if key.unit == "connections"
    }
    assert days == {midnight + n * DAY: Balance(1, 0) for n in (-1, 0, 1)}


def test_a_connection_ends_where_the_next_period_has_no_room_for_it(desk: Desk) -> None:
    guard = desk.guard(policy(budget("account", limit("session", "usd", 9), limit("day", "connections", 1))))
    move_to(desk, NOW.replace(hour=22))
    first = connect(guard)
    move_to(desk, first.hold.period_end_utc)
    second = connect(guard, continues=first)
    first.hold.finish("its session has ended", clean=True)
    move_to(desk, second.hold.period_end_utc)
    connect(guard).hold.finish("somebody else's", clean=True)
    with pytest.raises(Refused, match="0 connections left"):
        connect(guard, continues=second)
    second.hold.finish("its day has ended", clean=True)


def test_a_metered_connection_is_opened_again_as_the_billing_month_ends(url: str, tmp_path: Path) -> None:
    """So the vendor's month and the ledger's begin with the same byte; the day in New York goes on."""
    rules = gateway_desk.policy(
        budgets=[
            gateway_desk.budget(
                gateway_desk.limit("10", "total"), gateway_desk.limit("1", "day"), timezone="America/New_York"
            )
        ]
    )
    clock = ManualClock(datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC))
    with running_desk(tmp_path, rules, clock=clock, rate=2000, ledger_url=url) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        desk.advance(1)
        desk.sandbox.wait_for(lambda bill: len(bill["connections"]) > 1)
        desk.flow(got, 1)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        booked = {
            month: [entry.size_bytes for entry in desk.entries(month)] for month in ("2026-11", "2026-12")
        }
        assert booked == {row["month"]: [row["bytes"]] for row in desk.sandbox.bill()["connections"]}
        (day,) = (
            balance.settled
            for key, balance in desk.books.account_balances("desk", *EVER).items()
            if key.period == "day"
        )
        assert day == sum(entry.cost_nano_usd for month in booked for entry in desk.entries(month))


# --- historical -----------------------------------------------------------------------------------------------


def test_a_request_counts_in_the_periods_in_which_it_was_made(desk: Desk) -> None:
    """Whenever its answer ends, and wherever the data itself lies."""
    zone = "America/New_York"
    guard = desk.guard(policy(budget("account", *of_every_kind(), timezone=zone)))
    started = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
    move_to(desk, started)
    hold = guard.open_request(HISTORY, STREAM, quote())
    hold.activate()
    hold.count(GIB, time.monotonic_ns())
    desk.clock.advance(6 * 3600)
    hold.settle("exact")
    found = balances(desk)
    assert {key.period: key.period_start_utc for key in found} == {
        "session": datetime(2026, 11, 30, 23, tzinfo=UTC),
        "day": datetime(2026, 11, 30, 5, tzinfo=UTC),
        "week": datetime(2026, 11, 30, 5, tzinfo=UTC),
        "month": datetime(2026, 11, 1, tzinfo=UTC),
        "total": datetime(1970, 1, 1, tzinfo=UTC),
    }
    counts = {"usd": Balance(1_800_000_000, 0), "gib": Balance(GIB, 0)}
    assert found == {key: counts[key.unit] for key in found}
    assert [entry.month for entry in desk.ledger.entries("desk", "2026-11")] == ["2026-11"]
    assert desk.ledger.entries("desk", "2026-12") == []


# --- time zones and calendars ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 8), 23), (date(2026, 3, 9), 24), (date(2026, 11, 1), 25)]
)
def test_a_day_is_as_long_as_its_zone_makes_it(desk: Desk, day: date, hours: int) -> None:
    """Its first and its last minute count together, the minutes around it do not."""
    guard = desk.guard(policy(budget("account", limit("day", "connections", 9), timezone="America/New_York")))
    midnight = datetime(day.year, day.month, day.day, 5, tzinfo=UTC)  # in winter
    start = midnight - (HOUR if (day.month, day.day) in ((3, 9), (11, 1)) else timedelta(0))
    minute = timedelta(minutes=1)
    for at in (start - minute, start, start + hours * HOUR - minute, start + hours * HOUR):
        desk.clock = ManualClock(at)
        connect(replace_clock(guard, desk)).hold.finish("done", clean=True)
    assert sorted(balance.settled for balance in balances(desk).values()) == [1, 1, 2]
    (whole,) = (key for key, balance in balances(desk).items() if balance.settled == 2)
    assert whole.period_start_utc == start


def replace_clock(guard: Guard, desk: Desk) -> Guard:
    return desk.guard(guard.policy)


def test_a_week_goes_on_over_new_year_while_the_month_ends(desk: Desk) -> None:
    guard = desk.guard(policy(budget("account", limit("week", "usd", 9), limit("month", "usd", 9))))
    for day in (datetime(2026, 12, 31, 12, tzinfo=UTC), datetime(2027, 1, 1, 12, tzinfo=UTC)):
        move_to(desk, day)
        admission = connect(guard)
        admission.hold.count(GIB, 0, time.monotonic_ns())
        admission.hold.finish("done", clean=True)
    spent = {(key.period, key.period_start_utc.date()): row.settled for key, row in balances(desk).items()}
    assert spent == {
        ("week", date(2026, 12, 28)): 4_320_000_000,
        ("month", date(2026, 12, 1)): 2_160_000_000,
        ("month", date(2027, 1, 1)): 2_160_000_000,
    }


ACCOUNT_FILE = """\
version: 1
name: shared
timezone: Asia/Tokyo
account: {name: shared-desk}
budgets:
  - {name: common, day: 0.004 USD, week: {connections: 3}}
"""
POLICY_FILE = """\
version: 1
name: NAME
timezone: America/New_York
extends: account.yaml
budgets:
  - {name: NAME-own, match: {stream: NAME}, day: 1 USD}
streams:
  NAME: {dataset: GLBX.MDP3, schema: mbo, symbols: [NQ.v.0], stype_in: continuous, windows: always}
"""


@pytest.fixture
def sharing(tmp_path: Path) -> tuple[Policy, Policy]:
    """Two policies, in New York's time, of one account whose file is in Tokyo's."""
    (tmp_path / "account.yaml").write_text(ACCOUNT_FILE)
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(POLICY_FILE.replace("NAME", name))
    return load_policy(tmp_path / "one.yaml"), load_policy(tmp_path / "two.yaml")


def test_days_and_weeks_are_those_of_the_file_that_defines_the_budget(
    desk: Desk, sharing: tuple[Policy, Policy]
) -> None:
    """At midnight in Tokyo it is Tuesday there, and Monday in New York."""
    (stream,) = sharing[0].streams.values()
    connect(desk.guard(sharing[0]), whole_stream(stream)).hold.finish("done", clean=True)
    starts = {
        (limit.key.budget, limit.key.period): limit.key.period_start_utc
        for limit in desk.guard(sharing[0]).live_limits(stream, NOW)
    }
    assert starts == {
        ("common", "day"): datetime(2026, 11, 23, 15, tzinfo=UTC),
        ("common", "week"): datetime(2026, 11, 22, 15, tzinfo=UTC),
        ("one-own", "day"): datetime(2026, 11, 23, 5, tzinfo=UTC),
    }


def test_two_policies_of_one_account_share_its_budgets_and_keep_their_own(
    desk: Desk, sharing: tuple[Policy, Policy]
) -> None:
    one, two = (desk.guard(rules) for rules in sharing)
    (stream,) = sharing[0].streams.values()
    (other,) = sharing[1].streams.values()
    first = connect(one, whole_stream(stream))
    first.hold.count(1_500_000, 0, time.monotonic_ns())
    first.hold.renew()
    with pytest.raises(Refused) as refused:
        connect(two, whole_stream(other))
    assert [(reason.budget, reason.period) for reason in refused.value.decision.reasons] == [
        ("common", "day")
    ]
    first.hold.finish("done", clean=True)
    assert {
        key.budget: balance.settled
        for key, balance in balances(desk, "shared-desk").items()
        if key.unit == "usd"
    }
    seen = [
        {row.key: row.settled for row in take_status(rules, desk.ledger, desk.windows, NOW).budgets}
        for rules in sharing
    ]
    common = [{key: used for key, used in rows.items() if key.budget == "common"} for rows in seen]
    assert common[0] == common[1] != {}
    assert {key.budget for rows in seen for key in rows} == {"common", "one-own", "two-own"}


STOCKS = Stream("aapl", "XNAS.ITCH", "trades", ("AAPL",), "raw_symbol", windows=(AlwaysClause(),))
THANKSGIVING = datetime(2026, 11, 26, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calendars")


@pytest.fixture
def calendars(cache: Path) -> Callable[[Stream], StreamWindows]:
    """Windows by the real calendars."""
    return lambda stream: StreamWindows(WindowBook(stream, "UTC", cache_dir=cache))


def test_what_is_spent_on_a_holiday_counts_in_the_session_before_it(
    desk: Desk, calendars: Callable[[Stream], StreamWindows]
) -> None:
    """Until the next session opens: no instant between two openings is without a session."""
    desk.windows = calendars  # type: ignore[assignment]
    guard = desk.guard(policy(budget("account", limit("session", "connections", 2)), streams=(STOCKS,)))
    wednesday, thanksgiving = THANKSGIVING - DAY, THANKSGIVING
    for at in (wednesday, thanksgiving):
        move_to(desk, at)
        connect(guard, whole_stream(STOCKS)).hold.finish("done", clean=True)
    with pytest.raises(Refused) as refused:
        connect(guard, whole_stream(STOCKS))
    opens = refused.value.decision.reasons[0].retry_at_utc
    assert opens is not None
    assert opens.date() == date(2026, 11, 27)
    move_to(desk, opens)
    connect(guard, whole_stream(STOCKS)).hold.finish("done", clean=True)
    assert sorted(balance.settled for balance in balances(desk).values()) == [1, 2]


def test_a_session_limit_where_nobody_knows_the_calendar_refuses(
    desk: Desk, calendars: Callable[[Stream], StreamWindows]
) -> None:
    desk.windows = calendars  # type: ignore[assignment]
    guard = desk.guard(policy(budget("account", limit("session", "usd", 2)), streams=(STOCKS,)))
    desk.clock = ManualClock(datetime(2031, 1, 6, 15, tzinfo=UTC))
    with pytest.raises(Refused) as refused:
        connect(desk.guard(guard.policy), whole_stream(STOCKS))
    assert refused.value.decision.code == "calendar_unknown"
